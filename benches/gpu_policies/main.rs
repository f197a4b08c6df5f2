//! What the GPU policies cost and save: random traces of requests, played against each of them, and
//! beside the least that anybody could have loaded who knew the future.
//!
//! `cargo bench -p nanny-benches --bench gpu_policies` prints the tables that `docs/gpu-policies.md`
//! quotes; `-- --seeds N` plays as many traces of each kind instead of 20, `--test` two short ones.
//! The policies are the real ones; time, services and the queue are simulated (`house.rs`).

#![expect(clippy::print_stdout, reason = "printing is what it does")]

mod house;
mod numbers;
mod optimum;
mod random;
mod starvation;
mod trace;

use std::env;
use std::time::Duration;

use nanny_lib::gpu::{EvictionOrder, Exclusive, Fit, GpuPolicy};
use nanny_lib::lifecycle::GpuSettings;

use self::house::{Discipline, Outcome, play};
use self::numbers::Series;
use self::trace::{Trace, Traffic};

/// The memory of the one GPU, in MiB.
const CAPACITY_MIB: u64 = 24 * 1024;

fn main() {
    let arguments: Vec<_> = env::args().collect();
    let seeds = arguments.iter().skip_while(|argument| *argument != "--seeds").nth(1);
    let seeds = seeds.map_or(20, |seeds| seeds.parse().expect("--seeds wants a number"));
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let (seeds, requests) = if is_test { (2, 100) } else { (seeds, 1500) };
    println!(
        "8 services of 1.2 to 20 GiB that take 4 to 60 s to load, one GPU of 24 GiB, {requests} \
         requests, {seeds} seeds; mean ± 95 % interval\n"
    );
    for traffic in [Traffic::Sparse, Traffic::Busy, Traffic::Erratic] {
        compare(traffic, seeds, requests);
    }
    starvation::report(seeds);
}

/// A policy and the way in which it is asked.
struct Contestant {
    name: &'static str,
    policy: Box<dyn GpuPolicy>,
    discipline: Discipline,
}

fn contestants() -> Vec<Contestant> {
    let fit = Fit::new();
    let by_priority = fit.evicting(EvictionOrder::Priority);
    let contestant =
        |name, policy: Box<dyn GpuPolicy>, discipline| Contestant { name, policy, discipline };
    vec![
        contestant("exclusive, force", Box::new(Exclusive), Discipline::Force),
        contestant("fit lru, force", Box::new(fit), Discipline::Force),
        contestant("fit priority, force", Box::new(by_priority), Discipline::Force),
        contestant("exclusive, queue 0 s", Box::new(Exclusive), queue(0)),
        contestant("exclusive, queue 60 s", Box::new(Exclusive), queue(60)),
        contestant("exclusive, queue 300 s", Box::new(Exclusive), queue(300)),
        contestant("fit lru, queue 0 s", Box::new(fit), queue(0)),
        contestant("fit lru, queue 60 s", Box::new(fit), queue(60)),
        contestant("fit lru, queue 300 s", Box::new(fit), queue(300)),
    ]
}

/// The queue as it is by default, but for how long others may go first.
fn queue(max_bypass: u64) -> Discipline {
    let mut settings = GpuSettings::default();
    settings.max_bypass = Some(Duration::from_secs(max_bypass));
    Discipline::Queue(settings)
}

fn compare(traffic: Traffic, seeds: u64, requests: usize) {
    let traces: Vec<_> = (0..seeds).map(|seed| Trace::new(traffic, seed, requests)).collect();
    let shared: Vec<_> = traces.iter().map(optimum::shared).collect();
    let single: Vec<_> = traces.iter().map(optimum::one_at_a_time).collect();
    println!("### {}\n", traffic.title());
    println!("| | loads | load s | of the optimum | mean wait s | p99 wait s |");
    println!("|---|---|---|---|---|---|");
    for (name, optima) in [("optimum, sharing", &shared), ("optimum, one at a time", &single)] {
        let loads = Series::of(optima.iter().map(|cost| cost.loads as f64));
        let seconds = Series::of(optima.iter().map(|cost| cost.seconds()));
        let ratios =
            optima.iter().zip(&shared).map(|(cost, least)| cost.seconds() / least.seconds());
        println!("| {name} | {loads:.0} | {seconds:.0} | {:.3} | | |", Series::of(ratios));
    }
    let (mut fifo_exclusive, mut fifo_fit) = (0.0, 0.0);
    for Contestant { name, policy, discipline } in contestants() {
        let ranked = |trace: &Trace| match name {
            "fit priority, force" => trace.with_priorities(),
            _ => trace.clone(),
        };
        let outcomes: Vec<_> =
            traces.iter().map(|trace| play(&ranked(trace), &*policy, &discipline)).collect();
        let column = |what: fn(&Outcome) -> f64| Series::of(outcomes.iter().map(what));
        if name == "exclusive, force" {
            let all = outcomes.iter().zip(&single);
            assert!(
                all.clone().all(|(outcome, least)| outcome.load_ms == least.ms),
                "one at a time and in order there is no choice"
            );
            fifo_exclusive = column(Outcome::load_seconds).mean();
        }
        let ratios =
            outcomes.iter().zip(&shared).map(|(o, least)| o.load_seconds() / least.seconds());
        println!(
            "| {name} | {:.0} | {:.0} | {:.3} | {:.1} | {:.0} |",
            column(|outcome| outcome.loads as f64),
            column(Outcome::load_seconds),
            Series::of(ratios),
            column(Outcome::mean_wait),
            column(Outcome::p99_wait),
        );
        if name == "fit lru, force" {
            fifo_fit = column(Outcome::load_seconds).mean();
        }
    }
    let optimum = Series::of(shared.iter().map(|cost| cost.seconds())).mean();
    println!(
        "\nOver all seeds, in order and by force: fit lru loads for {:.1} % longer than the optimum, \
         and for {:.1} % less than exclusive.\n",
        100.0 * (fifo_fit / optimum - 1.0),
        100.0 * (1.0 - fifo_fit / fifo_exclusive),
    );
}
