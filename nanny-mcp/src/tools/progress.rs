//! How far a start is, told while somebody waits for it.

use std::time::Duration;

use nanny_lib::backend::ContainerState;
use nanny_lib::{ServiceName, ServiceView, Snapshot, Status};
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

/// Tells a client how far a start is, if it wants to know. One for each call: what it tells must grow.
#[derive(Debug)]
pub(super) struct Reporter<'a> {
    token: Option<ProgressToken>,
    peer: &'a Peer<RoleServer>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    percent: f64,
    phase: String,
    at: Instant,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(context: &'a RequestContext<RoleServer>) -> Self {
        Self { token: context.meta.get_progress_token(), peer: &context.peer, told: None }
    }

    /// Tells how far `service` is.
    pub(super) async fn tell(&mut self, service: &str, victims: &[ServiceName], now: &Snapshot) {
        let Some(view) = now.services.get(service) else { return };
        let (percent, phase) = phase(view, victims, now);
        self.say(percent, phase).await;
    }

    /// Tells how far it is, unless that is known and not long ago. To be called at [`ticks`].
    pub(super) async fn say(&mut self, percent: f64, phase: String) {
        let Some(token) = &self.token else { return };
        let mut next = Told { percent, phase, at: Instant::now() };
        if let Some(told) = &self.told {
            if told.phase == next.phase && next.at - told.at < AT_LEAST_EVERY {
                return;
            }
            // It must grow each time, and is never done while it is waited for.
            next.percent = next.percent.max(told.percent + (END - told.percent) / 50.0);
        }
        let mut progress = ProgressNotificationParam::new(token.clone(), next.percent);
        progress.total = Some(100.0);
        progress.message = Some(next.phase.clone());
        // A client that takes nothing more in only misses it.
        let _ = timeout(PAUSE, self.peer.notify_progress(progress)).await;
        self.told = Some(next);
    }
}

/// How far a start is, in percent and in words.
pub(super) fn phase(view: &ServiceView, victims: &[ServiceName], now: &Snapshot) -> (f64, String) {
    let leaving = victims
        .iter()
        .find(|victim| now.services.get(victim.as_str()).is_some_and(|view| view.is_running));
    match (view.status, leaving) {
        (Status::Queued, _) => {
            let place = view.queue.as_ref().map_or(1, |queue| queue.position + 1);
            (2.0, format!("queued for a GPU, at place {place}"))
        }
        (Status::Running | Status::Unhealthy, _) => {
            (80.0, "waiting until it is healthy".to_owned())
        }
        (_, Some(victim)) => (5.0, format!("stopping '{victim}'")),
        _ => preparing(view),
    }
}

fn preparing(view: &ServiceView) -> (f64, String) {
    if let Some(pull) = view.pulling {
        let (done, all) = (pull.current_bytes, pull.total_bytes);
        let percent = done.min(all).saturating_mul(100).checked_div(all).unwrap_or(0);
        let percent = u8::try_from(percent).unwrap_or(100);
        (20.0 + f64::from(percent) * 0.4, format!("pulling its image, {percent} %"))
    } else if view.building.is_some() {
        (20.0, "building its image".to_owned())
    } else if view.containers.is_empty() {
        (15.0, "creating".to_owned())
    } else if view.containers.iter().any(|container| container.state == ContainerState::Running) {
        (75.0, "starting the rest of it".to_owned())
    } else {
        (70.0, "starting".to_owned())
    }
}

/// When something may be told: not at once, for what is done by then needs no words.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + PAUSE, PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// At most so often something is told.
const PAUSE: Duration = Duration::from_millis(500);
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);
const END: f64 = 99.0;
