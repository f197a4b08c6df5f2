//! Signals that a shim hears.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts;

/// What was heard.
pub(super) struct Signals {
    /// Can be read when there was any.
    pub(super) wakes: UnixStream,
    /// Somebody asked the shim to end.
    terminated: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let (wakes, rings) = UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        let terminated = Arc::new(AtomicBool::new(false));
        for signal in [consts::SIGTERM, consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&terminated))?;
        }
        // A hangup is of no interest, and a file that gets too big is an error like others.
        let others = [consts::SIGHUP, consts::SIGXFSZ, consts::SIGCHLD];
        for signal in others.into_iter().chain([consts::SIGTERM, consts::SIGINT]) {
            signal_hook::low_level::pipe::register(signal, rings.try_clone()?)?;
        }
        Ok(Self { wakes, terminated })
    }

    /// Whether the shim was asked to end since this was asked last.
    pub(super) fn take_termination(&self) -> bool {
        self.terminated.swap(false, Ordering::Relaxed)
    }

    pub(super) fn clear(&mut self) {
        let mut bytes = [0; 64];
        while let Ok(1..) = self.wakes.read(&mut bytes) {}
    }
}
