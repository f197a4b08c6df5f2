//! Sizes of memory, as people write them.

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' {what}, such as 24GiB or 512MiB")]
pub struct InvalidSize {
    text: String,
    what: &'static str,
}

/// Reads a size such as `24GiB`, `1.5 GiB`, `24GB`, `512MiB` or `512MB`, in bytes.
///
/// # Errors
///
/// If it has no unit that is known, or is no number above zero.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidSize> {
    let text = text.trim();
    let invalid = |what| InvalidSize { text: text.to_owned(), what };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let Some((_, factor)) = known else {
        return Err(invalid(if unit.is_empty() {
            "has no unit: it must be a size with GiB, GB, MiB or MB"
        } else {
            "is no size: it must be a number with GiB, GB, MiB or MB"
        }));
    };
    let no_number = "is no size: it must begin with a number above 0";
    let bytes = scaled(number, *factor).ok_or_else(|| invalid(no_number))?;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(|| invalid(no_number))
}

/// A decimal number times `factor`, rounded down; none if it is no number or too large for any
/// memory.
fn scaled(number: &str, factor: u64) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.len() > MOST_DIGITS || part.len() > MOST_DIGITS {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let numerator: u128 = part.parse().ok()?;
    let denominator = 10_u128.pow(u32::try_from(part.len()).ok()?);
    Some(whole * u128::from(factor) + numerator * u128::from(factor) / denominator)
}

/// Memory that is there: what is not a whole MiB is left out.
pub(crate) fn floor_mib(bytes: u64) -> u64 {
    bytes / MIB
}

/// Memory that is used, or kept: what is not a whole MiB counts as one.
pub(crate) fn ceil_mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

const MIB: u64 = 1 << 20;
const MOST_DIGITS: usize = 9;
const UNITS: [(&str, u64); 4] =
    [("gib", 1 << 30), ("gb", 1_000_000_000), ("mib", 1 << 20), ("mb", 1_000_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("24GiB", 24 << 30),
            (" 24 gib ", 24 << 30),
            ("1.5GiB", 3 << 29),
            ("24GB", 24_000_000_000),
            ("0.5MB", 500_000),
            ("512MiB", 512 << 20),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_what_one_looks_like() {
        for text in
            ["", "24", "GiB", "0GiB", "-1GiB", "1e3GiB", "24TiB", "24 GiB x", "1.2.3GiB", ".GiB"]
        {
            let said = parse_bytes(text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("'{text}' ")) && said.contains("24GiB"), "{said}");
        }
        assert!(parse_bytes("24").unwrap_err().to_string().contains("has no unit"));
        assert!(parse_bytes("99999999999999999999999GiB").is_err());
        assert!(parse_bytes("999999999999GiB").is_err());
    }
}
