//! GPUs that somebody declared, where none can be asked.

use async_trait::async_trait;
use nanny_lib::GpuId;
use nanny_lib::gpu::{GpuInventory, GpuReading, GpuVendor, Sweep};

use crate::size::{InvalidSize, floor_mib, parse_bytes};

/// GPUs with so much memory each: `declared:0`, `declared:1` and so on. Nothing is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedInventory {
    total_mib: Vec<u64>,
}

impl FixedInventory {
    /// Reads a list such as `24GiB,24GiB`: one size for each GPU.
    ///
    /// # Errors
    ///
    /// [`InvalidSizes`] says which size is none, and what one looks like.
    pub fn parse(list: &str) -> Result<Self, InvalidSizes> {
        let sizes: Vec<&str> = list.split(',').collect();
        if sizes.len() > MOST_DEVICES {
            return Err(InvalidSizes::TooMany(sizes.len()));
        }
        let mib = sizes.iter().zip(1..).map(|(size, place)| match parse_bytes(size) {
            Ok(bytes) if floor_mib(bytes) > 0 => Ok(floor_mib(bytes)),
            Ok(_) => Err(InvalidSizes::TooSmall { place, size: size.trim().to_owned() }),
            Err(source) if sizes.len() == 1 => Err(InvalidSizes::Size(source)),
            Err(source) => Err(InvalidSizes::OneOf { place, source }),
        });
        Ok(Self { total_mib: mib.collect::<Result<_, _>>()? })
    }

    /// The memory of the largest, in MiB.
    #[must_use]
    pub fn largest_mib(&self) -> u64 {
        self.total_mib.iter().copied().max().unwrap_or(0)
    }
}

#[async_trait]
impl GpuInventory for FixedInventory {
    async fn sweep(&self) -> Sweep {
        let devices = self.total_mib.iter().zip(0..).map(|(total_mib, index)| {
            let id = GpuId::new(format!("declared:{index}"));
            let mut device = GpuReading::new(id, GpuVendor::Declared);
            device.index = Some(index);
            "Declared GPU".clone_into(&mut device.name);
            device.total_mib = Some(*total_mib);
            device
        });
        Sweep::new(devices.collect(), Vec::new())
    }
}

/// A list of sizes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSizes {
    /// The only one is none.
    #[error(transparent)]
    Size(InvalidSize),
    /// One of several is none.
    #[error("size {place}: {source}")]
    OneOf {
        /// Which, counted from 1.
        place: usize,
        /// Why.
        source: InvalidSize,
    },
    /// One is less than a MiB.
    #[error("size {place}: '{size}' is less than 1MiB: it must be the memory of a GPU")]
    TooSmall {
        /// Which, counted from 1.
        place: usize,
        /// What was given.
        size: String,
    },
    /// No machine has so many.
    #[error("there are {0} sizes: it must be one for each GPU, and at most 64")]
    TooMany(usize),
}

const MOST_DEVICES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_size_is_a_device_of_which_nothing_is_measured() {
        let sweep = FixedInventory::parse("24GiB, 8GB").unwrap().sweep().await;
        let devices: Vec<_> =
            sweep.devices.iter().map(|device| (device.id.as_str(), device.total_mib)).collect();
        assert_eq!(devices, [("declared:0", Some(24_576)), ("declared:1", Some(7629))]);
        for device in &sweep.devices {
            assert_eq!(device.vendor, GpuVendor::Declared);
            assert_eq!((device.used_mib, &device.processes), (None, &None));
        }
        assert_eq!(sweep.problems, []);
    }

    #[test]
    fn a_size_that_is_none_is_named_with_its_place() {
        let said = |list: &str| FixedInventory::parse(list).unwrap_err().to_string();
        assert!(said("24GiB,24").starts_with("size 2: '24' has no unit"), "{}", said("24GiB,24"));
        assert!(said("24GiB,").starts_with("size 2: ''"));
        assert!(said("24").starts_with("'24' has no unit"));
        assert!(said("0.5MB").contains("less than 1MiB"));
        assert!(said(&["1GiB"; 65].join(",")).contains("at most 64"));
    }
}
