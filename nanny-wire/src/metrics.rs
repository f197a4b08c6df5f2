//! What is counted and measured: for curves and for people, and for nothing that decides.
//!
//! Each name ends with its unit: `_seconds`, `_bytes`, `_mib` (2^20 bytes), `_percent`, `_celsius`.
//! What is `null` is not known. Counters begin with the nanny, and only grow.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use nanny_lib::backend::Stats;
use nanny_lib::{
    ContainerStats, EngineView, GpuId, GpuView, Nanny, ServiceName, ServiceView, Snapshot,
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

/// What is counted and measured, all of it at about one time.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// When.
    pub at: Timestamp,
    /// Sums and counts over all services.
    pub totals: Totals,
    /// By service, sorted by name.
    pub services: Vec<ServiceMetrics>,
    /// By GPU, in the order in which people number them.
    pub gpus: Vec<GpuMetrics>,
    /// The engines, in order of preference.
    pub engines: Vec<EngineView>,
}

/// Sums and counts over all services.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Services that have a manifest.
    pub services_discovered: usize,
    /// Services that run.
    pub services_running: usize,
    /// Services that wait for a GPU.
    pub services_queued: usize,
    /// Counter: starts that succeeded.
    pub starts: u64,
    /// Counter: starts and stops that failed, and ends that nobody wished.
    pub failures: u64,
    /// Counter: changes of any kind.
    pub changes: u64,
}

/// One service.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct ServiceMetrics {
    /// Which.
    pub name: ServiceName,
    /// Its state in one word.
    pub status: &'static str,
    /// Running and healthy.
    pub ready: bool,
    /// For how long it runs, by the start of its youngest container; `null` if it does not.
    pub uptime_seconds: Option<f64>,
    /// Counter: starts by the nanny after which all of it ran, restarts among them.
    pub starts: u64,
    /// Counter: its starts and stops that failed, and its containers that ended when nobody wished it.
    pub failures: u64,
    /// Counter: how long it had a claim on a GPU.
    pub gpu_seconds: f64,
    /// Memory that it is seen to use on GPUs now.
    pub vram_mib: Option<u64>,
    /// Memory that it is charged on GPUs now: the most that it needed, or is said to need.
    pub vram_charged_mib: Option<u64>,
    /// Processor time that its running containers have used since they started.
    pub cpu_seconds: Option<f64>,
    /// Memory that its running containers use now, without what the page cache could give back.
    pub memory_bytes: Option<u64>,
    /// The sum of the limits on it; `null` if any of them has none.
    pub memory_limit_bytes: Option<u64>,
}

/// One GPU.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct GpuMetrics {
    /// Which: the same after every boot.
    pub id: GpuId,
    /// What it is called.
    pub name: String,
    /// All its memory.
    pub total_mib: Option<u64>,
    /// Memory in use, whoever uses it.
    pub used_mib: Option<u64>,
    /// The sum of what is charged to services.
    pub charged_mib: u64,
    /// Memory in use by nobody we know.
    pub foreign_mib: u64,
    /// What may be charged to somebody else.
    pub free_mib: Option<u64>,
    /// How busy it is.
    pub utilization_percent: Option<u32>,
    /// How warm it is.
    pub temperature_celsius: Option<u32>,
}

impl Metrics {
    /// Reads what containers use, for four seconds at most, and adds what is known: what was not
    /// read by then is a gap.
    pub async fn collect(nanny: &Nanny) -> Self {
        let now = nanny.snapshot();
        let readings: Vec<_> =
            now.services.keys().map(|name| read(nanny.clone(), name.clone())).collect();
        let readings = in_time(readings).await;
        let at = Timestamp::now();
        let services = now.services.values().zip(&readings);
        Self {
            at,
            totals: Totals::new(&now, nanny.latest_change()),
            services: services.map(|(view, read)| service(view, &now, read, at)).collect(),
            gpus: now.gpus.iter().map(|gpu| GpuMetrics::from(&**gpu)).collect(),
            engines: now.engines.clone(),
        }
    }
}

/// What each reading says, and nothing of those that are not done in the time that all have.
async fn in_time<T>(readings: Vec<impl Future<Output = Vec<T>>>) -> Vec<Vec<T>> {
    let end = Instant::now() + READ_LIMIT;
    let readings = readings.into_iter().map(|reading| timeout_at(end, reading));
    let readings = stream::iter(readings).buffered(SERVICES_AT_ONCE);
    readings.map(Result::unwrap_or_default).collect().await
}

/// What the containers of a service use. One that is gone meanwhile uses nothing.
async fn read(nanny: Nanny, name: ServiceName) -> Vec<ContainerStats> {
    nanny.stats(name.as_str()).await.unwrap_or_default()
}

impl Totals {
    fn new(now: &Snapshot, changes: u64) -> Self {
        let tallies = now.services.values().map(|view| view.tally);
        let (starts, failures) = tallies.fold((0, 0), |(starts, failures), tally| {
            (starts + tally.starts, failures + tally.failures)
        });
        Self {
            services_discovered: now.discovered(),
            services_running: now.running(),
            services_queued: now.gpu_queue.len(),
            starts,
            failures,
            changes,
        }
    }
}

fn service(
    view: &ServiceView,
    all: &Snapshot,
    readings: &[ContainerStats],
    at: Timestamp,
) -> ServiceMetrics {
    let claims = || {
        let claims = all.gpus.iter().flat_map(|gpu| &gpu.claims);
        claims.filter(|claim| claim.service == *view.name())
    };
    let started = view.started_at.filter(|_| view.is_running);
    ServiceMetrics {
        name: view.name().clone(),
        status: view.status.as_str(),
        ready: view.is_ready(),
        uptime_seconds: started.map(|started| at.duration_since(started).as_secs_f64().max(0.0)),
        starts: view.tally.starts,
        failures: view.tally.failures,
        gpu_seconds: view.tally.gpu_time(at).as_secs_f64(),
        vram_mib: whole(claims().map(|claim| claim.used_mib)),
        vram_charged_mib: whole(claims().map(|claim| Some(claim.charge_mib))),
        cpu_seconds: whole(each(readings, |stats| Some(stats.cpu.as_secs_f64()))),
        memory_bytes: whole(each(readings, |stats| Some(stats.memory_bytes))),
        memory_limit_bytes: whole(each(readings, |stats| stats.memory_limit_bytes)),
    }
}

fn each<T>(
    readings: &[ContainerStats],
    of: impl Fn(&Stats) -> Option<T>,
) -> impl Iterator<Item = Option<T>> {
    readings.iter().map(move |reading| reading.stats.as_ref().and_then(&of))
}

/// The sum, if there is anything to sum and all of it is known: a part would look like the whole.
fn whole<T: std::iter::Sum>(parts: impl Iterator<Item = Option<T>>) -> Option<T> {
    let mut parts = parts.peekable();
    parts.peek()?;
    parts.sum()
}

impl From<&GpuView> for GpuMetrics {
    fn from(gpu: &GpuView) -> Self {
        Self {
            id: gpu.id.clone(),
            name: gpu.name.clone(),
            total_mib: gpu.total_mib,
            used_mib: gpu.used_mib,
            charged_mib: gpu.charged_mib,
            foreign_mib: gpu.foreign_mib,
            free_mib: gpu.free_mib,
            utilization_percent: gpu.utilization_percent,
            temperature_celsius: gpu.temperature_celsius,
        }
    }
}

/// So many services are read side by side.
const SERVICES_AT_ONCE: usize = 16;
/// For so long in all.
const READ_LIMIT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::{READ_LIMIT, SERVICES_AT_ONCE, in_time, whole};
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn readings_that_hang_are_gaps_and_hold_up_no_others() {
        let began = Instant::now();
        let hangs = |n: usize| n > 0 && n < 10 * SERVICES_AT_ONCE;
        let readings = (0..=10 * SERVICES_AT_ONCE).map(|n| async move {
            if hangs(n) {
                sleep(READ_LIMIT * 2).await;
            }
            vec![n]
        });
        let read = in_time(readings.collect()).await;
        assert_eq!(began.elapsed(), READ_LIMIT);
        assert_eq!(read.len(), 10 * SERVICES_AT_ONCE + 1);
        assert!((0..read.len()).all(|n| read[n].is_empty() == hangs(n)), "{read:?}");
    }

    #[test]
    fn a_sum_with_a_gap_is_not_known_and_nor_is_one_of_nothing() {
        assert_eq!(whole([Some(1), Some(2)].into_iter()), Some(3));
        assert_eq!(whole([Some(1), None].into_iter()), None);
        assert_eq!(whole([None::<u64>; 0].into_iter()), None);
    }
}
