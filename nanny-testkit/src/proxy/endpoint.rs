//! Where clients and engines are found: paths and ports, treated alike.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A place where somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// The unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix(path.into())
    }

    /// A port of this machine; 0 is chosen by the system.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Takes the place. Whatever file is in the place of a unix socket makes way.
    pub(super) fn bind(&self) -> io::Result<Bound> {
        Ok(match self {
            Self::Unix(path) => {
                self.remove_file();
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Bound::Unix(listener)
            }
            Self::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Bound::Tcp(listener)
            }
        })
    }

    pub(super) async fn connect(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => tcp(TcpStream::connect(address).await?),
        })
    }

    pub(super) fn remove_file(&self) {
        if let Self::Unix(path) = self {
            // Often there is none.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// As engines' clients want to be told: `unix:///path` or `tcp://address:port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A place that was taken, outside of any runtime.
pub(super) enum Bound {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

impl Bound {
    /// Where it is, asked to be at `wanted`.
    pub(super) fn endpoint(&self, wanted: &Endpoint) -> io::Result<Endpoint> {
        Ok(match self {
            Self::Unix(_) => wanted.clone(),
            Self::Tcp(listener) => Endpoint::Tcp(listener.local_addr()?),
        })
    }

    /// Listens there, in the runtime of the caller.
    pub(super) fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
        }
    }
}

pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => tcp(listener.accept().await?.0),
        })
    }
}

/// One side of a connection.
pub(super) type Socket = Box<dyn Stream>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Closes it without a farewell: the peer's next read is an error, where the system knows that.
    fn reset(self: Box<Self>);
}

impl Stream for UnixStream {
    fn reset(self: Box<Self>) {}
}

impl Stream for TcpStream {
    fn reset(self: Box<Self>) {
        // If it cannot be told, it closes politely.
        let _ = self.set_zero_linger();
    }
}

fn tcp(stream: TcpStream) -> Socket {
    // Small pieces are to travel alone; where that cannot be had, they travel together.
    let _ = stream.set_nodelay(true);
    Box::new(stream)
}
