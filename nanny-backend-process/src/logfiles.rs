//! The files of a log: the shim writes them, one after the other, and keeps the last two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nanny_lib::backend::LogStream;

use crate::lines;

/// Writes a log. What cannot be written is dropped, counted, and told of once there is room.
#[derive(Debug)]
pub(crate) struct LogFiles {
    directory: PathBuf,
    /// A file is full at this size.
    file_bytes: u64,
    current: Option<Current>,
    /// Lines that were dropped, of which the log does not tell yet.
    lost_lines: u64,
    last_at: Timestamp,
}

#[derive(Debug)]
struct Current {
    file: File,
    number: u64,
    length: u64,
}

const PREFIX: &str = "log-";
/// How many files make up a log.
const FILES: u64 = 2;

impl LogFiles {
    /// The log in `directory`, which goes on where it ended, and lacks `lost_lines` there.
    pub(crate) fn open(directory: &Path, log_bytes: u64, lost_lines: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            file_bytes: log_bytes / FILES,
            current: None,
            lost_lines,
            last_at: Timestamp::MIN,
        }
    }

    /// The time for lines that come now: it never goes back.
    pub(crate) fn now(&mut self) -> Timestamp {
        self.last_at = self.last_at.max(Timestamp::now());
        self.last_at
    }

    /// Appends `records`, which are `lines` whole lines, or drops all of them.
    pub(crate) fn append(&mut self, records: &[u8], lines: u64) {
        if records.is_empty() {
            return;
        }
        self.confess();
        if self.lost_lines > 0 || self.write(records).is_err() {
            self.lost_lines += lines;
        }
    }

    /// Lines that were dropped, of which the log does not tell yet.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost_lines
    }

    /// Tells of lines that were dropped, if there are any and there is room again.
    pub(crate) fn confess(&mut self) {
        if self.lost_lines == 0 {
            return;
        }
        let text = format!("[nanny: {} lines are lost here: no room for them]", self.lost_lines);
        let mut note = Vec::new();
        lines::write(&mut note, self.now(), LogStream::Stderr, true, text.as_bytes());
        if self.write(&note).is_ok() {
            self.lost_lines = 0;
        }
    }

    /// All of `records`, or nothing.
    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let size = records.len() as u64;
        let is_full = |it: &Current| it.length > 0 && it.length + size > self.file_bytes;
        if self.current.as_ref().is_none_or(is_full) {
            self.next()?;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let written = current.file.write_all(records);
        if written.is_ok() {
            current.length += size;
        } else if current.file.set_len(current.length).is_err() {
            // Half a line is in the file, and cannot be taken back.
            self.current = None;
        }
        written
    }

    /// Begins the next file, or goes on with the last one of an earlier run.
    fn next(&mut self) -> io::Result<()> {
        let number = match &self.current {
            Some(current) => current.number + 1,
            None => files(&self.directory).last().map_or(1, |(number, _)| *number),
        };
        // First, so that there is room.
        for (old, path) in files(&self.directory) {
            if old + FILES <= number {
                fs::remove_file(path)?;
            }
        }
        let path = self.directory.join(format!("{PREFIX}{number}"));
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last != *b"\n" {
            // Whoever wrote it was killed half-way.
            file.write_all(b"\n")?;
            length += 1;
        }
        self.current = Some(Current { file, number, length });
        Ok(())
    }
}

/// The files of the log in `directory`, oldest first.
pub(crate) fn files(directory: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let numbered = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
        Some((number, entry.path()))
    };
    let mut files: Vec<_> = entries.filter_map(|entry| numbered(entry.ok()?)).collect();
    files.sort();
    files
}
