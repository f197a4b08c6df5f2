//! Requests that people might make of a machine with eight models.

use std::collections::VecDeque;

use crate::random::Random;

/// A model that is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    /// What it takes of the GPU, in MiB.
    pub(crate) mib: u64,
    /// How long it takes to load, in ms.
    pub(crate) load_ms: u64,
    /// Its priority.
    pub(crate) priority: i32,
}

/// Somebody asks a model for something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// When, in ms.
    pub(crate) at: u64,
    /// Which.
    pub(crate) model: usize,
    /// How long it then works on it, in ms.
    pub(crate) work_ms: u64,
}

/// Models, and what is asked of them in order of time.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) models: Vec<Model>,
    pub(crate) requests: Vec<Request>,
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    Sparse,
    Busy,
    /// Busy, and nobody goes on with what was asked lately.
    Erratic,
}

impl Traffic {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sparse => "sparse: a conversation every five minutes",
            Self::Busy => "busy: a conversation every 75 seconds",
            Self::Erratic => "erratic: busy, and no conversation has to do with those before it",
        }
    }

    /// Seconds between the beginnings of two conversations, on average.
    fn gap(self) -> f64 {
        match self {
            Self::Sparse => 300.0,
            Self::Busy | Self::Erratic => 75.0,
        }
    }
}

impl Trace {
    /// Conversations: somebody asks one model several times, and thinks in between. Half of them are
    /// with one of the last three models, the others with any: some much more often than others
    /// (Zipf's law), and it is chance which.
    pub(crate) fn new(traffic: Traffic, seed: u64, requests: usize) -> Self {
        let random = &mut Random::new(seed);
        let models = models();
        let mut order: Vec<_> = (0..models.len()).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, random.index(index + 1));
        }
        let weights: Vec<_> = (1..=models.len()).map(|rank| 1.0 / rank as f64).collect();
        let mut made = Vec::new();
        let mut recent = VecDeque::new();
        let mut begin = 0.0;
        while made.len() < requests * 2 {
            begin += random.waiting(traffic.gap());
            let model = match recent.get(random.index(6)) {
                Some(&again) if traffic != Traffic::Erratic => again,
                _ => order[random.weighted(&weights)],
            };
            recent.retain(|&other| other != model);
            recent.push_front(model);
            recent.truncate(3);
            let mut at = begin;
            // Four in a conversation on average.
            loop {
                let work = 1.0 + random.waiting(4.0).min(24.0);
                made.push(Request { at: ms(at), model, work_ms: ms(work) });
                at += work + random.waiting(20.0);
                if random.unit() < 0.25 {
                    break;
                }
            }
        }
        made.sort_by_key(|request| request.at);
        made.truncate(requests);
        Self { models, requests: made }
    }

    /// The same with two of the models above the others.
    pub(crate) fn with_priorities(&self) -> Self {
        let mut trace = self.clone();
        for model in trace.models.iter_mut().step_by(4) {
            model.priority = 1;
        }
        trace
    }
}

/// From speech recognition to a large language model: what each takes in MiB, and loads in seconds.
fn models() -> Vec<Model> {
    let models = [
        (1229, 4),
        (2560, 6),
        (4096, 9),
        (6144, 14),
        (8192, 20),
        (11264, 28),
        (14336, 40),
        (20480, 60),
    ];
    let model = |(mib, seconds): (u64, u64)| Model { mib, load_ms: seconds * 1000, priority: 0 };
    models.map(model).to_vec()
}

#[expect(clippy::cast_possible_truncation, reason = "a trace lasts days, not ages")]
fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}
