//! Properties of all policies, judged by a second opinion.

mod oracle;
mod worlds;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use self::oracle::{Case, Rule, is_sound};
use self::worlds::{decisions, requests, snapshots};
use super::{
    AllowAll, Decision, EvictionOrder, Exclusive, ExclusivePerGpu, Fit, GpuPolicy, GpuRequest,
    GpuSnapshot, Holder, HolderName, LedgerOnly, Packing, Refusal, arbitrate,
};
use crate::name::GpuId;

/// A policy that gives out room, and the rules by which it should.
#[derive(Debug, Clone, Copy)]
struct Sharing {
    rule: Rule,
    by_priority: bool,
    spread: bool,
    preempting: bool,
}

impl Sharing {
    fn policy(self) -> Box<dyn GpuPolicy> {
        let Self { rule, by_priority, spread, preempting } = self;
        let order = if by_priority { EvictionOrder::Priority } else { EvictionOrder::Lru };
        let packing = if spread { Packing::Spread } else { Packing::Binpack };
        let fit = Fit::new().evicting(order).packing(packing).preempting(preempting);
        match rule {
            Rule::Memory => Box::new(fit),
            Rule::Ledger => Box::new(LedgerOnly::like(fit)),
            Rule::Alone | Rule::AloneBesideStrangers => Box::new(ExclusivePerGpu),
        }
    }
}

fn sharing() -> impl Strategy<Value = Sharing> {
    let by_memory = prop_oneof![2 => Just(Rule::Memory), 1 => Just(Rule::Ledger)];
    let options = (by_memory, any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => options.prop_map(|(rule, by_priority, spread, preempting)| {
            Sharing { rule, by_priority, spread, preempting }
        }),
        1 => Just(Sharing { rule: Rule::Alone, by_priority: false, spread: false, preempting: false }),
    ]
}

fn all_policies() -> Vec<Box<dyn GpuPolicy>> {
    let fit = Fit::new().evicting(EvictionOrder::Priority).packing(Packing::Spread);
    vec![
        Box::new(Exclusive),
        Box::new(ExclusivePerGpu),
        Box::new(Fit::new()),
        Box::new(fit.preempting(true)),
        Box::new(LedgerOnly::like(fit)),
        Box::new(AllowAll),
    ]
}

/// As many cases as `PROPTEST_CASES` says, and at least enough to see the rare ones.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(1500), ..config }
}

/// Judges an answer by the written rules. This is the whole of them.
fn judge(sharing: Sharing, case: Case<'_>, decision: &Decision) -> Result<(), String> {
    let (request, services) = (case.request, case.services());
    let evictable = case.all(|holder| {
        let is_below = sharing.preempting && !holder.busy && holder.priority < request.priority;
        !holder.pinned && (request.force || is_below)
    }) & services;
    let strangers = case.all(|_| true) & !services;
    let waited_for = if case.rule == Rule::Alone { services | strangers } else { services };

    match decision {
        Decision::Admit { placement } => {
            case.check_placement(placement, 0)?;
            case.is_best(placement, 0, sharing.spread).then_some(()).ok_or("not the best place")?;
        }
        Decision::Evict { victims, placement } => {
            let names: Vec<_> = victims.iter().cloned().map(HolderName::Service).collect();
            let victims = case.set(names.iter()).ok_or("victims that are no holders")?;
            if victims & !evictable != 0 {
                return Err("a victim must not be stopped".to_owned());
            }
            if !case.is_minimal(victims) || victims == 0 {
                return Err("somebody makes way for nothing".to_owned());
            }
            if !case.goes_in_order(victims, evictable, sharing.by_priority) {
                return Err("somebody makes way before it is its turn".to_owned());
            }
            case.check_placement(placement, victims)?;
            let is_best = case.is_best(placement, victims, sharing.spread);
            is_best.then_some(()).ok_or("not the best place")?;
        }
        Decision::Conflict { holders } => {
            if request.force {
                return Err("a conflict in spite of force".to_owned());
            }
            if case.any_helps(evictable) {
                return Err("a conflict, and there is room to be made".to_owned());
            }
            let set = case.set(holders.iter()).ok_or("a conflict with nobody")?;
            if !case.is_minimal(set) || set & !waited_for != 0 {
                return Err("those named are not those in the way".to_owned());
            }
        }
        Decision::Refuse { reason } => judge_refusal(case, evictable, waited_for, reason)?,
    }
    Ok(())
}

fn judge_refusal(
    case: Case<'_>,
    evictable: u32,
    waited_for: u32,
    reason: &Refusal,
) -> Result<(), String> {
    let request = case.request;
    let are_too_few = case.eligible().len() < request.count as usize;
    let is_right = match reason {
        Refusal::NoGpu(_) => are_too_few,
        Refusal::NeverFits { need_mib, count, largest_mib } => {
            let most = case.eligible().into_iter().map(|device| match case.rule {
                Rule::Memory | Rule::Ledger => case.left(device, case.services()).max(0),
                _ => device.capacity_mib.map_or(i128::MAX, i128::from),
            });
            // As many as are asked for have that much, and fewer have more.
            let most: Vec<_> = most.collect();
            let largest = i128::from(*largest_mib);
            let have =
                |enough: &dyn Fn(i128) -> bool| most.iter().filter(|mib| enough(**mib)).count();
            !are_too_few
                && !case.any_helps(waited_for)
                && (*need_mib, *count) == (request.vram_mib.max(1), request.count)
                && have(&|mib| mib >= largest) >= request.count as usize
                && have(&|mib| mib > largest) < request.count as usize
        }
        Refusal::Pinned(who) => {
            let is_pinned = |holder: &Holder| holder.who == *who && holder.pinned;
            request.force
                && !case.any_helps(evictable)
                && case.any_helps(waited_for)
                && case.all(is_pinned) != 0
        }
        Refusal::Other(_) => false,
    };
    is_right.then_some(()).ok_or_else(|| format!("no reason to refuse: {reason:?}"))
}

proptest! {
    #![proptest_config(config())]

    /// Capacity, exclusivity, victims, placement, refusals: all that the policies promise.
    #[test]
    fn policies_that_give_out_room_keep_their_rules(
        sharing in sharing(),
        request in requests(),
        snapshot in snapshots(),
    ) {
        let decision = sharing.policy().decide(&request, &snapshot);
        let strictly = Case { rule: sharing.rule, request: &request, snapshot: &snapshot };
        let verdict = if sharing.rule == Rule::Alone && request.force {
            // Beside strangers only where nothing else is left.
            let evictable = strictly.all(|h| !h.pinned) & strictly.services();
            let beside = Case { rule: Rule::AloneBesideStrangers, ..strictly };
            let case = if strictly.any_helps(evictable) { strictly } else { beside };
            judge(sharing, case, &decision)
        } else {
            judge(sharing, strictly, &decision)
        };
        prop_assert_eq!(verdict, Ok(()), "{:?}", decision);
    }

    #[test]
    fn exclusive_admits_alone_and_stops_all_or_nobody(
        request in requests(),
        snapshot in snapshots(),
    ) {
        let case = Case { rule: Rule::Alone, request: &request, snapshot: &snapshot };
        let (services, all) = (case.services(), case.all(|_| true));
        match Exclusive.decide(&request, &snapshot) {
            Decision::Admit { placement } => {
                prop_assert!(all == 0 || (request.force && services == 0));
                prop_assert!(placement.is_anywhere());
            }
            Decision::Evict { victims, placement } => {
                let names: Vec<_> = victims.into_iter().map(HolderName::Service).collect();
                prop_assert_eq!(case.set(names.iter()), Some(services));
                prop_assert!(request.force && case.all(|holder| holder.pinned) == 0);
                prop_assert!(placement.is_anywhere());
            }
            Decision::Conflict { holders } => {
                prop_assert!(!request.force && all != 0);
                prop_assert_eq!(case.set(holders.iter()), Some(all));
            }
            Decision::Refuse { reason } => {
                prop_assert!(request.force, "{:?}", reason);
                let Refusal::Pinned(who) = reason else { panic!("{reason:?}") };
                prop_assert!(case.all(|holder| holder.pinned && holder.who == who) != 0);
            }
        }
    }

    #[test]
    fn allow_all_refuses_only_where_the_manifest_names_too_few_devices(
        request in requests(),
        snapshot in snapshots(),
    ) {
        let case = Case { rule: Rule::Alone, request: &request, snapshot: &snapshot };
        match AllowAll.decide(&request, &snapshot) {
            Decision::Admit { placement } if request.only.is_some() && !snapshot.devices.is_empty() => {
                prop_assert_eq!(placement.mib.len(), request.count as usize);
                let on = |gpu: &GpuId| case.eligible().iter().any(|device| device.id == *gpu);
                prop_assert!(placement.mib.keys().all(on));
            }
            Decision::Admit { placement } => prop_assert!(placement.is_anywhere()),
            Decision::Refuse { reason: Refusal::NoGpu(_) } => {
                prop_assert!(request.only.is_some());
                prop_assert!(case.eligible().len() < request.count as usize);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn the_same_question_gets_the_same_answer_and_it_passes_the_arbiter(
        request in requests(),
        snapshot in snapshots(),
    ) {
        for policy in all_policies() {
            let decision = policy.decide(&request, &snapshot);
            prop_assert_eq!(&decision, &policy.decide(&request.clone(), &snapshot.clone()));
            prop_assert_eq!(arbitrate(&*policy, &request, &snapshot), Ok(decision));
        }
    }

    #[test]
    fn more_memory_never_makes_it_worse(
        sharing in sharing(),
        request in requests(),
        snapshot in snapshots(),
        more in proptest::collection::vec((0..=8u64, 0..=8u64, 0..=2u64), 3),
    ) {
        let policy = sharing.policy();
        let mut larger = snapshot.clone();
        for (device, (capacity, foreign, headroom)) in larger.devices.iter_mut().zip(more) {
            device.capacity_mib = device.capacity_mib.map(|mib| mib + capacity);
            device.foreign_mib = device.foreign_mib.saturating_sub(foreign);
            device.headroom_mib = device.headroom_mib.saturating_sub(headroom);
        }
        // By force it goes beside strangers only where no room can be made: that some can is better.
        let most = if sharing.rule == Rule::Alone && request.force { 2 } else { 3 };
        let before = goodness(&*policy, &request, &snapshot).min(most);
        let after = goodness(&*policy, &request, &larger).min(most);
        prop_assert!(before <= after, "{before} and then {after}");
    }

    #[test]
    fn one_holder_less_never_makes_it_worse(
        request in requests(),
        snapshot in snapshots(),
        index in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!snapshot.holders.is_empty());
        let mut emptier = snapshot.clone();
        emptier.holders.remove(index.index(snapshot.holders.len()));
        for policy in all_policies() {
            // By force it goes beside strangers where nothing else is left: room that can be made
            // is better, and costs somebody his place.
            let most = if request.force { 2 } else { 3 };
            let before = goodness(&*policy, &request, &snapshot).min(most);
            let after = goodness(&*policy, &request, &emptier).min(most);
            prop_assert!(before <= after, "{}: {before} and then {after}", policy.name());
        }
    }

    #[test]
    fn the_arbiter_lets_through_what_is_sound_and_nothing_else(
        measures in any::<bool>(),
        request in requests(),
        snapshot in snapshots(),
        answer in decisions(),
    ) {
        let policy = Fixed { measures, answer: answer.clone() };
        let sound = is_sound(&answer, measures, &request, &snapshot);
        prop_assert_eq!(arbitrate(&policy, &request, &snapshot).is_ok(), sound);
    }
}

/// Properties of worlds in which nothing ever happens would say nothing.
#[test]
fn the_worlds_have_all_that_policies_must_decide_about() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<_, u32> = BTreeMap::new();
    for _ in 0..2000 {
        let case = (sharing(), requests(), snapshots()).new_tree(&mut runner).unwrap();
        let (sharing, request, snapshot) = case.current();
        let kind = match sharing.policy().decide(&request, &snapshot) {
            Decision::Admit { .. } if snapshot.holders.len() > 1 => "in among others",
            Decision::Admit { .. } => "in",
            Decision::Evict { victims, .. } if victims.len() > 1 => "several victims",
            Decision::Evict { .. } if request.force => "a victim",
            Decision::Evict { .. } => "a victim without force",
            Decision::Conflict { holders } if holders.len() > 1 => "in the way of several",
            Decision::Conflict { .. } => "in the way",
            Decision::Refuse { reason: Refusal::NeverFits { .. } } => "too large",
            Decision::Refuse { reason: Refusal::NoGpu(_) } => "no GPU",
            Decision::Refuse { reason: Refusal::Pinned(_) } => "pinned",
            Decision::Refuse { reason: Refusal::Other(_) } => "something else",
        };
        *seen.entry(kind).or_default() += 1;
    }
    seen.retain(|_, times| *times >= 10);
    assert_eq!(seen.len(), 10, "{seen:?}");
}

/// How good an answer is for whoever asked.
fn goodness(policy: &dyn GpuPolicy, request: &GpuRequest, snapshot: &GpuSnapshot) -> u8 {
    match policy.decide(request, snapshot) {
        Decision::Admit { .. } => 3,
        Decision::Evict { .. } => 2,
        Decision::Conflict { .. } => 1,
        Decision::Refuse { .. } => 0,
    }
}

/// A policy that answers always the same, whatever it is asked.
#[derive(Debug)]
struct Fixed {
    measures: bool,
    answer: Decision,
}

impl GpuPolicy for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn measures(&self) -> bool {
        self.measures
    }

    fn decide(&self, _: &GpuRequest, _: &GpuSnapshot) -> Decision {
        self.answer.clone()
    }
}
