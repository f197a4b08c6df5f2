//! The arbiter: asks the policy, and trusts nothing it says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Decision, GpuPolicy, GpuRequest, GpuSnapshot, HolderName};

/// Asks `policy`, and answers only what the rules allow.
///
/// This is where a 409 is decided: [`Decision::Conflict`] becomes
/// [`Error::GpuConflict`](crate::Error::GpuConflict) and, over HTTP, 409 Conflict.
///
/// # Errors
///
/// A sentence for a person if the policy panics, evicts without `force`, or evicts who is no
/// holder or is pinned.
pub(crate) fn arbitrate(
    policy: &dyn GpuPolicy,
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> Result<Decision, String> {
    let decision = catch_unwind(AssertUnwindSafe(|| policy.decide(request, snapshot)))
        .map_err(|_| "it panicked".to_owned())?;
    match &decision {
        Decision::Evict { victims, .. } => {
            if !request.force {
                return Err("it would stop others although the request does not force".to_owned());
            }
            if victims.is_empty() {
                return Err("it would evict, but names nobody".to_owned());
            }
            for victim in victims {
                let who = HolderName::Service(victim.clone());
                match snapshot.holders.iter().find(|holder| holder.who == who) {
                    None => return Err(format!("it would stop '{victim}', which holds no GPU")),
                    Some(holder) if holder.pinned => {
                        return Err(format!("it would stop '{victim}', which is pinned"));
                    }
                    Some(_) => {}
                }
            }
        }
        Decision::Conflict { holders } => {
            let known = |who: &HolderName| snapshot.holders.iter().any(|h| h.who == *who);
            if holders.is_empty() || !holders.iter().all(known) {
                return Err("it names a conflict with somebody who holds no GPU".to_owned());
            }
        }
        Decision::Admit { .. } | Decision::Refuse { .. } => {}
    }
    Ok(decision)
}

#[cfg(test)]
mod tests {
    use super::super::{Holder, Placement};
    use super::*;
    use crate::name::ServiceName;

    #[derive(Debug)]
    struct Fixed(fn() -> Decision);

    impl GpuPolicy for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
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
