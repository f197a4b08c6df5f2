//! How long others can be kept from a GPU that somebody keeps busy: at most for as long as the
//! documentation says.

use std::time::Duration;

use nanny_lib::gpu::{Exclusive, Fit, GpuPolicy};
use nanny_lib::lifecycle::GpuSettings;

use crate::house::{Discipline, RELEASE_MS, STOP_MS, play};
use crate::numbers::Series;
use crate::random::Random;
use crate::trace::{Model, Request, Trace};

/// Those who come while the GPU is kept busy, and want all of it.
const LATECOMERS: usize = 3;
const BUSY_FOR_S: u64 = 1800;
/// No request takes longer.
const WORK_MS: u64 = 10_000;

pub(crate) fn report(seeds: u64) {
    println!(
        "### starvation: a model that is never idle for {BUSY_FOR_S} s, and {LATECOMERS} others at once\n"
    );
    println!(
        "| | wait of the first, s | at most | of the second | at most | of the third | at most |"
    );
    println!("|---|---|---|---|---|---|---|");
    let policies: [(&str, &dyn GpuPolicy); 2] =
        [("exclusive", &Exclusive), ("fit lru", &Fit::new())];
    for (name, policy) in policies {
        for max_bypass in [0, 60, 300] {
            let mut settings = GpuSettings::default();
            settings.max_bypass = Some(Duration::from_secs(max_bypass));
            row(&format!("{name}, queue {max_bypass} s"), policy, &settings, seeds);
        }
        forced(&format!("{name}, force"), policy, seeds);
    }
    println!();
}

fn row(name: &str, policy: &dyn GpuPolicy, settings: &GpuSettings, seeds: u64) {
    let discipline = Discipline::Queue(settings.clone());
    let mut waits = vec![Vec::new(); LATECOMERS];
    let mut bounds = vec![Vec::new(); LATECOMERS];
    for seed in 0..seeds {
        let (trace, latecomers) = trace(seed);
        let outcome = play(&trace, policy, &discipline);
        for (position, &request) in latecomers.iter().enumerate() {
            let wait = outcome.waits[request];
            let bound = bound(&trace, &latecomers[..=position], settings);
            assert!(wait <= bound, "seed {seed}: {wait} ms at {position}, and not {bound}");
            waits[position].push(wait as f64 / 1000.0);
            bounds[position].push(bound as f64 / 1000.0);
        }
    }
    print(name, &waits, Some(&bounds));
}

fn forced(name: &str, policy: &dyn GpuPolicy, seeds: u64) {
    let mut waits = vec![Vec::new(); LATECOMERS];
    for seed in 0..seeds {
        let (trace, latecomers) = trace(seed);
        let outcome = play(&trace, policy, &Discipline::Force);
        for (position, &request) in latecomers.iter().enumerate() {
            waits[position].push(outcome.waits[request] as f64 / 1000.0);
        }
    }
    print(name, &waits, None);
}

fn print(name: &str, waits: &[Vec<f64>], bounds: Option<&[Vec<f64>]>) {
    let cells = waits.iter().enumerate().map(|(position, waits)| {
        let most = Series::of(waits.iter().copied()).max();
        let bound = bounds.map_or_else(String::new, |bounds| {
            format!("{:.0}", Series::of(bounds[position].iter().copied()).max())
        });
        format!("{most:.0} | {bound}")
    });
    println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// What the documentation promises to the last of these, in ms: the first waits until others have
/// gone before it for long enough, and at each position one may keep the GPU for `min_hold`, finishes
/// what it does, stops, its memory becomes free, and the next one starts.
fn bound(trace: &Trace, latecomers: &[usize], settings: &GpuSettings) -> u64 {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let drain = WORK_MS.min(ms(settings.drain_limit));
    let swaps = latecomers.iter().map(|&request| {
        let load_ms = trace.models[trace.requests[request].model].load_ms;
        ms(settings.min_hold) + drain + STOP_MS + RELEASE_MS + load_ms
    });
    settings.max_bypass.map_or(u64::MAX, ms) + swaps.sum::<u64>()
}

/// The trace, and which of its requests are those of the latecomers, in order.
fn trace(seed: u64) -> (Trace, Vec<usize>) {
    let random = &mut Random::new(seed);
    let mut models = vec![Model { mib: 8 * 1024, load_ms: 20_000, priority: 0 }];
    for _ in 0..LATECOMERS {
        let load_ms = 20_000 + random.index(25_000) as u64;
        models.push(Model { mib: 20 * 1024, load_ms, priority: 0 });
    }
    let come_at = 100_000 + random.index(500_000) as u64;
    let mut requests = Vec::new();
    let mut at = 0;
    while at < BUSY_FOR_S * 1000 {
        // Each comes before the one before it has ended.
        requests.push(Request { at, model: 0, work_ms: WORK_MS });
        at += 2000 + random.index(6000) as u64;
    }
    for model in 1..=LATECOMERS {
        requests.push(Request { at: come_at + model as u64, model, work_ms: WORK_MS });
    }
    requests.sort_by_key(|request| request.at);
    let latecomers =
        (1..=LATECOMERS).filter_map(|model| requests.iter().position(|r| r.model == model));
    (Trace { models, requests: requests.clone() }, latecomers.collect())
}
