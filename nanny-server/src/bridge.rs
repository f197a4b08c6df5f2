//! `nanny mcp`: from flags to a bridge between standard input and output and a running server.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches};
use nanny_mcp::bridge::{self, Clocks, Daemon, Lost, UnusableAddress};

use crate::serving::StopSignals;
use crate::token::{self, UnusableToken};

/// Where the server is: at an address or behind a socket, never both.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BridgeArgs {
    /// The server's address.
    pub url: Option<String>,
    /// The unix socket that the server listens on, instead of an address.
    pub unix_socket: Option<PathBuf>,
    /// A file with the server's token.
    pub token_file: Option<PathBuf>,
}

/// The flags and variables as they are given.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
struct Given {
    /// The server's address. [default: http://127.0.0.1:8080]
    #[arg(long, env = "NANNY_URL", value_name = "URL")]
    url: Option<String>,
    /// The unix socket that the server listens on, instead of an address.
    #[arg(long, env = "NANNY_UNIX_SOCKET", value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// A file with the server's token.
    #[arg(long, env = "NANNY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl FromArgMatches for BridgeArgs {
    /// A flag counts more than the other's variable, which may be meant for `nanny serve`.
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Given { mut url, mut unix_socket, token_file } = Given::from_arg_matches(matches)?;
        if url.is_some() && unix_socket.is_some() {
            let is_flag = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
            match (is_flag("url"), is_flag("unix_socket")) {
                (true, false) => unix_socket = None,
                (false, true) => url = None,
                (true, true) => return Err(conflict("--url cannot be used with --unix-socket")),
                (false, false) => {
                    let why = "NANNY_URL and NANNY_UNIX_SOCKET are both set: \
                               say which with --url or --unix-socket";
                    return Err(conflict(why));
                }
            }
        }
        Ok(Self { url, unix_socket, token_file })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for BridgeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Given::augment_args_for_update(command)
    }
}

fn conflict(why: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, format!("{why}\n"))
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
