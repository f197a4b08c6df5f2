//! Sockets that a service manager opened for us (`sd_listen_fds(3)`). It keeps them open while we
//! are gone, so that clients wait for our next run instead of being refused.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

/// The sockets that were opened for this process.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) unix: Vec<UnixListener>,
}

impl Inherited {
    /// Takes the sockets that `LISTEN_FDS` speaks of, and the variable away, so that no child takes
    /// them for its own. To be called once, before there are threads.
    ///
    /// # Errors
    ///
    /// If something else than a listening TCP or unix socket was handed over.
    pub fn take() -> io::Result<Self> {
        let mut handed_over = ListenFd::from_env();
        let mut taken = Self::default();
        for index in 0..handed_over.len() {
            if let Ok(Some(listener)) = handed_over.take_unix_listener(index) {
                listens(&listener)?;
                listener.set_nonblocking(true)?;
                taken.unix.push(listener);
                continue;
            }
            let listener = handed_over.take_tcp_listener(index).map_err(|error| {
                let what = format!(
                    "the service manager handed over a socket of no use: {error}; \
                     only stream sockets (ListenStream=) are served"
                );
                io::Error::new(error.kind(), what)
            })?;
            if let Some(listener) = listener {
                listens(&listener)?;
                listener.set_nonblocking(true)?;
                taken.tcp.push(listener);
            }
        }
        Ok(taken)
    }
}

/// A socket that does not listen would never have a connection for us, and always an error.
fn listens<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    if socket.into().is_listener()? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the service manager handed over a socket of no use: it does not listen; \
         the socket unit must say Accept=no",
    ))
}
