//! Lists of containers: one question, and a closer look at those that changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerInfo, ErrorKind, Result, Selector};
use tokio::time::Instant;

use crate::backend::{LOOK, Stops, inspect};
use crate::connection::Connection;
use crate::convert::{Inspected, Summary};

/// Remembers what was inspected, as long as the engine's summary stays the same.
#[derive(Debug)]
pub(crate) struct Listing {
    connection: Arc<Connection>,
    stops: Arc<Stops>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    summary: Summary,
    inspected: Arc<Inspected>,
    since: Instant,
}

/// A restart policy can be changed without a trace in the summary.
const MAX_AGE: Duration = Duration::from_secs(30);
const MAX_INSPECTS: usize = 8;

impl Listing {
    pub(crate) fn new(connection: Arc<Connection>, stops: Arc<Stops>) -> Self {
        Self { connection, stops, known: Mutex::new(HashMap::new()) }
    }

    pub(crate) async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        let path = "/containers/json?all=1".to_owned();
        let summaries: Vec<Summary> = self.connection.get("list", "", LOOK, path).await?;
        self.forget_all_but(&summaries);
        let picked = summaries.into_iter().filter(|summary| {
            summary.labels.as_ref().map_or_else(
                || selector.picks(&nanny_lib::backend::Labels::new()),
                |labels| selector.picks(labels),
            )
        });
        let infos: Vec<_> = stream::iter(picked.map(|summary| self.complete(summary)))
            .buffered(MAX_INSPECTS)
            .try_collect()
            .await?;
        Ok(infos.into_iter().flatten().collect())
    }

    /// Something happened to it.
    pub(crate) fn forget(&self, id: &ContainerId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(id.as_str());
    }

    /// `None`: it vanished meanwhile.
    async fn complete(&self, summary: Summary) -> Result<Option<ContainerInfo>> {
        let id = ContainerId::new(summary.id.as_str());
        let inspected = match self.recall(&summary) {
            Some(inspected) => inspected,
            None => match inspect(&self.connection, "list", &id).await {
                Ok(inspected) => {
                    let inspected = Arc::new(inspected);
                    self.remember(summary, Arc::clone(&inspected));
                    inspected
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(inspected.to_info(self.stops.is_stopping(&id))))
    }

    fn recall(&self, summary: &Summary) -> Option<Arc<Inspected>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&summary.id)?;
        let holds = known.summary == *summary && known.since.elapsed() < MAX_AGE;
        holds.then(|| Arc::clone(&known.inspected))
    }

    fn remember(&self, summary: Summary, inspected: Arc<Inspected>) {
        if summary.is_telling() {
            let id = summary.id.clone();
            let known = Known { summary, inspected, since: Instant::now() };
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, known);
        }
    }

    fn forget_all_but(&self, summaries: &[Summary]) {
        let ids: HashSet<_> = summaries.iter().map(|summary| summary.id.as_str()).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| ids.contains(id.as_str()));
    }
}
