//! The sum that an answer rests on, for people to check.

use serde::Serialize;

use super::{GpuPolicy, GpuRequest, GpuSnapshot};
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
    /// What it is charged for on each GPU, in MiB; 0 if nobody knows.
    pub need_mib: u64,
    /// How many GPUs it needs.
    pub count: u32,
    /// What each GPU has; empty if nothing is known of any.
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
    /// Memory in use by nobody we know, in MiB.
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
        let devices = snapshot.devices.iter().map(|device| {
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
        Self {
            policy: policy.name().to_owned(),
            by_memory: policy.measures(),
            need_mib: request.vram_mib,
            count: request.count,
            devices: devices.collect(),
        }
    }
}
