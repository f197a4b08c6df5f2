//! The machine at the moment of a call: the script, and the claims of real processes.

use std::ffi::{CStr, OsStr, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::claims::{self, Claim};
use crate::script::{Gpu, Machine, Process};

/// The name of the script, in the directory of the library.
pub(crate) const SCRIPT: &str = "fake-nvml.json";
/// The directory of claims, beside the script.
pub(crate) const CLAIMS: &str = "claims";

/// The machine, as it is now.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) machine: Machine,
    claims: Vec<Claim>,
}

impl View {
    /// The machine of the library that this code is in.
    pub(crate) fn now() -> Result<Self, String> {
        Self::at(&script_path().ok_or("the library does not know where it is")?)
    }

    /// The machine of a script.
    pub(crate) fn at(script: &Path) -> Result<Self, String> {
        let broken = |error: &dyn std::fmt::Display| format!("{}: {error}", script.display());
        let text = fs::read(script).map_err(|error| broken(&error))?;
        let machine: Machine = serde_json::from_slice(&text).map_err(|error| broken(&error))?;
        let delay = Duration::from_millis(machine.release_delay_ms);
        let claims = claims::read(&script.with_file_name(CLAIMS), delay);
        Ok(Self { machine, claims })
    }

    pub(crate) fn gpu(&self, uuid: &str) -> Option<(usize, &Gpu)> {
        self.machine.gpus.iter().enumerate().find(|(_, gpu)| gpu.uuid == uuid)
    }

    /// The processes that are listed for a device.
    pub(crate) fn processes(&self, index: usize) -> Vec<Process> {
        let Some(gpu) = self.machine.gpus.get(index) else { return Vec::new() };
        let claims = self.claims_on(index).filter_map(|claim| Some((claim.pid?, claim.mib)));
        let claimed = claims.map(|(pid, mib)| Process::new(pid, mib));
        gpu.processes.iter().cloned().chain(claimed).collect()
    }

    /// The memory that is taken on a device, in MiB, without what the driver keeps for itself: by
    /// whomever, and be it more than there is.
    pub(crate) fn taken_mib(&self, index: usize) -> u64 {
        let Some(gpu) = self.machine.gpus.get(index) else { return 0 };
        let scripted = gpu.processes.iter().map(|process| process.mib).sum::<u64>();
        let claimed = self.claims_on(index).map(|claim| claim.mib).sum::<u64>();
        gpu.unlisted_mib + scripted + claimed
    }

    fn claims_on(&self, index: usize) -> impl Iterator<Item = &Claim> {
        let uuid = self.machine.gpus.get(index).map(|gpu| gpu.uuid.as_str());
        let number = index.to_string();
        self.claims
            .iter()
            .filter(move |claim| claim.gpu == number || Some(claim.gpu.as_str()) == uuid)
    }
}

fn script_path() -> Option<PathBuf> {
    let named = std::env::var_os("FAKE_NVML_STATE").map(PathBuf::from);
    named.or_else(|| Some(library_path()?.with_file_name(SCRIPT)))
}

/// The file that this code was loaded from.
fn library_path() -> Option<PathBuf> {
    let address = library_path as *const c_void;
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` takes any address, and fills the struct, for which zeros are valid, if it
    // returns something other than 0.
    let name = unsafe {
        if libc::dladdr(address, found.as_mut_ptr()) == 0 {
            return None;
        }
        found.assume_init().dli_fname
    };
    if name.is_null() {
        return None;
    }
    // SAFETY: a name that is there is a string that lives as long as the library is loaded, which
    // it is while its code runs.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
