//! The command `nanny`.

use std::error::Error;
use std::process::ExitCode;

use nanny_server::config::{Cli, Command};
use nanny_server::{check, compose, telemetry};

fn main() -> ExitCode {
    // What stays with a process is this program, too, and nothing of what follows is its business.
    #[cfg(feature = "process")]
    if nanny_backend_process::shim::is_asked() {
        return nanny_backend_process::shim::main();
    }
    // The first one, and the only one: rustls panics where two could be meant. It can fail only if
    // there is one already.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::from_command_line();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Box<dyn Error>> {
    telemetry::start(&cli.log, cli.command.log_level())?;
    // While there is but this thread: it takes variables out of the environment.
    #[cfg(feature = "rest")]
    let inherited = nanny_server::Inherited::take()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match cli.command {
            #[cfg(feature = "rest")]
            Command::Serve(args) => Ok(nanny_server::run::serve(*args, inherited).await?),
            #[cfg(all(feature = "rest", feature = "process"))]
            Command::Demo(args) => Ok(nanny_server::demo::demo(*args, inherited).await?),
            #[cfg(all(feature = "rest", feature = "process"))]
            Command::DemoService(args) => Ok(nanny_server::demo::play(args).await?),
            #[cfg(feature = "mcp")]
            Command::Mcp(args) => Ok(nanny_server::bridge::mcp(args).await?),
            Command::Check(args) => Ok(check::check(args).await),
            Command::Compose(command) => Ok(compose::compose(command)),
            command => Err(format!("not in this build: {command:?}").into()),
        }
    });
    // Whatever still runs must not hold up the end.
    runtime.shutdown_background();
    ended
}

#[expect(clippy::print_stderr, reason = "the last words of a command")]
fn complain(error: &dyn Error) {
    eprintln!("nanny: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
}
