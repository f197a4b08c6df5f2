//! One suite for every backend: what the contract says, as tests.
//!
//! A backend comes with a [`Harness`], which knows how its containers are made to do what a test
//! needs. [`trials`] answers the tests; [`contract`] tells which sentence of the contract each of
//! them proves. What a backend cannot do, by its [`Capabilities`](nanny_lib::backend::Capabilities) or because the harness knows no
//! such program, is reported as ignored, with the reason.
//!
//! All that a test creates carries a prefix of its own and is removed at its end, also when it
//! fails.

mod context;
mod contract;
mod errors;
mod events;
mod identity;
mod lifecycle;
mod listing;
mod logs;
mod programs;
mod resources;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use libtest_mimic::{Completion, Failed, Trial};
use nanny_lib::backend::{ContainerBackend, ContainerSpec};

use self::context::{Context, Outcome, Stop};
pub use self::contract::{Clause, Proof, contract};
pub use self::programs::in_a_shell;

/// What the suite needs to know about a backend.
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync + 'static {
    /// The backend under test.
    fn backend(&self) -> Arc<dyn ContainerBackend>;

    /// The same engine as somebody else sees it, who shares no state with the backend under test.
    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>>;

    /// A container called `name` that runs `program`; `None` if there is no such thing here.
    fn container(&self, name: &str, program: Program) -> Option<ContainerSpec>;

    /// An image that neither the engine nor any registry has.
    fn missing_image(&self) -> &str;

    /// Removes what the traits cannot remove, all of it named with `prefix`.
    async fn cleanup(&self, prefix: &str);
}

/// What a test's container does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Program {
    /// Runs until it is asked to end, and ends at once then.
    Sleeps,
    /// Runs until it is killed.
    IgnoresStop,
    /// Ends by itself, soon, with this code.
    Exits(i64),
    /// Writes these lines to stdout or, if marked so, to stderr, and exits with 0.
    Prints(Vec<Printed>),
    /// Writes lines until it is stopped, ten a second or so.
    KeepsPrinting,
    /// Writes one line of so many `x`, and exits with 0.
    PrintsLong(usize),
    /// Writes `no end` without a line end, and exits with 0.
    PrintsWithoutEnd,
    /// Writes, on a terminal, [`FORGED`] and then the line `honest`, and exits with 0.
    ForgesFrames,
    /// Writes the value of this variable, and exits with 0.
    PrintsVariable(String),
    /// Writes what is in this file, and exits with 0.
    PrintsFile(String),
    /// Exits with 0 as soon as it finds the address of this name, with 1 if it never does.
    Resolves(String),
    /// Answers HTTP on this port until it is asked to end.
    Serves(u16),
    /// Is no program.
    Missing,
    /// Sleeps, and its own health check passes soon.
    Healthy,
}

/// A line that [`Program::Prints`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Printed {
    /// To standard output.
    Stdout(String),
    /// To standard error.
    Stderr(String),
}

/// What looks like the header of a frame of 4 GiB, and is a line of a terminal.
pub const FORGED: &[u8] = b"\x01\0\0\0\x7f\x7f\x7f\x7fforged";

/// No test takes longer, however an engine hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// The whole suite for the backend of `harness`.
#[must_use]
pub fn trials(harness: &Arc<dyn Harness>) -> Vec<Trial> {
    suite().map(|(area, case)| trial(harness, area, case)).collect()
}

/// What the tests of the suite are called.
#[must_use]
pub fn names() -> Vec<String> {
    suite().map(|(area, (name, _))| format!("{area}::{name}")).collect()
}

fn suite() -> impl Iterator<Item = (&'static str, Case)> {
    let areas = [
        ("identity", identity::CASES),
        ("lifecycle", lifecycle::CASES),
        ("listing", listing::CASES),
        ("events", events::CASES),
        ("logs", logs::CASES),
        ("errors", errors::CASES),
        ("resources", resources::CASES),
    ];
    areas.into_iter().flat_map(|(area, cases)| cases.iter().map(move |case| (area, *case)))
}

/// One test: its name, and what it does.
type Case = (&'static str, fn(Arc<Context>) -> BoxFuture<'static, Outcome>);

/// Pairs each function with its name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] =
            &[$((stringify!($name), |context| Box::pin($name(context)))),*];
    };
}
use cases;

fn trial(harness: &Arc<dyn Harness>, area: &str, (name, run): Case) -> Trial {
    let harness = Arc::clone(harness);
    Trial::ignorable_test(format!("{area}::{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failed::from(error.to_string()))?;
        runtime.block_on(async {
            let context = Arc::new(Context::new(harness));
            let ran = tokio::time::timeout(LIMIT, run(Arc::clone(&context)));
            let ran = AssertUnwindSafe(ran).catch_unwind().await;
            context.cleanup().await;
            match ran {
                Ok(Ok(Ok(()))) => Ok(Completion::Completed),
                Ok(Ok(Err(Stop::Skip(reason)))) => Ok(Completion::ignored_with(reason)),
                Ok(Ok(Err(Stop::Fail(message)))) => Err(message.into()),
                Ok(Err(_)) => Err("took too long".into()),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    })
}
