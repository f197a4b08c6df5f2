//! Questions that the client library cannot ask: what drivers before R510 answer, and lists of
//! processes whatever the size of their entries.
//!
//! The one file beside the fake driver with unsafe code. A question is a C function of the driver,
//! and to call it is to trust the driver: there is no way around that, and the client library does
//! the same for all others.
#![expect(unsafe_code, reason = "functions of the driver for which there is no safe wrapper")]

use std::ffi::c_uint;

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlMemory_t, nvmlReturn_t};

/// A process of one of the driver's lists: its number, and how many bytes it uses, if that is told.
pub(super) type Process = (u32, Option<u64>);

/// A function that fills a list of entries of some size.
type Lister<Entry> = unsafe extern "C" fn(nvmlDevice_t, *mut c_uint, *mut Entry) -> nvmlReturn_t;

/// Whether the driver is too old for a question, and an older one may be answered.
pub(super) fn is_missing(error: &NvmlError) -> bool {
    match error {
        // The last two are versions of the struct that it does not know, or does no longer.
        NvmlError::FailedToLoadSymbol(_)
        | NvmlError::FunctionNotFound
        | NvmlError::UnexpectedVariant(25 | 26) => true,
        _ => false,
    }
}

/// All memory and what is free, in bytes, as drivers before R510 tell it.
pub(super) fn memory_v1(device: &Device<'_>) -> Result<(u64, u64), NvmlError> {
    let ask = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the function is that of the library that the device is of, which is loaded while the
    // device lives, and it fills the struct that it is declared with.
    nvml_try(unsafe { ask(device.handle(), &raw mut memory) })?;
    Ok((memory.total, memory.free))
}

/// Asks the newest function that the driver has.
macro_rules! newest {
    ($device:ident, $($symbol:ident),+) => {{
        let lib = $device.nvml().lib();
        let mut answer = Err(NvmlError::FunctionNotFound);
        $(if answer.as_ref().is_err_and(is_missing) {
            answer = nvml_sym(lib.$symbol.as_ref()).and_then(|lister| list($device, *lister));
        })+
        answer
    }};
}

/// The processes that compute.
pub(super) fn compute(device: &Device<'_>) -> Result<Vec<Process>, NvmlError> {
    newest!(
        device,
        nvmlDeviceGetComputeRunningProcesses_v3,
        nvmlDeviceGetComputeRunningProcesses_v2,
        nvmlDeviceGetComputeRunningProcesses
    )
}

/// The processes that draw.
pub(super) fn graphics(device: &Device<'_>) -> Result<Vec<Process>, NvmlError> {
    newest!(
        device,
        nvmlDeviceGetGraphicsRunningProcesses_v3,
        nvmlDeviceGetGraphicsRunningProcesses_v2,
        nvmlDeviceGetGraphicsRunningProcesses
    )
}

/// The processes that compute through NVIDIA's service for sharing a device.
pub(super) fn shared(device: &Device<'_>) -> Result<Vec<Process>, NvmlError> {
    newest!(
        device,
        nvmlDeviceGetMPSComputeRunningProcesses_v3,
        nvmlDeviceGetMPSComputeRunningProcesses_v2,
        nvmlDeviceGetMPSComputeRunningProcesses
    )
}

/// Entries of a list are of 2, 3 or 4 words, by the version of the function; and of 4 where it
/// should be 3 in the drivers 535.43 to 535.86.
const WORDS: [usize; 3] = [2, 3, 4];
const LONGEST: usize = 4;
/// What no driver writes at the end of an entry.
const UNTOUCHED: u64 = 0xAAAA_AAAA_AAAA_AAAA;
/// `NVML_VALUE_NOT_AVAILABLE`.
const NOT_AVAILABLE: u64 = u64::MAX;
const FIRST_ROOM: usize = 64;
const MOST_ROOM: usize = 1 << 14;

fn list<Entry>(device: &Device<'_>, lister: Lister<Entry>) -> Result<Vec<Process>, NvmlError> {
    let mut room = FIRST_ROOM;
    loop {
        let mut words = vec![UNTOUCHED; room * LONGEST];
        let mut count = c_uint::try_from(room).unwrap_or(c_uint::MAX);
        // SAFETY: the function is that of the library that the device is of, which is loaded while
        // the device lives. It writes at most as many entries as we say, and there is room for the
        // longest of them, aligned as they are.
        let returned =
            unsafe { lister(device.handle(), &raw mut count, words.as_mut_ptr().cast()) };
        match nvml_try(returned) {
            Ok(()) => return entries(&words, count as usize).ok_or(NvmlError::Unknown),
            Err(NvmlError::InsufficientSize(_)) if room < MOST_ROOM => {
                // More may have come by the time we ask again.
                room = (count as usize + FIRST_ROOM).max(room * 2).min(MOST_ROOM);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The entries of a list, whose size is told by where the driver stopped writing.
fn entries(words: &[u64], count: usize) -> Option<Vec<Process>> {
    let size = WORDS.into_iter().find(|size| {
        words.get(count * size..).is_some_and(|rest| rest.iter().all(|word| *word == UNTOUCHED))
    })?;
    let entry = |words: &[u64]| {
        let [a, b, c, d, ..] = words[0].to_ne_bytes();
        let used = (words[1] != NOT_AVAILABLE).then_some(words[1]);
        (u32::from_ne_bytes([a, b, c, d]), used)
    };
    Some(words[..count * size].chunks_exact(size).map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list as a driver writes it, with entries of so many words.
    fn written(size: usize, processes: &[Process]) -> Vec<u64> {
        let mut words = vec![UNTOUCHED; FIRST_ROOM * LONGEST];
        for (entry, (pid, used)) in words.chunks_exact_mut(size).zip(processes) {
            // What pads the number is not written.
            let [a, b, c, d] = pid.to_ne_bytes();
            entry[0] = u64::from_ne_bytes([a, b, c, d, 0xAA, 0xAA, 0xAA, 0xAA]);
            entry[1] = used.unwrap_or(NOT_AVAILABLE);
            entry[2..].fill(u64::MAX);
        }
        words
    }

    #[test]
    fn the_size_of_entries_is_told_by_where_the_driver_stopped() {
        let processes: Vec<Process> =
            vec![(1000, Some(1 << 30)), (1001, None), (1002, Some(0)), (1003, Some(7))];
        for size in WORDS {
            for count in 0..=processes.len() {
                let words = written(size, &processes[..count]);
                assert_eq!(entries(&words, count).as_deref(), Some(&processes[..count]), "{size}");
            }
        }
    }

    #[test]
    fn a_list_that_is_longer_than_its_room_is_refused() {
        assert_eq!(entries(&[1; FIRST_ROOM * LONGEST], FIRST_ROOM + 1), None);
        assert_eq!(entries(&[1; FIRST_ROOM * LONGEST], FIRST_ROOM * 100), None);
    }
}
