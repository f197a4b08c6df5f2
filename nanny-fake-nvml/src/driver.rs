//! A driver of one test's own, in a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::claims;
use crate::machine::{CLAIMS, SCRIPT, View};
use crate::script::Machine;

/// A driver in a directory: the library, its script, and the claims of processes.
///
/// Two of them know nothing of each other, in one process, too.
#[derive(Debug, Clone)]
pub struct Driver {
    folder: PathBuf,
}

impl Driver {
    /// Puts a driver for this machine into a directory, which must be there: a program finds it if
    /// it is told of [`library`](Self::library), or has the directory in `LD_LIBRARY_PATH`.
    ///
    /// # Errors
    ///
    /// The library is not beside the program, that is a test that has this crate as a
    /// dev-dependency; or it cannot be copied.
    pub fn install(folder: &Path, machine: &Machine) -> io::Result<Self> {
        Self::install_without(&[], folder, machine)
    }

    /// The same, with an old driver, which does not have these symbols.
    ///
    /// # Errors
    ///
    /// As [`install`](Self::install); or the library never had such a symbol.
    pub fn install_without(symbols: &[&str], folder: &Path, machine: &Machine) -> io::Result<Self> {
        let mut library = fs::read(built()?)?;
        for symbol in symbols {
            remove_symbol(&mut library, symbol)?;
        }
        let driver = Self { folder: folder.to_owned() };
        driver.set(machine)?;
        fs::create_dir_all(driver.claims())?;
        // Whoever waits for it finds it whole, and with its script.
        let draft = folder.join("library.new");
        fs::write(&draft, library)?;
        fs::rename(draft, driver.library())?;
        Ok(driver)
    }

    /// Where the library is.
    #[must_use]
    pub fn library(&self) -> PathBuf {
        self.folder.join("libnvidia-ml.so.1")
    }

    /// The directory in which processes claim memory.
    #[must_use]
    pub fn claims(&self) -> PathBuf {
        self.folder.join(CLAIMS)
    }

    /// The script.
    #[must_use]
    pub fn script(&self) -> PathBuf {
        self.folder.join(SCRIPT)
    }

    /// Changes the machine, from the next call on.
    ///
    /// # Errors
    ///
    /// The script cannot be written.
    pub fn set(&self, machine: &Machine) -> io::Result<()> {
        machine.write_atomic(&self.script())
    }

    /// Claims memory for a process that lives, in place of what it had.
    ///
    /// # Errors
    ///
    /// There is no such process, or the claim cannot be written.
    pub fn claim(&self, pid: u32, gpu: u32, mib: u64) -> io::Result<()> {
        let started = claims::start_time(pid).ok_or(io::ErrorKind::NotFound)?;
        fs::write(self.claims().join(pid.to_string()), format!("{gpu} {mib} {started}\n"))
    }

    /// The memory that is taken on the device of that index, in MiB, by whomever: more than it has
    /// if its users have overrun it.
    ///
    /// # Errors
    ///
    /// The script cannot be read.
    pub fn taken_mib(&self, index: usize) -> io::Result<u64> {
        let view = View::at(&self.script()).map_err(io::Error::other)?;
        Ok(view.taken_mib(index))
    }
}

/// The library as Cargo built it.
fn built() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("libnanny_fake_nvml.so");
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display())))
}

/// Renames a symbol, so that nobody finds it. The table of hashes still leads there; the name that
/// it leads to is another.
fn remove_symbol(library: &mut [u8], symbol: &str) -> io::Result<()> {
    let wanted = [b"\0", symbol.as_bytes(), b"\0"].concat();
    let mut found = false;
    let mut from = 0;
    while let Some(at) = find(&library[from..], &wanted) {
        library[from + at + 1] = b'x';
        from += at + 1;
        found = true;
    }
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no symbol {symbol}"));
    found.then_some(()).ok_or_else(missing)
}

fn find(within: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(zero) = within[from..].iter().position(|byte| *byte == 0) {
        if within[from + zero..].starts_with(wanted) {
            return Some(from + zero);
        }
        from += zero + 1;
    }
    None
}
