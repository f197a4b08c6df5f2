//! The binary on a machine with GPUs, as far as it can tell: NVIDIA's driver is played by
//! `nanny-fake-nvml`, services are plain processes that claim its memory, and a witness asks the
//! driver all the while whether more is taken than there is.
#![cfg(all(feature = "rest", feature = "process", feature = "gpu"))]

#[path = "../e2e/http.rs"]
mod http;
mod measured;
mod restarts;
mod stage;
mod unmeasured;
mod witness;
