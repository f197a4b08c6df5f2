//! Letting a service finish what it does before it makes way.

use std::fmt;

use async_trait::async_trait;

use crate::name::ServiceName;

/// Is told that a service is to be stopped for another, and says when it has finished what it was
/// doing: for whoever passes requests on to services and knows which are under way.
///
/// # Contract
///
/// *What it does.* Returns when nothing is under way at the service any more, and lets nothing new
/// go there meanwhile.
///
/// *Cancellation and time.* It is dropped after
/// [`drain_limit`](crate::lifecycle::GpuSettings::drain_limit), or when somebody stops the service
/// at once; the service is then stopped all the same. A stop that was asked for by name is not
/// drained.
#[async_trait]
pub trait Drain: fmt::Debug + Send + Sync + 'static {
    /// Waits until `service` has nothing under way.
    async fn drain(&self, service: &ServiceName);
}
