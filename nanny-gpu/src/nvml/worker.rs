//! The thread that asks the driver: opens it, keeps it open while it answers, and tries again later.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use nanny_lib::GpuId;
use nanny_lib::gpu::{GpuHealth, GpuProblem, GpuReading, Sweep};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::health::Ailments;
use super::session::Session;
use super::{NvmlConfig, unmeasured};

/// A look at all devices, and how many sweeps had been asked for when it began.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) number: u64,
    pub(super) sweep: Sweep,
}

/// What is remembered from one look to the next, and from one driver to the next.
#[derive(Debug)]
pub(super) struct Memory {
    /// Every device that ever answered, as it last did.
    pub(super) known: BTreeMap<GpuId, GpuReading>,
    pub(super) ailments: Ailments,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Worker {
    config: NvmlConfig,
    asked: Arc<AtomicU64>,
    requests: Receiver<()>,
    answers: watch::Sender<Answer>,
    memory: Memory,
}

impl Worker {
    pub(super) fn new(
        config: NvmlConfig,
        asked: Arc<AtomicU64>,
        requests: Receiver<()>,
        answers: watch::Sender<Answer>,
    ) -> Self {
        let ailments = Ailments::new(&config);
        let memory = Memory { known: BTreeMap::new(), ailments };
        Self { config, asked, requests, answers, memory }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self) {
        // What is wrong with the driver, and until when it is left alone.
        let mut broken: Option<(GpuProblem, Instant)> = None;
        while self.requests.recv().is_ok() {
            let mut number = self.asked.load(Ordering::SeqCst);
            if let Some((problem, until)) = &broken
                && Instant::now() < *until
            {
                self.answer(number, self.without_driver(problem));
                continue;
            }
            if let Err(problem) = self.hold_open_anew(&mut number) {
                self.answer(number, self.without_driver(&problem));
                broken = Some((problem, Instant::now() + self.config.retry));
            }
        }
    }

    /// The same again if a driver stops working that has answered: it may have been replaced, and if
    /// not, what is wrong is told when it is opened.
    fn hold_open_anew(&mut self, number: &mut u64) -> Result<(), GpuProblem> {
        loop {
            let opened_for = *number;
            let ended = self.hold_open(number);
            let has_answered = *number > opened_for;
            if ended.is_ok() || !has_answered {
                return ended;
            }
        }
    }

    /// Opens the driver, and answers with it while it works: first those who asked up to `number`,
    /// which moves on. The error says why the driver does not work.
    fn hold_open(&mut self, number: &mut u64) -> Result<(), GpuProblem> {
        let nvml = contained(|| open(&self.config)).unwrap_or_else(|| Err(panicked()))?;
        let ended =
            contained(|| self.serve(&nvml, &mut *number)).unwrap_or_else(|| Err(panicked()));
        let closed = contained(|| drop(nvml));
        ended.and(closed.ok_or_else(panicked))
    }

    fn serve(&mut self, nvml: &Nvml, number: &mut u64) -> Result<(), GpuProblem> {
        let mut session = Session::new(nvml);
        loop {
            let sweep = session.sweep(&mut self.memory, Instant::now());
            let sweep = sweep.map_err(|error| complaint(&error))?;
            self.answer(*number, sweep);
            if self.requests.recv().is_err() {
                return Ok(());
            }
            *number = self.asked.load(Ordering::SeqCst);
        }
    }

    fn answer(&self, number: u64, sweep: Sweep) {
        self.answers.send_replace(Answer { number, sweep });
    }

    /// What there is to say without a driver: what it told while it worked, and why it does not.
    fn without_driver(&self, problem: &GpuProblem) -> Sweep {
        let lost = |device: &GpuReading| {
            unmeasured(device.clone(), GpuHealth::Unusable("the driver is gone".to_owned()))
        };
        let mut devices: Vec<_> = self.memory.known.values().map(lost).collect();
        devices.sort_by_key(|device| device.index);
        let mut problem = problem.clone();
        problem.is_absence &= devices.is_empty();
        Sweep::new(devices, vec![problem])
    }
}

fn open(config: &NvmlConfig) -> Result<Nvml, GpuProblem> {
    let mut builder = Nvml::builder();
    if let Some(library) = &config.library {
        builder.lib_path(library.as_os_str());
    }
    let nvml = builder.init().map_err(|error| complaint(&error))?;
    if nvml.lib().nvmlShutdown.is_err() {
        // The client panics if it is to close such a library.
        std::mem::forget(nvml);
        return Err(fault("the NVIDIA driver's library is incomplete; install the driver anew"));
    }
    Ok(nvml)
}

/// What is wrong with the driver as a whole, and what helps.
fn complaint(error: &NvmlError) -> GpuProblem {
    match error {
        NvmlError::LibloadingError(error) => GpuProblem::absence(format!(
            "no NVIDIA driver is found; if there is an NVIDIA GPU, install its driver, and in a \
             container the NVIDIA Container Toolkit ({error})"
        )),
        NvmlError::DriverNotLoaded => fault(
            "the NVIDIA driver is installed, but its kernel module is not loaded: run \
             `modprobe nvidia`, or reboot",
        ),
        NvmlError::LibRmVersionMismatch => fault(
            "the NVIDIA driver was upgraded, and the kernel still has the module of the old one: \
             reboot",
        ),
        NvmlError::NoPermission => fault(
            "the NVIDIA driver may not be used: its devices, /dev/nvidia*, must be readable and \
             writable for this user",
        ),
        error => fault(format!("the NVIDIA driver does not work: {error}")),
    }
}

fn fault(message: impl Into<String>) -> GpuProblem {
    GpuProblem::new(None, message)
}

/// Runs what may panic within the client of the driver.
fn contained<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

fn panicked() -> GpuProblem {
    fault("asking the NVIDIA driver panicked; what it said is on standard error")
}
