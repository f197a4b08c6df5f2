//! Sizes, durations and paths, as Compose reads them.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A size with a binary unit, in bytes: `64m`, `1.5 GiB`, `8gb`, `1024`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let unit = unit.to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let well_formed = unit.len() <= 1 || unit.ends_with('b') && unit.len() <= 3;
    let size = number * f64::from(1u32 << (shift % 30)) * f64::from(1u32 << (shift / 30 * 30));
    (well_formed && size.is_finite() && size < MAX_BYTES).then(|| whole(size))
}

/// Beyond this, a float can no longer name every byte.
const MAX_BYTES: f64 = 9_007_199_254_740_992.0;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers pass a positive number below 2^53; the fraction is to be dropped"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// A duration of numbers with units: `1m30s`, `1.5h`, `500ms`, `2d`, `1w`. Zero needs no unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0u64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos = nanos.checked_add(nanos_in(number, nanos_of(unit)?)?)?;
        rest = after;
    }
    i64::try_from(nanos).is_ok().then(|| Duration::from_nanos(nanos))
}

/// So many units; of a fraction, what is less than a nanosecond is dropped.
fn nanos_in(number: &str, unit: u64) -> Option<u64> {
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    if integer.is_empty() && fraction.is_empty() {
        return None;
    }
    // As many digits as a float tells apart.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(digits(fraction)?) * u128::from(unit) / u128::from(scale);
    digits(integer)?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

fn nanos_of(unit: &str) -> Option<u64> {
    let seconds = match unit {
        "ns" => return Some(1),
        "us" | "µs" | "μs" => return Some(1_000),
        "ms" => return Some(1_000_000),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(seconds * 1_000_000_000)
}

/// A path without `.` and `..`, judged by its text alone.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match out.components().next_back() {
                Some(Component::Normal(_)) => {
                    out.pop();
                }
                Some(Component::RootDir) => {}
                _ => out.push(".."),
            },
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

/// [`clean`] for a path inside a container.
pub(super) fn clean_text(path: &str) -> String {
    clean(Path::new(path)).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("8gb", Some(8 << 30)),
            ("1.5GiB", Some(3 << 29)),
            ("2 k", Some(2048)),
            ("1tb", Some(1 << 40)),
            ("10b", Some(10)),
            ("8gi", None),
            ("-1", None),
            ("big", None),
            ("", None),
            ("1.2.3g", None),
            ("8x", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_sums_of_units() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1d", Some(86_400_000)),
            ("0", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("+", None),
            ("-5s", None),
            ("5 s", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (text, expected) in
            [("/a/./b/../c/", "/a/c"), ("/../a", "/a"), ("a/..", "."), ("../a", "../a"), ("/", "/")]
        {
            assert_eq!(clean_text(text), expected, "{text}");
        }
    }
}
