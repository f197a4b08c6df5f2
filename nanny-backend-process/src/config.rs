//! Where the processes are kept, and how they are started.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::shim;

/// How a [`ProcessBackend`](crate::ProcessBackend) is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessConfig {
    /// The directory of all that is known of the processes, for them alone; made when it is needed.
    pub directory: PathBuf,
    /// The program that is the [shim](crate::shim) if it is started with `arguments`: this one, by
    /// default.
    pub program: PathBuf,
    /// Its first arguments: the word [`process-shim`](shim::WORD), by default.
    pub arguments: Vec<OsString>,
    /// How many bytes the log of a process may take up; 20 MiB by default. The older half of it is
    /// thrown away whenever it is full.
    pub log_bytes: u64,
    /// Of these paths, one is there where there are NVIDIA GPUs: nothing that needs one is started
    /// where there are none. If there are no paths, nobody looks.
    pub gpu_signs: Vec<PathBuf>,
}

impl ProcessConfig {
    /// Processes in `directory`, with this program as their shim.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            program: PathBuf::from(shim::SELF),
            arguments: vec![OsString::from(shim::WORD)],
            log_bytes: 20 << 20,
            gpu_signs: ["/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg"]
                .map(PathBuf::from)
                .into(),
        }
    }
}
