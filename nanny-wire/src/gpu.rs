//! GPUs as the API shows them. Memory is in MiB: what there is rounded down, what is used up.

use std::collections::BTreeMap;

use nanny_lib::gpu::{Account, GpuHealth, GpuVendor, MemoryKind};
use nanny_lib::{
    GpuClaimView, GpuId, GpuUserView, GpuView, QueueView, ServiceName, ServiceView, Snapshot,
};
use serde::Serialize;

/// `GET /gpus`
#[derive(Debug, Serialize)]
pub struct GpuList {
    total: usize,
    policy: String,
    gpus: Vec<Gpu>,
    totals: Totals,
    /// Services that hold a GPU, wherever that is.
    holders: Vec<Holder>,
    foreign_gpu_containers: Vec<String>,
    queue: Vec<Waiting>,
    problems: Vec<String>,
}

impl From<&Snapshot> for GpuList {
    fn from(now: &Snapshot) -> Self {
        let holders = now.services.values().filter(|view| view.holds_gpu);
        let queue = now.gpu_queue.iter().filter_map(|name| now.services.get(name));
        Self {
            total: now.gpus.len(),
            policy: now.gpu_policy.to_string(),
            gpus: now.gpus.iter().map(|gpu| Gpu::from(&**gpu)).collect(),
            totals: Totals::over(now),
            holders: holders.map(|view| Holder::new(view, now)).collect(),
            foreign_gpu_containers: now.foreign_gpu_containers.clone(),
            queue: queue.filter_map(|view| Waiting::new(view)).collect(),
            problems: now.gpu_problems.clone(),
        }
    }
}

/// A GPU. What is `null` is not known.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gpu {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    id: GpuId,
    index: Option<u32>,
    name: String,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    vendor: GpuVendor,
    pci: Option<String>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    memory: MemoryKind,
    health: Health,
    total_mib: Option<u64>,
    used_mib: Option<u64>,
    /// Kept free.
    headroom_mib: u64,
    /// In use by nobody we know.
    foreign_mib: u64,
    /// Promised to services.
    charged_mib: u64,
    /// What another service may have.
    free_mib: Option<u64>,
    utilization_percent: Option<u32>,
    temperature_celsius: Option<u32>,
    /// The services on it.
    claims: Vec<Claim>,
    /// Processes on it that are none of a service's.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<GpuUserShape>"))]
    others: Vec<GpuUserView>,
}

impl From<&GpuView> for Gpu {
    fn from(gpu: &GpuView) -> Self {
        Self {
            id: gpu.id.clone(),
            index: gpu.index,
            name: gpu.name.clone(),
            vendor: gpu.vendor,
            pci: gpu.pci.clone(),
            memory: gpu.memory,
            health: Health::from(&gpu.health),
            total_mib: gpu.total_mib,
            used_mib: gpu.used_mib,
            headroom_mib: gpu.headroom_mib,
            foreign_mib: gpu.foreign_mib,
            charged_mib: gpu.charged_mib,
            free_mib: gpu.free_mib,
            utilization_percent: gpu.utilization_percent,
            temperature_celsius: gpu.temperature_celsius,
            claims: gpu.claims.iter().map(Claim::from).collect(),
            others: gpu.others.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Health {
    state: &'static str,
    reason: Option<String>,
}

impl From<&GpuHealth> for Health {
    fn from(health: &GpuHealth) -> Self {
        let (state, reason) = match health {
            GpuHealth::Ok => ("ok", None),
            GpuHealth::Suspect(reason) => ("suspect", Some(reason.clone())),
            GpuHealth::Unusable(reason) => ("unusable", Some(reason.clone())),
            _ => ("unknown", None),
        };
        Self { state, reason }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Claim {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    service: ServiceName,
    phase: &'static str,
    charge_mib: u64,
    used_mib: Option<u64>,
    high_water_mib: Option<u64>,
}

impl From<&GpuClaimView> for Claim {
    fn from(claim: &GpuClaimView) -> Self {
        Self {
            service: claim.service.clone(),
            phase: claim.phase.as_str(),
            charge_mib: claim.charge_mib,
            used_mib: claim.used_mib,
            high_water_mib: claim.high_water_mib,
        }
    }
}

/// Sums over the GPUs of which that much is known. Nothing is decided by them.
#[derive(Debug, Default, Serialize)]
struct Totals {
    total_mib: u64,
    /// `None` if no GPU says what is used of it.
    used_mib: Option<u64>,
    charged_mib: u64,
    free_mib: u64,
}

impl Totals {
    fn over(now: &Snapshot) -> Self {
        let sum = |of: fn(&GpuView) -> Option<u64>| {
            now.gpus.iter().filter_map(|gpu| of(gpu)).fold(0, u64::saturating_add)
        };
        let are_known = now.gpus.is_empty() || now.gpus.iter().any(|gpu| gpu.used_mib.is_some());
        Self {
            total_mib: sum(|gpu| gpu.total_mib),
            used_mib: are_known.then(|| sum(|gpu| gpu.used_mib)),
            charged_mib: sum(|gpu| Some(gpu.charged_mib)),
            free_mib: sum(|gpu| gpu.free_mib),
        }
    }
}

#[derive(Debug, Serialize)]
struct Holder {
    service: ServiceName,
    status: &'static str,
    gpus: Vec<ServiceGpu>,
}

impl Holder {
    fn new(view: &ServiceView, now: &Snapshot) -> Self {
        let service = view.name().clone();
        Self { service, status: view.status.as_str(), gpus: service_gpus(view, now) }
    }
}

#[derive(Debug, Serialize)]
struct Waiting {
    service: ServiceName,
    #[serde(flatten)]
    place: QueueView,
}

impl Waiting {
    fn new(view: &ServiceView) -> Option<Self> {
        Some(Self { service: view.name().clone(), place: view.queue.clone()? })
    }
}

/// What a service has on one GPU. What is `null` is not known.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceGpu {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    id: GpuId,
    phase: Option<&'static str>,
    charge_mib: Option<u64>,
    used_mib: Option<u64>,
    high_water_mib: Option<u64>,
}

/// What a service has on each GPU that it is on, or may be on.
pub fn service_gpus(view: &ServiceView, now: &Snapshot) -> Vec<ServiceGpu> {
    let claims = now.gpus.iter().filter_map(|gpu| {
        let claim = gpu.claims.iter().find(|claim| claim.service == *view.name())?;
        Some(ServiceGpu {
            id: gpu.id.clone(),
            phase: Some(claim.phase.as_str()),
            charge_mib: Some(claim.charge_mib),
            used_mib: claim.used_mib,
            high_water_mib: claim.high_water_mib,
        })
    });
    let mut gpus: Vec<_> = claims.collect();
    for id in &view.gpus {
        if !gpus.iter().any(|gpu| gpu.id == *id) {
            let id = id.clone();
            let gpu = ServiceGpu {
                id,
                phase: None,
                charge_mib: None,
                used_mib: None,
                high_water_mib: None,
            };
            gpus.push(gpu);
        }
    }
    gpus
}

/// What a start that was refused would need.
#[derive(Debug, Serialize)]
pub struct Need {
    /// On each GPU; 0 if nobody knows.
    mib: u64,
    gpus: u32,
}

/// Who is on the GPUs: a service, a container of other hands, or a process that is none of either.
#[derive(Debug, Serialize)]
pub struct Occupant {
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// How much on each GPU; `null` if nobody knows.
    gpus: BTreeMap<GpuId, Option<u64>>,
}

/// What `account` says is needed.
pub fn need(account: &Account) -> Need {
    Need { mib: account.need_mib, gpus: account.count }
}

/// What `account` says is left on each GPU; `null` if nobody knows.
pub fn free(account: &Account) -> BTreeMap<GpuId, Option<u64>> {
    account.devices.iter().map(|device| (device.gpu.clone(), device.free_mib)).collect()
}

/// Who `account` says is on the GPUs, after those who are in the way.
pub fn occupants(conflicts: &[String], account: &Account) -> Vec<Occupant> {
    let named =
        |name: &str| Occupant { name: Some(name.to_owned()), pid: None, gpus: BTreeMap::new() };
    let mut all: Vec<Occupant> = conflicts.iter().map(|name| named(name)).collect();
    for device in &account.devices {
        for charge in &device.charges {
            let is_it = |known: &Occupant| known.name.as_ref() == Some(&charge.holder);
            let index = all.iter().position(is_it).unwrap_or_else(|| {
                all.push(named(&charge.holder));
                all.len() - 1
            });
            all[index].gpus.insert(device.gpu.clone(), Some(charge.mib));
        }
    }
    for device in &account.devices {
        for process in &device.others {
            let is_it = |known: &Occupant| known.pid == Some(process.pid);
            let index = all.iter().position(is_it).unwrap_or_else(|| {
                let GpuUserView { name, pid, .. } = process;
                let pid = Some(*pid);
                all.push(Occupant { name: name.clone(), pid, gpus: BTreeMap::new() });
                all.len() - 1
            });
            all[index].gpus.insert(device.gpu.clone(), process.used_mib);
        }
    }
    all
}

/// How a [`GpuUserView`] is written.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its shape is of interest")]
struct GpuUserShape {
    pid: u32,
    name: Option<String>,
    used_mib: Option<u64>,
}
