//! The structs of `nvml.h`, as far as we speak of them.

use std::ffi::{c_char, c_uint, c_ulonglong};

/// `NVML_VALUE_NOT_AVAILABLE`.
pub(crate) const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
/// What the field `version` of [`MemoryV2`] must hold: the struct's size, and its number.
pub(crate) const MEMORY_V2: c_uint = 40 | 2 << 24;
/// `nvmlEventTypeXidCriticalError`.
pub(crate) const XID_CRITICAL_ERROR: c_ulonglong = 8;
/// What devices can tell of: what there always was, and a bit that newer drivers have.
pub(crate) const SUPPORTED_EVENTS: c_ulonglong = 0x1 | 0x2 | 0x4 | XID_CRITICAL_ERROR | 0x200;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryV1 {
    pub(crate) total: c_ulonglong,
    pub(crate) free: c_ulonglong,
    pub(crate) used: c_ulonglong,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryV2 {
    pub(crate) version: c_uint,
    pub(crate) total: c_ulonglong,
    pub(crate) reserved: c_ulonglong,
    pub(crate) free: c_ulonglong,
    pub(crate) used: c_ulonglong,
}

/// `nvmlProcessInfo_v1_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessV1 {
    pub(crate) pid: c_uint,
    pub(crate) used: c_ulonglong,
}

/// `nvmlProcessInfo_v2_t`, which is `nvmlProcessInfo_t`, too.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessV2 {
    pub(crate) pid: c_uint,
    pub(crate) used: c_ulonglong,
    pub(crate) gpu_instance: c_uint,
    pub(crate) compute_instance: c_uint,
}

/// What the drivers 535.43 to 535.86 took for `nvmlProcessInfo_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessR535 {
    pub(crate) process: ProcessV2,
    pub(crate) protected: c_ulonglong,
}

/// `nvmlUtilization_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Utilization {
    pub(crate) gpu: c_uint,
    pub(crate) memory: c_uint,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct PciInfo {
    pub(crate) bus_id_legacy: [c_char; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) pci_device_id: c_uint,
    pub(crate) pci_subsystem_id: c_uint,
    pub(crate) bus_id: [c_char; 32],
}

/// `nvmlEventData_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventData {
    pub(crate) device: usize,
    pub(crate) kind: c_ulonglong,
    pub(crate) data: c_ulonglong,
    pub(crate) gpu_instance: c_uint,
    pub(crate) compute_instance: c_uint,
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use nvml_wrapper_sys::bindings as theirs;

    use super::*;

    /// That both structs are as large, and that each field is where the other's is.
    macro_rules! same_layout {
        ($ours:ty, $theirs:ty, $size:literal, $($our:ident = $their:ident),*) => {
            assert_eq!(size_of::<$ours>(), $size);
            assert_eq!(size_of::<$ours>(), size_of::<$theirs>());
            $(assert_eq!(offset_of!($ours, $our), offset_of!($theirs, $their));)*
        };
    }

    #[test]
    fn structs_are_laid_out_as_those_that_were_generated_from_the_header() {
        same_layout!(MemoryV1, theirs::nvmlMemory_t, 24, total = total, free = free, used = used);
        same_layout!(
            MemoryV2,
            theirs::nvmlMemory_v2_t,
            40,
            version = version,
            total = total,
            reserved = reserved,
            free = free,
            used = used
        );
        same_layout!(ProcessV1, theirs::nvmlProcessInfo_v1_t, 16, pid = pid, used = usedGpuMemory);
        same_layout!(
            ProcessV2,
            theirs::nvmlProcessInfo_v2_t,
            24,
            pid = pid,
            used = usedGpuMemory,
            gpu_instance = gpuInstanceId,
            compute_instance = computeInstanceId
        );
        assert_eq!(size_of::<ProcessR535>(), 32);
        assert_eq!(offset_of!(ProcessR535, protected), 24);
        same_layout!(Utilization, theirs::nvmlUtilization_t, 8, gpu = gpu, memory = memory);
        same_layout!(
            PciInfo,
            theirs::nvmlPciInfo_t,
            68,
            bus_id_legacy = busIdLegacy,
            domain = domain,
            bus = bus,
            device = device,
            pci_device_id = pciDeviceId,
            pci_subsystem_id = pciSubSystemId,
            bus_id = busId
        );
        same_layout!(
            EventData,
            theirs::nvmlEventData_t,
            32,
            device = device,
            kind = eventType,
            data = eventData,
            gpu_instance = gpuInstanceId,
            compute_instance = computeInstanceId
        );
        assert_eq!(MEMORY_V2 as usize, size_of::<MemoryV2>() | 2 << 24);
    }

    #[test]
    fn answers_have_the_numbers_of_the_header() {
        use crate::code;

        let pairs = [
            (code::SUCCESS, theirs::nvmlReturn_enum_NVML_SUCCESS),
            (code::UNINITIALIZED, theirs::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED),
            (code::INVALID_ARGUMENT, theirs::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT),
            (code::NOT_SUPPORTED, theirs::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED),
            (code::NO_PERMISSION, theirs::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION),
            (code::NOT_FOUND, theirs::nvmlReturn_enum_NVML_ERROR_NOT_FOUND),
            (code::INSUFFICIENT_SIZE, theirs::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE),
            (code::DRIVER_NOT_LOADED, theirs::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED),
            (code::TIMEOUT, theirs::nvmlReturn_enum_NVML_ERROR_TIMEOUT),
            (code::FUNCTION_NOT_FOUND, theirs::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND),
            (code::GPU_IS_LOST, theirs::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST),
            (
                code::LIB_RM_VERSION_MISMATCH,
                theirs::nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            ),
            (
                code::ARGUMENT_VERSION_MISMATCH,
                theirs::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            ),
            (code::UNKNOWN, theirs::nvmlReturn_enum_NVML_ERROR_UNKNOWN),
        ];
        assert!(pairs.iter().all(|(ours, theirs)| ours == theirs), "{pairs:?}");
        assert_eq!(XID_CRITICAL_ERROR, u64::from(theirs::nvmlEventTypeXidCriticalError));
    }
}
