//! The other plug-ins of a simulated nanny: its files, its journal, its probe.

use std::fmt;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::backend::EngineHealth;
use nanny_lib::gpu::{GpuInventory, GpuProblem, Sweep};
use nanny_lib::journal::{Journal, JournalStore};
use nanny_lib::manifest::{Changed, Discovery, ManifestSource, Problem, Service};
use nanny_lib::probe::{Health, HealthProbe, ProbeTarget};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::play::Stage;
use super::services;

/// What one nanny is given beside its engines.
#[derive(Clone)]
pub(super) struct Plugs {
    pub(super) stage: Stage,
    pub(super) epoch: u32,
}

impl Plugs {
    /// Something takes a while.
    async fn pause(&self, most: u64) {
        let millis = self.stage.with(|play| play.random.below(most));
        sleep(Duration::from_millis(millis)).await;
    }

    fn is_dead(&self) -> bool {
        self.stage.with(|play| play.epoch != self.epoch)
    }
}

#[async_trait]
impl ManifestSource for Plugs {
    async fn discover(&self) -> Discovery {
        let (found, late) = self.stage.with(|play| {
            let mut broken = Vec::new();
            let mut services: Vec<Service> = Vec::new();
            let catalogue: Vec<_> = play.catalogue.iter().map(|(name, at)| (*name, *at)).collect();
            let unreadable = play.random.percent(play.temper.edits) && play.random.percent(10);
            for (name, variant) in catalogue {
                // Half a file, say: what was good before stays.
                if unreadable || play.random.percent(play.temper.edits) && play.random.percent(20) {
                    let origin = if unreadable { "" } else { name };
                    broken.push(Problem::new(origin, origin, (1, 1), "half a file"));
                } else {
                    services.push(services::service(name, variant));
                }
            }
            (Discovery::new(services, broken), play.temper.edits > 0 && play.random.percent(2))
        });
        self.pause(200).await;
        if late {
            self.pause(90_000).await;
        }
        found
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        let (watcher, changes) = mpsc::unbounded_channel();
        self.stage.with(|play| play.watchers.push(watcher));
        let changes = stream::unfold(changes, |mut changes| async {
            changes.recv().await.map(|changed| (changed, changes))
        });
        changes.chain(stream::pending()).boxed()
    }
}

#[async_trait]
impl HealthProbe for Plugs {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        self.pause(100).await;
        let sick =
            self.stage.with(|play| !play.healed && !play.temper.gentle && play.random.percent(30));
        match target.engine_health {
            Some(EngineHealth::Starting | EngineHealth::Unhealthy) => {
                Health::Unhealthy { reason: "not yet".to_owned() }
            }
            _ if sick => Health::Unreachable { reason: "no".to_owned() },
            _ => Health::Healthy,
        }
    }
}

#[async_trait]
impl GpuInventory for Plugs {
    async fn sweep(&self) -> Sweep {
        self.pause(60).await;
        let (seen, late) = self.stage.with(|play| {
            let hidden = play.temper.hides_gpu(&mut play.random);
            let late = hidden && play.random.percent(10);
            let problem = GpuProblem::new(None, "the driver does not answer");
            let hidden = hidden.then(|| Sweep::new(Vec::new(), vec![problem]));
            (hidden.unwrap_or_else(|| Sweep::new(vec![play.gpu()], Vec::new())), late)
        });
        if late {
            self.pause(20_000).await;
        }
        seen
    }
}

#[async_trait]
impl JournalStore for Plugs {
    fn read(&self) -> Journal {
        self.stage.with(|play| play.journal.clone())
    }

    async fn write(&self, journal: &Journal) -> io::Result<()> {
        self.pause(10).await;
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        let written = self.stage.with(|play| {
            if play.temper.disk_fails(&mut play.random) {
                return false;
            }
            let killed = play.temper.kills_here(&mut play.random);
            if !killed || play.random.percent(50) {
                play.journal = journal.clone();
            }
            if killed {
                play.note(|| "the nanny is killed at this write of its journal".to_owned());
                play.kill(false);
            }
            true
        });
        self.pause(5).await;
        if written { Ok(()) } else { Err(io::Error::from(io::ErrorKind::StorageFull)) }
    }
}

impl fmt::Debug for Plugs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugs({})", self.epoch)
    }
}
