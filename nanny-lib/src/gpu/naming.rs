//! What people call a GPU, and which one they mean.

use super::GpuReading;
use crate::name::GpuId;

/// The GPUs that `devices` names among `readings`: by index, by PCI address, by UUID or by the
/// beginning of one. Each is named once, in the order of the first mention.
///
/// # Errors
///
/// What names no GPU, or several, and which ones there are, in words that read well after "cannot
/// be started: ".
pub fn resolve(devices: &[String], readings: &[GpuReading]) -> Result<Vec<GpuId>, String> {
    let mut found = Vec::new();
    for device in devices {
        let meant: Vec<_> = readings.iter().filter(|reading| is_called(reading, device)).collect();
        // A whole name is not the beginning of another.
        let exact = meant.iter().find(|reading| reading.id.as_str() == device);
        let id = match (exact, meant.as_slice()) {
            (Some(reading), _) | (None, [reading]) => &reading.id,
            (None, []) => return Err(format!("there is no GPU '{device}'; {}", known(readings))),
            (None, _) => return Err(format!("'{device}' names several GPUs; {}", known(readings))),
        };
        if !found.contains(id) {
            found.push(id.clone());
        }
    }
    Ok(found)
}

fn is_called(reading: &GpuReading, name: &str) -> bool {
    let id = reading.id.as_str();
    if id == name {
        return true;
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().is_ok_and(|index: u32| reading.index == Some(index));
    }
    // So much of a UUID tells GPUs apart; CUDA takes abbreviations, too.
    let begins = name.len() > "GPU-".len()
        && (name.starts_with("GPU-") || name.starts_with("MIG-"))
        && id.starts_with(name);
    let is_there = || reading.pci.as_deref().zip(address(name)).is_some_and(|(at, on)| at == on);
    begins || is_there()
}

/// A PCI address as readings have it: `0000:01:00.0`, from that, `01:00.0` or `00000000:01:00.0`,
/// in either case.
fn address(name: &str) -> Option<String> {
    let name = name.strip_prefix("pci:").unwrap_or(name).to_ascii_lowercase();
    let (domain, rest) = match name.matches(':').count() {
        1 => ("0", name.as_str()),
        2 => name.split_once(':')?,
        _ => return None,
    };
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{rest}"))
}

fn known(readings: &[GpuReading]) -> String {
    let one = |reading: &GpuReading| match reading.index {
        Some(index) => format!("{index} ({})", reading.id),
        None => reading.id.to_string(),
    };
    match readings {
        [] => "no GPU is known here".to_owned(),
        _ => format!("there are {}", readings.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::GpuVendor;
    use super::*;

    fn readings() -> Vec<GpuReading> {
        let reading = |id: &str, index, pci: &str| GpuReading {
            index,
            pci: Some(pci.to_owned()),
            ..GpuReading::new(GpuId::new(id), GpuVendor::Nvidia)
        };
        vec![
            reading("GPU-aaaa-1", Some(0), "0000:01:00.0"),
            reading("GPU-aaaa-12", Some(1), "0001:0a:00.0"),
            reading("GPU-bbbb", None, "0000:0a:00.0"),
        ]
    }

    fn resolved(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let found = resolve(&names, &readings())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_gpu_is_meant_by_index_uuid_or_address() {
        assert_eq!(resolved(&["1", "0"]).unwrap(), ["GPU-aaaa-12", "GPU-aaaa-1"]);
        // The whole name of one, which another begins with.
        assert_eq!(resolved(&["GPU-aaaa-1"]).unwrap(), ["GPU-aaaa-1"]);
        assert_eq!(resolved(&["GPU-b"]).unwrap(), ["GPU-bbbb"]);
        for address in ["0001:0a:00.0", "00000001:0A:00.0", "pci:0001:0a:00.0"] {
            assert_eq!(resolved(&[address]).unwrap(), ["GPU-aaaa-12"], "{address}");
        }
        assert_eq!(resolved(&["0a:00.0"]).unwrap(), ["GPU-bbbb"]);
    }

    #[test]
    fn one_gpu_under_two_names_is_one() {
        assert_eq!(resolved(&["0", "01:00.0", "GPU-aaaa-1"]).unwrap(), ["GPU-aaaa-1"]);
        assert_eq!(resolved(&[]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_names_no_gpu_is_said_with_those_there_are() {
        let there = "there are 0 (GPU-aaaa-1), 1 (GPU-aaaa-12), GPU-bbbb";
        for name in ["2", "GPU-c", "GPU-", "all", "02:00.0", "", "99999999999999999999"] {
            let wanted = format!("there is no GPU '{name}'; {there}");
            assert_eq!(resolved(&[name]), Err(wanted));
        }
        assert_eq!(resolved(&["GPU-a"]), Err(format!("'GPU-a' names several GPUs; {there}")));
        let nothing = resolve(&["0".to_owned()], &[]);
        assert_eq!(nothing, Err("there is no GPU '0'; no GPU is known here".to_owned()));
    }
}
