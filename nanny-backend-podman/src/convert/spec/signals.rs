//! Signals: Podman's API takes numbers.

use nanny_lib::backend::{ErrorKind, Result};

use super::Convert;

/// Linux's, from 1 on.
const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first and the last of the signals that have no name of their own.
const REAL_TIME: (i64, i64) = (34, 64);

/// The number of a signal that is called `SIGTERM`, `term`, `15` or `SIGRTMIN+3`.
pub(super) fn number(convert: &Convert<'_>, signal: &str) -> Result<i64> {
    let unknown = || convert.fail(ErrorKind::Invalid, format!("stop_signal: no signal {signal:?}"));
    if let Ok(number) = signal.parse::<i64>() {
        let sound = (1..=REAL_TIME.1).contains(&number);
        return if sound { Ok(number) } else { Err(unknown()) };
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| {
        if text.is_empty() { Some(0) } else { text[1..].parse::<i64>().ok() }
    };
    let (first, last) = REAL_TIME;
    let found = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => {
            offset(rest).map(|n| first + n)
        }
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => {
            offset(rest).map(|n| last - n)
        }
        _ => {
            let at = NAMES.iter().position(|known| *known == name);
            at.and_then(|at| i64::try_from(at).ok()).map(|at| at + 1)
        }
    };
    let sound = |number: &i64| *number < 32 || (first..=last).contains(number);
    found.filter(sound).ok_or_else(unknown)
}
