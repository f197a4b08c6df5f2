//! The shim: what stays with a process when the nanny goes.
//!
//! It is the program that the nanny runs in, started again with other arguments. A program calls
//! [`main`] before it does anything else, if it [`is_asked`] to:
//!
//! ```
//! use std::process::ExitCode;
//!
//! use nanny_backend_process::shim;
//!
//! fn main() -> ExitCode {
//!     if shim::is_asked() {
//!         return shim::main();
//!     }
//!     // The program itself begins here.
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! There are three stages, each a process: `launch` gets away from the nanny and its terminal and
//! ends at once, so that `run` is nobody's child; `run` stays; and `exec` becomes the program that
//! was asked for, once `run` has written down that it exists. If `run` is killed before that, `exec`
//! ends, and if after, the record is there: no process is ever without one. The program's output
//! goes through named pipes, of which it holds both ends: if `run` is killed, it may have to wait
//! until there is another, which goes on where the first one was, but nothing breaks. What `run` was
//! just about to write is lost then, and so is the program's exit code: nobody but a parent is told.

mod beginning;
mod ending;
mod keeper;
mod launch;
mod program;
mod signals;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

pub(crate) use self::launch::{Reply, launch_heir, launch_start};

/// The argument by which a program is asked to be a shim.
pub const WORD: &str = "process-shim";

/// The program that runs now, whatever is at its path by now.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Whether this program was started to be a shim: its first argument is [`WORD`].
///
/// A program that is started with other arguments before that, by
/// [`ProcessConfig::program`](crate::ProcessConfig::program), asks itself.
#[must_use]
pub fn is_asked() -> bool {
    env::args_os().nth(1).is_some_and(|argument| argument == WORD)
}

/// Is the shim, as the last two arguments say. To be called while there is but one thread.
#[must_use]
pub fn main() -> ExitCode {
    let Some(call) = Call::from_arguments(env::args_os().collect()) else {
        return ExitCode::from(2);
    };
    match call.stage.to_str() {
        Some("launch") => launch::main(&call, "run"),
        Some("relaunch") => launch::main(&call, "adopt"),
        Some("run") => keeper::main(&call, Purpose::Start),
        Some("adopt") => keeper::main(&call, Purpose::Adopt),
        Some("exec") => program::main(&call),
        _ => ExitCode::from(2),
    }
}

/// What a shim is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To start the program, if it does not run. It is given the lock, as standard input.
    Start,
    /// To take the place of a shim that is gone.
    Adopt,
}

/// How a stage was called, and how it calls the next.
#[derive(Debug)]
struct Call {
    program: OsString,
    /// What stands before the stage.
    leading: Vec<OsString>,
    stage: OsString,
    /// The container's directory.
    directory: PathBuf,
}

impl Call {
    fn from_arguments(mut arguments: Vec<OsString>) -> Option<Self> {
        let directory = PathBuf::from(arguments.pop()?);
        let stage = arguments.pop()?;
        let mut arguments = arguments.into_iter();
        let program = arguments.next()?;
        directory.is_absolute().then(|| Self {
            program,
            leading: arguments.collect(),
            stage,
            directory,
        })
    }

    /// The next stage.
    fn next(&self, stage: &str) -> Command {
        let mut command = Command::new(SELF);
        command.arg0(&self.program).args(&self.leading).arg(stage).arg(&self.directory);
        command.current_dir("/");
        command
    }
}
