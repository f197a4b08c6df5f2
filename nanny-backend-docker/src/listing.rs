//! Lists of containers: one question, and a closer look at those that changed.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerInfo, ErrorKind, Result, Selector};
use tokio::time::{Instant, timeout};

use crate::backend::{LOOK, UnderWay, inspect};
use crate::connection::Connection;
use crate::convert::{Inspected, Summary};

/// Remembers what was inspected, which holds for as long as the engine's summary stays the same.
#[derive(Debug)]
pub(crate) struct Listing {
    connection: Arc<Connection>,
    starts: Arc<UnderWay>,
    stops: Arc<UnderWay>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    summary: Summary,
    inspected: Arc<Inspected>,
    since: Instant,
    /// Nothing has happened to it since.
    holds: bool,
}

/// A restart policy can be changed without a trace in the summary.
const MAX_AGE: Duration = Duration::from_secs(30);
const MAX_INSPECTS: usize = 8;
/// A list waits so long for an inspection of what is being started for us: the engine allows none.
const LOCKED: Duration = Duration::from_secs(1);

impl Listing {
    pub(crate) fn new(
        connection: Arc<Connection>,
        starts: Arc<UnderWay>,
        stops: Arc<UnderWay>,
    ) -> Self {
        Self { connection, starts, stops, known: Mutex::new(HashMap::new()) }
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
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(id.as_str()) {
            known.holds = false;
        }
    }

    /// `None`: it vanished meanwhile.
    async fn complete(&self, summary: Summary) -> Result<Option<ContainerInfo>> {
        let id = ContainerId::new(summary.id.as_str());
        let inspected = match self.recall(&summary) {
            Some(inspected) => inspected,
            None => match self.inspect(&id, &summary).await {
                Ok(inspected) => inspected,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(inspected.to_info(self.stops.has(&id))))
    }

    async fn inspect(&self, id: &ContainerId, summary: &Summary) -> Result<Arc<Inspected>> {
        let mut inspected = pin!(inspect(&self.connection, "list", id));
        let inspected = match timeout(LOCKED, &mut inspected).await {
            Ok(inspected) => inspected?,
            Err(_) => match self.stand_in(id, summary) {
                Some(inspected) => return Ok(inspected),
                None => inspected.await?,
            },
        };
        let inspected = Arc::new(inspected);
        self.remember(summary.clone(), Arc::clone(&inspected));
        Ok(inspected)
    }

    fn recall(&self, summary: &Summary) -> Option<Arc<Inspected>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&summary.id)?;
        let holds = known.holds
            && summary.is_telling()
            && known.summary == *summary
            && known.since.elapsed() < MAX_AGE;
        holds.then(|| Arc::clone(&known.inspected))
    }

    /// What is known of one that is being started for us: until whoever asked for that is answered,
    /// it is as it was. Of all others only an inspection tells.
    fn stand_in(&self, id: &ContainerId, summary: &Summary) -> Option<Arc<Inspected>> {
        if !self.starts.has(id) {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |summary: &Summary| (summary.state.clone(), summary.names.clone());
        let last = known.get(&summary.id).filter(|known| told(&known.summary) == told(summary));
        let last = last.map(|known| Arc::clone(&known.inspected));
        last.or_else(|| Inspected::of_created(summary).map(Arc::new))
    }

    fn remember(&self, summary: Summary, inspected: Arc<Inspected>) {
        let id = summary.id.clone();
        let known = Known { summary, inspected, since: Instant::now(), holds: true };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, known);
    }

    fn forget_all_but(&self, summaries: &[Summary]) {
        let ids: HashSet<_> = summaries.iter().map(|summary| summary.id.as_str()).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| ids.contains(id.as_str()));
    }
}
