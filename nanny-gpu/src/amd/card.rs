//! The cards, and what each says of itself.

use std::fs;
use std::path::{Path, PathBuf};

use nanny_lib::GpuId;
use nanny_lib::gpu::{GpuReading, GpuVendor, MemoryKind};

use crate::process::read_text;
use crate::size::{ceil_mib, floor_mib};

/// A GPU, and how others call it.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) reading: GpuReading,
    /// Where it sits, as the kernel writes it.
    pub(super) pci: String,
}

/// All AMD GPUs, in the order of the slots they sit in, which is that of AMD's own tools.
pub(super) fn cards(sys: &Path) -> Vec<Card> {
    let Ok(entries) = fs::read_dir(sys.join("class/drm")) else { return Vec::new() };
    let is_card = |name: &str| {
        name.strip_prefix("card").is_some_and(|n| n.parse::<u16>().is_ok()) // and no `card0-DP-1`
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let directories = names.filter(|name| is_card(name));
    let directories =
        directories.map(|name| Device(sys.join("class/drm").join(name).join("device")));
    let mut cards: Vec<Card> = directories.filter_map(|device| device.card()).collect();
    cards.sort_by(|a, b| a.pci.cmp(&b.pci));
    cards.dedup_by(|a, b| a.pci == b.pci);
    for (index, card) in (0..).zip(&mut cards) {
        card.reading.index = Some(index);
    }
    cards
}

/// The directory in which a device shows its attributes.
struct Device(PathBuf);

impl Device {
    /// What the device says, if it is one of AMD's.
    fn card(&self) -> Option<Card> {
        if self.text("vendor")? != AMD {
            return None;
        }
        let pci = self.pci()?;
        let mut reading = GpuReading::new(self.id(&pci), GpuVendor::Amd);
        reading.name = self.name();
        reading.pci = Some(pci.clone());
        let (total, used) = (self.number("mem_info_vram_total"), self.number("mem_info_vram_used"));
        // An APU's own memory is a small piece of the machine's that the firmware set aside; its
        // programs take from the rest as well. Only memory chips of its own have a maker.
        let has_chips = self.0.join("mem_info_vram_vendor").exists();
        if !has_chips && total.is_some_and(|total| total <= LARGEST_CARVE_OUT) {
            reading.memory = MemoryKind::Unified;
        }
        let beside = |file| match reading.memory {
            MemoryKind::Unified => self.number(file).unwrap_or(0),
            _ => 0,
        };
        reading.total_mib =
            total.map(|total| floor_mib(total.saturating_add(beside("mem_info_gtt_total"))));
        reading.used_mib =
            used.map(|used| ceil_mib(used.saturating_add(beside("mem_info_gtt_used"))));
        // To answer these the driver wakes a device that sleeps.
        if self.text("power/runtime_status").as_deref() != Some("suspended") {
            reading.utilization_percent =
                self.number("gpu_busy_percent").and_then(|percent| percent.try_into().ok());
            reading.temperature_celsius = self.temperature();
        }
        Some(Card { reading, pci })
    }

    /// Its identity, as ROCm writes it; not every device has one, but each sits somewhere.
    fn id(&self, pci: &str) -> GpuId {
        let unique = self.text("unique_id").map(|id| id.trim_start_matches("0x").to_lowercase());
        let is_one = |id: &String| {
            id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
        };
        match unique.filter(is_one) {
            Some(id) => GpuId::new(format!("GPU-{id:0>16}")),
            None => GpuId::new(format!("pci:{pci}")),
        }
    }

    fn name(&self) -> String {
        let product = self.text("product_name").filter(|name| !name.is_empty());
        product.unwrap_or_else(|| {
            let device = self.text("device").unwrap_or_default();
            format!("AMD GPU {}", device.trim_start_matches("0x")).trim_end().to_owned()
        })
    }

    /// Where it sits, as `0000:03:00.0`.
    fn pci(&self) -> Option<String> {
        let event = self.text("uevent")?;
        let slot = event.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))?;
        Some(slot.to_lowercase())
    }

    fn temperature(&self) -> Option<u32> {
        let sensors = fs::read_dir(self.0.join("hwmon")).ok()?;
        let mut sensors = sensors.filter_map(|sensor| Some(sensor.ok()?.path()));
        let millidegrees = sensors
            .find_map(|sensor| read_text(&sensor.join("temp1_input"))?.trim().parse::<u32>().ok());
        millidegrees.map(|millidegrees| millidegrees / 1000)
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.parse().ok()
    }

    fn text(&self, file: &str) -> Option<String> {
        read_text(&self.0.join(file)).map(|text| text.trim().to_owned())
    }
}

const AMD: &str = "0x1002";
const LARGEST_CARVE_OUT: u64 = 4 << 30;
