//! Logs that grow, for as long as somebody wants to know.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use nanny_lib::backend::LogOptions;
use nanny_lib::{ContainerId, Nanny, ServiceName};
use tokio_stream::StreamMap;

use super::wanted::Wanted;

/// The logs that are followed, by container.
#[derive(Default)]
pub(super) struct Growth {
    logs: StreamMap<(ServiceName, ContainerId), BoxStream<'static, News>>,
}

/// What is heard of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It has a line more.
    Grew,
    /// It is followed no more: its container ended, or its engine failed.
    Ended,
}

impl Growth {
    /// Follows what of the logs of `service` is not followed yet, from now on. A container that does
    /// not run writes nothing.
    pub(super) fn follow(&mut self, nanny: &Nanny, service: &ServiceName) {
        let now = nanny.snapshot();
        let Some(view) = now.services.get(service) else { return };
        let running = view.containers.iter().filter(|container| container.state.holds());
        let running: BTreeSet<_> = running.map(|container| &container.id).collect();
        if running.iter().all(|id| self.logs.contains_key(&(service.clone(), (*id).clone()))) {
            return;
        }
        // An engine that does not answer now is heard of when it does.
        let logs = nanny.logs(service.as_str(), LogOptions::tail(Some(0)).follow());
        for log in logs.unwrap_or_default() {
            let key = (service.clone(), log.id);
            if running.contains(&key.1) && !self.logs.contains_key(&key) {
                let lines = log.lines.map(|line| line.map_or(News::Ended, |_| News::Grew));
                let news = lines.chain(stream::iter([News::Ended]));
                self.logs.insert(key, news.boxed());
            }
        }
    }

    /// Lets go of what is not wanted any more.
    pub(super) fn keep(&mut self, wanted: &Wanted) {
        let wanted: BTreeSet<_> = wanted.logs().collect();
        let others = self.logs.keys().filter(|(service, _)| !wanted.contains(service));
        for key in others.cloned().collect::<Vec<_>>() {
            self.logs.remove(&key);
        }
    }

    /// What is heard next, and of whose log. Never, while none is followed.
    pub(super) async fn next(&mut self) -> (ServiceName, News) {
        match self.logs.next().await {
            Some(((service, _), news)) => (service, news),
            None => std::future::pending().await,
        }
    }
}
