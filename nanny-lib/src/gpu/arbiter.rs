//! The arbiter: asks the policy, and trusts nothing it says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Decision, GpuPolicy, GpuRequest, GpuSnapshot, Holder, HolderName, Placement};
use crate::name::ServiceName;

/// Asks `policy`, and answers only what the rules allow.
///
/// This is where a 409 is decided: [`Decision::Conflict`] becomes
/// [`Error::GpuConflict`](crate::Error::GpuConflict) and, over HTTP, 409 Conflict.
///
/// # Errors
///
/// A sentence for a person if the policy panics, or breaks a rule of [`GpuPolicy`].
pub(crate) fn arbitrate(
    policy: &dyn GpuPolicy,
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> Result<Decision, String> {
    let decide = || (policy.decide(request, snapshot), policy.measures());
    let (decision, measures) =
        catch_unwind(AssertUnwindSafe(decide)).map_err(|_| "it panicked".to_owned())?;
    match &decision {
        Decision::Admit { placement } => {
            check_placement(placement, &[], measures, request, snapshot)?;
        }
        Decision::Evict { victims, placement } => {
            check_victims(victims, request, snapshot)?;
            check_placement(placement, victims, measures, request, snapshot)?;
        }
        Decision::Conflict { holders } => {
            let known = |who: &HolderName| snapshot.holders.iter().any(|h| h.who == *who);
            if !holders.iter().all(known) {
                return Err("it names a conflict with somebody who holds no GPU".to_owned());
            }
            if holders.is_empty() && snapshot.devices.is_empty() {
                return Err("it names a conflict, and nobody holds a GPU".to_owned());
            }
        }
        Decision::Refuse { .. } => {}
    }
    Ok(decision)
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
        if let Some(chargeable) = device.chargeable_mib().filter(|_| measures) {
            let sum = snapshot.charged_mib(gpu, victims).saturating_add(mib);
            if sum > chargeable {
                return Err(format!("'{gpu}' would hold {sum} MiB of {chargeable} MiB"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ServiceName;

    #[derive(Debug)]
    struct Fixed(fn() -> Decision);

    impl GpuPolicy for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn measures(&self) -> bool {
            false
        }

        fn decide(&self, _: &GpuRequest, _: &GpuSnapshot) -> Decision {
            (self.0)()
        }
    }

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn ask(decide: fn() -> Decision, force: bool) -> Result<Decision, String> {
        let mut request = GpuRequest::new(name("new"));
        request.force = force;
        let mut pinned = Holder::new(HolderName::Service(name("pinned")));
        pinned.pinned = true;
        let holder = Holder::new(HolderName::Service(name("a")));
        arbitrate(&Fixed(decide), &request, &GpuSnapshot::new(vec![holder, pinned]))
    }

    fn evict(victims: &[&str]) -> Decision {
        let victims = victims.iter().map(|victim| name(victim)).collect();
        Decision::Evict { victims, placement: Placement::default() }
    }

    #[test]
    fn a_sound_answer_passes() {
        assert_eq!(ask(|| evict(&["a"]), true), Ok(evict(&["a"])));
        let admit = || Decision::Admit { placement: Placement::default() };
        assert_eq!(ask(admit, false), Ok(admit()));
    }

    #[test]
    fn nobody_is_evicted_without_force() {
        assert!(ask(|| evict(&["a"]), false).unwrap_err().contains("does not force"));
    }

    #[test]
    fn only_holders_that_are_not_pinned_are_evicted() {
        assert!(ask(|| evict(&["b"]), true).unwrap_err().contains("holds no GPU"));
        assert!(ask(|| evict(&["pinned"]), true).unwrap_err().contains("pinned"));
        assert!(ask(|| evict(&[]), true).unwrap_err().contains("nobody"));
        assert!(ask(|| Decision::Conflict { holders: vec![] }, false).is_err());
    }

    #[test]
    fn a_panic_is_contained() {
        assert_eq!(ask(|| panic!("policy bug"), false), Err("it panicked".to_owned()));
    }
}
