//! Inputs per second that the decision takes in.

use std::time::Duration;

use nanny_benches::world::Town;

use crate::Scale;
use crate::numbers::{Samples, now, table, thousands};

pub(crate) fn report(scale: Scale) -> String {
    let sizes: &[usize] = if scale.test { &[10] } else { &[10, 1_000, 10_000] };
    let rows: Vec<_> = sizes.iter().map(|services| row(*services, scale)).collect();
    format!(
        "## Decisions\n\n\
         `World::step` with a mix of commands, outcomes of engine calls, events, probes, ticks and, \
         every 5,000 inputs or so, a list of all containers (half as many as services), all of \
         which is in the first number. The second is a list in which nothing is new. Medians.\n\n{}",
        table(&["services", "inputs/s", "ns for each container of a list"], &rows)
    )
}

fn row(services: usize, scale: Scale) -> Vec<String> {
    let mut town = Town::new(services);
    let times = if scale.test { 1 } else { 50 };
    let (rounds, inputs) = sample(&mut town, times, Town::round);
    let (lists, _) = sample(&mut town, times, Town::list);
    let each = inputs as f64 / times as f64;
    let containers = (services / 2) as f64;
    let per_second = each / rounds.median().as_secs_f64();
    vec![
        thousands(services as f64),
        thousands(per_second),
        format!("{:.0}", lists.median().as_secs_f64() * 1e9 / containers),
    ]
}

fn sample(town: &mut Town, times: usize, work: impl Fn(&mut Town)) -> (Samples, u64) {
    let mut samples = Samples::default();
    let mut warm = Duration::ZERO;
    while warm < Duration::from_millis(200) && times > 1 {
        town.prepare();
        let began = now();
        work(town);
        warm += began.elapsed();
    }
    let before = town.inputs;
    for _ in 0..times {
        town.prepare();
        let began = now();
        work(town);
        samples.push(began.elapsed());
    }
    (samples, town.inputs - before)
}
