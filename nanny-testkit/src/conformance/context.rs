//! What every test has at hand.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, ContainerBackend, ContainerInfo, ContainerSpec, ErrorKind, Networks, Result,
    Selector,
};

use super::{Harness, Program};

/// How a test ends before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// There is nothing to be tested here.
    Skip(String),
    /// The contract is broken.
    Fail(String),
}

pub(super) type Outcome<T = ()> = std::result::Result<T, Stop>;

/// The backend under test, and names that nobody else uses.
pub(super) struct Context {
    pub(super) harness: Arc<dyn Harness>,
    pub(super) backend: Arc<dyn ContainerBackend>,
    prefix: String,
    count: AtomicU32,
}

/// Counts tests of this process.
static TESTS: AtomicU32 = AtomicU32::new(0);
/// How long a shell takes to come to its first line, on a machine that has much to do.
pub(super) const SHELL: Duration = Duration::from_millis(700);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Context {
    pub(super) fn new(harness: Arc<dyn Harness>) -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("nanny-conf-{}-{number}-", std::process::id());
        Self { backend: harness.backend(), harness, prefix, count: AtomicU32::new(0) }
    }

    /// A name that was not used before.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.prefix, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A container for `program`, not created yet.
    pub(super) fn spec(&self, program: Program) -> Outcome<ContainerSpec> {
        let skip = Stop::Skip(format!("no program here that does this: {program:?}"));
        self.harness.container(&self.name(), program).ok_or(skip)
    }

    pub(super) async fn created(&self, program: Program) -> Outcome<ContainerId> {
        Ok(self.backend.create(&self.spec(program)?).await?)
    }

    pub(super) async fn started(&self, program: Program) -> Outcome<ContainerId> {
        let is_deaf = program == Program::IgnoresStop;
        let id = self.start_spec(&self.spec(program)?).await?;
        if is_deaf {
            // A shell hears until it has come to its `trap`, which nobody can see.
            tokio::time::sleep(SHELL).await;
        }
        Ok(id)
    }

    pub(super) async fn start_spec(&self, spec: &ContainerSpec) -> Outcome<ContainerId> {
        let id = self.backend.create(spec).await?;
        self.backend.start(&id).await?;
        Ok(id)
    }

    /// Runs a program that ends by itself, to its end.
    pub(super) async fn ended(&self, program: Program) -> Outcome<ContainerId> {
        let id = self.started(program).await?;
        self.until(&id, "it ends", |info| !info.state.holds()).await?;
        Ok(id)
    }

    /// Inspects until `is_so`.
    pub(super) async fn until(
        &self,
        id: &ContainerId,
        what: &str,
        is_so: impl Fn(&ContainerInfo) -> bool,
    ) -> Outcome<ContainerInfo> {
        let mut last = None;
        for _ in 0..1200 {
            match self.backend.inspect(id).await {
                Ok(info) if is_so(&info) => return Ok(info),
                // Some engines let nobody look at what they have in hand.
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                looked => last = Some(looked?),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(Stop::Fail(format!("waited for: {what}; still {last:?}")))
    }

    pub(super) fn networks(&self) -> Outcome<&dyn Networks> {
        self.backend.networks().ok_or_else(|| skip("no networks"))
    }

    pub(super) async fn cleanup(&self) {
        for info in self.backend.list(&Selector::All).await.unwrap_or_default() {
            if info.name.starts_with(&self.prefix) {
                // A failure shows in the next test that needs the name; there is none.
                drop(self.backend.remove(&info.id).await);
            }
        }
        if let Some(networks) = self.backend.networks() {
            for network in networks.list(&Selector::All).await.unwrap_or_default() {
                if network.name.starts_with(&self.prefix) {
                    drop(networks.remove(&network.id).await);
                }
            }
        }
        self.harness.cleanup(&self.prefix).await;
    }
}

/// The test does not apply.
pub(super) fn skip(reason: &str) -> Stop {
    Stop::Skip(reason.to_owned())
}

/// Fails unless `result` is an error of `kind`.
pub(super) fn fails_with<T: fmt::Debug>(what: &str, kind: ErrorKind, result: Result<T>) -> Outcome {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => fail(format!("{what}: {:?} instead of {kind:?}: {error}", error.kind())),
        Ok(value) => fail(format!("{what}: succeeded with {value:?} instead of {kind:?}")),
    }
}

/// Fails unless `error` says that `what` is unsupported, and names it.
pub(super) fn is_unsupported(what: &str, error: &BackendError) -> Outcome {
    let said = error.to_string().to_lowercase();
    match error.kind() {
        ErrorKind::Unsupported if said.contains(what) => Ok(()),
        ErrorKind::Unsupported => fail(format!("{what} is unsupported, but not named: {said}")),
        kind => fail(format!("{what}: {kind:?} instead of Unsupported: {said}")),
    }
}

/// Fails if `future` takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Outcome<T> {
    let late = |_| Stop::Fail(format!("took longer than {limit:?}"));
    tokio::time::timeout(limit, future).await.map_err(late)
}

pub(super) fn fail<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Stop::Fail(message.into()))
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Fail(format!("{error} ({:?})", error.kind()))
    }
}
