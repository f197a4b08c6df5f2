//! Lists of containers: one question, and a closer look at those that changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerInfo, ErrorKind, Labels, Result, Selector};
use tokio::time::Instant;

use crate::backend::{LOOK, inspect};
use crate::connection::Connection;
use crate::convert::{Inspected, Summary};
use crate::health::HealthChecks;
use crate::starts::FailedStarts;

/// Remembers what was inspected, as long as the engine's summary stays the same.
#[derive(Debug)]
pub(crate) struct Listing {
    connection: Arc<Connection>,
    starts: Arc<FailedStarts>,
    checks: Arc<HealthChecks>,
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
    pub(crate) fn new(
        connection: Arc<Connection>,
        starts: Arc<FailedStarts>,
        checks: Arc<HealthChecks>,
    ) -> Self {
        Self { connection, starts, checks, known: Mutex::default() }
    }

    pub(crate) async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        let path = "/containers/json?all=true";
        let asked = Instant::now();
        // None at all is no list.
        let summaries: Option<Vec<Summary>> = self.connection.get("list", "", LOOK, path).await?;
        let summaries = summaries.unwrap_or_default();
        self.forget_all_but(&summaries, asked);
        let none = Labels::new();
        let picked = summaries
            .into_iter()
            .filter(|summary| selector.picks(summary.labels.as_ref().unwrap_or(&none)));
        let infos: Vec<_> = stream::iter(picked.map(|summary| self.complete(summary)))
            .buffered(MAX_INSPECTS)
            .try_collect()
            .await?;
        Ok(infos.into_iter().flatten().collect())
    }

    /// A container in our words, with what the engine does not know; its health is seen to.
    pub(crate) fn to_info(&self, container: &Inspected) -> ContainerInfo {
        let id = container.id();
        self.checks.see_to(container);
        container.to_info(self.starts.of(&id), self.checks.are_stuck(&id))
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
        Ok(Some(self.to_info(&inspected)))
    }

    fn recall(&self, summary: &Summary) -> Option<Arc<Inspected>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&summary.id)?;
        let holds = known.summary == *summary && known.since.elapsed() < MAX_AGE;
        holds.then(|| Arc::clone(&known.inspected))
    }

    /// Not what has a health check: its health leaves no trace in the summary.
    fn remember(&self, summary: Summary, inspected: Arc<Inspected>) {
        if summary.is_telling(Timestamp::now()) && inspected.check().is_none() {
            let id = summary.id.clone();
            let known = Known { summary, inspected, since: Instant::now() };
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, known);
        }
    }

    /// What has failed since the list was asked for may not be in it.
    fn forget_all_but(&self, summaries: &[Summary], asked: Instant) {
        let ids: HashSet<_> = summaries.iter().map(|s| ContainerId::new(s.id.as_str())).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| ids.contains(&ContainerId::new(id.as_str())));
        drop(known);
        self.starts.forget_all_but(&ids, asked);
        self.checks.forget_all_but(&ids);
    }
}
