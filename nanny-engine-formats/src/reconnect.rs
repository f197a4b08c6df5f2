//! The wait before a connection that broke is made again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// How long to wait after so many `failures` in a row: anything up to a limit that doubles, so that
/// not all who lost an engine come back at once.
#[must_use]
pub fn delay(failures: u32) -> Duration {
    let limit = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(MAX_DELAY);
    // Two hashers of one key differ: randomness for those who need no more than that.
    let random = RandomState::new().hash_one(failures) >> 32;
    limit.mul_f64(random as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_limit() {
        for failures in 0..100 {
            assert!(delay(failures) <= MAX_DELAY);
        }
        assert!(delay(1) <= FIRST_DELAY);
    }
}
