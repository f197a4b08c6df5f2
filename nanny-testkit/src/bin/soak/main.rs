//! A long, random life: the shipped binary on a private Docker Engine, both killed, frozen and
//! restarted, while people interfere by hand and clients storm, watched by somebody who asks the
//! engine alone.
//!
//! ```text
//! cargo build --release -p nanny-server
//! cargo run --release -p nanny-testkit --bin soak -- --minutes 60 [--seed S] [--nanny PATH]
//! ```
//!
//! Storms and calms take turns. Always: never two GPU services that the nanny started. After each
//! calm: what the nanny says is what the engine says, no request is without an answer, and the GPU
//! can be had. The last line is `M minutes, V violations`; it exits with 1 if there were any. As
//! real processes are involved, a seed gives the same schedule, not the same run.

#![expect(clippy::disallowed_methods, reason = "other processes are waited for, in real time")]

mod clients;
mod dice;
mod mischief;
mod nanny;
mod stage;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::dice::Dice;
use self::stage::Stage;

struct Wanted {
    time: Duration,
    seed: u64,
    nanny: PathBuf,
}

fn main() -> ExitCode {
    let outcome = wanted().and_then(|wanted| soak(&wanted));
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("soak: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Storms and calms, until the time is over; how many promises were broken.
fn soak(wanted: &Wanted) -> io::Result<usize> {
    say(&format!("seed {}", wanted.seed));
    let began = Instant::now();
    let mut dice = Dice::new(wanted.seed);
    let mut stage = Stage::set(&wanted.nanny, &mut dice)?;
    let (mut rounds, mut violations) = (0, 0);
    while began.elapsed() < wanted.time && violations < MAX_VIOLATIONS {
        rounds += 1;
        let deeds = stage.storm(&mut dice)?;
        let found = stage.calm(&mut dice)?;
        say(&format!("{rounds:>4} {:>5} s  {}", began.elapsed().as_secs(), deeds.join(", ")));
        for violation in &found {
            say(&format!("     VIOLATION in round {rounds} of seed {}: {violation}", wanted.seed));
        }
        if !found.is_empty() {
            say(&stage.trace());
        }
        violations += found.len();
    }
    say(&stage.figures());
    drop(stage);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    say(&format!("{minutes:.1} minutes, {violations} violations"));
    Ok(violations)
}

fn wanted() -> io::Result<Wanted> {
    let of_the_clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let beside_us = std::env::current_exe()?.with_file_name("nanny");
    let mut wanted = Wanted {
        time: Duration::from_secs(60),
        seed: u64::try_from(of_the_clock).unwrap_or_default(),
        nanny: beside_us,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| io::Error::other(USAGE))?;
        let number = |value: &str| value.parse::<f64>().map_err(|_| io::Error::other(USAGE));
        match flag.as_str() {
            "--minutes" => wanted.time = Duration::from_secs_f64(number(&value)?.max(0.0) * 60.0),
            "--seed" => wanted.seed = value.parse().map_err(|_| io::Error::other(USAGE))?,
            "--nanny" => wanted.nanny = value.into(),
            _ => return Err(io::Error::other(USAGE)),
        }
    }
    if !wanted.nanny.is_file() {
        let path = wanted.nanny.display();
        return Err(io::Error::other(format!("{path}: not there; build nanny-server first")));
    }
    Ok(wanted)
}

fn say(text: &str) {
    // Nobody reads it if it cannot be written.
    let _ = writeln!(io::stdout(), "{text}");
}

const USAGE: &str = "usage: soak [--minutes N] [--seed S] [--nanny PATH]";
const MAX_VIOLATIONS: usize = 20;
