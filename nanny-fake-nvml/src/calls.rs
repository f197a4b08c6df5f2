//! The functions of the library, as `nvml.h` declares them.

use std::ffi::{CStr, c_char, c_uint, c_ulonglong};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::abi::{
    MEMORY_V2, MemoryV1, MemoryV2, NOT_AVAILABLE, PciInfo, ProcessR535, ProcessV1, ProcessV2,
    Utilization,
};
use crate::machine::View;
use crate::script::{Gpu, Process, ProcessKind, code};

const MIB: u64 = 1 << 20;

/// A device, as callers hold it: a number that stands for a UUID for as long as the library is
/// loaded, whatever becomes of the device.
pub(crate) type Handle = usize;

/// How a call ends: well, or with one of [`code`].
pub(crate) type Answer<T = ()> = Result<T, c_uint>;

/// How often `nvmlInit` was called and not undone.
static USERS: AtomicUsize = AtomicUsize::new(0);
/// The UUIDs that handles stand for; a handle is the index of one, plus one.
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

// ---- what every call has in common

/// A call, from its symbol to its answer.
pub(crate) fn call(symbol: &str, answer: impl FnOnce(&View) -> Answer) -> c_uint {
    guarded(|| {
        if USERS.load(Ordering::SeqCst) == 0 {
            return Err(code::UNINITIALIZED);
        }
        answer(&prepared(symbol)?)
    })
}

/// What C gets to see of an answer. No panic gets out, as it would end the program.
fn guarded(answer: impl FnOnce() -> Answer) -> c_uint {
    match catch_unwind(AssertUnwindSafe(answer)) {
        Ok(Ok(())) => code::SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => code::UNKNOWN,
    }
}

/// A call about one device.
pub(crate) fn call_on(
    symbol: &str,
    device: Handle,
    answer: impl FnOnce(&View, usize, &Gpu) -> Answer,
) -> c_uint {
    call(symbol, |view| {
        let uuid = uuid_of(device)?;
        // One that is gone without a trace is as good as lost to whoever holds it.
        let (index, gpu) = view.gpu(&uuid).ok_or(code::GPU_IS_LOST)?;
        check(symbol, gpu)?;
        answer(view, index, gpu)
    })
}

/// The machine, once the call is over what the script puts in its way.
fn prepared(symbol: &str) -> Answer<View> {
    let mut view = look()?;
    while view.machine.hangs.iter().any(|hanging| hanging == symbol) {
        pause();
        view = look()?;
    }
    let error = view.machine.errors.get(symbol).copied();
    error.map_or(Ok(view), Err)
}

fn look() -> Answer<View> {
    View::now().map_err(|error| {
        complain(&error);
        code::UNKNOWN
    })
}

#[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
fn complain(error: &str) {
    eprintln!("nanny-fake-nvml: {error}");
}

#[expect(clippy::disallowed_methods, reason = "a call of a driver blocks its thread")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// What stands in the way of a call about this device.
fn check(symbol: &str, gpu: &Gpu) -> Answer {
    if gpu.lost {
        return Err(code::GPU_IS_LOST);
    }
    gpu.errors.get(symbol).map_or(Ok(()), |code| Err(*code))
}

pub(crate) fn handle_of(uuid: &str) -> Handle {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let position = known.iter().position(|one| one == uuid).unwrap_or_else(|| {
        known.push(uuid.to_owned());
        known.len() - 1
    });
    position + 1
}

fn uuid_of(device: Handle) -> Answer<String> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let position = device.checked_sub(1).ok_or(code::INVALID_ARGUMENT)?;
    known.get(position).cloned().ok_or(code::INVALID_ARGUMENT)
}

/// Puts a value where the caller wants it.
///
/// # Safety
///
/// `to` is null or the caller's own, and large enough.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: it is not null, and the caller vouches for the rest.
    unsafe { to.write(value) };
    Ok(())
}

/// Puts a text into the caller's buffer.
///
/// # Safety
///
/// `to` is null or the caller's own, of `length` bytes.
unsafe fn put_text(to: *mut c_char, length: c_uint, text: &str) -> Answer {
    if to.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(code::INSUFFICIENT_SIZE);
    }
    // SAFETY: it is not null, there is room for the text and a zero, and the caller's buffer is no
    // part of ours.
    unsafe {
        to.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

/// The caller's text.
///
/// # Safety
///
/// `text` is null or a string that ends with a zero.
unsafe fn text<'a>(text: *const c_char) -> Answer<&'a str> {
    if text.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: it is not null, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| code::INVALID_ARGUMENT)
}

fn number(value: usize) -> c_uint {
    c_uint::try_from(value).unwrap_or(c_uint::MAX)
}

// ---- the library and the driver

fn init(symbol: &str) -> c_uint {
    guarded(|| {
        let view = prepared(symbol)?;
        if view.machine.init != code::SUCCESS {
            return Err(view.machine.init);
        }
        USERS.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> c_uint {
    init("nvmlInit_v2")
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_uint {
    init("nvmlInitWithFlags")
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> c_uint {
    let less = |users: usize| users.checked_sub(1);
    let ended = USERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    if ended.is_ok() { code::SUCCESS } else { code::UNINITIALIZED }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> c_uint {
    call("nvmlSystemGetDriverVersion", |view| {
        // SAFETY: the caller says how long its buffer is.
        unsafe { put_text(version, length, &view.machine.driver_version) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> c_uint {
    call("nvmlSystemGetNVMLVersion", |view| {
        let text = format!("12.{}", view.machine.driver_version);
        // SAFETY: the caller says how long its buffer is.
        unsafe { put_text(version, length, &text) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    call("nvmlDeviceGetCount_v2", |view| {
        // SAFETY: the caller's pointer is null or to its own number.
        unsafe { put(count, number(view.machine.gpus.len())) }
    })
}

// ---- devices and who they are

/// Finds a device, and hands out its handle.
unsafe fn find(
    symbol: &str,
    device: *mut Handle,
    is_it: impl FnOnce(&View) -> Answer<Option<&Gpu>>,
) -> c_uint {
    call(symbol, |view| {
        let gpu = is_it(view)?.ok_or(code::NOT_FOUND)?;
        check(symbol, gpu)?;
        // SAFETY: the caller's pointer is null or to its own handle.
        unsafe { put(device, handle_of(&gpu.uuid)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> c_uint {
    let by_index = |view: &View| -> Answer<Option<usize>> {
        let index = index as usize;
        (index < view.machine.gpus.len()).then_some(Some(index)).ok_or(code::INVALID_ARGUMENT)
    };
    // SAFETY: the pointer is the caller's.
    unsafe {
        find("nvmlDeviceGetHandleByIndex_v2", device, |view| {
            Ok(by_index(view)?.and_then(|index| view.machine.gpus.get(index)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> c_uint {
    // SAFETY: both pointers are the caller's.
    unsafe {
        find("nvmlDeviceGetHandleByUUID", device, |view| {
            let wanted = text(uuid)?;
            Ok(view.gpu(wanted).map(|(_, gpu)| gpu))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    bus_id: *const c_char,
    device: *mut Handle,
) -> c_uint {
    // SAFETY: both pointers are the caller's.
    unsafe {
        find("nvmlDeviceGetHandleByPciBusId_v2", device, |view| {
            let wanted = text(bus_id)?;
            let is_it = |gpu: &&Gpu| bus_ids(gpu).iter().any(|id| id.eq_ignore_ascii_case(wanted));
            Ok(view.machine.gpus.iter().find(is_it))
        })
    }
}

/// Its address as NVML writes it: with a domain of eight digits, and of four.
fn bus_ids(gpu: &Gpu) -> [String; 2] {
    let (domain, bus, device) = gpu.pci;
    [
        format!("{domain:08X}:{bus:02X}:{device:02X}.0"),
        format!("{domain:04X}:{bus:02X}:{device:02X}.0"),
    ]
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(
    device: Handle,
    uuid: *mut c_char,
    length: c_uint,
) -> c_uint {
    call_on("nvmlDeviceGetUUID", device, |_, _, gpu| {
        // SAFETY: the caller says how long its buffer is.
        unsafe { put_text(uuid, length, &gpu.uuid) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(
    device: Handle,
    name: *mut c_char,
    length: c_uint,
) -> c_uint {
    call_on("nvmlDeviceGetName", device, |_, _, gpu| {
        // SAFETY: the caller says how long its buffer is.
        unsafe { put_text(name, length, &gpu.name) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetIndex(device: Handle, index: *mut c_uint) -> c_uint {
    call_on("nvmlDeviceGetIndex", device, |_, at, _| {
        // SAFETY: the caller's pointer is null or to its own number.
        unsafe { put(index, number(at)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: Handle, minor: *mut c_uint) -> c_uint {
    call_on("nvmlDeviceGetMinorNumber", device, |_, at, _| {
        // SAFETY: the caller's pointer is null or to its own number.
        unsafe { put(minor, number(at)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, pci: *mut PciInfo) -> c_uint {
    call_on("nvmlDeviceGetPciInfo_v3", device, |_, _, gpu| {
        let [bus_id, bus_id_legacy] = bus_ids(gpu);
        let (domain, bus, number) = gpu.pci;
        let info = PciInfo {
            bus_id_legacy: characters(&bus_id_legacy),
            domain,
            bus,
            device: number,
            pci_device_id: 0x2684_10de,
            pci_subsystem_id: 0,
            bus_id: characters(&bus_id),
        };
        // SAFETY: the caller's pointer is null or to its own struct.
        unsafe { put(pci, info) }
    })
}

fn characters<const N: usize>(text: &str) -> [c_char; N] {
    let mut characters = [0; N];
    for (to, byte) in characters.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = c_char::from_ne_bytes([byte]);
    }
    characters
}

// ---- what they hold

struct Memory {
    total: u64,
    reserved: u64,
    free: u64,
}

fn memory(view: &View, index: usize, gpu: &Gpu) -> Answer<Memory> {
    if gpu.unified {
        return Err(code::NOT_SUPPORTED);
    }
    let free = gpu.total_mib.saturating_sub(gpu.reserved_mib + view.taken_mib(index));
    Ok(Memory { total: gpu.total_mib * MIB, reserved: gpu.reserved_mib * MIB, free: free * MIB })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, memory_v1: *mut MemoryV1) -> c_uint {
    call_on("nvmlDeviceGetMemoryInfo", device, |view, index, gpu| {
        let Memory { total, free, .. } = memory(view, index, gpu)?;
        // SAFETY: the caller's pointer is null or to its own struct.
        unsafe { put(memory_v1, MemoryV1 { total, free, used: total - free }) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: Handle,
    memory_v2: *mut MemoryV2,
) -> c_uint {
    call_on("nvmlDeviceGetMemoryInfo_v2", device, |view, index, gpu| {
        if memory_v2.is_null() {
            return Err(code::INVALID_ARGUMENT);
        }
        // SAFETY: it is not null, and the caller must have written there which struct it is.
        let version = unsafe { (&raw const (*memory_v2).version).read() };
        if version != MEMORY_V2 {
            return Err(code::ARGUMENT_VERSION_MISMATCH);
        }
        let Memory { total, reserved, free } = memory(view, index, gpu)?;
        let used = total - reserved.min(total - free) - free;
        // SAFETY: as above.
        unsafe { put(memory_v2, MemoryV2 { version, total, reserved, free, used }) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: Handle,
    utilization: *mut Utilization,
) -> c_uint {
    call_on("nvmlDeviceGetUtilizationRates", device, |_, _, gpu| {
        let percent = gpu.utilization.ok_or(code::NOT_SUPPORTED)?;
        // SAFETY: the caller's pointer is null or to its own struct.
        unsafe { put(utilization, Utilization { gpu: percent, memory: 0 }) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Handle,
    _sensor: c_uint,
    celsius: *mut c_uint,
) -> c_uint {
    call_on("nvmlDeviceGetTemperature", device, |_, _, gpu| {
        // SAFETY: the caller's pointer is null or to its own number.
        unsafe { put(celsius, gpu.temperature.ok_or(code::NOT_SUPPORTED)?) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    call_on("nvmlDeviceGetMigMode", device, |_, _, gpu| {
        let mode = c_uint::from(gpu.mig.ok_or(code::NOT_SUPPORTED)?);
        // SAFETY: the caller's pointers are null or to its own numbers.
        unsafe {
            put(current, mode)?;
            put(pending, mode)
        }
    })
}

// ---- who holds it

/// An entry of a list of processes.
trait Entry {
    fn of(pid: c_uint, used: c_ulonglong) -> Self;
}

impl Entry for ProcessV1 {
    fn of(pid: c_uint, used: c_ulonglong) -> Self {
        Self { pid, used }
    }
}

impl Entry for ProcessV2 {
    fn of(pid: c_uint, used: c_ulonglong) -> Self {
        // Neither is an instance of a split device.
        Self { pid, used, gpu_instance: c_uint::MAX, compute_instance: c_uint::MAX }
    }
}

impl Entry for ProcessR535 {
    fn of(pid: c_uint, used: c_ulonglong) -> Self {
        Self { process: ProcessV2::of(pid, used), protected: 0 }
    }
}

/// Fills the caller's list, of which it says in `count` how long it may be, and learns how long it
/// is. If that is longer, it is told so by `INSUFFICIENT_SIZE`; a list that is null asks for that.
unsafe fn list<E: Entry>(
    (symbol, kind): (&str, ProcessKind),
    device: Handle,
    count: *mut c_uint,
    list: *mut E,
) -> c_uint {
    call_on(symbol, device, |view, index, gpu| {
        if count.is_null() {
            return Err(code::INVALID_ARGUMENT);
        }
        let mut processes = view.processes(index);
        processes.retain(|process| process.kind == kind);
        // SAFETY: it is not null, and the caller's own.
        let room = unsafe { count.replace(number(processes.len())) } as usize;
        if room < processes.len() {
            return Err(code::INSUFFICIENT_SIZE);
        }
        for (at, Process { pid, mib, .. }) in processes.iter().enumerate() {
            let used = if gpu.hides_process_memory { NOT_AVAILABLE } else { mib * MIB };
            // SAFETY: the caller has said that there is room for as many.
            unsafe { put(list.wrapping_add(at), E::of(*pid, used))? };
        }
        Ok(())
    })
}

/// A function for each list of processes and each version of it.
macro_rules! lists {
    ($($symbol:ident: $kind:ident as $entry:ty;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(
            device: Handle,
            count: *mut c_uint,
            infos: *mut $entry,
        ) -> c_uint {
            // SAFETY: the caller says how long its list is.
            unsafe { list((stringify!($symbol), ProcessKind::$kind), device, count, infos) }
        }
    )*};
}

lists! {
    nvmlDeviceGetComputeRunningProcesses: Compute as ProcessV1;
    nvmlDeviceGetGraphicsRunningProcesses: Graphics as ProcessV1;
    nvmlDeviceGetMPSComputeRunningProcesses: Mps as ProcessV1;
    nvmlDeviceGetComputeRunningProcesses_v2: Compute as ProcessV2;
    nvmlDeviceGetGraphicsRunningProcesses_v2: Graphics as ProcessV2;
    nvmlDeviceGetMPSComputeRunningProcesses_v2: Mps as ProcessV2;
}

/// The same for the third version, whose entries have the size that the script says.
macro_rules! lists_of_any_size {
    ($($symbol:ident: $kind:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(
            device: Handle,
            count: *mut c_uint,
            infos: *mut ProcessV2,
        ) -> c_uint {
            let which = (stringify!($symbol), ProcessKind::$kind);
            let is_long = View::now().is_ok_and(|view| view.machine.process_entry_bytes == 32);
            // SAFETY: the caller says how long its list is. If entries are long, that is too little
            // in the caller's eyes, too: it is what those drivers did.
            unsafe {
                if is_long {
                    list(which, device, count, infos.cast::<ProcessR535>())
                } else {
                    list(which, device, count, infos)
                }
            }
        }
    )*};
}

lists_of_any_size! {
    nvmlDeviceGetComputeRunningProcesses_v3: Compute;
    nvmlDeviceGetGraphicsRunningProcesses_v3: Graphics;
    nvmlDeviceGetMPSComputeRunningProcesses_v3: Mps;
}
