//! Signals by name and by number.

use rustix::process::Signal;

pub(crate) const TERM: i32 = Signal::TERM.as_raw();

const NAMES: &[(&str, Signal)] = &[
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ABRT", Signal::ABORT),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CONT", Signal::CONT),
    ("WINCH", Signal::WINCH),
    ("POLL", Signal::IO),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
];

/// The number of `TERM`, `SIGTERM` or `15`.
pub(crate) fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Signal::from_named_raw(number).map(Signal::as_raw);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| signal.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(["TERM", "SIGTERM", "term", "15"].map(number), [Some(15); 4]);
        assert_eq!(
            ["SIGINT", "9", "SIGNONE", "0", "-1"].map(number),
            [Some(2), Some(9), None, None, None]
        );
    }
}
