//! Inputs per second that the world takes in, by the number of services it knows.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nanny_benches::world::Town;

const SERVICES: [usize; 3] = [10, 1_000, 10_000];

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for services in SERVICES {
        let mut town = Town::new(services);
        let before = town.inputs;
        timed(&mut town, 10, Town::round);
        group.throughput(Throughput::Elements((town.inputs - before) / 10));
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter_custom(|times| timed(&mut town, times, Town::round));
        });
    }
    group.finish();
}

/// A list in which nothing is new; the elements are its containers.
fn lists(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("list");
    for services in SERVICES {
        let mut town = Town::new(services);
        group.throughput(Throughput::Elements(services as u64 / 2));
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter_custom(|times| timed(&mut town, times, Town::list));
        });
    }
    group.finish();
}

fn timed(town: &mut Town, times: u64, work: impl Fn(&mut Town)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..times {
        town.prepare();
        #[expect(clippy::disallowed_methods, reason = "real time is measured")]
        let began = Instant::now();
        work(town);
        total += began.elapsed();
    }
    total
}

criterion_group!(benches, rounds, lists);
criterion_main!(benches);
