//! Who makes way: the order, and no more of them than it takes.

use std::cmp::Reverse;

use super::{
    ClaimPhase, Decision, GpuRequest, GpuSnapshot, Holder, HolderName, Placement, Refusal,
};
use crate::name::ServiceName;

/// In which order services make way. Whoever is on its way out anyway comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum EvictionOrder {
    /// Whoever has not been used for longest.
    #[default]
    Lru,
    /// Whoever has the lowest priority; among equals, whoever has not been used for longest.
    Priority,
}

impl EvictionOrder {
    /// The services among the holders, the first to make way first.
    fn services(self, snapshot: &GpuSnapshot) -> Vec<&Holder> {
        let mut services: Vec<_> =
            snapshot.holders.iter().filter(|holder| service_of(holder).is_some()).collect();
        services.sort_by_key(|holder| {
            let priority = match self {
                Self::Lru => 0,
                Self::Priority => holder.priority,
            };
            (!is_leaving(holder), priority, Reverse(holder.unused_for), &holder.who)
        });
        services
    }
}

/// What a policy answers that gives out whatever room there is: `place` says where there is some for
/// the request once those that it is given are gone. `None` if not even then.
///
/// `waited_for` are holders beside the services that may be waited for, and are never stopped.
/// `place` must not lose a place as more are gone.
pub(super) fn make_room(
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
    eviction: Eviction,
    waited_for: &[&Holder],
    place: impl Fn(&[&Holder]) -> Option<Placement>,
) -> Option<Decision> {
    let mut services = eviction.order.services(snapshot);
    // Stable: whom force would stop, in its order, and then those that not even force stops.
    services.sort_by_key(|holder| holder.pinned);
    let has_room = |gone: &[&Holder]| place(gone).is_some();

    let evictable = services.iter().copied().filter(|holder| eviction.may_evict(request, holder));
    if let Some(gone) = least(&evictable.collect::<Vec<_>>(), has_room) {
        let placement = place(&gone)?;
        let victims: Vec<_> =
            gone.iter().filter_map(|holder| service_of(holder)).cloned().collect();
        return Some(if victims.is_empty() {
            Decision::Admit { placement }
        } else {
            Decision::Evict { victims, placement }
        });
    }
    let in_the_way = least(&[&services, waited_for].concat(), has_room)?;
    let pinned = in_the_way.iter().find(|holder| holder.pinned);
    if let Some(pinned) = pinned.filter(|_| request.force) {
        return Some(Decision::Refuse { reason: Refusal::Pinned(pinned.who.clone()) });
    }
    let holders = in_the_way.iter().map(|holder| holder.who.clone()).collect();
    Some(Decision::Conflict { holders })
}

/// How a policy evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Eviction {
    pub(super) order: EvictionOrder,
    /// Without force, too: whoever is of lower priority and not busy.
    pub(super) preempting: bool,
}

impl Eviction {
    fn may_evict(self, request: &GpuRequest, holder: &Holder) -> bool {
        let is_below = self.preempting && !holder.busy && holder.priority < request.priority;
        !holder.pinned && (request.force || is_below)
    }
}

/// The first of `candidates`, so many that there is room once they are gone, and none of them for
/// nothing: without any one of them there would be none. `None` if all are too few.
///
/// `has_room` must not become false as more are gone.
fn least<'a>(
    candidates: &[&'a Holder],
    has_room: impl Fn(&[&Holder]) -> bool,
) -> Option<Vec<&'a Holder>> {
    let enough = (0..=candidates.len()).find(|&count| has_room(&candidates[..count]))?;
    let mut gone = candidates[..enough].to_vec();
    // The last to make way is the first to be spared.
    for index in (0..enough).rev() {
        let spared = gone.remove(index);
        if !has_room(&gone) {
            gone.insert(index, spared);
        }
    }
    Some(gone)
}

/// The service that a holder is, if it is one.
pub(super) fn service_of(holder: &Holder) -> Option<&ServiceName> {
    match &holder.who {
        HolderName::Service(name) => Some(name),
        HolderName::Foreign(_) => None,
    }
}

/// Whether it is being stopped already.
fn is_leaving(holder: &Holder) -> bool {
    matches!(holder.phase, ClaimPhase::Draining | ClaimPhase::Stopping)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn service(name: &str, priority: i32, unused_for: u64) -> Holder {
        let mut holder = Holder::new(HolderName::Service(ServiceName::new(name).unwrap()));
        holder.priority = priority;
        holder.unused_for = Duration::from_secs(unused_for);
        holder
    }

    fn order(order: EvictionOrder, holders: Vec<Holder>) -> Vec<String> {
        let snapshot = GpuSnapshot::new(holders);
        order.services(&snapshot).iter().map(|holder| holder.who.to_string()).collect()
    }

    #[test]
    fn the_longest_unused_makes_way_first() {
        let holders = vec![service("a", 0, 5), service("b", 9, 60), service("c", 0, 30)];
        assert_eq!(order(EvictionOrder::Lru, holders), ["b", "c", "a"]);
    }

    #[test]
    fn the_lowest_priority_makes_way_first_and_then_the_longest_unused() {
        let holders = vec![service("a", 1, 90), service("b", 0, 5), service("c", 0, 30)];
        assert_eq!(order(EvictionOrder::Priority, holders), ["c", "b", "a"]);
    }

    #[test]
    fn whoever_is_being_stopped_makes_way_before_all_others() {
        let mut stopping = service("z", 5, 0);
        stopping.phase = ClaimPhase::Stopping;
        let mut draining = service("y", 5, 1);
        draining.phase = ClaimPhase::Draining;
        let holders = vec![service("a", 0, 90), stopping, draining];
        assert_eq!(order(EvictionOrder::Lru, holders.clone()), ["y", "z", "a"]);
        assert_eq!(order(EvictionOrder::Priority, holders), ["y", "z", "a"]);
    }

    #[test]
    fn containers_of_other_hands_are_not_in_the_order() {
        let foreign = Holder::new(HolderName::Foreign("jupyter".into()));
        assert_eq!(order(EvictionOrder::Lru, vec![foreign, service("a", 0, 0)]), ["a"]);
    }

    #[test]
    fn equals_make_way_by_name_so_that_the_answer_is_always_the_same() {
        let holders = vec![service("b", 0, 5), service("a", 0, 5)];
        assert_eq!(order(EvictionOrder::Lru, holders), ["a", "b"]);
    }

    #[test]
    fn nobody_makes_way_for_nothing() {
        let (small, other, large) = (service("s", 0, 9), service("o", 0, 8), service("l", 0, 7));
        let candidates = [&small, &other, &large];
        let large_is_gone = |gone: &[&Holder]| gone.contains(&&large);
        assert_eq!(least(&candidates, large_is_gone), Some(vec![&large]));
        assert_eq!(least(&candidates, |gone| gone.len() >= 2), Some(vec![&small, &other]));
        assert_eq!(least(&candidates, |_| true), Some(vec![]));
        assert_eq!(least(&candidates, |_| false), None);
    }

    #[test]
    fn of_two_of_whom_one_is_enough_the_first_makes_way() {
        let (first, second, third) = (service("f", 0, 9), service("s", 0, 8), service("t", 0, 7));
        let candidates = [&first, &second, &third];
        let has_room = |gone: &[&Holder]| gone.contains(&&third) && gone.len() >= 2;
        assert_eq!(least(&candidates, has_room), Some(vec![&first, &third]));
    }
}
