//! Who holds a GPU: bookkeeping that refuses to break its invariants.

use std::collections::BTreeMap;

use super::Placement;
use crate::name::{GpuId, ServiceName};

/// All claims, by service. Only the lifecycle changes it, and only in the step that decided so.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    claims: BTreeMap<ServiceName, Claim>,
}

/// A service's hold on GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// How far it is.
    pub phase: ClaimPhase,
    /// On which GPUs, and what was declared there.
    pub placement: Placement,
    /// The most that was ever measured on each GPU while this claim lasted, in MiB.
    pub measured_mib: BTreeMap<GpuId, u64>,
    /// When it was made, as a number that only grows.
    pub sequence: u64,
}

impl Claim {
    /// What it is charged: on each GPU what was declared, or what was measured if that is more.
    /// A charge never falls while the claim lasts: a model that is not loaded yet will be.
    #[must_use]
    pub fn charges(&self) -> Placement {
        let mut charges = self.placement.clone();
        for (gpu, &measured) in &self.measured_mib {
            let charge = charges.mib.entry(gpu.clone()).or_default();
            *charge = measured.max(*charge);
        }
        charges
    }

    /// Whether it may be on `gpu`, as far as anybody knows.
    #[must_use]
    pub fn may_be_on(&self, gpu: &GpuId) -> bool {
        let somewhere = !self.placement.is_anywhere() || !self.measured_mib.is_empty();
        !somewhere || self.placement.mib.contains_key(gpu) || self.measured_mib.contains_key(gpu)
    }

    /// What it is charged on `gpu`, in MiB, if it is known to be there.
    #[must_use]
    pub fn charge_mib(&self, gpu: &GpuId) -> u64 {
        let declared = self.placement.mib.get(gpu).copied().unwrap_or(0);
        declared.max(self.measured_mib.get(gpu).copied().unwrap_or(0))
    }
}

/// How far a claim is. It ends when its service's containers are seen down and none is due back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ClaimPhase {
    /// Granted. Its images and containers are being made ready, or those in the way are not down
    /// yet, or their memory is not free yet.
    Reserved,
    /// Its containers are being started.
    Starting,
    /// Its containers run, or one is due to be restarted.
    Running,
    /// It is to be stopped for another, and finishes what it was asked to do.
    Draining,
    /// Its containers are being stopped.
    Stopping,
}

impl ClaimPhase {
    /// The word, as the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

impl Ledger {
    /// The claim of `service`.
    #[must_use]
    pub fn get(&self, service: &ServiceName) -> Option<&Claim> {
        self.claims.get(service)
    }

    /// All claims, by service.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceName, &Claim)> {
        self.claims.iter()
    }

    /// Gives `service` a claim, or keeps the one it has; a placement that is
    /// known changes only while nothing runs there.
    pub(crate) fn grant(&mut self, service: &ServiceName, placement: Placement, sequence: u64) {
        let phase = ClaimPhase::Reserved;
        let claim = Claim { phase, placement, measured_mib: BTreeMap::new(), sequence };
        self.claims.entry(service.clone()).or_insert(claim);
    }

    /// Moves the claim of a service of which nothing runs.
    pub(crate) fn relocate(&mut self, service: &ServiceName, placement: Placement) {
        if let Some(claim) = self.claims.get_mut(service) {
            claim.measured_mib.retain(|gpu, _| placement.mib.contains_key(gpu));
            claim.placement = placement;
        }
    }

    /// Notes where a claim is of which nobody knew; whether that was news.
    pub(crate) fn locate(&mut self, service: &ServiceName, found: Placement) -> bool {
        match self.claims.get_mut(service) {
            Some(claim) if claim.placement.is_anywhere() && !found.is_anywhere() => {
                claim.placement = found;
                true
            }
            _ => false,
        }
    }

    /// Moves a claim to `phase`; without a claim, nothing.
    pub(crate) fn advance(&mut self, service: &ServiceName, phase: ClaimPhase) {
        if let Some(claim) = self.claims.get_mut(service) {
            claim.phase = phase;
        }
    }

    /// Notes what a service was measured to use on `gpu`; without a claim, nothing.
    pub(crate) fn measure(&mut self, service: &ServiceName, gpu: &GpuId, mib: u64) {
        if let Some(claim) = self.claims.get_mut(service) {
            let most = claim.measured_mib.entry(gpu.clone()).or_default();
            *most = mib.max(*most);
        }
    }

    /// Ends a claim.
    pub(crate) fn release(&mut self, service: &ServiceName) -> Option<Claim> {
        self.claims.remove(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(mib: &[u64]) -> Claim {
        let (service, gpu) = (ServiceName::new("a").unwrap(), GpuId::new("0"));
        let mut ledger = Ledger::default();
        ledger.grant(&service, Placement::on([gpu.clone()], 8), 1);
        for &mib in mib {
            ledger.measure(&service, &gpu, mib);
        }
        ledger.release(&service).unwrap()
    }

    #[test]
    fn a_charge_is_what_was_declared_or_measured_whichever_is_more() {
        for (seen, charge) in [(&[][..], 8), (&[5], 8), (&[10], 10)] {
            let claim = measured(seen);
            assert_eq!(claim.charges(), Placement::on([GpuId::new("0")], charge), "{seen:?}");
            assert_eq!(claim.charge_mib(&GpuId::new("0")), charge, "{seen:?}");
        }
    }

    #[test]
    fn a_charge_never_falls_while_the_claim_lasts() {
        assert_eq!(measured(&[12, 3]).charges(), Placement::on([GpuId::new("0")], 12));
    }
}
