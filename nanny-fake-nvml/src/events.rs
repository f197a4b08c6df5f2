//! Events: XID errors, each of which every listener hears of once.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_ulonglong};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::abi::{EventData, SUPPORTED_EVENTS, XID_CRITICAL_ERROR};
use crate::calls::{Answer, Handle, call, call_on, handle_of, pause, put};
use crate::machine::View;
use crate::script::code;

/// A set of events: which devices it listens to, and how many XIDs of each it has had.
type EventSet = BTreeMap<String, usize>;

/// The sets there are, by their handles.
static SETS: Mutex<BTreeMap<usize, EventSet>> = Mutex::new(BTreeMap::new());

fn with_set<T>(set: usize, act: impl FnOnce(&mut EventSet) -> T) -> Answer<T> {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    sets.get_mut(&set).map(act).ok_or(code::INVALID_ARGUMENT)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut usize) -> c_uint {
    call("nvmlEventSetCreate", |_| {
        let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = sets.last_key_value().map_or(1, |(last, _)| last + 1);
        sets.insert(handle, EventSet::new());
        // SAFETY: the caller's pointer is null or to its own handle.
        unsafe { put(set, handle) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: usize) -> c_uint {
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    sets.remove(&set).map_or(code::INVALID_ARGUMENT, |_| code::SUCCESS)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: Handle,
    types: *mut c_ulonglong,
) -> c_uint {
    call_on("nvmlDeviceGetSupportedEventTypes", device, |_, _, _| {
        // SAFETY: the caller's pointer is null or to its own number.
        unsafe { put(types, SUPPORTED_EVENTS) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: Handle, types: c_ulonglong, set: usize) -> c_uint {
    call_on("nvmlDeviceRegisterEvents", device, |_, _, gpu| {
        if types & !SUPPORTED_EVENTS != 0 {
            return Err(code::NOT_SUPPORTED);
        }
        if types & XID_CRITICAL_ERROR == 0 {
            return Ok(());
        }
        with_set(set, |set| set.insert(gpu.uuid.clone(), gpu.xids.len())).map(drop)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: usize,
    data: *mut EventData,
    timeout_ms: c_uint,
) -> c_uint {
    call("nvmlEventSetWait_v2", |_| {
        let mut left = Duration::from_millis(timeout_ms.into());
        loop {
            let view = View::now().map_err(|_| code::UNKNOWN)?;
            if let Some(event) = with_set(set, |set| next(set, &view))? {
                // SAFETY: the caller's pointer is null or to its own struct.
                return unsafe { put(data, event) };
            }
            if left.is_zero() {
                return Err(code::TIMEOUT);
            }
            pause();
            left = left.saturating_sub(Duration::from_millis(5));
        }
    })
}

/// The next event that the set has not had.
fn next(set: &mut EventSet, view: &View) -> Option<EventData> {
    let mut devices = set.iter_mut();
    devices.find_map(|(uuid, seen)| {
        let (_, gpu) = view.gpu(uuid)?;
        let xid = *gpu.xids.get(*seen)?;
        *seen += 1;
        Some(EventData {
            device: handle_of(uuid),
            kind: XID_CRITICAL_ERROR,
            data: xid,
            gpu_instance: c_uint::MAX,
            compute_instance: c_uint::MAX,
        })
    })
}
