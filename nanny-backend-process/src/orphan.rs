//! Ending what has lost its shim: the nanny does it herself.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::backend::Result;
use rustix::process::Signal;

use crate::error::{from_io, timed_out};
use crate::home::{Home, Request};
use crate::kernel::{Identity, uptime};
use crate::record::{Ended, Phase};

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Carries `request` out on what lives of the container. The `lock` keeps a new shim from coming in between, and lets others see that it is being stopped.
///
/// How the program ended is not known: only who started a process is told.
pub(crate) async fn end(
    operation: &'static str,
    home: &Home,
    request: Request,
    lock: File,
) -> Result<()> {
    let (signal, grace) = match request {
        Request::Stop { signal, grace } => (Signal::from_named_raw(signal), grace),
        Request::Kill => (None, Duration::ZERO),
    };
    let failed = |error| from_io(operation, home.id.as_str(), "its record", &error);
    let slots = home.slots().map_err(failed)?;
    let mut record = slots.read().map_err(failed)?.unwrap_or_default();
    (record.phase, record.is_unwanted) = (Phase::Stopping, true);
    // It is no reason not to end it that this cannot be written.
    let _ = slots.write(&mut record);
    let deadline = uptime().saturating_add(grace);
    let mut signalled = BTreeSet::<Identity>::new();
    loop {
        let left = home.orphans(&record);
        if left.is_empty() {
            break;
        }
        let is_late = uptime() >= deadline;
        if uptime() > deadline.saturating_add(PATIENCE) {
            let pids: Vec<_> = left.iter().map(|process| process.identity.pid).collect();
            let message = format!("processes cannot be killed: {pids:?}");
            return Err(timed_out(operation, home.id.as_str(), &message));
        }
        for process in left {
            if is_late {
                process.identity.signal(Signal::KILL);
            } else if let Some(signal) = signal
                && signalled.insert(process.identity)
            {
                process.identity.signal(signal);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    record.end(Ended { at: Some(Timestamp::now()), ..Ended::default() });
    slots.write(&mut record).map_err(failed)?;
    drop(lock);
    Ok(())
}
