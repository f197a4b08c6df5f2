//! What a plain scalar means, after yaml.v3's rules.

use super::Value;

/// Resolves an unquoted, untagged scalar.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'0'..=b'9' | b'+' | b'-' if is_date(text) => return Value::Date(text.to_owned()),
        b'0'..=b'9' | b'+' | b'-' => number(&text.replace('_', "")),
        b'.' => float(text).map(Value::Float),
        _ => None,
    };
    number.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(plain: &str) -> Option<Value> {
    integer(plain).map(Value::Int).or_else(|| float(plain).map(Value::Float))
}

/// A whole number with Go's prefixes: `0x`, `0o`, `0b`, and a bare leading zero for octal.
pub(crate) fn integer(plain: &str) -> Option<i128> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// A decimal number: `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn float(plain: &str) -> Option<f64> {
    let unsigned = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    let some_digit = !whole.is_empty() || !fraction.is_empty();
    if !(some_digit && digits(whole) && digits(fraction) && exponent_fits) {
        return None;
    }
    plain.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A date, with or without a time after it.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let day_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (day, time) = rest.split_at(day_end);
    let number = |text: &str, range: std::ops::RangeInclusive<u32>| {
        text.len() <= 2 && text.parse().is_ok_and(|number| range.contains(&number))
    };
    let year_fits = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
    year_fits && number(month, 1..=12) && number(day, 1..=31) && (time.is_empty() || is_time(time))
}

/// A time with its zone after a `T`, or without one after a space.
fn is_time(text: &str) -> bool {
    let clock = match text.strip_prefix(['T', 't']) {
        Some(zoned) => zoned.strip_suffix('Z').or_else(|| without_offset(zoned)),
        None => text.strip_prefix(' '),
    };
    let Some((clock, fraction)) = clock.map(|it| it.split_once('.').unwrap_or((it, "0"))) else {
        return false;
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let fits = |(part, end): (&str, u32)| {
        part.len() <= 2 && digits(part) && part.parse().is_ok_and(|number: u32| number < end)
    };
    clock.split(':').count() == 3
        && clock.split(':').zip([24, 60, 60]).all(fits)
        && digits(fraction)
}

/// What stands before an offset such as `+02:00`.
fn without_offset(text: &str) -> Option<&str> {
    let (clock, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    (two_digits(hours) && two_digits(minutes)).then_some(clock)
}

/// A float as Go's `%v` prints it: the shortest digits that read back the same, with an exponent
/// below 1e-4 and from 1e6 on.
pub(crate) fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_go() {
        for (text, expected) in [
            ("0755", Value::Int(493)),
            ("0o17", Value::Int(15)),
            ("0b11", Value::Int(3)),
            ("0xFF", Value::Int(255)),
            ("1_000", Value::Int(1000)),
            ("-5", Value::Int(-5)),
            ("1.10", Value::Float(1.1)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1000.0)),
            ("18446744073709551615", Value::Int(i128::from(u64::MAX))),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn words_that_yaml_1_1_took_for_booleans_stay_strings() {
        for text in ["yes", "no", "on", "off", "y", "n", "22:22", "1.2.3", "-", "+", "0x", "08:00"]
        {
            assert_eq!(resolve(text), Value::String(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn dates_are_told_apart() {
        assert!(matches!(resolve("2024-01-31"), Value::Date(_)));
        assert!(matches!(resolve("2024-1-3T10:20:30Z"), Value::Date(_)));
        assert!(matches!(resolve("2024-1-3t1:2:3.5-05:30"), Value::Date(_)));
        assert!(matches!(resolve("2024-1-3 10:20:30.25"), Value::Date(_)));
        assert!(matches!(resolve("2024-1-3 10:20:30 +02:00"), Value::String(_)));
        assert!(matches!(resolve("2024-1-3T10:20:30"), Value::String(_)));
        assert!(matches!(resolve("2024-1-3 25:20:30"), Value::String(_)));
        assert!(matches!(resolve("2024-13-01"), Value::String(_)));
        assert!(matches!(resolve("2024-01-31-x"), Value::String(_)));
    }

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, expected) in
            [(1.1, "1.1"), (1000.0, "1000"), (1e-7, "1e-07"), (0.0, "0"), (1e6, "1e+06")]
        {
            assert_eq!(format_float(value), expected);
        }
    }
}
