//! The default policy: one GPU service at a time.

use super::{Decision, GpuPolicy, GpuRequest, GpuSnapshot, HolderName, Placement, Refusal};

/// One GPU service at a time, on whatever GPUs there are.
///
/// Whoever holds a GPU is in the way of everybody else. A request with `force` evicts all holders
/// that are services, unless one of them is pinned; containers of other hands are never stopped,
/// and a forced start goes on beside them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exclusive;

impl GpuPolicy for Exclusive {
    fn name(&self) -> &'static str {
        "exclusive"
    }

    fn measures(&self) -> bool {
        false
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        let placement = Placement::default();
        if snapshot.holders.is_empty() {
            return Decision::Admit { placement };
        }
        if !request.force {
            let holders = snapshot.holders.iter().map(|holder| holder.who.clone()).collect();
            return Decision::Conflict { holders };
        }
        if let Some(pinned) = snapshot.holders.iter().find(|holder| holder.pinned) {
            return Decision::Refuse { reason: Refusal::Pinned(pinned.who.clone()) };
        }
        let services = snapshot.holders.iter().filter_map(|holder| match &holder.who {
            HolderName::Service(name) => Some(name.clone()),
            HolderName::Foreign(_) => None,
        });
        let victims: Vec<_> = services.collect();
        if victims.is_empty() {
            return Decision::Admit { placement };
        }
        Decision::Evict { victims, placement }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Holder;
    use super::*;
    use crate::name::ServiceName;

    fn service(name: &str) -> Holder {
        Holder::new(HolderName::Service(ServiceName::new(name).unwrap()))
    }

    fn request(force: bool) -> GpuRequest {
        let mut request = GpuRequest::new(ServiceName::new("new").unwrap());
        request.force = force;
        request
    }

    #[test]
    fn an_empty_gpu_admits() {
        let decision = Exclusive.decide(&request(false), &GpuSnapshot::default());
        assert!(matches!(decision, Decision::Admit { .. }));
    }

    #[test]
    fn a_holder_is_in_the_way_without_force() {
        let snapshot = GpuSnapshot::new(vec![service("a")]);
        let decision = Exclusive.decide(&request(false), &snapshot);
        let holders = vec![HolderName::Service(ServiceName::new("a").unwrap())];
        assert_eq!(decision, Decision::Conflict { holders });
    }

    #[test]
    fn force_evicts_services_and_spares_strangers() {
        let foreign = Holder::new(HolderName::Foreign("jupyter".into()));
        let snapshot = GpuSnapshot::new(vec![service("a"), foreign.clone()]);
        let Decision::Evict { victims, .. } = Exclusive.decide(&request(true), &snapshot) else {
            panic!("force evicts");
        };
        assert_eq!(victims, [ServiceName::new("a").unwrap()]);

        let snapshot = GpuSnapshot::new(vec![foreign]);
        assert!(matches!(Exclusive.decide(&request(true), &snapshot), Decision::Admit { .. }));
    }

    #[test]
    fn force_does_not_evict_the_pinned() {
        let mut pinned = service("a");
        pinned.pinned = true;
        let snapshot = GpuSnapshot::new(vec![pinned]);
        assert!(matches!(Exclusive.decide(&request(true), &snapshot), Decision::Refuse { .. }));
    }
}
