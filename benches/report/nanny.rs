//! The nanny's process with many services: at rest, asked by many at once, and as events come.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::Scale;
use crate::house::{House, pause, until};
use crate::http;
use crate::load::{self, CONNECTIONS, Pace};
use crate::numbers::{Samples, ms, now, table, thousands};

pub(crate) fn report(scale: Scale) -> String {
    let mut house = House::new();
    house.fill(scale.services);
    house.add("alive", "");
    house.open();
    // Not the list of them, which would be felt in what is measured next.
    until("all services are found", || {
        let home = http::server(house.address(), "GET", "/", "").ok()?.json();
        (home["services_discovered"] == scale.services as u64 + 1).then_some(())
    });
    let services = thousands(scale.services as f64);
    let mut text = format!("## The process, with {services} services\n\n");
    text += &at_rest(&house, scale);
    text += &views(&house, scale);
    text += &under_load(&house, scale);
    text
}

fn at_rest(house: &House, scale: Scale) -> String {
    pause(Duration::from_secs(2).min(Duration::from_secs(scale.seconds)));
    let (began, before) = (now(), Usage::of(house.process()));
    pause(Duration::from_secs(scale.seconds));
    let after = Usage::of(house.process());
    let share = (after.cpu - before.cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    format!(
        "At rest, over {} s: {:.2} % of one CPU, {:.1} MiB resident.\n\n",
        scale.seconds,
        share * 100.0,
        after.resident_kib as f64 / 1024.0
    )
}

/// From what the engine has done to what the nanny shows.
fn views(house: &House, scale: Scale) -> String {
    let container = format!("{}-main-1", house.name("alive"));
    let mut samples = Samples::default();
    for _ in 0..scale.samples {
        house.ask("POST", "alive", "/start", "").ok();
        let kill = format!("/containers/{container}/kill");
        http::engine("POST", &kill, "").expect("the engine answers").ok();
        let killed = now();
        let runs =
            || house.ask("GET", "alive", "/status", "").json()["is_running"] == Value::Bool(true);
        while runs() {
            assert!(killed.elapsed() < Duration::from_secs(60), "it is never seen");
        }
        samples.push(killed.elapsed());
    }
    house.ask("POST", "alive", "/stop", r#"{"remove": true}"#).ok();
    format!(
        "From the engine's answer to a `kill` until `/status` says that it does not run: {} ms \
         (90th percentile {} ms; {} tries).\n\n",
        ms(samples.median()),
        ms(samples.percentile(90)),
        samples.len()
    )
}

fn under_load(house: &House, scale: Scale) -> String {
    let time = Duration::from_secs(scale.seconds.min(5));
    let status = format!("/services/{}/status", house.name("0"));
    let asked = [
        (status.as_str(), "/services/{name}/status", Pace::Steady(2_000)),
        (status.as_str(), "/services/{name}/status", Pace::Flood),
        ("/services", "/services", Pace::Steady(64)),
        ("/services", "/services", Pace::Flood),
    ];
    let rows: Vec<_> = asked
        .into_iter()
        .map(|(path, shown, pace)| {
            let samples = load::ask(house.address(), path, pace, time);
            let rate = samples.len() as f64 / time.as_secs_f64();
            vec![
                format!("GET {shown}"),
                match pace {
                    Pace::Flood => "as fast as they can".to_owned(),
                    Pace::Steady(rate) => format!("{}/s", thousands(rate.into())),
                },
                thousands(rate),
                ms(samples.median()),
                ms(samples.percentile(99)),
            ]
        })
        .collect();
    format!(
        "Asked by {CONNECTIONS} kept connections at once, whose client runs on the same CPUs:\n\n{}\
         Resident after that: {:.1} MiB.\n\n",
        table(&["", "asked", "answers/s", "p50, ms", "p99, ms"], &rows),
        Usage::of(house.process()).resident_kib as f64 / 1024.0
    )
}

/// What a process has used.
#[derive(Debug)]
struct Usage {
    cpu: Duration,
    resident_kib: u64,
}

impl Usage {
    fn of(process: u32) -> Self {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
        // The name before them, in parentheses, may hold anything; of the rest, these two count in
        // hundredths of a second.
        let stat = read("stat");
        let numbers = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        let ticks: u64 = numbers.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.trim().strip_suffix(" kB")).expect("a size");
        Self {
            cpu: Duration::from_millis(ticks * 10),
            resident_kib: resident.parse().expect("a number"),
        }
    }
}
