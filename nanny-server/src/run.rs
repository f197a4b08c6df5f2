//! `nanny serve`: from flags to a nanny and the sockets to serve it on.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nanny_lib::Nanny;
use nanny_lib::backend::BackendError;
use nanny_lib::manifest::DirectorySource;

use crate::config::Places;
use crate::edge::{AllowedHost, AllowedOrigin, EdgeConfig};
use crate::engine::{EngineArgs, backends};
use crate::gpu::{GpuArgs, Useless};
use crate::inherited::Inherited;
use crate::listen::Listener;
use crate::notify::Notifier;
use crate::own;
use crate::serving::{AtTheEnd, StopSignals, stay};
use crate::token::{self, Token, UnusableToken};

/// How to serve.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
#[non_exhaustive]
pub struct ServeArgs {
    /// The directory of service directories. [default: $SERVICES_DIR, /services or ./services]
    #[arg(long, env = "NANNY_SERVICES", value_name = "DIR")]
    pub services: Option<PathBuf>,
    /// Where to listen.
    #[arg(
        long,
        env = "NANNY_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = listen_address,
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// Listen on a unix socket too; who may use it is up to its file mode, without a token.
    #[arg(long, env = "NANNY_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Where to keep what must survive a restart. [default: $XDG_STATE_HOME/service-nanny,
    /// ~/.local/state/service-nanny, or for root /var/lib/service-nanny]
    #[arg(long, env = "NANNY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What `~` means in service files. [default: the home directory]
    #[arg(long, env = "NANNY_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// A file with the token that every request must carry.
    #[arg(long, env = "NANNY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Listen beyond this machine without a token: whoever reaches the port is root here.
    #[arg(long, env = "NANNY_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,
    /// A further name by which clients may call the server; may be repeated.
    #[arg(long, env = "NANNY_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    pub allowed_host: Vec<AllowedHost>,
    /// A further web origin whose pages may call the server; may be repeated.
    #[arg(long, env = "NANNY_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allowed_origin: Vec<AllowedOrigin>,
    /// The engines.
    #[command(flatten)]
    pub engines: EngineArgs,
    /// The GPUs.
    #[command(flatten)]
    pub gpus: GpuArgs,
    /// Assistants.
    #[cfg(feature = "mcp")]
    #[command(flatten)]
    pub mcp: crate::mcp::McpArgs,
}

const AFTER_HELP: &str = "\
The token itself may be given in NANNY_TOKEN. Sockets that systemd opened for the service stand in
for --listen and --unix-socket.

Exit codes:
  0  ended by a signal, in order; services go on running
  1  could not start, ended by a fault, or by a second signal: its last words say which
  2  the command line is wrong";

/// Reads an address and a port. The one name that is known is `localhost`: what others mean may
/// change, and which of their addresses was meant cannot be told.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let by_name = || Some((Ipv4Addr::LOCALHOST, text.strip_prefix("localhost:")?.parse().ok()?));
    text.parse().ok().or_else(|| by_name().map(SocketAddr::from)).ok_or_else(|| {
        "expected an IP address and a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080; \
         0.0.0.0:8080 is every address of this machine"
            .to_owned()
    })
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] UnusableToken),
    /// Everybody on the network could do as they please.
    #[error(
        "refusing to listen on {0} without a token: give one with --token-file or NANNY_TOKEN, \
         or say --allow-unauthenticated if everybody who reaches the port may control this machine"
    )]
    Open(SocketAddr),
    /// Every user of this machine could do as they please.
    #[error(
        "refusing to serve {0}, which every user of this machine may use, without a token: \
         set SocketMode=0660 in the socket unit, give a token with --token-file or NANNY_TOKEN, \
         or say --allow-unauthenticated if everybody here may control this machine"
    )]
    OpenSocket(String),
    /// The address is taken, or not ours.
    #[error("{0}")]
    Listen(io::Error),
    /// The service manager opened more than one port for us.
    #[error(
        "refusing to listen on both {0} and {1}, which have different ports: \
         the socket unit may name several addresses, but only one port"
    )]
    Ports(SocketAddr, SocketAddr),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// An engine's configuration is no good.
    #[error("cannot set an engine up")]
    Engine(#[source] BackendError),
    /// A flag about GPUs would do nothing.
    #[error(transparent)]
    Gpus(#[from] Useless),
    /// There is nothing to look after.
    #[error(
        "cannot read the services directory {}: {error}; create it, or name another with --services",
        path.display()
    )]
    Services {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The state directory is in use, or of no use.
    #[error("{0}; choose another with --state-dir")]
    State(Box<nanny_lib::Error>),
    /// The nanny did not start.
    #[error("cannot start")]
    Nanny(#[source] Box<nanny_lib::Error>),
}

/// Serves until a signal says to stop, on the sockets that were `inherited` and those that `args`
/// name. Services go on running after that.
///
/// # Errors
///
/// If the server cannot start.
pub async fn serve(args: ServeArgs, inherited: Inherited) -> Result<ExitCode, ServeError> {
    let token = token(args.token_file.as_deref())?;
    let mut stop = StopSignals::listen().map_err(ServeError::Signals)?;
    let (listeners, edge) = doors(&args, inherited, token).await?;
    let nanny = tokio::select! {
        nanny = start(&args) => nanny?,
        signal = stop.next() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    Ok(stay(nanny, listeners, edge, &Notifier::from_env(), &mut stop, AtTheEnd::LeaveServices)
        .await)
}

/// The token, from `file` or the environment.
pub(crate) fn token(file: Option<&Path>) -> Result<Option<Token>, UnusableToken> {
    token::configured(file, token::variable().as_deref())
}

/// What is listened on, and whom that lets in. What the service manager opened stands in for what
/// `args` say, each kind for its own.
pub(crate) async fn doors(
    args: &ServeArgs,
    inherited: Inherited,
    token: Option<Token>,
) -> Result<(Vec<Listener>, EdgeConfig), ServeError> {
    let may_listen = |address: SocketAddr| {
        let private = token.is_some() || args.allow_unauthenticated || address.ip().is_loopback();
        if private { Ok(()) } else { Err(ServeError::Open(address)) }
    };
    let mut listeners = Vec::new();
    if inherited.tcp.is_empty() {
        may_listen(args.listen)?;
        listeners.push(Listener::tcp(args.listen).await.map_err(ServeError::Listen)?);
    }
    for listener in inherited.tcp {
        may_listen(listener.local_addr().map_err(ServeError::Listen)?)?;
        listeners.push(Listener::inherited_tcp(listener).map_err(ServeError::Listen)?);
    }
    // The port is part of the server's names, by which browsers are told from strangers.
    let addresses: Vec<_> = listeners.iter().filter_map(Listener::address).collect();
    let listen = *addresses.first().unwrap_or(&args.listen);
    if let Some(other) = addresses.iter().find(|other| other.port() != listen.port()) {
        return Err(ServeError::Ports(listen, *other));
    }
    if inherited.unix.is_empty()
        && let Some(path) = &args.unix_socket
    {
        listeners.push(Listener::unix(path).map_err(ServeError::Listen)?);
    }
    for listener in inherited.unix {
        let (listener, open) = Listener::inherited_unix(listener).map_err(ServeError::Listen)?;
        if let Some(name) = open
            && token.is_none()
            && !args.allow_unauthenticated
        {
            return Err(ServeError::OpenSocket(name));
        }
        listeners.push(listener);
    }
    let mut edge = EdgeConfig::new(listen);
    edge.token = token;
    edge.allowed_hosts.clone_from(&args.allowed_host);
    edge.allowed_origins.clone_from(&args.allowed_origin);
    #[cfg(feature = "mcp")]
    {
        edge.mcp = args.mcp.config();
    }
    Ok((listeners, edge))
}

pub(crate) async fn start(args: &ServeArgs) -> Result<Nanny, ServeError> {
    let places = Places::here();
    let services = places.services(args.services.clone());
    let state = places.state(args.state_dir.clone());
    tracing::info!(services = %services.display(), state = %state.display(), "starting");
    readable(&services).await?;
    let mut source = DirectorySource::new(services);
    if let Some(home) = args.home.clone() {
        source = source.home(home);
    }
    let backends = backends(&args.engines, &state).map_err(ServeError::Engine)?;
    if let Some(project) = own::project(&backends).await {
        tracing::info!(project, "this is our own project: it will be left alone");
        source = source.protect_project(project);
    }
    let mut builder = Nanny::builder().source(source).state_dir(state);
    for backend in backends {
        builder = builder.backend(backend);
    }
    let builder = args.gpus.set_up(builder).await?;
    builder.start().await.map_err(|error| match error {
        nanny_lib::Error::StateDir { .. } => ServeError::State(Box::new(error)),
        _ => ServeError::Nanny(Box::new(error)),
    })
}

/// A directory that comes to be missing later is a problem that lasts until it is back. One that is
/// missing from the start is a mistake, most likely.
async fn readable(services: &Path) -> Result<(), ServeError> {
    let path = services.to_owned();
    // It may be on a disk that does not answer, and signals are to be heard all the same.
    let read = tokio::task::spawn_blocking(move || fs::read_dir(path).map(drop)).await;
    let read = read.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    read.map_err(|error| ServeError::Services { path: services.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_localhost_and_no_other_name() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(listen_address(text).unwrap().to_string(), address);
        }
        for odd in ["8080", ":8080", "localhost", "localhost:", "localhost:99999", "nanny.lan:1"] {
            let said = listen_address(odd).unwrap_err();
            assert!(said.contains("localhost:8080"), "{odd}: {said}");
        }
    }
}
