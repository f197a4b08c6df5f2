//! A GPU policy of your own, in a crate of your own: each owner gets so much memory and no more.
//!
//! [`Quota`] stands around another policy, such as [`Fit`](nanny_lib::gpu::Fit), and is asked in its
//! place. It knows whose services are whose, keeps each owner within its quota, and leaves to the
//! other policy whether there is room at all:
//!
//! ```
//! use nanny_example_gpu_policy::Quota;
//! use nanny_lib::ServiceName;
//! use nanny_lib::gpu::Fit;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Quota::around(Fit::new())
//!     .owner("research", 16 * 1024, [ServiceName::new("llm")?, ServiceName::new("diffusion")?])
//!     .owner("support", 8 * 1024, [ServiceName::new("speech")?]);
//! let nanny = nanny_lib::Nanny::builder().policy(policy);
//! # let _ = nanny;
//! # Ok(())
//! # }
//! ```
//!
//! A policy is a pure function; the arbiter checks what it answers. `tests/quota.rs` tries it, alone
//! and within a whole nanny, and shows what becomes of a policy that lies.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nanny_lib::ServiceName;
use nanny_lib::gpu::{Decision, GpuPolicy, GpuRequest, GpuSnapshot, Holder, HolderName, Refusal};

/// Keeps owners within their quotas, and asks another policy about everything else.
///
/// Whoever has no owner has no quota. A service that would exceed its owner's quota is in conflict
/// with those services of the same owner that have not been used for longest; with `force` these are
/// stopped for it. A service that does not say how much memory it needs can be held to no quota, and
/// is refused.
#[derive(Debug)]
pub struct Quota<P> {
    inner: P,
    owners: BTreeMap<String, u64>,
    services: BTreeMap<ServiceName, String>,
}

impl<P: GpuPolicy> Quota<P> {
    /// No quotas yet, around this policy.
    #[must_use]
    pub fn around(inner: P) -> Self {
        Self { inner, owners: BTreeMap::new(), services: BTreeMap::new() }
    }

    /// The same, with an owner of these services, which get so many MiB together.
    #[must_use]
    pub fn owner(
        mut self,
        owner: &str,
        mib: u64,
        services: impl IntoIterator<Item = ServiceName>,
    ) -> Self {
        self.owners.insert(owner.to_owned(), mib);
        self.services.extend(services.into_iter().map(|service| (service, owner.to_owned())));
        self
    }

    /// The services of `owner` among the holders.
    fn held<'a>(
        &self,
        owner: &str,
        snapshot: &'a GpuSnapshot,
    ) -> Vec<(&'a ServiceName, &'a Holder)> {
        let services = snapshot.holders.iter().filter_map(|holder| match &holder.who {
            HolderName::Service(name) => Some((name, holder)),
            _ => None,
        });
        services.filter(|(name, _)| self.services.get(*name).is_some_and(|o| o == owner)).collect()
    }
}

impl<P: GpuPolicy> GpuPolicy for Quota<P> {
    fn name(&self) -> &'static str {
        "quota"
    }

    /// What this one adds only makes the other's answers stricter: its promise holds.
    fn measures(&self) -> bool {
        self.inner.measures()
    }

    fn counts_memory(&self) -> bool {
        self.inner.counts_memory()
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        let Some(owner) = self.services.get(&request.service) else {
            return self.inner.decide(request, snapshot);
        };
        let quota = self.owners.get(owner).copied().unwrap_or(0);
        let need = request.vram_mib.saturating_mul(u64::from(request.count));
        if need == 0 || need > quota {
            let reason = format!("it needs {need} MiB, and {owner} has a quota of {quota} MiB");
            return Decision::Refuse { reason: Refusal::Other(reason) };
        }

        let mut held = self.held(owner, snapshot);
        held.sort_by_key(|(_, holder)| (holder.pinned, Reverse(holder.unused_for)));
        let charges = held.iter().map(|(_, holder)| charge_mib(holder));
        let sum = charges.fold(need, u64::saturating_add);
        let mut over = sum.saturating_sub(quota);
        let mut victims = Vec::new();
        for (name, holder) in held {
            if over == 0 {
                break;
            }
            if holder.pinned && request.force {
                return Decision::Refuse { reason: Refusal::Pinned(holder.who.clone()) };
            }
            over = over.saturating_sub(charge_mib(holder));
            victims.push(name.clone());
        }
        if !victims.is_empty() && !request.force {
            let holders = victims.into_iter().map(HolderName::Service).collect();
            return Decision::Conflict { holders };
        }

        // Whether there is room besides is the other policy's business, with these gone.
        let is_gone = |holder: &&Holder| matches!(&holder.who, HolderName::Service(name) if victims.contains(name));
        let rest = snapshot.holders.iter().filter(|holder| !is_gone(holder)).cloned().collect();
        let rest = GpuSnapshot::new(rest).with_devices(snapshot.devices.clone());
        match self.inner.decide(request, &rest) {
            Decision::Admit { placement } if !victims.is_empty() => {
                Decision::Evict { victims, placement }
            }
            Decision::Evict { victims: more, placement } => {
                victims.extend(more);
                Decision::Evict { victims, placement }
            }
            other => other,
        }
    }
}

/// What a holder is charged on all devices together, in MiB.
fn charge_mib(holder: &Holder) -> u64 {
    if holder.placement.is_anywhere() {
        return holder.vram_mib;
    }
    holder.placement.mib.values().fold(0, |sum, &mib| sum.saturating_add(mib))
}

/// The code on the page about policies compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/gpu-policies.md")]
struct Page;
