//! The arbiter: asks the policy, and trusts nothing it says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Decision, GpuDevice, GpuPolicy, GpuRequest, GpuSnapshot, Holder, HolderName, Placement, Refusal,
};
use crate::name::ServiceName;

/// Asks `policy`, and answers only what the rules allow.
///
/// This is where a 409 is decided: [`Decision::Conflict`] becomes
/// [`Error::GpuConflict`](crate::Error::GpuConflict) and, over HTTP, 409 Conflict.
///
/// # Errors
///
/// A sentence for a person that names the policy, if it panics or breaks a rule of [`GpuPolicy`].
pub(crate) fn arbitrate(
    policy: &dyn GpuPolicy,
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> Result<Decision, String> {
    let decided = contained(|| (policy.decide(request, snapshot), policy.measures()));
    let checked = decided.and_then(|(decision, measures)| {
        check(&decision, measures, request, snapshot)?;
        Ok(decision)
    });
    checked.map_err(|fault| {
        let name = contained(|| policy.name().to_owned());
        let name = name.unwrap_or_else(|_| "without a name".to_owned());
        format!("the GPU policy '{name}' is faulty: {fault}")
    })
}

fn contained<T>(ask: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|_| "it panicked".to_owned())
}

fn check(
    decision: &Decision,
    measures: bool,
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> Result<(), String> {
    let holder = |who: &HolderName| snapshot.holders.iter().find(|holder| holder.who == *who);
    match decision {
        Decision::Admit { placement } => {
            check_placement(placement, &[], measures, request, snapshot)
        }
        Decision::Evict { victims, placement } => {
            check_victims(victims, request, snapshot)?;
            check_placement(placement, victims, measures, request, snapshot)
        }
        Decision::Conflict { holders } => match holders.iter().find(|who| holder(who).is_none()) {
            Some(nobody) => Err(format!("it names a conflict with '{nobody}', which holds no GPU")),
            None if holders.is_empty() && snapshot.devices.iter().all(|d| d.foreign_mib == 0) => {
                Err("it names a conflict, and nobody is in the way".to_owned())
            }
            None => Ok(()),
        },
        Decision::Refuse { reason: Refusal::Pinned(who) } => {
            if holder(who).is_some_and(|holder| holder.pinned) {
                Ok(())
            } else {
                Err(format!("it refuses because '{who}' is pinned, which it is not"))
            }
        }
        Decision::Refuse { .. } => Ok(()),
    }
}

fn check_victims(
    victims: &[ServiceName],
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> Result<(), String> {
    if victims.is_empty() {
        return Err("it would evict, but names nobody".to_owned());
    }
    for (index, victim) in victims.iter().enumerate() {
        let who = HolderName::Service(victim.clone());
        let Some(holder) = snapshot.holders.iter().find(|holder| holder.who == who) else {
            return Err(format!("it would stop '{victim}', which holds no GPU"));
        };
        if victims[..index].contains(victim) {
            return Err(format!("it would stop '{victim}' twice"));
        }
        if holder.pinned {
            return Err(format!("it would stop '{victim}', which is pinned"));
        }
        if !request.force && !may_preempt(request, holder) {
            return Err(format!(
                "it would stop '{victim}' although the request does not force, and '{victim}' is \
                 busy or of no lower priority"
            ));
        }
    }
    Ok(())
}

/// Whether a request may evict a holder without force.
fn may_preempt(request: &GpuRequest, holder: &Holder) -> bool {
    holder.priority < request.priority && !holder.busy
}

fn check_placement(
    placement: &Placement,
    victims: &[ServiceName],
    measures: bool,
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> Result<(), String> {
    if placement.is_anywhere() {
        return if measures {
            Err("it promises that what it places fits, and names no GPU".to_owned())
        } else {
            Ok(())
        };
    }
    let count = usize::try_from(request.count).unwrap_or(usize::MAX);
    if placement.mib.len() != count {
        let got = placement.mib.len();
        return Err(format!("it gives {got} GPU(s) where {count} were asked for"));
    }
    for (gpu, &mib) in &placement.mib {
        let Some(device) = snapshot.device(gpu) else {
            return Err(format!("it places it on '{gpu}', which does not exist"));
        };
        if !device.is_usable {
            return Err(format!("it places it on '{gpu}', which is not in order"));
        }
        if request.only.as_ref().is_some_and(|only| !only.contains(gpu)) {
            return Err(format!("it places it on '{gpu}', which its manifest does not allow"));
        }
        if mib < request.vram_mib {
            let need = request.vram_mib;
            return Err(format!("it charges {mib} MiB on '{gpu}' where {need} MiB were asked for"));
        }
        if measures {
            check_room(device, mib, victims, snapshot)?;
        }
    }
    Ok(())
}

/// Whether a device has room for so much more once the victims are gone.
fn check_room(
    device: &GpuDevice,
    mib: u64,
    victims: &[ServiceName],
    snapshot: &GpuSnapshot,
) -> Result<(), String> {
    let gpu = &device.id;
    if mib == 0 {
        return Err(format!("it promises that what it places fits, and charges none on '{gpu}'"));
    }
    let Some(chargeable) = device.chargeable_mib() else {
        return Err(format!("it promises that it fits on '{gpu}', whose capacity nobody knows"));
    };
    let sum = snapshot.charged_mib(gpu, victims).saturating_add(mib);
    if sum > chargeable {
        return Err(format!("'{gpu}' would hold {sum} MiB, and has {chargeable} MiB"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::GpuId;

    /// A policy that answers always the same.
    #[derive(Debug)]
    struct Fixed {
        measures: bool,
        answer: Option<Decision>,
    }

    impl GpuPolicy for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn measures(&self) -> bool {
            self.measures
        }

        fn decide(&self, _: &GpuRequest, _: &GpuSnapshot) -> Decision {
            self.answer.clone().expect("a policy's bug")
        }
    }

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn id(gpu: &str) -> GpuId {
        GpuId::new(gpu)
    }

    fn service(service: &str, gpu: &str, mib: u64) -> Holder {
        let mut holder = Holder::new(HolderName::Service(name(service)));
        holder.placement = Placement::on([id(gpu)], mib);
        holder
    }

    /// Four devices, of which `broken` is not in order, `used` is used by others, and of `dark`
    /// nobody knows the capacity; on `whole` are `a`, `pinned` and a container of other hands.
    fn snapshot() -> GpuSnapshot {
        let [mut used, mut broken, mut dark] =
            ["used", "broken", "dark"].map(|gpu| GpuDevice::new(id(gpu), 24));
        (used.foreign_mib, used.headroom_mib) = (10, 2);
        broken.is_usable = false;
        dark.capacity_mib = None;
        let mut pinned = service("pinned", "whole", 4);
        pinned.pinned = true;
        let mut foreign = Holder::new(HolderName::Foreign("jupyter".into()));
        foreign.placement = Placement::on([id("whole")], 1);
        let holders = vec![service("a", "whole", 12), pinned, foreign];
        GpuSnapshot::new(holders).with_devices(vec![
            GpuDevice::new(id("whole"), 24),
            used,
            broken,
            dark,
        ])
    }

    /// A forced request for one GPU with 8 MiB.
    fn request() -> GpuRequest {
        GpuRequest { vram_mib: 8, force: true, ..GpuRequest::new(name("new")) }
    }

    fn ask(measures: bool, request: &GpuRequest, answer: &Decision) -> Result<(), String> {
        let policy = Fixed { measures, answer: Some(answer.clone()) };
        arbitrate(&policy, request, &snapshot()).map(|decision| assert_eq!(decision, *answer))
    }

    /// What is said about an answer that breaks a rule: it always names the policy.
    fn fault(measures: bool, request: &GpuRequest, answer: &Decision) -> String {
        let fault = ask(measures, request, answer).expect_err("it breaks a rule");
        fault.strip_prefix("the GPU policy 'fixed' is faulty: ").expect("it is named").to_owned()
    }

    fn admit(gpus: &[&str], mib: u64) -> Decision {
        Decision::Admit { placement: Placement::on(gpus.iter().map(|gpu| id(gpu)), mib) }
    }

    fn evict(victims: &[&str]) -> Decision {
        let victims = victims.iter().map(|victim| name(victim)).collect();
        Decision::Evict { victims, placement: Placement::on([id("whole")], 8) }
    }

    fn conflict(holders: &[HolderName]) -> Decision {
        Decision::Conflict { holders: holders.to_vec() }
    }

    #[test]
    fn a_sound_answer_passes() {
        for measures in [false, true] {
            assert_eq!(ask(measures, &request(), &admit(&["used"], 12)), Ok(()));
            assert_eq!(ask(measures, &request(), &evict(&["a"])), Ok(()));
            let a = HolderName::Service(name("a"));
            assert_eq!(ask(measures, &request(), &conflict(&[a])), Ok(()));
            let jupyter = HolderName::Foreign("jupyter".into());
            assert_eq!(ask(measures, &request(), &conflict(&[jupyter])), Ok(()));
            let reason = Refusal::Pinned(HolderName::Service(name("pinned")));
            assert_eq!(ask(measures, &request(), &Decision::Refuse { reason }), Ok(()));
        }
        assert_eq!(ask(false, &request(), &admit(&[], 0)), Ok(()));
    }

    #[test]
    fn victims_are_holders_named_once_and_not_pinned() {
        assert!(fault(false, &request(), &evict(&[])).contains("names nobody"));
        assert!(fault(false, &request(), &evict(&["b"])).contains("'b', which holds no GPU"));
        assert!(fault(false, &request(), &evict(&["jupyter"])).contains("holds no GPU"));
        assert!(fault(false, &request(), &evict(&["a", "a"])).contains("'a' twice"));
        assert!(fault(false, &request(), &evict(&["a", "pinned"])).contains("which is pinned"));
    }

    #[test]
    fn without_force_victims_are_of_lower_priority_and_not_busy() {
        let unforced = |priority| GpuRequest { force: false, priority, ..request() };
        assert!(fault(false, &unforced(0), &evict(&["a"])).contains("does not force"));
        assert_eq!(ask(false, &unforced(1), &evict(&["a"])), Ok(()));
        let mut snapshot = snapshot();
        snapshot.holders[0].busy = true;
        let policy = Fixed { measures: false, answer: Some(evict(&["a"])) };
        let fault = arbitrate(&policy, &unforced(1), &snapshot).unwrap_err();
        assert!(fault.contains("busy"), "{fault}");
        assert_eq!(arbitrate(&policy, &request(), &snapshot), Ok(evict(&["a"])));
    }

    #[test]
    fn a_placement_is_on_as_many_devices_as_were_asked_for() {
        assert!(fault(false, &request(), &admit(&["whole", "used"], 8)).contains("2 GPU(s)"));
        let two = GpuRequest { count: 2, ..request() };
        assert!(fault(false, &two, &admit(&["used"], 8)).contains("1 GPU(s) where 2"));
        assert_eq!(ask(false, &two, &admit(&["whole", "used"], 8)), Ok(()));
    }

    #[test]
    fn a_placement_is_on_devices_that_exist_in_order_and_allowed() {
        assert!(fault(false, &request(), &admit(&["gone"], 8)).contains("'gone', which does not"));
        assert!(fault(false, &request(), &admit(&["broken"], 8)).contains("not in order"));
        let only = GpuRequest { only: Some(vec![id("dark")]), ..request() };
        assert!(fault(false, &only, &admit(&["used"], 8)).contains("does not allow"));
        assert_eq!(ask(false, &only, &admit(&["dark"], 8)), Ok(()));
    }

    #[test]
    fn a_placement_charges_at_least_what_was_asked_for() {
        assert!(fault(false, &request(), &admit(&["used"], 7)).contains("7 MiB on 'used' where 8"));
    }

    #[test]
    fn whoever_promises_that_it_fits_leaves_room_for_it() {
        assert!(fault(true, &request(), &admit(&["used"], 13)).contains("13 MiB, and has 12 MiB"));
        assert!(fault(true, &request(), &admit(&["whole"], 8)).contains("25 MiB, and has 24 MiB"));
        assert_eq!(ask(false, &request(), &admit(&["whole"], 8)), Ok(()));
        assert!(fault(true, &request(), &admit(&["used"], u64::MAX)).contains("would hold"));
        let too_much = Decision::Evict {
            victims: vec![name("a")],
            placement: Placement::on([id("whole")], 20),
        };
        assert!(fault(true, &request(), &too_much).contains("25 MiB, and has 24 MiB"));
    }

    #[test]
    fn whoever_promises_that_it_fits_says_where_and_how_much() {
        assert!(fault(true, &request(), &admit(&[], 0)).contains("names no GPU"));
        assert!(fault(true, &request(), &admit(&["dark"], 8)).contains("nobody knows"));
        let undeclared = GpuRequest { vram_mib: 0, ..request() };
        assert!(fault(true, &undeclared, &admit(&["used"], 0)).contains("charges none"));
        assert_eq!(ask(false, &undeclared, &admit(&["used"], 0)), Ok(()));
    }

    #[test]
    fn a_conflict_is_with_holders_or_with_memory_that_others_use() {
        let stranger = HolderName::Service(name("b"));
        assert!(fault(false, &request(), &conflict(&[stranger])).contains("'b', which holds no"));
        assert_eq!(ask(true, &request(), &conflict(&[])), Ok(()));
        let policy = Fixed { measures: true, answer: Some(conflict(&[])) };
        let alone = GpuSnapshot::default().with_devices(vec![GpuDevice::new(id("whole"), 24)]);
        let fault = arbitrate(&policy, &request(), &alone).unwrap_err();
        assert!(fault.contains("nobody is in the way"), "{fault}");
    }

    #[test]
    fn only_the_pinned_are_said_to_be_pinned() {
        for who in ["a", "b"] {
            let reason = Refusal::Pinned(HolderName::Service(name(who)));
            assert!(
                fault(true, &request(), &Decision::Refuse { reason }).contains("is pinned, which")
            );
        }
    }

    #[test]
    fn a_panic_is_contained_and_the_policy_named() {
        let policy = Fixed { measures: false, answer: None };
        let fault = arbitrate(&policy, &request(), &snapshot()).unwrap_err();
        assert_eq!(fault, "the GPU policy 'fixed' is faulty: it panicked");
    }

    #[test]
    fn a_policy_that_cannot_even_tell_its_name_is_contained() {
        #[derive(Debug)]
        struct Nameless;
        impl GpuPolicy for Nameless {
            fn name(&self) -> &str {
                panic!("a policy's bug")
            }
            fn measures(&self) -> bool {
                false
            }
            fn decide(&self, _: &GpuRequest, _: &GpuSnapshot) -> Decision {
                panic!("a policy's bug")
            }
        }
        let fault = arbitrate(&Nameless, &request(), &snapshot()).unwrap_err();
        assert_eq!(fault, "the GPU policy 'without a name' is faulty: it panicked");
    }
}
