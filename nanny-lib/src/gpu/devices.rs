//! Which GPUs a request may have at all.

use std::cmp::Reverse;

use super::{GpuDevice, GpuRequest, GpuSnapshot, Refusal};

/// The devices that are in order and that the request allows, in the order of the snapshot.
///
/// # Errors
///
/// [`Refusal::NoGpu`] if there are fewer than it asks for, with what can be done about it.
pub(super) fn allowed<'a>(
    request: &GpuRequest,
    snapshot: &'a GpuSnapshot,
) -> Result<Vec<&'a GpuDevice>, Refusal> {
    if snapshot.devices.is_empty() {
        return Err(Refusal::NoGpu(
            "no GPU is known here, and this policy needs to know them: install the driver, say \
             what there is (--gpu 24GiB), or use the policy 'exclusive'"
                .to_owned(),
        ));
    }
    let is_named =
        |device: &GpuDevice| request.only.as_ref().is_none_or(|only| only.contains(&device.id));
    let named: Vec<_> = snapshot.devices.iter().filter(|device| is_named(device)).collect();
    let in_order: Vec<_> = named.iter().copied().filter(|device| device.is_usable).collect();
    if in_order.len() >= wanted(request) {
        return Ok(in_order);
    }
    let (known, named, in_order) = (snapshot.devices.len(), named.len(), in_order.len());
    let allowed = match &request.only {
        Some(_) => format!("its manifest allows {named} of the {known} that there are"),
        None => format!("there are {known}"),
    };
    let count = request.count;
    Err(Refusal::NoGpu(format!(
        "it asks for {count} GPU(s): {allowed}, and {in_order} of these are in order"
    )))
}

/// How many devices a request wants.
pub(super) fn wanted(request: &GpuRequest) -> usize {
    usize::try_from(request.count.max(1)).unwrap_or(usize::MAX)
}

/// The most that as many devices as a request wants could give each, of what each could give, in MiB.
pub(super) fn most_of_each(request: &GpuRequest, mib: impl Iterator<Item = u64>) -> u64 {
    let mut mib: Vec<_> = mib.collect();
    mib.sort_unstable_by_key(|mib| Reverse(*mib));
    mib.get(wanted(request) - 1).copied().unwrap_or(0)
}
