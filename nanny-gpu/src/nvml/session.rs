//! A driver that is open: its devices, and what it tells of them.

use std::collections::BTreeMap;

use nanny_lib::GpuId;
use nanny_lib::gpu::{GpuHealth, GpuProblem, GpuReading, Sweep};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};
use tokio::time::Instant;

use super::reading::{Reading, read};
use super::unmeasured;
use super::worker::Memory;

/// More devices than that are no machine's.
const MAX_DEVICES: u32 = 128;
/// As many events are taken in at a time; others wait for the next sweep.
const MAX_EVENTS: usize = 64;
/// The XID of an event that says that it is not known.
const UNKNOWN_XID: u64 = 999;

pub(super) struct Session<'nvml> {
    nvml: &'nvml Nvml,
    /// What tells of the XIDs of each device: a set each, as one that a device refuses to join is
    /// lost with all that are in it.
    listeners: BTreeMap<GpuId, EventSet<'nvml>>,
}

impl<'nvml> Session<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self { nvml, listeners: BTreeMap::new() }
    }

    /// Looks at all devices. The error is one of the driver as a whole.
    pub(super) fn sweep(&mut self, memory: &mut Memory, now: Instant) -> Result<Sweep, NvmlError> {
        let count = self.nvml.device_count()?;
        self.hear(memory, now);
        let mut problems = Vec::new();
        let mut answered = BTreeMap::new();
        let mut silent = BTreeMap::new();
        for index in 0..count.min(MAX_DEVICES) {
            match self.read(index) {
                Ok((Reading { device, problems: its }, handle)) => {
                    let told =
                        its.into_iter().map(|told| GpuProblem::new(Some(device.id.clone()), told));
                    problems.extend(told);
                    let device = self.examine(device, &handle, memory, now);
                    memory.known.insert(device.id.clone(), device.clone());
                    answered.insert(device.id.clone(), device);
                }
                Err(error) => {
                    silent.insert(index, error);
                }
            }
        }
        let lost = self.lost(&answered, &mut silent, memory);
        problems.extend(
            lost.iter()
                .map(|(device, reason)| GpuProblem::new(Some(device.id.clone()), reason.clone())),
        );
        // Nobody knows who these are: they never answered.
        problems.extend(silent.into_iter().map(|(index, error)| {
            GpuProblem::new(None, format!("the NVIDIA GPU number {index} does not answer: {error}"))
        }));
        let lost = lost
            .into_iter()
            .map(|(device, reason)| unmeasured(device, GpuHealth::Unusable(reason)));
        let mut devices: Vec<_> = answered.into_values().chain(lost).collect();
        devices.sort_by_key(|device| device.index);
        Ok(Sweep::new(devices, problems))
    }

    fn read(&self, index: u32) -> Result<(Reading, Device<'nvml>), NvmlError> {
        let device = self.nvml.device_by_index(index)?;
        Ok((read(index, &device)?, device))
    }

    /// Adds what is known of its health, and sees that its errors are heard of.
    fn examine(
        &mut self,
        mut device: GpuReading,
        handle: &Device<'nvml>,
        memory: &mut Memory,
        now: Instant,
    ) -> GpuReading {
        if !self.listeners.contains_key(&device.id)
            && let Some(listener) = listen(handle)
        {
            self.listeners.insert(device.id.clone(), listener);
        }
        if let Some(ailment) = memory.ailments.of(&device.id, now) {
            device.health = ailment;
        }
        device
    }

    /// The devices that once answered and do not now, and why. Those whose silence is explained by
    /// that are no longer `silent`.
    fn lost(
        &mut self,
        answered: &BTreeMap<GpuId, GpuReading>,
        silent: &mut BTreeMap<u32, NvmlError>,
        memory: &mut Memory,
    ) -> Vec<(GpuReading, String)> {
        let missing = memory.known.values().filter(|device| !answered.contains_key(&device.id));
        let mut lost = Vec::new();
        for device in missing {
            let error = device.index.and_then(|index| silent.remove(&index));
            if matches!(error, None | Some(NvmlError::GpuLost)) {
                // If it comes back, whatever ailed it is over; and a set from before may never hear
                // of anything again.
                memory.ailments.forget(&device.id);
                self.listeners.remove(&device.id);
            }
            let reason = match error {
                Some(NvmlError::GpuLost) => {
                    "the GPU is lost: it fell off the bus; reboot, and look at its power and its \
                     slot if that happens again"
                        .to_owned()
                }
                Some(error) => format!("the GPU does not answer: {error}"),
                None => "the GPU is gone: the driver does not list it any more".to_owned(),
            };
            lost.push((device.clone(), reason));
        }
        lost
    }

    /// Takes in the errors that the driver has told of.
    fn hear(&mut self, memory: &mut Memory, now: Instant) {
        self.listeners.retain(|id, listener| {
            for _ in 0..MAX_EVENTS {
                match listener.wait(0) {
                    Ok(event) => match event.event_data {
                        Some(XidError::Value(xid)) => memory.ailments.note(id, xid, now),
                        Some(XidError::Unknown) => memory.ailments.note(id, UNKNOWN_XID, now),
                        None => {}
                    },
                    Err(NvmlError::Timeout) => return true,
                    Err(error) => {
                        tracing::debug!(gpu = %id, %error, "cannot hear of its errors");
                        return false;
                    }
                }
            }
            true
        });
    }
}

/// A set that hears of a device's XIDs; `None` if it does not tell.
fn listen<'nvml>(device: &Device<'nvml>) -> Option<EventSet<'nvml>> {
    // Without it, the set panics when it is dropped.
    device.nvml().lib().nvmlEventSetFree.as_ref().ok()?;
    let wanted = EventTypes::CRITICAL_XID_ERROR;
    if !device.supported_event_types().is_ok_and(|types| types.contains(wanted)) {
        return None;
    }
    let set = device.nvml().create_event_set().ok()?;
    device.register_events(wanted, set).ok()
}
