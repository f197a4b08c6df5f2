//! An NVIDIA driver for tests: a `libnvidia-ml.so.1` of our own, scripted by a file.
//!
//! It is for tests alone, is never published, and is the one crate that may be unsafe at will. As a
//! dev-dependency it does two things. Cargo builds the library `libnanny_fake_nvml.so` beside the
//! test's own program, where [`Driver::install`] finds it; and the crate itself has the types with
//! which a test writes the script. Whoever uses NVML loads the library in place of the real one,
//! through the real client code. What it is asked and does not know is a missing symbol, as with a
//! driver that is too old.
//!
//! # The script
//!
//! A JSON document, read again **at each call**: `fake-nvml.json` in the directory of the library,
//! or the file that the environment variable `FAKE_NVML_STATE` names. It is a [`Machine`]; whatever
//! is left out has the default of that type's field.
//!
//! ```json
//! {
//!   "release_delay_ms": 3000,
//!   "gpus": [
//!     { "uuid": "GPU-00000000-0000-0000-0000-000000000000", "total_mib": 24576,
//!       "processes": [{ "pid": 4711, "mib": 20480 }] },
//!     { "uuid": "GPU-00000000-0000-0000-0000-000000000001", "total_mib": 24576, "lost": true }
//!   ]
//! }
//! ```
//!
//! Write it by [`Machine::write_atomic`], or into another file that is then renamed. A script that
//! cannot be read makes every call fail with 999 (`NVML_ERROR_UNKNOWN`), and is complained of on
//! standard error.
//!
//! # Claims
//!
//! A real process takes memory by a file in the directory `claims` beside the script, named after
//! its number. Each line says on which GPU (its index, or its UUID), how many MiB, and, if one
//! likes, when the process was started (field 22 of `/proc/PID/stat`). In a shell:
//!
//! ```sh
//! printf '0 8192\n' >"$CLAIMS/$$"
//! ```
//!
//! [`Driver::claim`] does that for a test. The claim counts while the process lives, and is
//! listed as a compute process of the GPU. A zombie does not live. Once the process is gone its
//! memory stays taken for `release_delay_ms`, by nobody that is listed: what a real driver does
//! for a second or two. The delay begins when a call first finds the process gone, and is the same
//! for all programs that have loaded the driver: a file `PID.gone` in the same directory marks it.
//!
//! A process in a container does not know its number on the host. There the file is called
//! `PID@CONTAINER`: the number in the container, and the beginning of the container's identifier,
//! of at least twelve digits, which is what its `hostname` is by default. The process is looked for
//! by its control group.
//!
//! A line without a start time belongs to whichever process has the number when a call first sees
//! the file. Files with other names, and empty ones, are ignored: a claim may be written under
//! another name and renamed, though it need not.

mod abi;
mod calls;
mod claims;
mod driver;
mod events;
mod machine;
mod script;

pub use driver::Driver;
pub use script::{Gpu, Machine, Process, ProcessKind, code};
