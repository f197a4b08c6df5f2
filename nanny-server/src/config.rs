//! The command line. Every flag has a variable; a flag goes first.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::compose::ComposeCommand;
use crate::telemetry::LogFormat;

/// What the binary is asked to do.
#[derive(Debug, Parser)]
#[command(name = "nanny", version, about = "Runs AI services on the GPU you have")]
#[non_exhaustive]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

impl Cli {
    /// Reads this process's command line; ends the process if it asks for help or is wrong.
    ///
    /// A variable that is set but empty counts as not set, as `${NAME:-}` in a Compose file has it.
    #[must_use]
    pub fn from_command_line() -> Self {
        let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
        let mut command = command(is_empty);
        let matches = command.get_matches_mut();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        #[cfg(feature = "rest")]
        if let Command::Serve(args) = &cli.command
            && let Err(said) = args.gpus.check()
            && let Some(serve) = command.find_subcommand_mut("serve")
        {
            serve.error(clap::error::ErrorKind::ArgumentConflict, said).exit()
        }
        cli
    }
}

fn command(is_empty: impl Fn(&OsStr) -> bool) -> clap::Command {
    let skip_empty = |flag: Arg| match flag.get_env() {
        Some(name) if is_empty(name) => flag.env(Resettable::Reset),
        _ => flag,
    };
    let command = Cli::command().mut_args(skip_empty);
    command.mut_subcommands(|command| command.mut_args(skip_empty))
}

/// The subcommands.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Runs the server.
    #[cfg(feature = "rest")]
    Serve(Box<crate::run::ServeArgs>),
    /// Runs the server on a few services of its own, which need no engine: something to try.
    #[cfg(all(feature = "rest", feature = "process"))]
    Demo(Box<crate::demo::DemoArgs>),
    /// Plays one of the services of `demo`.
    #[cfg(all(feature = "rest", feature = "process"))]
    #[command(hide = true)]
    DemoService(crate::demo::DemoServiceArgs),
    /// Joins an assistant on standard input and output to a running server.
    #[cfg(feature = "mcp")]
    Mcp(crate::bridge::BridgeArgs),
    /// Checks service directories and prints what is wrong.
    Check(CheckArgs),
    /// Reads Compose files as the server reads them.
    #[command(subcommand)]
    Compose(ComposeCommand),
}

impl Command {
    /// How much it logs unless it is told.
    #[must_use]
    pub fn log_level(&self) -> &'static str {
        match self {
            // Editors show all of it, as if something were wrong.
            #[cfg(feature = "mcp")]
            Self::Mcp(_) => "warn",
            _ => "info",
        }
    }
}

/// How to log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
#[non_exhaustive]
pub struct LogArgs {
    /// Text for people, or JSON for programs.
    #[arg(
        long,
        global = true,
        env = "NANNY_LOG_FORMAT",
        value_name = "text|json",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// error, warn, info, debug or trace; or directives such as `info,hyper=debug`. [default: info,
    /// or for `mcp` warn]
    #[arg(long, global = true, env = "NANNY_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// What to check.
#[derive(Debug, Clone, Args)]
#[non_exhaustive]
pub struct CheckArgs {
    /// The directory of service directories. [default: as for `serve`]
    #[arg(value_name = "DIR")]
    pub services: Option<PathBuf>,
    /// What `~` means in service files. [default: the home directory]
    #[arg(long, env = "NANNY_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// Where things are on this machine, from what was given and what the environment says.
#[derive(Debug)]
pub(crate) struct Places {
    variable: fn(&str) -> Option<OsString>,
    exists: fn(&Path) -> bool,
    is_root: fn() -> bool,
}

impl Places {
    /// This machine's.
    pub(crate) fn here() -> Self {
        Self { variable: |name| env::var_os(name), exists: Path::is_dir, is_root }
    }

    /// Where the service directories are.
    pub(crate) fn services(&self, given: Option<PathBuf>) -> PathBuf {
        let usual = Path::new("/services");
        given.or_else(|| self.path("SERVICES_DIR")).unwrap_or_else(|| {
            if (self.exists)(usual) { usual.to_owned() } else { PathBuf::from("./services") }
        })
    }

    /// Where the nanny keeps what it must know after a restart.
    pub(crate) fn state(&self, given: Option<PathBuf>) -> PathBuf {
        given.or_else(|| Some(self.path("XDG_STATE_HOME")?.join("service-nanny"))).unwrap_or_else(
            || match self.path("HOME") {
                Some(home) if !(self.is_root)() => home.join(".local/state/service-nanny"),
                _ => PathBuf::from("/var/lib/service-nanny"),
            },
        )
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable() {
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let long = flag.get_long().unwrap().to_uppercase().replace('-', "_");
                if long != "HELP" && long != "VERSION" {
                    let variable = flag.get_env().unwrap_or_default().to_str().unwrap();
                    assert_eq!(variable, format!("NANNY_{long}"));
                }
            }
        }
    }

    #[test]
    fn an_empty_variable_counts_as_none() {
        let variables = |command: &clap::Command| -> usize {
            let of = |command: &clap::Command| {
                command.get_arguments().filter(|flag| flag.get_env().is_some()).count()
            };
            of(command) + command.get_subcommands().map(of).sum::<usize>()
        };
        assert!(variables(&command(|_| false)) > 4);
        assert_eq!(variables(&command(|_| true)), 0);
    }

    fn bare() -> Places {
        Places { variable: |_| None, exists: |_| false, is_root: || false }
    }

    #[test]
    fn services_are_where_they_are_said_to_be() {
        let given = Some(PathBuf::from("/given"));
        assert_eq!(bare().services(given), Path::new("/given"));
        let told =
            Places { variable: |name| (name == "SERVICES_DIR").then(|| "/told".into()), ..bare() };
        assert_eq!(told.services(None), Path::new("/told"));
        let usual = Places { exists: |path| path == Path::new("/services"), ..bare() };
        assert_eq!(usual.services(None), Path::new("/services"));
        assert_eq!(bare().services(None), Path::new("./services"));
        let empty = Places { variable: |_| Some(OsString::new()), ..bare() };
        assert_eq!(empty.services(None), Path::new("./services"));
    }

    #[test]
    fn state_is_kept_where_the_system_keeps_it() {
        let home = |name: &str| (name == "HOME").then(|| "/home/me".into());
        let user = Places { variable: home, ..bare() };
        assert_eq!(user.state(None), Path::new("/home/me/.local/state/service-nanny"));
        let root = Places { variable: home, is_root: || true, ..bare() };
        assert_eq!(root.state(None), Path::new("/var/lib/service-nanny"));
        let xdg =
            Places { variable: |name| (name == "XDG_STATE_HOME").then(|| "/xdg".into()), ..bare() };
        assert_eq!(xdg.state(None), Path::new("/xdg/service-nanny"));
        assert_eq!(xdg.state(Some("/given".into())), Path::new("/given"));
    }
}
