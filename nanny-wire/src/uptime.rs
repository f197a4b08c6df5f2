//! How long a service has been up, written as Python writes a `timedelta`.

use jiff::Timestamp;

/// The time from `started_at` to `now` as Python's `str(timedelta)`: `0:05:23.123456`,
/// `1 day, 0:00:03`. No fraction when the microseconds are zero; zero if the clock went back.
pub(crate) fn uptime(started_at: Timestamp, now: Timestamp) -> String {
    let micros = now.as_microsecond().saturating_sub(started_at.as_microsecond()).max(0);
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        _ => format!("{days} days, "),
    };
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    format!("{days}{hours}:{minutes:02}:{seconds:02}{fraction}")
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn after(micros: i64) -> String {
        let start = Timestamp::UNIX_EPOCH;
        uptime(start, start + SignedDuration::from_micros(micros))
    }

    #[test]
    fn it_is_written_as_python_writes_it() {
        // Each right side is what `str(datetime.timedelta(microseconds=…))` printed.
        for (micros, text) in [
            (0, "0:00:00"),
            (1, "0:00:00.000001"),
            (999_999, "0:00:00.999999"),
            (1_000_000, "0:00:01"),
            (323_123_456, "0:05:23.123456"),
            (3_600_000_000, "1:00:00"),
            (36_000_000_000, "10:00:00"),
            (86_399_999_999, "23:59:59.999999"),
            (86_400_000_000, "1 day, 0:00:00"),
            (86_403_000_000, "1 day, 0:00:03"),
            (172_800_000_000, "2 days, 0:00:00"),
            (8_640_000_000_000, "100 days, 0:00:00"),
            (31_622_400_500_000, "366 days, 0:00:00.500000"),
        ] {
            assert_eq!(after(micros), text);
        }
    }

    #[test]
    fn a_clock_that_went_back_reads_as_zero() {
        assert_eq!(after(-5), "0:00:00");
    }

    #[test]
    fn parts_of_a_microsecond_are_cut_off() {
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(uptime(start, start + SignedDuration::from_nanos(1_999)), "0:00:00.000001");
    }

    proptest! {
        /// Reading the text back, part by part, gives the duration: an oracle that shares nothing
        /// with the writer.
        #[test]
        fn the_text_reads_back_to_the_same_duration(micros in 0_i64..40_000_000_000_000) {
            let text = after(micros);
            let (days, rest) = match text.split_once(", ") {
                Some((days, rest)) => (days.trim_end_matches(" days").trim_end_matches(" day"), rest),
                None => ("0", text.as_str()),
            };
            let (clock, fraction) = rest.split_once('.').unwrap_or((rest, "000000"));
            prop_assert_eq!(fraction.len(), 6);
            let mut total: i64 = days.parse().unwrap();
            for (part, base) in clock.split(':').zip([24, 60, 60]) {
                let value: i64 = part.parse().unwrap();
                prop_assert!(value < base);
                total = total * base + value;
            }
            prop_assert_eq!(total * 1_000_000 + fraction.parse::<i64>().unwrap(), micros);
            prop_assert_eq!(text.contains('.'), micros % 1_000_000 != 0);
            prop_assert_eq!(text.contains(" day, "), (86_400_000_000..172_800_000_000).contains(&micros));
        }
    }
}
