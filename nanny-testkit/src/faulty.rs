//! A backend with faults: errors and delays from a seed, around any other backend.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, BackendInfo, Capabilities, ContainerBackend, ContainerInfo, ContainerSpec,
    ErrorKind, Event, FileInside, Images, LogLine, LogOptions, Networks, Result, Selector, Stats,
    Volumes,
};

/// How often what goes wrong, in per mille of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Faults {
    /// Calls that fail before they reach the engine.
    pub refused: u16,
    /// Calls that the engine carries out, and whose answer is lost.
    pub lost_replies: u16,
    /// Events that never arrive.
    pub lost_events: u16,
    /// Every call takes up to this long more.
    pub delay: Duration,
}

/// A backend on which calls fail, hang and lose their replies, as a seed decides.
///
/// The same seed and the same calls in the same order give the same faults. Images, networks and
/// volumes are those of the backend inside, without faults.
#[derive(Debug, Clone)]
pub struct Faulty<B> {
    inner: B,
    dice: Arc<Dice>,
}

#[derive(Debug)]
struct Dice {
    state: Mutex<Odds>,
}

#[derive(Debug)]
struct Odds {
    seed: u64,
    faults: Faults,
}

/// What happens to one call.
enum Fate {
    Passes,
    IsRefused,
    LosesItsReply,
}

impl<B: ContainerBackend> Faulty<B> {
    /// Faults around `inner`, decided by `seed`.
    #[must_use]
    pub fn new(inner: B, seed: u64, faults: Faults) -> Self {
        Self { inner, dice: Arc::new(Dice { state: Mutex::new(Odds { seed, faults }) }) }
    }

    /// From now on, these are the faults: none of them lets liveness be judged.
    pub fn set_faults(&self, faults: Faults) {
        self.dice.state.lock().unwrap_or_else(PoisonError::into_inner).faults = faults;
    }

    /// The backend inside, which knows what really happened.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (delay, fate) = self.dice.throw();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match fate {
            Fate::Passes => call.await,
            Fate::IsRefused => {
                let message = "the engine is out of reach, says the seed";
                Err(BackendError::new(ErrorKind::Unavailable, operation, message).on(subject))
            }
            Fate::LosesItsReply => {
                drop(call.await);
                let message = "no answer in time, says the seed";
                Err(BackendError::new(ErrorKind::Timeout, operation, message).on(subject))
            }
        }
    }
}

impl Dice {
    fn throw(&self) -> (Duration, Fate) {
        let mut odds = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = odds.faults;
        let micros = u64::try_from(faults.delay.as_micros()).unwrap_or(u64::MAX);
        let delay = match micros {
            0 => Duration::ZERO,
            micros => Duration::from_micros(odds.next() % micros),
        };
        let number = odds.next() % 1000;
        let (refused, lost) = (u64::from(faults.refused), u64::from(faults.lost_replies));
        let fate = match number {
            number if number < refused => Fate::IsRefused,
            number if number < refused + lost => Fate::LosesItsReply,
            _ => Fate::Passes,
        };
        (delay, fate)
    }

    fn loses_event(&self) -> bool {
        let mut odds = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        odds.next() % 1000 < u64::from(odds.faults.lost_events)
    }
}

impl Odds {
    /// SplitMix64: small, and good enough to choose faults with.
    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: ContainerBackend> ContainerBackend for Faulty<B> {
    fn info(&self) -> &BackendInfo {
        self.inner.info()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn ping(&self) -> Result<()> {
        self.call("ping", "", self.inner.ping()).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        self.call("create", &spec.name, self.inner.create(spec)).await
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.call("rename", id, self.inner.rename(id, name)).await
    }

    async fn put_files(&self, id: &ContainerId, files: &[FileInside]) -> Result<()> {
        self.call("put files", id, self.inner.put_files(id, files)).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.call("start", id, self.inner.start(id)).await
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        self.call("stop", id, self.inner.stop(id, grace)).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.call("kill", id, self.inner.kill(id)).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.call("remove", id, self.inner.remove(id)).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        self.call("inspect", id, self.inner.inspect(id)).await
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        self.call("list", "", self.inner.list(selector)).await
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        let dice = Arc::clone(&self.dice);
        // A stream without container begins or begins again: that it says always.
        let arrives = move |event: &Event| {
            std::future::ready(event.container.is_none() || !dice.loses_event())
        };
        self.inner.watch().filter(arrives).boxed()
    }

    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        self.inner.logs(id, options)
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.call("stats", id, self.inner.stats(id)).await
    }

    fn images(&self) -> Option<&dyn Images> {
        self.inner.images()
    }

    fn networks(&self) -> Option<&dyn Networks> {
        self.inner.networks()
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        self.inner.volumes()
    }
}

#[cfg(test)]
mod tests {
    use nanny_lib::backend::MemoryBackend;

    use super::*;

    fn faults(change: impl FnOnce(&mut Faults)) -> Faults {
        let mut faults = Faults::default();
        change(&mut faults);
        faults
    }

    #[tokio::test]
    async fn no_faults_are_no_faults() {
        let backend = Faulty::new(MemoryBackend::new(), 1, Faults::default());
        for _ in 0..1000 {
            backend.list(&Selector::All).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_seed_decides_which_calls_fail() {
        let run = async |seed| {
            let half = faults(|faults| faults.refused = 500);
            let backend = Faulty::new(MemoryBackend::new(), seed, half);
            let mut outcomes = Vec::new();
            for _ in 0..100 {
                outcomes.push(backend.ping().await.is_ok());
            }
            outcomes
        };
        assert_eq!(run(7).await, run(7).await);
        assert_ne!(run(7).await, run(8).await);
        let failed = run(7).await.into_iter().filter(|ok| !ok).count();
        assert!((30..70).contains(&failed), "{failed} of 100 failed");
    }

    #[tokio::test]
    async fn a_lost_reply_is_of_something_that_happened() {
        let all = faults(|faults| faults.lost_replies = 1000);
        let backend = Faulty::new(MemoryBackend::new(), 1, all);
        let error = backend.create(&ContainerSpec::new("web", "image")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(backend.inner().id_of("web").is_some());
        backend.set_faults(Faults::default());
        assert_eq!(backend.list(&Selector::All).await.unwrap().len(), 1);
    }
}
