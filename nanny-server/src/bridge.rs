//! `nanny mcp`: from flags to a bridge between standard input and output and a running server.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nanny_mcp::bridge::{self, Clocks, Daemon, Lost, UnusableAddress};

use crate::serving::StopSignals;
use crate::token::{self, UnusableToken};

/// Where the server is.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = AFTER_HELP)]
#[non_exhaustive]
pub struct BridgeArgs {
    /// The server's address. [default: http://127.0.0.1:8080]
    #[arg(long, env = "NANNY_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The unix socket that the server listens on, instead of an address.
    #[arg(long, env = "NANNY_UNIX_SOCKET", value_name = "PATH", conflicts_with = "url")]
    pub unix_socket: Option<PathBuf>,
    /// A file with the server's token.
    #[arg(long, env = "NANNY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
The token itself may be given in NANNY_TOKEN. The server need not run yet: until it does, every
request is answered with how to start it.

Exit codes:
  0  standard input ended, or a signal came
  1  could not start, or standard input or output broke: the last words say which
  2  the command line is wrong";

/// Why there is no bridge, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] UnusableToken),
    /// The address cannot be used.
    #[error(transparent)]
    Address(#[from] UnusableAddress),
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// Standard input or output broke.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Carries messages until standard input ends or a signal says to stop.
///
/// # Errors
///
/// If it cannot start, or cannot read or write any more.
pub async fn mcp(args: BridgeArgs) -> Result<ExitCode, BridgeError> {
    let token = token::configured_text(args.token_file.as_deref(), token::variable().as_deref())?;
    let mut daemon = match args.unix_socket {
        Some(path) => Daemon::at_unix_socket(&path)?,
        None => Daemon::at_url(args.url.as_deref().unwrap_or(USUAL_ADDRESS))?,
    };
    if let Some(token) = token {
        daemon = daemon.with_token(&token)?;
    }
    let mut stop = StopSignals::listen().map_err(BridgeError::Signals)?;
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    let stopped = async {
        stop.next().await;
    };
    bridge::run(daemon, Clocks::default(), input, output, stopped).await?;
    Ok(ExitCode::SUCCESS)
}

const USUAL_ADDRESS: &str = "http://127.0.0.1:8080";
