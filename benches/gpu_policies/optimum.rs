//! The least that must be loaded if all requests are served in order and the future is known: a
//! dynamic programme over the sets of models that can be loaded at the same time.

use crate::CAPACITY_MIB;
use crate::trace::Trace;

/// What was loaded: less is better, first by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    pub(crate) ms: u64,
    pub(crate) loads: u64,
}

impl Cost {
    const NONE: Self = Self { ms: 0, loads: 0 };
    const NEVER: Self = Self { ms: u64::MAX, loads: u64::MAX };

    pub(crate) fn seconds(self) -> f64 {
        self.ms as f64 / 1000.0
    }

    fn and(self, ms: u64) -> Self {
        if self == Self::NEVER {
            return self;
        }
        Self { ms: self.ms + ms, loads: self.loads + 1 }
    }
}

/// The optimum for models that share the GPU as long as they fit.
pub(crate) fn shared(trace: &Trace) -> Cost {
    least(trace, |set| {
        let loaded = trace.models.iter().enumerate().filter(|(model, _)| set >> model & 1 == 1);
        loaded.map(|(_, model)| model.mib).sum::<u64>() <= CAPACITY_MIB
    })
}

/// The optimum for models that must be alone.
pub(crate) fn one_at_a_time(trace: &Trace) -> Cost {
    least(trace, |set| set.count_ones() <= 1)
}

fn least(trace: &Trace, is_possible: impl Fn(usize) -> bool) -> Cost {
    let sets = 1_usize << trace.models.len();
    let possible: Vec<_> = (0..sets).map(is_possible).collect();
    // The least cost of having served all so far and having this set loaded now.
    let mut costs = vec![Cost::NEVER; sets];
    costs[0] = Cost::NONE;
    for request in &trace.requests {
        let model = 1 << request.model;
        // What is loaded may be dropped at any time for nothing: the least over all supersets.
        let mut dropped = costs.clone();
        for bit in 0..trace.models.len() {
            for set in (0..sets).filter(|set| set >> bit & 1 == 0) {
                dropped[set] = dropped[set].min(dropped[set | 1 << bit]);
            }
        }
        let load_ms = trace.models[request.model].load_ms;
        for set in 0..sets {
            costs[set] = if set & model == 0 || !possible[set] {
                Cost::NEVER
            } else {
                costs[set].min(dropped[set & !model].and(load_ms))
            };
        }
    }
    costs.into_iter().min().unwrap_or(Cost::NEVER)
}
