//! One GPU, as last seen: whose its memory is.

use std::collections::{BTreeMap, BTreeSet};

use super::shown::who;
use crate::gpu::{ClaimPhase, GpuProcess, GpuReading};
use crate::name::ServiceName;

/// Memory of which nobody knows whose it is goes up and down by so much, in MiB.
pub(super) const NOISE_MIB: u64 = 64;

/// A GPU, as last seen.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) reading: GpuReading,
    /// What services use of it, in MiB.
    pub(super) users: BTreeMap<ServiceName, u64>,
    /// Whose its processes are, by their numbers, as far as they are, or were, a service's.
    pub(super) owners: BTreeMap<u32, Owner>,
    /// Memory in use by nobody we know, in MiB, when nothing was being handed back.
    pub(super) foreign_mib: u64,
    /// Memory that a service had, and that was not free again in time.
    pub(super) held: Option<String>,
}

/// Whose a process is, and what it was last seen to use, in MiB.
#[derive(Debug)]
pub(super) struct Owner {
    service: ServiceName,
    used_mib: u64,
}

/// A service that may use a GPU now.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) name: ServiceName,
    pub(super) phase: ClaimPhase,
    /// What it is charged there, in MiB; 0 if it does not say and was never seen to use any.
    pub(super) charge_mib: u64,
    /// A part of it ended just now, and may be handing back memory that was never seen to be its.
    pub(super) hands_back: bool,
}

/// What is known of the memory that services had and are handing back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandedBack {
    /// Nobody hands any back.
    Nothing,
    /// This reading was asked for before the last of them ended: it cannot show it.
    Unseen,
    /// This reading may show it.
    Expected,
    /// This reading should show it: the time for it is over.
    Late,
}

/// Whether what was being handed back is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is free again, or not heard of any more.
    Yes,
    /// It is waited for.
    No,
    /// So much of it is not coming back.
    Without {
        /// In MiB.
        mib: u64,
    },
}

impl Device {
    pub(super) fn new(reading: GpuReading) -> Self {
        Self {
            reading,
            users: BTreeMap::new(),
            owners: BTreeMap::new(),
            foreign_mib: 0,
            held: None,
        }
    }

    /// Nobody says any more what is in use.
    pub(super) fn forget_use(&mut self) {
        self.reading.used_mib = None;
        self.reading.processes = None;
        self.users.clear();
    }

    pub(super) fn processes(&self) -> &[GpuProcess] {
        self.reading.processes.as_deref().unwrap_or_default()
    }

    /// Whether all use of memory can be told apart by who uses it.
    pub(super) fn tells_users(&self) -> bool {
        let processes = self.reading.processes.as_ref();
        processes.is_some_and(|all| all.iter().all(|process| process.used_mib.is_some()))
    }

    /// Processes that are nobody's we know, and never were.
    pub(super) fn others(&self) -> impl Iterator<Item = &GpuProcess> {
        self.processes().iter().filter(|process| !self.owners.contains_key(&process.pid))
    }

    /// Memory that nobody has, in MiB; `None` if it is not measured.
    pub(super) fn free_mib(&self) -> Option<u64> {
        Some(self.reading.total_mib?.saturating_sub(self.reading.used_mib?))
    }

    /// What services use, in MiB; where that cannot be told, what they are charged.
    pub(super) fn used_by_services(&self, live: &[Live]) -> u64 {
        if self.tells_users() {
            return self.users.values().fold(0, |sum, mib| sum.saturating_add(*mib));
        }
        live.iter().fold(0, |sum: u64, service| sum.saturating_add(service.charge_mib))
    }

    /// Whether one of those who may be here may use more or less than is known: it comes, goes, or
    /// was not seen to use anything; or nobody sees what it uses, and it does not say.
    pub(super) fn may_be_misjudged(&self, live: &[Live]) -> bool {
        live.iter().any(|service| {
            let is_known = if self.tells_users() {
                service.phase == ClaimPhase::Running && self.users.contains_key(&service.name)
            } else {
                service.charge_mib > 0
            };
            service.hands_back || !is_known
        })
    }

    /// Notes that memory which `service` had is not free again, and says so for a person.
    pub(super) fn hold(&mut self, service: &ServiceName, left_mib: u64) -> String {
        let users: Vec<_> = self.processes().iter().map(who).collect();
        let users = if users.is_empty() {
            "no process is seen to have it".to_owned()
        } else {
            format!("on the GPU are {}", users.join(", "))
        };
        let reason = format!("{left_mib} MiB that '{service}' had are not free again; {users}");
        self.held = Some(reason.clone());
        reason
    }

    /// Notes whose the processes are, and answers the services that have left memory behind: a
    /// process ends before its memory is free, and before its container is seen to end. What once was
    /// a service's stays its own to the end.
    pub(super) fn attribute(
        &mut self,
        owner: impl Fn(&GpuProcess) -> Option<ServiceName>,
    ) -> BTreeSet<ServiceName> {
        let Some(processes) = self.reading.processes.take() else {
            self.users.clear();
            return BTreeSet::new();
        };
        let mut left = std::mem::take(&mut self.owners);
        self.users.clear();
        for process in &processes {
            let (pid, used_mib) = (process.pid, process.used_mib.unwrap_or(0));
            let before = left.remove(&pid);
            if let Some(service) = owner(process) {
                let used = self.users.entry(service.clone()).or_default();
                *used = used.saturating_add(used_mib);
                self.owners.insert(pid, Owner { service, used_mib });
            } else if let Some(before) = before {
                self.owners.insert(pid, before);
            }
        }
        self.reading.processes = Some(processes);
        let left = left.into_values().filter(|owner| owner.used_mib > NOISE_MIB);
        left.map(|owner| owner.service).collect()
    }

    /// Judges what is in use by nobody we know. While memory is being handed back, that is what it
    /// was before, and who is seen to be new.
    pub(super) fn settle(&mut self, live: &[Live], handed_back: HandedBack) -> Settled {
        // Where nothing is measured, nothing is heard of what was handed back either.
        let Some(used) = self.reading.used_mib else { return Settled::Yes };
        let unknown = used.saturating_sub(self.used_by_services(live));
        let listed = self.others().filter_map(|process| process.used_mib);
        let listed = listed.fold(0, u64::saturating_add).min(unknown);
        let known = self.foreign_mib.min(unknown).max(listed);
        let left = unknown - known;
        match handed_back {
            HandedBack::Nothing if self.may_be_misjudged(live) => {
                // It may yet turn out to be theirs.
                self.foreign_mib = known;
                Settled::Yes
            }
            HandedBack::Nothing => {
                // What cannot be told apart was foreign when nobody else was there.
                let guessed = !self.tells_users() && !live.is_empty();
                let least = if guessed { self.foreign_mib.min(used) } else { 0 };
                self.foreign_mib = unknown.max(least);
                if unknown <= listed.saturating_add(NOISE_MIB) {
                    self.held = None;
                }
                Settled::Yes
            }
            HandedBack::Late if left > NOISE_MIB => {
                self.foreign_mib = unknown;
                Settled::Without { mib: left }
            }
            HandedBack::Unseen | HandedBack::Expected | HandedBack::Late => {
                self.foreign_mib = known;
                let is_back = handed_back != HandedBack::Unseen && left <= NOISE_MIB;
                if is_back { Settled::Yes } else { Settled::No }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuVendor;
    use crate::name::GpuId;

    fn name() -> ServiceName {
        ServiceName::new("a").expect("it is a name")
    }

    /// A GPU of which so many MiB are in use: by 'a', by a process of nobody's, and unseen.
    fn gpu(its: u64, strange: u64, unseen: u64) -> Device {
        let mut reading = GpuReading::new(GpuId::new("g"), GpuVendor::Nvidia);
        reading.used_mib = Some(its + strange + unseen);
        let all = [(1, its), (2, strange)].into_iter().filter(|(_, mib)| *mib > 0);
        let process = |(pid, mib)| {
            let mut process = GpuProcess::new(pid);
            process.used_mib = Some(mib);
            process
        };
        reading.processes = Some(all.map(process).collect());
        let mut device = Device::new(reading);
        device.attribute(|process| (process.pid == 1).then(name));
        device
    }

    fn hidden(mut device: Device) -> Device {
        device.reading.processes = None;
        device.attribute(|_| None);
        device
    }

    fn live(phase: ClaimPhase, hands_back: bool) -> Vec<Live> {
        vec![Live { name: name(), phase, charge_mib: 8000, hands_back }]
    }

    #[test]
    fn memory_of_nobody_is_told_from_what_services_have_or_hand_back() {
        use HandedBack::{Expected, Late, Nothing, Unseen};
        let (none, runs) = (Vec::new, || live(ClaimPhase::Running, false));
        let without = |mib| Settled::Without { mib };
        for (what, device, before, live, handed_back, settled, after) in [
            ("all is its", gpu(8000, 0, 0), 0, runs(), Nothing, Settled::Yes, 0),
            ("a stranger", gpu(8000, 4000, 0), 0, runs(), Nothing, Settled::Yes, 4000),
            ("unseen", gpu(8000, 0, 4000), 0, runs(), Nothing, Settled::Yes, 4000),
            (
                "unseen, and a part ended just now",
                gpu(8000, 0, 4000),
                0,
                live(ClaimPhase::Running, true),
                Nothing,
                Settled::Yes,
                0,
            ),
            (
                "unseen, and it has only just come",
                gpu(0, 3000, 4000),
                1000,
                live(ClaimPhase::Starting, false),
                Nothing,
                Settled::Yes,
                3000,
            ),
            ("charged", hidden(gpu(7000, 2000, 0)), 0, runs(), Nothing, Settled::Yes, 1000),
            ("charged too much", hidden(gpu(5000, 0, 0)), 0, runs(), Nothing, Settled::Yes, 0),
            ("as before it", hidden(gpu(7000, 2000, 0)), 3000, runs(), Nothing, Settled::Yes, 3000),
            ("alone", hidden(gpu(0, 2000, 0)), 3000, none(), Nothing, Settled::Yes, 2000),
            ("asked before", gpu(0, 0, 10_000), 2000, none(), Unseen, Settled::No, 2000),
            ("asked before, and back", gpu(0, 0, 2000), 2000, none(), Unseen, Settled::No, 2000),
            ("on its way", gpu(0, 0, 10_000), 2000, none(), Expected, Settled::No, 2000),
            ("a newcomer", gpu(0, 3000, 7000), 2000, none(), Expected, Settled::No, 3000),
            ("back but for noise", gpu(0, 0, 2064), 2000, none(), Expected, Settled::Yes, 2000),
            ("late", gpu(0, 0, 10_000), 2000, none(), Late, without(8000), 10_000),
            ("late, and back", gpu(0, 0, 1000), 2000, none(), Late, Settled::Yes, 1000),
        ] {
            let mut device = device;
            device.foreign_mib = before;
            assert_eq!(device.settle(&live, handed_back), settled, "{what}");
            assert_eq!(device.foreign_mib, after, "{what}");
        }
    }

    #[test]
    fn nothing_is_heard_where_nothing_is_measured() {
        let mut device = gpu(0, 0, 8000);
        device.foreign_mib = 500;
        device.forget_use();
        assert_eq!(device.settle(&[], HandedBack::Unseen), Settled::Yes);
        assert_eq!(device.foreign_mib, 500);
    }

    #[test]
    fn what_was_held_is_let_go_once_nobody_unseen_has_any() {
        let mut device = gpu(0, 0, 8000);
        device.hold(&name(), 8000);
        device.settle(&[], HandedBack::Nothing);
        assert!(device.held.is_some());
        device.reading.used_mib = Some(60);
        device.settle(&[], HandedBack::Nothing);
        assert_eq!(device.held, None);
    }
}
