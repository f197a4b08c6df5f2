//! Service Nanny on plain processes: no container engine needed.
//!
//! [`ProcessBackend`] implements [`ContainerBackend`](nanny_lib::backend::ContainerBackend) on Linux.
//! A container without an image is a command. It runs as a child of nobody and outlives the nanny;
//! the next one, after a crash or an upgrade, finds it again.
//!
//! ```
//! use std::process::ExitCode;
//!
//! use nanny_backend_process::{ProcessBackend, ProcessConfig, shim};
//! use nanny_lib::backend::{BackendError, ContainerBackend, ContainerSpec};
//!
//! fn main() -> ExitCode {
//!     if shim::is_asked() {
//!         return shim::main(); // This program stays with each process, as its shim.
//!     }
//!     // The program itself begins here, and runs `serve` some time.
//!     ExitCode::SUCCESS
//! }
//!
//! async fn serve() -> Result<(), BackendError> {
//!     let processes = ProcessBackend::new(ProcessConfig::new("/var/lib/me/processes"));
//!     let command = Some(["python3", "-m", "http.server"].map(str::to_owned).to_vec());
//!     let name = "files".to_owned();
//!     let spec = ContainerSpec { name, command, ..ContainerSpec::default() };
//!     let id = processes.create(&spec).await?;
//!     processes.start(&id).await?;
//!     processes.stop(&id, None).await
//! }
//! ```
//!
//! # How it works
//!
//! Each container has a directory, which holds all that is known of it. Its [shim], a small
//! process of one thread, starts its program, reads what that prints, and writes down how it ends. The
//! nanny and the shim never talk but through that directory, so either can be killed at any moment:
//! a nanny that comes finds what is there, and a shim that was killed gets a successor from whoever
//! lists next.
//!
//! A process is known by its number, when it began, and which run of the machine that was in (and in
//! which name space of numbers), so that a number which was given away again is nobody; signals go
//! through descriptors of processes, which cannot mean another.
//!
//! # What a process gets
//!
//! - The environment of the nanny that starts it, less `NANNY_*` and what a service manager says to a
//!   service, and what its spec says. `NANNY_PROCESS_ID` tells its processes from all others.
//! - Its working directory, or `/`; standard input is `/dev/null`; no other descriptor.
//! - A session and a group of its own. The user is the nanny's.
//! - Those GPUs that were asked for, by `CUDA_VISIBLE_DEVICES`, or `ROCR_VISIBLE_DEVICES` if it was
//!   placed on AMD's. It can look past that: nothing but its good will keeps it from the others. If its
//!   manifest alone names them, it is not started where there is no NVIDIA driver.
//! - Limits on memory (swap included, where the kernel keeps an account of it), processors and processes
//!   where control groups can be made, which takes root; where they cannot, a spec that asks for one is
//!   refused. Ulimits, and `oom_score_adj`.
//! - A log of 20 MiB, of which the older half is thrown away whenever it is full. On a full disk, lines are
//!   dropped, the process goes on, and the log says how many are missing once there is room.
//!
//! # How it ends
//!
//! A stop signals the group of the program, and once the program has ended, whatever else descends
//! from it. All that is left when the grace is over is killed, also what has left the group, the session
//! and its parents: the shim is the reaper of all its descendants, and has to wait for each. What a program
//! leaves behind when it ends by itself is killed at once, as in a container. A program that was started
//! to run in the background therefore does not: run it in the foreground.
//!
//! Whatever else ends a program is a failure, and answered by its restart policy, `kill` by hand
//! included: nobody can tell that it was meant.
//!
//! # What it does not do
//!
//! - Images, networks, ports, mounts, users, terminals, health checks of an engine's, restart policies of an
//!   engine's: what a process cannot have is refused by name.
//! - In a container of the nanny's own, processes end with it; the capability
//!   [`survives_restart`](nanny_lib::backend::Capabilities::survives_restart) says so.
//! - It needs `/proc`, pidfds and named pipes in its directory: Linux, and a file system of its own kind.
//! - On a file system that copies what is written over (btrfs, ZFS), a record needs room of its own: a full
//!   disk refuses starts there, and an end is written down only once there is room.
//! - A service that is a command, with `gpu_required` and without `gpus.devices`, names no GPU. Unless
//!   the policy places it, it sees every GPU there is or, where there is no driver, is started all the
//!   same and runs on the processor.
//! - Nobody is told how a process ended whose shim was killed: its exit has no code.

mod backend;
mod cgroup;
mod config;
mod error;
mod events;
mod home;
mod kernel;
mod lines;
mod logfiles;
mod logs;
mod record;
pub mod shim;
mod signal;
mod spec;
mod store;

pub use self::backend::ProcessBackend;
pub use self::config::ProcessConfig;
