//! Who was asked to stop: Podman tells nobody.

use nanny_lib::ContainerId;
use tokio::sync::broadcast;

/// Tells every event stream of this backend about the stops that were asked of it.
#[derive(Debug)]
pub(crate) struct Stops(broadcast::Sender<ContainerId>);

/// A stream that is further behind has missed some, as it may.
const MAX_BEHIND: usize = 256;

impl Stops {
    pub(crate) fn tell(&self, id: &ContainerId) {
        // Perhaps nobody listens.
        drop(self.0.send(id.clone()));
    }

    pub(crate) fn hear(&self) -> broadcast::Receiver<ContainerId> {
        self.0.subscribe()
    }
}

impl Default for Stops {
    fn default() -> Self {
        Self(broadcast::Sender::new(MAX_BEHIND))
    }
}
