//! Somebody who asks the driver all the while, and believes nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nanny_fake_nvml::Driver;

use crate::stage::pause;

/// Watches that no GPU is overrun.
pub(crate) struct Witness {
    ends: Arc<AtomicBool>,
    watching: Option<JoinHandle<Seen>>,
}

/// What was seen.
pub(crate) struct Seen {
    /// How often all GPUs were looked at.
    pub(crate) looks: usize,
    /// The most that was ever taken on each, in MiB.
    pub(crate) most_mib: Vec<u64>,
}

impl Witness {
    pub(crate) fn watch(driver: Driver, totals: Vec<u64>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let watching = thread::spawn(move || {
            let mut seen = Seen { looks: 0, most_mib: vec![0; totals.len()] };
            loop {
                // What was there when the end was asked for is seen, too.
                let is_last = told.load(Ordering::Relaxed);
                for (index, most) in seen.most_mib.iter_mut().enumerate() {
                    // Claims are read one after the other: one that was given up and one that
                    // was made meanwhile are not there at once.
                    let taken = || driver.taken_mib(index).expect("the script is whole");
                    *most = taken().min(taken()).max(*most);
                }
                seen.looks += 1;
                if is_last {
                    return seen;
                }
                pause();
            }
        });
        Self { ends, watching: Some(watching) }
    }

    /// Ends it, and answers what it saw.
    pub(crate) fn end(mut self) -> Seen {
        self.ends.store(true, Ordering::Relaxed);
        let watching = self.watching.take().expect("it watches until it is ended");
        watching.join().expect("it could always look")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            let _ = watching.join();
        }
    }
}
