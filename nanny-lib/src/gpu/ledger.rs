//! Who holds a GPU: bookkeeping that refuses to break its invariants.

use std::collections::BTreeMap;

use super::Placement;
use crate::name::ServiceName;

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
    /// On which GPUs.
    pub placement: Placement,
    /// When it was made, as a number that only grows.
    pub sequence: u64,
}

/// How far a claim is. It ends when its service's containers are seen down and none is due back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ClaimPhase {
    /// Granted; those in the way are not down yet.
    Reserved,
    /// Its containers are being started.
    Starting,
    /// Its containers run, or one is due to be restarted.
    Running,
    /// Its containers are being stopped.
    Stopping,
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

    /// Gives `service` a claim, or keeps the one it has; a claim's placement never changes.
    pub(crate) fn grant(&mut self, service: &ServiceName, placement: Placement, sequence: u64) {
        let claim = Claim { phase: ClaimPhase::Reserved, placement, sequence };
        self.claims.entry(service.clone()).or_insert(claim);
    }

    /// Moves a claim to `phase`; without a claim, nothing.
    pub(crate) fn advance(&mut self, service: &ServiceName, phase: ClaimPhase) {
        if let Some(claim) = self.claims.get_mut(service) {
            claim.phase = phase;
        }
    }

    /// Ends a claim.
    pub(crate) fn release(&mut self, service: &ServiceName) {
        self.claims.remove(service);
    }
}
