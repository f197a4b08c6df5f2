//! What the errors that a driver tells of say about a device, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use nanny_lib::GpuId;
use nanny_lib::gpu::GpuHealth;
use tokio::time::Instant;

use super::NvmlConfig;

/// What a program did wrong: it computed out of bounds, was killed, or met a fault that the device
/// contained.
const OF_PROGRAMS: [u64; 7] = [13, 31, 43, 45, 68, 94, 109];
/// Memory that is damaged, or a device that fell off the bus: no program will work on it.
const FATAL: [u64; 3] = [48, 79, 95];

/// The devices that are not in order, by what the driver told.
#[derive(Debug)]
pub(super) struct Ailments {
    ignored: Vec<u64>,
    suspect_for: Duration,
    unusable_for: Duration,
    found: BTreeMap<GpuId, Ailment>,
}

#[derive(Debug, Clone, Copy)]
struct Ailment {
    xid: u64,
    is_fatal: bool,
    until: Instant,
}

impl Ailments {
    pub(super) fn new(config: &NvmlConfig) -> Self {
        Self {
            ignored: config.ignored_xids.clone(),
            suspect_for: config.suspect_for,
            unusable_for: config.unusable_for,
            found: BTreeMap::new(),
        }
    }

    /// The driver told of this error.
    pub(super) fn note(&mut self, gpu: &GpuId, xid: u64, now: Instant) {
        if OF_PROGRAMS.contains(&xid) || self.ignored.contains(&xid) {
            return;
        }
        let is_fatal = FATAL.contains(&xid);
        tracing::warn!(%gpu, xid, is_fatal, "the GPU has had an error");
        let until = now + if is_fatal { self.unusable_for } else { self.suspect_for };
        let ailment = Ailment { xid, is_fatal, until };
        // The worse one counts while it lasts.
        let worse = |known: &Ailment| known.is_fatal && !is_fatal && known.until > now;
        if !self.found.get(gpu).is_some_and(worse) {
            self.found.insert(gpu.clone(), ailment);
        }
    }

    /// What is not in order with a device that answers.
    pub(super) fn of(&mut self, gpu: &GpuId, now: Instant) -> Option<GpuHealth> {
        let Ailment { xid, is_fatal, until } = *self.found.get(gpu)?;
        if until <= now {
            self.found.remove(gpu);
            return None;
        }
        Some(if is_fatal {
            GpuHealth::Unusable(format!("it has had the error XID {xid}: reset it, or reboot"))
        } else {
            GpuHealth::Suspect(format!("it has had the error XID {xid}"))
        })
    }

    /// Whatever it was, it is over.
    pub(super) fn forget(&mut self, gpu: &GpuId) {
        self.found.remove(gpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ailments() -> (Ailments, GpuId, Instant) {
        (Ailments::new(&NvmlConfig::default()), GpuId::new("GPU-1"), Instant::now())
    }

    #[test]
    fn what_programs_do_wrong_says_nothing_of_the_device() {
        let (mut ailments, gpu, now) = ailments();
        for xid in [13, 31, 43, 45, 68, 94, 109] {
            ailments.note(&gpu, xid, now);
        }
        assert_eq!(ailments.of(&gpu, now), None);
    }

    #[test]
    fn a_suspect_device_is_in_order_again_after_ten_quiet_minutes() {
        let (mut ailments, gpu, now) = ailments();
        let minutes = |n: u64| now + Duration::from_secs(60 * n);
        ailments.note(&gpu, 62, now);
        ailments.note(&gpu, 62, minutes(5));
        assert!(matches!(ailments.of(&gpu, minutes(14)), Some(GpuHealth::Suspect(_))));
        assert_eq!(ailments.of(&gpu, minutes(15)), None);
    }

    #[test]
    fn a_lesser_error_does_not_make_an_unusable_device_suspect() {
        let (mut ailments, gpu, now) = ailments();
        let minutes = |n: u64| now + Duration::from_secs(60 * n);
        ailments.note(&gpu, 48, now);
        ailments.note(&gpu, 62, minutes(1));
        assert!(matches!(ailments.of(&gpu, minutes(59)), Some(GpuHealth::Unusable(_))));
        ailments.note(&gpu, 62, minutes(60));
        assert!(matches!(ailments.of(&gpu, minutes(60)), Some(GpuHealth::Suspect(_))));
    }

    #[test]
    fn the_user_decides_which_errors_else_say_nothing() {
        let config = NvmlConfig { ignored_xids: vec![62, 79], ..NvmlConfig::default() };
        let (mut ailments, (_, gpu, now)) = (Ailments::new(&config), ailments());
        ailments.note(&gpu, 62, now);
        ailments.note(&gpu, 79, now);
        assert_eq!(ailments.of(&gpu, now), None);
    }
}
