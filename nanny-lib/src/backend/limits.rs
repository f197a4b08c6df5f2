//! How much of the machine a container may use.

use serde::Serialize;

use super::is_default;

/// Limits on what a container uses; the default is no limit at all.
///
/// As for the kernel and the engines, zero stands for no limit, and so does `-1` where it is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Limits {
    /// Processor time, in billionths of a processor.
    #[serde(skip_serializing_if = "is_default")]
    pub nano_cpus: i64,
    /// Weight among containers that want the processor at the same time.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_shares: i64,
    /// The scheduler's period, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_period: i64,
    /// Processor time in each period, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_quota: i64,
    /// The real-time scheduler's period, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_realtime_period: i64,
    /// Real-time processor time in each period, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_realtime_runtime: i64,
    /// How many processors it sees, where an engine can say so.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_count: i64,
    /// Percent of the processor's time, where an engine can say so.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_percent: i64,
    /// Which processors it runs on, such as `0-2,4`; empty is all.
    #[serde(skip_serializing_if = "is_default")]
    pub cpuset: String,
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: i64,
    /// Memory and swap together, in bytes; `-1` is no limit on swap.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_swap: i64,
    /// Memory that it is left with when memory is short, in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_reservation: i64,
    /// How readily its memory is swapped out, in percent; the engine decides if absent.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_swappiness: Option<i64>,
    /// Processes and threads; `-1` is no limit, whatever the engine's default is.
    #[serde(skip_serializing_if = "is_default")]
    pub pids: Option<i64>,
    /// It is not killed when memory runs out.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_kill_disable: bool,
    /// How readily it is killed when memory runs out, from -1000 to 1000.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: i64,
    /// The control group above its own.
    #[serde(skip_serializing_if = "is_default")]
    pub cgroup_parent: Option<String>,
}
