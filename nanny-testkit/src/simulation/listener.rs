//! Listens to what the nanny logs: an error is a broken promise, and a secret another.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, with_default};
use tracing::{Event, Level, Metadata, Subscriber};

use super::play::Stage;

/// Runs `act`, listening meanwhile: to everything, or to errors only.
pub(super) fn listen<R>(stage: &Stage, everything: bool, act: impl FnOnce() -> R) -> R {
    let listener = Listener { stage: stage.clone(), everything, spans: AtomicU64::new(1) };
    with_default(listener, act)
}

struct Listener {
    stage: Stage,
    everything: bool,
    spans: AtomicU64,
}

impl Subscriber for Listener {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Several listeners at once want different things.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.everything || *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        self.stage.with(|play| {
            play.judge_words(&words.0);
            if *event.metadata().level() == Level::ERROR {
                play.broken(format!("S2: an error is logged:{}", words.0));
            }
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        let _ = write!(self.0, " {field}={value:?}");
    }
}
