//! How the loader reaches files, so that it can be tried without any.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Where the loader reads from.
pub trait Files {
    /// The whole file, or an error if it is longer than `limit` bytes.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file; `IsADirectory` if it is a directory; `FileTooLarge` if it is too long; else whatever
    /// keeps it from being read. A directory, pipe or device is not a file.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        // Asked before opening, too: opening a device may have an effect.
        if !path.metadata()?.is_file() {
            return Err(no_file());
        }
        let file = open_without_waiting(path)?;
        if !file.metadata()?.is_file() {
            return Err(no_file());
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let message = format!("longer than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(bytes)
    }

    fn exists(&self, path: &Path) -> bool {
        path.is_file()
    }
}

/// What was a file a moment ago may be a pipe by now, and opening that would wait for a writer.
#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_the_limit() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(DiskFiles.read(&here, 1 << 20).is_ok_and(|bytes| bytes.starts_with(b"[package]")));
        let error = DiskFiles.read(&here, 10).expect_err("it is longer");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(DiskFiles.read(here, 10).is_err());
        assert!(!DiskFiles.exists(here));
        let error = DiskFiles.read(&here.join("nothing"), 10).expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
