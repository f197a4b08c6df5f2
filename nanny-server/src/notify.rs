//! What the service manager is told (systemd, or whoever speaks its protocol, `sd_notify(3)`): that
//! we are ready, that we are about to end, and for as long as all is well, that we live.
//!
//! Without `NOTIFY_SOCKET` nobody is told anything.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nanny_lib::Nanny;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// What our own environment says.
    pub(crate) fn from_env() -> Self {
        Self::told(|name| std::env::var_os(name)).unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager cannot be reached at NOTIFY_SOCKET");
            Self::default()
        })
    }

    fn told(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // Whoever does not read is not waited for.
        socket.set_nonblocking(true)?;
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let ours = u64::from(std::process::id());
        let is_ours = number("WATCHDOG_PID").is_none_or(|watched| watched == ours);
        let limit = number("WATCHDOG_USEC").filter(|limit| is_ours && *limit > 0);
        Ok(Self { socket: Some(socket), watchdog: limit.map(Duration::from_micros) })
    }

    /// We have looked around and serve.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// We are about to end.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}\n"));
    }

    /// Gives a sign of life twice in the time the watchdog allows, as long as `nanny` responds: one
    /// that is stuck, or gone, is not vouched for. Never ends.
    pub(crate) async fn vouch_for(&self, nanny: &Nanny) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let period = limit / 2;
        let mut next = interval(period);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            match timeout(period, nanny.responds()).await {
                Ok(Ok(())) => self.tell("WATCHDOG=1\n"),
                Ok(Err(error)) => tracing::error!(%error, "the nanny does not respond"),
                Err(_) => tracing::error!("the nanny does not respond within {period:?}"),
            }
        }
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A service manager, and the notifier of one whom it watches.
    pub(crate) fn manager(
        watchdog: Option<Duration>,
    ) -> (UnixDatagram, Notifier, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("it is new");
        let notifier = Notifier::told(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => watchdog.map(|limit| limit.as_micros().to_string().into()),
            _ => None,
        });
        (manager, notifier.expect("somebody listens"), directory)
    }

    /// The next thing the manager is told; `None` if there is none for `patience`.
    pub(crate) fn heard(manager: &UnixDatagram, patience: Duration) -> Option<String> {
        manager.set_read_timeout(Some(patience)).expect("it is a time");
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_manager_is_found_by_path_or_by_abstract_name() {
        let (manager, notifier, _directory) = manager(None);
        notifier.ready("fine");
        assert_eq!(heard(&manager, PATIENCE).as_deref(), Some("READY=1\nSTATUS=fine\n"));

        let name = format!("nanny-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let told = |variable: &str| {
            (variable == "NOTIFY_SOCKET").then(|| OsString::from(format!("@{name}")))
        };
        Notifier::told(told).unwrap().stopping("bye");
        assert_eq!(heard(&manager, PATIENCE).as_deref(), Some("STOPPING=1\nSTATUS=bye\n"));
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let (_manager, _, directory) = manager(None);
        let limit = |watched: u32| {
            let told = |name: &str| match name {
                "NOTIFY_SOCKET" => Some(directory.path().join("notify").into()),
                "WATCHDOG_USEC" => Some("30000000".into()),
                "WATCHDOG_PID" => Some(watched.to_string().into()),
                _ => None,
            };
            Notifier::told(told).unwrap().watchdog
        };
        assert_eq!(limit(std::process::id()), Some(Duration::from_secs(30)));
        assert_eq!(limit(1), None);
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let notifier = Notifier::told(|_| None).unwrap();
        notifier.ready("fine");
        assert!(notifier.socket.is_none() && notifier.watchdog.is_none());
        assert!(Notifier::told(|_| Some("/nonexistent/notify".into())).is_err());
    }
}
