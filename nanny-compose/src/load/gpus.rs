//! GPU requests: `deploy.resources.reservations.devices` and `gpus`.

use super::at::At;
use crate::model::GpuRequest;

/// `gpus: all`, or a list of requests.
pub(super) fn read_gpus(at: &At<'_>) -> Vec<GpuRequest> {
    match at.node.as_str() {
        Some("all") => vec![GpuRequest::of_count(GpuRequest::ALL)],
        Some(_) => at.wrong_kind("'all' or a list of requests").unwrap_or_default(),
        None => at.items().iter().filter_map(request).collect(),
    }
}

/// `deploy`: nothing in it but reservations of devices. `None` if it reserves nothing.
pub(super) fn read_deploy(at: &At<'_>) -> Option<Vec<GpuRequest>> {
    at.mapping()?;
    let resources = at.nullable_field("resources").filter(|at| at.mapping().is_some())?;
    let reservations = resources.nullable_field("reservations")?;
    reservations.mapping()?;
    let Some(devices) = reservations.field("devices") else {
        return Some(Vec::new());
    };
    let mut requests = Vec::new();
    for item in devices.items() {
        if item.node.as_mapping().is_some() && item.field("capabilities").is_none() {
            item.problem("'capabilities' is missing; for a GPU, write 'capabilities: [gpu]'");
        }
        requests.extend(request(&item));
    }
    Some(requests)
}

fn request(at: &At<'_>) -> Option<GpuRequest> {
    at.mapping()?;
    let count = at.field("count");
    let device_ids = at.field("device_ids");
    if count.is_some() && device_ids.is_some() {
        at.problem("'count' and 'device_ids' exclude each other; keep one of them");
    }
    let all = if device_ids.is_none() { Some(GpuRequest::ALL) } else { None };
    Some(GpuRequest {
        driver: at.field("driver").and_then(|at| at.word()),
        count: count.map_or(all, |at| self::count(&at)),
        device_ids: device_ids.map(|at| at.unique_strings()).unwrap_or_default(),
        capabilities: at.field("capabilities").map(|at| at.unique_strings()).unwrap_or_default(),
        options: at.field("options").map(|at| at.text_pairs()).unwrap_or_default(),
    })
}

fn count(at: &At<'_>) -> Option<i64> {
    if at.node.as_str().is_some_and(|text| text.eq_ignore_ascii_case("all")) {
        return Some(GpuRequest::ALL);
    }
    at.integer()
}
