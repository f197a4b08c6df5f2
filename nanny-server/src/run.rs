//! `nanny serve`: from flags to a running server, and its orderly end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nanny_lib::Nanny;
use nanny_lib::backend::BackendError;
use nanny_lib::manifest::DirectorySource;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Places;
use crate::edge::{AllowedHost, AllowedOrigin, EdgeConfig};
use crate::engine::{EngineArgs, backends};
use crate::listen::Listener;
use crate::own;
use crate::token::{self, UnusableToken};

/// How to serve.
#[derive(Debug, Clone, Args)]
#[command(after_help = "The token itself may be given in NANNY_TOKEN.")]
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
    /// The address is taken, or not ours.
    #[error("{0}")]
    Listen(io::Error),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// An engine's configuration is no good.
    #[error("cannot set an engine up")]
    Engine(#[source] BackendError),
    /// The nanny did not start.
    #[error("cannot start")]
    Nanny(#[source] Box<nanny_lib::Error>),
}

/// Serves until a signal says to stop. Services go on running after that.
///
/// # Errors
///
/// If the server cannot start.
pub async fn serve(args: ServeArgs) -> Result<ExitCode, ServeError> {
    let variable = std::env::var("NANNY_TOKEN").ok();
    let token = token::configured(args.token_file.as_deref(), variable.as_deref())?;
    if token.is_none() && !args.allow_unauthenticated && !args.listen.ip().is_loopback() {
        return Err(ServeError::Open(args.listen));
    }
    let mut stop = StopSignals::listen().map_err(ServeError::Signals)?;
    let tcp = Listener::tcp(args.listen).await.map_err(ServeError::Listen)?;
    let mut edge = EdgeConfig::new(tcp.address().unwrap_or(args.listen));
    edge.token = token;
    edge.allowed_hosts.clone_from(&args.allowed_host);
    edge.allowed_origins.clone_from(&args.allowed_origin);
    let mut listeners = vec![tcp];
    if let Some(path) = &args.unix_socket {
        listeners.push(Listener::unix(path).map_err(ServeError::Listen)?);
    }
    let nanny = tokio::select! {
        nanny = start(&args) => nanny?,
        signal = stop.next() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %edge.listen,
        token = edge.token.is_some(),
        "serving"
    );

    let (close, closing) = watch::channel(false);
    let app = crate::app(nanny.clone(), edge);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut closing = closing.clone();
        let closed = async move {
            // An error means that nobody is left to say so: closed, too.
            let _ = closing.wait_for(|closing| *closing).await;
        };
        servers.spawn(crate::serve(listener, app.clone(), closed));
    }
    let signal = tokio::select! {
        signal = stop.next() => signal,
        () = nanny.ended() => {
            tracing::error!("the nanny has ended by a fault of its own; services go on running");
            return Ok(ExitCode::FAILURE);
        }
    };
    tracing::info!(signal, "shutting down; services go on running");
    let _ = close.send(true);
    tokio::select! {
        ended = tokio::time::timeout(SHUTDOWN, end(&nanny, &mut servers)) => {
            if ended.is_err() {
                tracing::warn!("not everything ended in time");
            }
            Ok(ExitCode::SUCCESS)
        }
        signal = stop.next() => {
            tracing::warn!(signal, "second signal: exiting at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Requests under way may be answered as usual for a while; then the nanny ends, which answers the
/// rest of them.
async fn end(nanny: &Nanny, servers: &mut JoinSet<()>) {
    let drained = async { while servers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(UNDISTURBED, drained).await;
    nanny.shutdown().await;
    while servers.join_next().await.is_some() {}
}

const UNDISTURBED: Duration = Duration::from_secs(3);
const SHUTDOWN: Duration = Duration::from_millis(9_500);

async fn start(args: &ServeArgs) -> Result<Nanny, ServeError> {
    let places = Places::here();
    let services = places.services(args.services.clone());
    let state = places.state(args.state_dir.clone());
    tracing::info!(services = %services.display(), state = %state.display(), "starting");
    let mut source = DirectorySource::new(services);
    if let Some(home) = args.home.clone() {
        source = source.home(home);
    }
    let backends = backends(&args.engines).map_err(ServeError::Engine)?;
    if let Some(project) = own::project(&backends).await {
        tracing::info!(project, "this is our own project: it will be left alone");
        source = source.protect_project(project);
    }
    let mut builder = Nanny::builder().source(source).state_dir(state);
    for backend in backends {
        builder = builder.backend(backend);
    }
    builder.start().await.map_err(|error| ServeError::Nanny(Box::new(error)))
}

/// The signals that end the server.
#[derive(Debug)]
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
