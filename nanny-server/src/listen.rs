//! Where connections come from: a TCP port, or a unix socket.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Anybody who can reach the port, or a unix socket whose file mode lets everybody in.
    Tcp,
    /// Somebody whom the socket's file mode lets in.
    Unix,
}

/// Accepts connections over TCP or on a unix socket.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix { listener: UnixListener, peer: Peer, _file: Option<SocketFile> },
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(Kind::Tcp(listener))
    }
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says, in words that name the address.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await;
        listener.map(Self::from).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "the port is in use, perhaps by another nanny; choose another with --listen"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("cannot listen on {address}: {reason}"))
        })
    }

    /// Listens on a unix socket at `path`, which its owner and group may use. A socket that is left
    /// over from an earlier run is replaced; the file is removed with the listener.
    ///
    /// # Errors
    ///
    /// If something else is at `path`, if somebody listens there, or whatever the operating system
    /// says.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let listen = || {
            remove_stale(path)?;
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            let _file = Some(SocketFile { path: path.to_owned(), identity: identity(path)? });
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
            // Only now can anybody connect, whatever the mode was before.
            let listener = socket.listen(BACKLOG)?;
            Ok(Self(Kind::Unix { listener, peer: Peer::Unix, _file }))
        };
        listen().map_err(|error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
        })
    }

    /// Listens on a TCP socket that a service manager opened.
    pub(crate) fn inherited_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Self::from)
    }

    /// Listens on a unix socket that a service manager opened: its file is not ours. One that lets
    /// every user in is as good as a port, and named; to connect is to write.
    pub(crate) fn inherited_unix(
        listener: net::UnixListener,
    ) -> io::Result<(Self, Option<String>)> {
        let address = listener.local_addr()?;
        let closed = |path| fs::metadata(path).is_ok_and(|is| is.permissions().mode() & 0o002 == 0);
        let open = match address.as_pathname() {
            Some(path) if closed(path) => None,
            Some(path) => Some(format!("the socket {}", path.display())),
            None => Some("a socket without a file".to_owned()),
        };
        let peer = if open.is_some() { Peer::Tcp } else { Peer::Unix };
        let listener = UnixListener::from_std(listener)?;
        Ok((Self(Kind::Unix { listener, peer, _file: None }), open))
    }

    /// The address it listens on; `None` on a unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::Tcp))
            }
            Kind::Unix { listener, peer, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), *peer))
            }
        }
    }
}

/// As many as tokio grants a TCP listener.
const BACKLOG: u32 = 1024;

/// Removes a socket that nobody listens on any more, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is another file; remove it, or choose another path with --unix-socket",
        ));
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there, perhaps another nanny; \
             choose another path with --unix-socket",
        )),
    }
}

/// A socket's file, removed when dropped, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Which file this is, whatever its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Self { path, identity: ours } = &*self;
        let removed = identity(path)
            .and_then(|now| if now == *ours { fs::remove_file(path) } else { Ok(()) });
        if let Err(error) = removed {
            tracing::debug!(path = %path.display(), %error, "could not remove the socket");
        }
    }
}

/// A connection, of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = first.address().unwrap();
        let error = Listener::tcp(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
        assert!(error.to_string().contains("in use"));
    }

    #[tokio::test]
    async fn a_socket_left_over_is_replaced_and_any_other_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nanny.sock");
        drop(net::UnixListener::bind(&path).unwrap());
        let listener = Listener::unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(Listener::unix(&path).is_err(), "it is in use");
        drop(listener);
        assert!(!path.exists());
        let first = Listener::unix(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let second = Listener::unix(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(Listener::unix(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
