//! Everybody at once.

use super::devices::{allowed, wanted};
use super::{Decision, GpuPolicy, GpuRequest, GpuSnapshot, Placement};

/// Everybody at once: nothing is arbitrated.
///
/// A service is placed only if its manifest names devices: on the first of these that are in order,
/// and where it was before if it can. All others take what their Compose files say.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl GpuPolicy for AllowAll {
    fn name(&self) -> &'static str {
        "allow-all"
    }

    fn measures(&self) -> bool {
        false
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        if request.only.is_none() || snapshot.devices.is_empty() {
            return Decision::Admit { placement: Placement::default() };
        }
        match allowed(request, snapshot) {
            Ok(mut devices) => {
                devices.sort_by_key(|device| !request.previous.contains(&device.id));
                let chosen = devices.iter().map(|device| device.id.clone()).take(wanted(request));
                Decision::Admit { placement: Placement::on(chosen, request.vram_mib) }
            }
            Err(reason) => Decision::Refuse { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GpuDevice, Holder, HolderName, Refusal};
    use super::*;
    use crate::name::{GpuId, ServiceName};

    fn id(gpu: &str) -> GpuId {
        GpuId::new(gpu)
    }

    fn decide(request: &GpuRequest) -> Decision {
        let mut broken = GpuDevice::new(id("1"), 1);
        broken.is_usable = false;
        let devices = vec![GpuDevice::new(id("0"), 1), broken, GpuDevice::new(id("2"), 1)];
        let holder = Holder::new(HolderName::Foreign("jupyter".into()));
        AllowAll.decide(request, &GpuSnapshot::new(vec![holder]).with_devices(devices))
    }

    #[test]
    fn everybody_is_let_in_and_placed_only_where_the_manifest_says() {
        let mut request = GpuRequest::new(ServiceName::new("new").unwrap());
        request.vram_mib = 8;
        assert_eq!(decide(&request), Decision::Admit { placement: Placement::default() });
        request.only = Some(vec![id("1"), id("2"), id("0")]);
        let on = |gpu| Decision::Admit { placement: Placement::on([id(gpu)], 8) };
        assert_eq!(decide(&request), on("0"));
        request.previous = vec![id("2")];
        assert_eq!(decide(&request), on("2"));
        request.count = 3;
        assert!(matches!(decide(&request), Decision::Refuse { reason: Refusal::NoGpu(_) }));
        let anywhere = Decision::Admit { placement: Placement::default() };
        assert_eq!(AllowAll.decide(&request, &GpuSnapshot::default()), anywhere);
    }
}
