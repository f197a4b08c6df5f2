//! How long the look through service directories takes.

use nanny_lib::manifest::{DirectorySource, ManifestSource as _};

use crate::Scale;
use crate::house::House;
use crate::numbers::{Samples, ms, now, table, thousands};

pub(crate) fn report(scale: Scale) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    let sizes: &[usize] = if scale.test { &[50] } else { &[1_000, 10_000] };
    let mut rows = Vec::new();
    for services in sizes {
        let mut house = House::new();
        house.fill(*services);
        let mut samples = Samples::default();
        for _ in 0..scale.samples.min(7) {
            // A new source each time: nothing is remembered.
            let source = DirectorySource::new(house.services());
            let began = now();
            let found = runtime.block_on(source.discover());
            samples.push(began.elapsed());
            assert_eq!(found.services.len(), *services, "{:?}", found.problems);
        }
        let each = samples.median() / u32::try_from(*services).expect("not so many");
        rows.push(vec![
            thousands(*services as f64),
            ms(samples.median()),
            format!("{:.0}", each.as_secs_f64() * 1e6),
        ]);
    }
    format!(
        "## Discovery\n\n\
         Directories with a `service.yaml` and a `docker-compose.yml` each, read from the page cache \
         and parsed whole. Medians.\n\n{}",
        table(&["services", "ms", "µs a service"], &rows)
    )
}
