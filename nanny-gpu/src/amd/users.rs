//! Who uses the cards: what the kernel says of the files that processes hold open, and of those
//! that compute.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nanny_lib::gpu::{GpuProblem, MemoryKind};

use super::card::Card;
use crate::process::{Proc, read_text};
use crate::size::ceil_mib;

/// Notes on each card who uses it, and tells what could not be seen.
pub(super) fn find(root: &Path, cards: &mut [Card]) -> Vec<GpuProblem> {
    let mut use_by = Use::default();
    let mut problems = Vec::new();
    if !use_by.add_open_files(&root.join("proc"), cards) {
        let message = "there are too many open files to look at each: some users of AMD GPUs may \
                       be missing";
        problems.push(GpuProblem::new(None, message));
    }
    use_by.add_compute(&root.join("sys/class/kfd/kfd"), cards);
    let proc = Proc::at(root.join("proc"));
    for (index, card) in cards.iter_mut().enumerate() {
        let users = use_by.bytes.iter().filter(|((of, _), _)| *of == index);
        let described = users.map(|((_, pid), bytes)| proc.describe(*pid, Some(ceil_mib(*bytes))));
        card.reading.processes = Some(described.collect());
    }
    problems
}

/// Bytes that are used, by card and process.
#[derive(Debug, Default)]
struct Use {
    bytes: BTreeMap<(usize, u32), u64>,
}

impl Use {
    /// Adds what is held through open device files. A client of the driver counts once, for the
    /// oldest of the processes that share it. False if there were too many files.
    fn add_open_files(&mut self, proc: &Path, cards: &[Card]) -> bool {
        let mut seen = BTreeSet::new();
        let mut files = 0;
        for pid in numbers(proc) {
            let directory = proc.join(pid.to_string());
            for file in numbers(&directory.join("fd")) {
                files += 1;
                if files > MAX_FILES {
                    return false;
                }
                let number = file.to_string();
                let is_device = fs::read_link(directory.join("fd").join(&number))
                    .is_ok_and(|path| path.starts_with("/dev/dri"));
                let client = is_device
                    .then(|| read_text(&directory.join("fdinfo").join(&number)))
                    .flatten()
                    .and_then(|info| Client::parse(&info));
                let Some(client) = client else { continue };
                let Some(index) = cards.iter().position(|card| card.pci == client.pci) else {
                    continue;
                };
                if seen.insert((index, client.id)) {
                    let bytes = self.bytes.entry((index, pid)).or_default();
                    *bytes = bytes.saturating_add(match cards[index].reading.memory {
                        MemoryKind::Unified => client.vram.saturating_add(client.gtt),
                        _ => client.vram,
                    });
                }
            }
        }
        true
    }

    /// Adds what processes compute with. A kernel may count it among the open files as well, so it
    /// is the larger of the two that counts.
    fn add_compute(&mut self, kfd: &Path, cards: &[Card]) {
        let names = compute_names(kfd);
        for pid in numbers(&kfd.join("proc")) {
            for (name, pci) in &names {
                let file = kfd.join("proc").join(pid.to_string()).join(format!("vram_{name}"));
                let bytes = read_text(&file).and_then(|text| text.trim().parse().ok());
                let card = cards.iter().position(|card| card.pci == *pci);
                if let (Some(index), Some(bytes @ 1_u64..)) = (card, bytes) {
                    let known = self.bytes.entry((index, pid)).or_default();
                    *known = bytes.max(*known);
                }
            }
        }
    }
}

/// A client of the driver: one opening of a device's file.
#[derive(Debug, PartialEq, Eq)]
struct Client {
    pci: String,
    id: u64,
    vram: u64,
    gtt: u64,
}

impl Client {
    /// Reads a file of `/proc/PID/fdinfo`. Older kernels write `drm-memory-…`, newer ones
    /// `drm-resident-…`, some with the number of the memory region.
    fn parse(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let memory = |region: &str| {
            let names = [
                format!("drm-memory-{region}"),
                format!("drm-resident-{region}"),
                format!("drm-resident-{region}0"),
            ];
            names.iter().filter_map(|name| bytes(field(name)?)).max().unwrap_or(0)
        };
        Some(Self {
            pci: field("drm-pdev")?.to_lowercase(),
            id: field("drm-client-id")?.parse().ok()?,
            vram: memory("vram"),
            gtt: memory("gtt"),
        })
    }
}

/// Reads `1024 KiB`, `3 MiB`, or bytes without a unit.
fn bytes(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let factor = match words.next() {
        None => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some(_) => return None,
    };
    number.checked_mul(factor)
}

/// What the compute driver calls each device, and where that sits.
fn compute_names(kfd: &Path) -> Vec<(u64, String)> {
    let nodes = kfd.join("topology/nodes");
    let name = |node: u32| {
        let directory: PathBuf = nodes.join(node.to_string());
        let name = read_text(&directory.join("gpu_id"))?.trim().parse().ok()?;
        let properties = read_text(&directory.join("properties"))?;
        let property = |key: &str| {
            let mut words = properties.lines().map(str::split_ascii_whitespace);
            words.find_map(|mut words| {
                (words.next()? == key).then(|| words.next()?.parse::<u32>().ok())?
            })
        };
        let (domain, place) = (property("domain")?, property("location_id")?);
        let (bus, slot, function) = (place >> 8 & 0xff, place >> 3 & 0x1f, place & 0x7);
        Some((name, format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")))
    };
    // Node 0 is a processor, which has the name 0.
    let names = numbers(&nodes).into_iter().filter_map(name);
    names.filter(|(name, _)| *name != 0).collect()
}

/// The numbers among the names in a directory, in order; none if it cannot be read.
fn numbers(directory: &Path) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// So many open files are looked at in one sweep.
const MAX_FILES: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_read_however_its_kernel_writes_it() {
        let head = "pos:\t0\nflags:\t02100002\ndrm-driver:\tamdgpu\ndrm-client-id:\t35\n\
                    drm-pdev:\t0000:03:00.0\n";
        for (lines, vram) in [
            ("drm-memory-vram:\t2048 KiB\n", 2 << 20),
            ("drm-resident-vram0:\t3 MiB\ndrm-total-vram0:\t9 MiB\n", 3 << 20),
            ("drm-memory-vram:\t1 MiB\ndrm-resident-vram:\t2 MiB\n", 2 << 20),
            ("drm-memory-vram:\t512\n", 512),
            ("drm-memory-vram:\t1 parsec\n", 0),
            ("", 0),
        ] {
            let client = Client::parse(&format!("{head}{lines}")).unwrap();
            let expected = Client { pci: "0000:03:00.0".to_owned(), id: 35, vram, gtt: 0 };
            assert_eq!(client, expected, "{lines}");
        }
        assert_eq!(Client::parse("pos:\t0\nflags:\t02\n"), None);
    }
}
