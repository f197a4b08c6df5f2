//! The sum that an answer rests on, for people to check.

use serde::Serialize;

use super::{GpuDevice, GpuPolicy, GpuRequest, GpuSnapshot, Holder};
use crate::name::GpuId;
use crate::nanny::GpuUserView;

/// What a service needs, and what each GPU has: why it was admitted or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// The policy that decided.
    pub policy: String,
    /// Whether it decides by memory.
    pub by_memory: bool,
    /// Holders that are pinned: they make way for nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<String>,
    /// What it is charged for on each GPU, in MiB; 0 if nobody knows.
    pub need_mib: u64,
    /// How many GPUs it needs.
    pub count: u32,
    /// What each GPU has that it may be on; empty if nothing is known of any.
    pub devices: Vec<DeviceAccount>,
}

/// What one GPU has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceAccount {
    /// Which.
    pub gpu: GpuId,
    /// All memory that services may have, in MiB; `None` if nobody knows.
    pub capacity_mib: Option<u64>,
    /// Memory kept free, in MiB.
    pub headroom_mib: u64,
    /// Memory in use by nobody we know, in MiB; 0 where the policy does not count it.
    pub foreign_mib: u64,
    /// What is charged to holders.
    pub charges: Vec<Charge>,
    /// What is left, in MiB; nothing where nobody new may be placed; `None` if nobody knows.
    pub free_mib: Option<u64>,
    /// Whether somebody new may be placed there.
    pub is_usable: bool,
    /// Processes on it that are none of a service's, where they can be seen.
    pub others: Vec<GpuUserView>,
}

/// What a holder is charged on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Charge {
    /// Who: a service, or a container of other hands.
    pub holder: String,
    /// How much, in MiB.
    pub mib: u64,
}

impl Account {
    /// The sum for `request` beside all holders of `snapshot`, which knows of no processes.
    #[must_use]
    pub fn of(policy: &dyn GpuPolicy, request: &GpuRequest, snapshot: &GpuSnapshot) -> Self {
        let is_allowed = |device: &&GpuDevice| {
            request.only.as_ref().is_none_or(|only| only.contains(&device.id))
        };
        let devices = snapshot.devices.iter().filter(is_allowed).map(|device| {
            let mut device = device.clone();
            if policy.counts_memory() && !policy.measures() {
                device.foreign_mib = 0;
            }
            let holders = snapshot.holders.iter().filter(|holder| holder.may_be_on(&device.id));
            let charges = holders.map(|holder| Charge {
                holder: holder.who.to_string(),
                mib: holder.charge_mib(&device.id),
            });
            let charged = snapshot.charged_mib(&device.id, &[]);
            DeviceAccount {
                gpu: device.id.clone(),
                capacity_mib: device.capacity_mib,
                headroom_mib: device.headroom_mib,
                foreign_mib: device.foreign_mib,
                charges: charges.collect(),
                free_mib: if device.is_usable {
                    device.chargeable_mib().map(|mib| mib.saturating_sub(charged))
                } else {
                    Some(0)
                },
                is_usable: device.is_usable,
                others: Vec::new(),
            }
        });
        let name = |holder: &Holder| holder.who.to_string();
        Self {
            policy: policy.name().to_owned(),
            by_memory: policy.counts_memory(),
            pinned: snapshot.holders.iter().filter(|holder| holder.pinned).map(name).collect(),
            need_mib: request.vram_mib,
            count: request.count,
            devices: devices.collect(),
        }
    }

    /// Whether so many of the GPUs are large enough, were nothing else on them.
    #[must_use]
    pub fn could_fit(&self) -> bool {
        let could_be = self.devices.iter().filter(|device| {
            let all = device.capacity_mib.unwrap_or(0).saturating_sub(device.headroom_mib);
            all >= self.need_mib.max(1)
        });
        could_be.count() >= usize::try_from(self.count).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExclusivePerGpu, Fit, HolderName, LedgerOnly, Placement};
    use super::*;
    use crate::name::ServiceName;

    fn asked() -> (GpuRequest, GpuSnapshot) {
        let name = |name| ServiceName::new(name).unwrap();
        let ids = ["0", "1"].map(GpuId::new);
        let mut devices = ids.clone().map(|id| GpuDevice::new(id, 24));
        devices[0].foreign_mib = 20;
        let mut holder = Holder::new(HolderName::Service(name("a")));
        holder.placement = Placement::on(ids, 3);
        holder.pinned = true;
        let request = GpuRequest { vram_mib: 8, ..GpuRequest::new(name("new")) };
        (request, GpuSnapshot::new(vec![holder]).with_devices(devices.to_vec()))
    }

    #[test]
    fn what_is_free_is_what_the_policy_counts() {
        let (request, snapshot) = asked();
        let of = |policy: &dyn GpuPolicy| {
            let account = Account::of(policy, &request, &snapshot);
            let free: Vec<_> = account.devices.iter().map(|gpu| gpu.free_mib.unwrap()).collect();
            assert_eq!(account.pinned, ["a"]);
            (account.by_memory, free, account.devices[0].foreign_mib)
        };
        assert_eq!(of(&Fit::new()), (true, vec![1, 21], 20));
        assert_eq!(of(&LedgerOnly::default()), (true, vec![21, 21], 0));
        assert_eq!(of(&ExclusivePerGpu), (false, vec![1, 21], 20));
    }

    #[test]
    fn gpus_that_a_service_may_not_be_on_are_no_part_of_its_sum() {
        let (mut request, mut snapshot) = asked();
        snapshot.devices[1].capacity_mib = Some(6);
        assert!(Account::of(&Fit::new(), &request, &snapshot).could_fit());
        request.only = Some(vec![GpuId::new("1")]);
        let account = Account::of(&Fit::new(), &request, &snapshot);
        let named: Vec<_> = account.devices.iter().map(|gpu| gpu.gpu.as_str()).collect();
        assert_eq!(named, ["1"]);
        assert!(!account.could_fit(), "it is larger than the one it may have");
    }
}
