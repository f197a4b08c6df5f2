//! A manifest source that is a value in memory.

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::{Changed, Discovery, ManifestSource, Service};

/// Always finds the same services: for embedding, tests and examples.
#[derive(Debug, Clone, Default)]
pub struct FixedSource {
    services: Vec<Service>,
}

impl FixedSource {
    /// A source that finds `services`.
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self { services: services.into_iter().collect() }
    }
}

#[async_trait]
impl ManifestSource for FixedSource {
    async fn discover(&self) -> Discovery {
        Discovery::new(self.services.clone(), Vec::new())
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        stream::pending().boxed()
    }
}
