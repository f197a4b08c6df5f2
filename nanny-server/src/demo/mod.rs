//! `nanny demo`: the server on services of its own, on a machine where nothing is installed.
//!
//! The services are plain processes: this binary again, as `demo-service`, plays their models. Their
//! manifests are written to a directory, where one may look at them and change them.

mod bundle;
mod picture;
mod trade;
mod voice;
mod workload;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nanny_lib::manifest::Manifest;
use nanny_lib::{EngineState, Nanny, Snapshot};

pub use self::trade::Trade;
pub use self::workload::{DemoServiceArgs, DemoServiceError, play};
use crate::config::Places;
use crate::engine::EngineArgs;
use crate::gpu::GpuArgs;
use crate::inherited::Inherited;
use crate::notify::Notifier;
use crate::run::{self, ServeArgs, ServeError, listen_address};
use crate::serving::{AtTheEnd, StopSignals, stay};

/// How to show it.
#[derive(Debug, Clone, Args)]
#[non_exhaustive]
pub struct DemoArgs {
    /// Where to listen.
    #[arg(
        long,
        env = "NANNY_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = listen_address,
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// The demo and its services are kept in the directory `demo` in here. [default: as for `serve`]
    #[arg(long, env = "NANNY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Leave the services running at the end; the next demo finds them.
    #[arg(long, env = "NANNY_KEEP")]
    pub keep: bool,
    /// Assistants.
    #[cfg(feature = "mcp")]
    #[command(flatten)]
    pub mcp: crate::mcp::McpArgs,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The services cannot be written down.
    #[error("cannot write the services of the demo to {}; choose another place with --state-dir", .0.display())]
    Bundle(PathBuf, #[source] io::Error),
    /// Everybody on the network could do as they please.
    #[error(
        "refusing to show the demo on {0} without a token: set NANNY_TOKEN, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The server did not start.
    #[error(transparent)]
    Serve(ServeError),
}

impl From<ServeError> for DemoError {
    fn from(error: ServeError) -> Self {
        match error {
            // What it advises, the demo has not.
            ServeError::Open(address) => Self::Open(address),
            error => Self::Serve(error),
        }
    }
}

/// Serves the demo until a signal says to stop, and then stops its services.
///
/// # Errors
///
/// If it cannot begin.
pub async fn demo(args: DemoArgs, inherited: Inherited) -> Result<ExitCode, DemoError> {
    let place = Places::here().state(args.state_dir.clone()).join("demo");
    // Processes have places of their own to run in.
    let place = std::path::absolute(&place).unwrap_or(place);
    let services = place.join("services");
    bundle::write(&place, &services).map_err(|error| DemoError::Bundle(services.clone(), error))?;

    let token = run::token(None).map_err(ServeError::from)?;
    let mut stop = StopSignals::listen_with_hangup().map_err(ServeError::Signals)?;
    let serve = server(&args, &place, &services);
    let (listeners, edge) = run::doors(&serve, inherited, token).await?;
    let ready = async {
        let nanny = run::start(&serve).await?;
        let snapshot = settled(&nanny).await;
        Ok::<_, ServeError>((nanny, snapshot))
    };
    let (nanny, snapshot) = tokio::select! {
        ready = ready => ready?,
        _ = stop.next() => return Ok(ExitCode::SUCCESS),
    };
    let needs_token = edge.token.is_some();
    let greeting = greeting(&args, edge.listen, needs_token, &services, &snapshot);
    // Nobody need read it.
    let _ = io::stdout().write_all(greeting.as_bytes());
    let at_the_end = if args.keep { AtTheEnd::LeaveServices } else { AtTheEnd::StopServices };
    Ok(stay(nanny, listeners, edge, &Notifier::from_env(), &mut stop, at_the_end).await)
}

/// The server that the demo is: on processes alone, whatever engines there are.
fn server(args: &DemoArgs, place: &Path, services: &Path) -> ServeArgs {
    ServeArgs {
        services: Some(services.to_owned()),
        listen: args.listen,
        unix_socket: None,
        state_dir: Some(place.to_owned()),
        home: None,
        token_file: None,
        allow_unauthenticated: false,
        allowed_host: Vec::new(),
        allowed_origin: Vec::new(),
        engines: EngineArgs { backends: vec!["process".to_owned()], ..EngineArgs::default() },
        gpus: GpuArgs::asking_nobody(),
        #[cfg(feature = "mcp")]
        mcp: args.mcp.clone(),
    }
}

/// What there is once it is known which services an earlier demo left running.
async fn settled(nanny: &Nanny) -> Arc<Snapshot> {
    let is_settled = |now: &Snapshot| {
        now.looked_around && now.engines.iter().all(|engine| engine.state == EngineState::Up)
    };
    let settled = tokio::time::timeout(PATIENCE, nanny.wait_until(is_settled)).await;
    match settled {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(_)) | Err(_) => nanny.snapshot(),
    }
}

/// What there is to try.
fn greeting(
    args: &DemoArgs,
    listen: SocketAddr,
    needs_token: bool,
    services: &Path,
    snapshot: &Snapshot,
) -> String {
    let nanny = match listen.ip().is_unspecified() || listen.ip() == Ipv4Addr::LOCALHOST {
        true => format!("localhost:{}", listen.port()),
        false => listen.to_string(),
    };
    let token = if needs_token { " -H \"Authorization: Bearer $NANNY_TOKEN\"" } else { "" };
    let mut text = format!("\nService Nanny serves its demo on http://{nanny}\n\n");
    // Writing to a string cannot fail, here and below.
    for view in snapshot.services.values().filter(|view| !view.gone) {
        let manifest = &view.manifest;
        let gpu = if manifest.gpu_required {
            format!("GPU, {} GB", manifest.vram_gb)
        } else {
            "no GPU".to_owned()
        };
        let page = page(manifest).unwrap_or_default();
        let runs = if view.is_running { "  (runs already)" } else { "" };
        let _ = writeln!(text, "  {:<18} {gpu:<11} {page}{runs}", manifest.name.as_str());
    }
    let curl = format!("curl{token}");
    let _ = write!(
        text,
        "\nTry this in another terminal; a service that runs has a page of its own, too:\n\n  \
         {curl} {nanny}/services\n  \
         {curl} -X POST {nanny}/services/stable-diffusion/start\n  \
         {curl} -X POST {nanny}/services/llm-chat/start    # 409: one GPU service at a time\n  \
         {curl} -X POST {nanny}/services/llm-chat/start -d '{{\"force\": true}}'\n  \
         {curl} {nanny}/services/llm-chat/status\n  \
         {curl} '{nanny}/services/llm-chat/logs?tail=20'\n\n\
         Their manifests are yours to edit, in {}\n",
        services.display()
    );
    #[cfg(feature = "mcp")]
    if !args.mcp.no_mcp {
        let _ = writeln!(
            text,
            "An assistant can do the same at http://{nanny}/mcp, or through `nanny mcp --url http://{nanny}`."
        );
    }
    for (name, port) in taken(snapshot) {
        let _ = writeln!(
            text,
            "\nPort {port} is taken: {name} cannot start. End what listens there, or give {name} another \
             port in {}: PORT, ports and health_endpoint.",
            services.join(&name).join("service.yaml").display()
        );
    }
    text.push_str(match args.keep {
        true => "Ctrl-C ends the nanny and leaves the services running: a demo without --keep stops them.\n\n",
        false => "Ctrl-C ends the nanny, and stops the services.\n\n",
    });
    text
}

/// Services whose port somebody else has.
fn taken(snapshot: &Snapshot) -> Vec<(String, u16)> {
    let idle = snapshot.services.values().filter(|view| !view.gone && !view.is_running);
    let ports = idle.filter_map(|view| {
        let port = port(&view.manifest)?;
        Some((view.manifest.name.as_str().to_owned(), port))
    });
    ports.filter(|(_, port)| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err()).collect()
}

fn port(manifest: &Manifest) -> Option<u16> {
    manifest.env.0.get("PORT")?.as_deref()?.parse().ok()
}

fn page(manifest: &Manifest) -> Option<String> {
    Some(format!("http://localhost:{}", port(manifest)?))
}

/// How long the demo waits for a first look at what runs.
const PATIENCE: Duration = Duration::from_secs(5);
