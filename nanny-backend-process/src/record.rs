//! The record of a container's runs, which its shim writes and everybody reads.
//!
//! It is a file of two slots, written in turn, in place. Each carries a number and a digest, and
//! whoever reads takes the newest one that is whole. So a record is whole at any time, whoever is
//! killed, and needs no room on the disk that it does not have already: on a full one, a state is
//! written all the same. (Not where a file system copies what is written over, as btrfs and ZFS do.)

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::kernel::Identity;

/// What is known of a container's last run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// Counts the records of this container.
    number: u64,
    /// Counts its starts.
    pub(crate) run: u64,
    pub(crate) phase: Phase,
    /// The world in which the numbers of its processes mean something.
    pub(crate) world: String,
    pub(crate) shim: Option<Identity>,
    /// Its first process, the one that was asked for.
    pub(crate) main: Option<Identity>,
    pub(crate) started_at: Option<Timestamp>,
    /// Somebody asked for this run to end.
    pub(crate) is_unwanted: bool,
    /// Lines that its log lacks, and does not say so yet.
    pub(crate) lost_lines: u64,
    /// Processes that were killed and have not ended: the kernel holds on to them.
    pub(crate) left: Vec<i32>,
    pub(crate) ended: Option<Ended>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ended {
    pub(crate) at: Option<Timestamp>,
    pub(crate) code: Option<i64>,
    pub(crate) out_of_memory: bool,
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// It never ran.
    #[default]
    Created,
    /// A shim is about to run its program; the rest tells of the run before.
    Starting,
    Running,
    Stopping,
    Ended,
}

/// The file of the two slots.
#[derive(Debug)]
pub(crate) struct Slots(File);

const SLOT_BYTES: usize = 2048;
/// No error takes up more of a slot.
pub(crate) const ERROR_BYTES: usize = 500;

impl Slots {
    /// Makes the file, with all the room it will ever need.
    pub(crate) fn create(path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all_at(&[b' '; 2 * SLOT_BYTES], 0)?;
        Self(file).write(&mut Record::default())
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).open(path)?))
    }

    /// The newest record; `None` if there is none that is whole.
    pub(crate) fn read(&self) -> io::Result<Option<Record>> {
        let mut bytes = [0; 2 * SLOT_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.0.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        let records = bytes[..filled].chunks(SLOT_BYTES).filter_map(parse);
        Ok(records.max_by_key(|record| record.number))
    }

    /// Writes the next record, over the last but one.
    pub(crate) fn write(&self, record: &mut Record) -> io::Result<()> {
        record.number += 1;
        let json = serde_json::to_string(record)?;
        let mut slot = format!("{} {json}", digest(json.as_bytes())).into_bytes();
        if slot.len() >= SLOT_BYTES {
            return Err(io::Error::other("a record is too long"));
        }
        slot.resize(SLOT_BYTES - 1, b' ');
        slot.push(b'\n');
        self.0.write_all_at(&slot, record.number % 2 * SLOT_BYTES as u64)
    }
}

fn parse(slot: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(slot).ok()?.trim_end();
    let (claimed, json) = text.split_once(' ')?;
    if digest(json.as_bytes()) != claimed {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> (tempfile::TempDir, Slots) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        Slots::create(&path).unwrap();
        (directory, Slots::open(&path).unwrap())
    }

    #[test]
    fn the_newest_record_is_read() {
        let (_directory, slots) = slots();
        let mut record = slots.read().unwrap().unwrap();
        assert_eq!(record.phase, Phase::Created);
        for run in 1..6 {
            record.run = run;
            slots.write(&mut record).unwrap();
            assert_eq!(slots.read().unwrap().as_ref(), Some(&record));
        }
    }

    #[test]
    fn a_record_that_was_half_written_leaves_the_one_before() {
        let (_directory, slots) = slots();
        let mut record = slots.read().unwrap().unwrap();
        record.run = 1;
        slots.write(&mut record).unwrap();
        let before = record.clone();
        record.run = 2;
        slots.write(&mut record).unwrap();
        let newest = record.number % 2 * SLOT_BYTES as u64;
        slots.0.write_all_at(b"torn", newest + 40).unwrap();
        assert_eq!(slots.read().unwrap(), Some(before));
        slots.0.write_all_at(&[0; 2 * SLOT_BYTES], 0).unwrap();
        assert_eq!(slots.read().unwrap(), None);
        slots.0.set_len(3).unwrap();
        assert_eq!(slots.read().unwrap(), None);
    }

    #[test]
    fn the_longest_record_fits() {
        let (_directory, slots) = slots();
        let identity = Some(Identity { pid: i32::MAX, began: u64::MAX });
        let mut record = Record {
            number: u64::MAX / 2,
            run: u64::MAX,
            phase: Phase::Starting,
            world: "x".repeat(80),
            shim: identity,
            main: identity,
            started_at: Some(Timestamp::MAX),
            is_unwanted: true,
            lost_lines: u64::MAX,
            left: vec![i32::MAX; 16],
            ended: Some(Ended {
                at: Some(Timestamp::MAX),
                code: Some(i64::MIN),
                out_of_memory: true,
                error: Some("\"".repeat(ERROR_BYTES)),
            }),
        };
        slots.write(&mut record).unwrap();
        assert_eq!(slots.read().unwrap(), Some(record));
    }
}
