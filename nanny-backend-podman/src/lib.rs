//! Service Nanny on Podman, by its own API (libpod), not by the one it has for Docker's clients.
//!
//! [`PodmanBackend`] implements [`ContainerBackend`](nanny_lib::backend::ContainerBackend) for Podman
//! 4.3. [`PodmanConfig`] says where its API is; by default it is found as Podman's own programs find
//! it: `CONTAINER_HOST`, then root's socket or the user's.
//!
//! It was tried on 4.3.1 as root, with runc, control groups without systemd (`cgroupfs`), logs in files
//! (`k8s-file`) and events in a file. Not tried: other versions, a Podman without root, and what many
//! machines have by default, which is crun, systemd's control groups, and journald for logs and events.
//!
//! ```no_run
//! use nanny_backend_podman::{PodmanBackend, PodmanConfig};
//! use nanny_lib::backend::{ContainerBackend, Selector};
//!
//! # async fn run() -> Result<(), nanny_lib::backend::BackendError> {
//! let podman = PodmanBackend::new(PodmanConfig::from_env())?; // Does not touch the engine.
//! for container in podman.list(&Selector::All).await? {
//!     println!("{}: {:?}", container.name, container.state);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Two clients, one seam
//!
//! `connection.rs` has two ways to ask. `Connection::ask` hands out the client of the crate
//! `podman-api`, which makes the typed calls: it pings, starts, kills, renames and removes
//! containers, runs their health checks, and does all with networks and volumes; the body of a create
//! request is made with its types. Where it cannot be used, `Connection::get`, `stream` and `send`
//! ask with a small client of ours (`wire.rs`). Both speak of `/v4.0.0/libpod`, which other
//! versions from 4.0 on are meant to answer in the same shape, though 5.0 does not. These are the cases:
//!
//! | what | why not by `podman-api` 0.11 |
//! |---|---|
//! | inspect, list | its models fail on any word that is new to them, so that one strange container breaks a list; its inspect always has Podman measure the container's files |
//! | create | its models for the log and for `no_new_privileges` use names that Podman does not know, and so drops; the body is mended before it is sent |
//! | events | its model does not know health, and its reader ends with the first word that it does not know |
//! | logs | its reader panics on a frame of an unknown kind, and borrows the handle it came from |
//! | statistics | a reading is untyped, and its stream takes each chunk for a whole document |
//! | pulls, builds | their streams take each chunk for a whole document, too |
//! | files | it copies single files without owner, and whole directories of ours |
//! | stop | it calls the time to obey by a name that Podman does not know, and so drops |
//! | waiting | it drops the exit code; this crate does not wait, events and inspect have the code |
//!
//! Its error `Fault 304` is no error: started already.
//!
//! # Where Podman differs
//!
//! - It answers 500 to nearly everything, so errors are told apart by their texts, in `error.rs`.
//! - A create that was cut off, by the end of its service, may leave files that keep the name taken though
//!   no list has it. A create under that name waits 10 s, in case somebody is still at work on it, and
//!   takes them away unless somebody has them mounted.
//! - It forgets why a start failed. This backend remembers, for as long as it lives.
//! - It tells nobody that a stop was asked for. Those of this backend are told; a stop by other hands
//!   shows as an exit, unless a list met it on its way.
//! - Of a kill it does not tell the signal: one by other hands, even a mere `HUP`, passes for a wish
//!   that the container end.
//! - The start of a container that joins a namespace of another (`network_mode: container:`) starts that
//!   one, too, if it does not run.
//! - A build of what was built before makes another image: with `pull_policy: build`, each start makes
//!   the container anew.
//! - The commands of a build run on the host's network, or, with `network: none`, on none; a build on
//!   another is unsupported. `cache_from` has no effect: the engine's own layers are what it looks at.
//! - It starts no container with an init in a PID namespace that is not its own (`init` with
//!   `pid: host`).
//! - A container on several networks asks the name server of one after the other, and 4.3 waits 5 s and
//!   more for each that does not know a name.
//! - Its `tail` puts lines that were written in pieces together in the wrong order. It is asked only
//!   where the tail may begin; lines are counted here.
//! - A network in use can be removed by its identifier, though not by its name: it is asked by name.
//! - Health checks run where systemd runs them. Elsewhere this backend does, on their interval, from
//!   tasks that end with it: a check that has a result of somebody else's is left alone. Podman keeps
//!   the count and the word (`starting`, `healthy`, `unhealthy`).
//! - GPUs come by CDI alone: a request becomes `nvidia.com/gpu=<index or UUID>` or `=all` (`amd.com/gpu`
//!   for the driver `amd`), and an annotation says what was asked for, since inspect does not. A name
//!   that the files of its kind on this machine, `/etc/cdi` and `/var/run/cdi`, do not have fails the
//!   create; where there are no such files, or the engine is elsewhere, the start. An unknown `runtime` fails the create;
//!   Podman itself would use another one and say nothing.
//! - Where Docker makes the missing source of a bind mount, so does this backend, on its own machine:
//!   the socket's. An engine elsewhere fails the create instead.
//! - `shm_size` has no effect with another's IPC namespace, or none, as on Docker; Podman would refuse
//!   both.
//! - The log drivers `json-file` and `local` are Podman's `k8s-file`. It does not rotate, it begins
//!   anew: `max-size` times `max-file` is how much it keeps.
//! - A short name such as `ollama/ollama` is an image made here, `localhost/ollama/ollama`, else Docker
//!   Hub's, and never one of another registry; an image is named by its whole identifier alone. A base
//!   image in a recipe is Podman's to find, by its `registries.conf`.
//! - `host-gateway` in `extra_hosts` is, when a container is made, the gateway of the first of its
//!   networks that has one, 127.0.0.1 on the host's network and in builds. Where there is none, and
//!   always without root, it is unsupported: Podman itself gives the host the name
//!   `host.containers.internal`. Podman's own network must be called `podman` for it.
//! - Memory in statistics includes the page cache.
//! - Where control groups are v1, it does not tell that a container ran out of memory: that one was
//!   killed, and exits with 137.
//! - A secret or config with an owner of its own is its owner's. On Docker, it is given to whoever the
//!   container runs as, if its file says who that is.
//! - A container without a network has no `/etc/resolv.conf`, whatever `dns` says.
//! - Every container has `container=podman` and `TERM=xterm` in its environment.
//! - Unsupported by name: `domainname`, `links`, ranges of host ports, seccomp profiles, volume
//!   subpaths and labels, `gw_priority`, link-local addresses and reserved ones, driver options of an
//!   attachment, `start_interval`, networks without IPv4, options of logs but `max-size`, `max-file`,
//!   `tag` and `path`. On most file systems, so is a volume with a `size` among its options, also if it is
//!   a `tmpfs`. A `tmpfs` that says whose it is, by `uid`, is invalid.
//! - No TLS, and no `ssh://`: forward the socket.
//!
//! The client underneath hands request bodies, environment values included, to the `log` crate
//! at level `trace`: do not connect `log` to an output at that level.

mod backend;
mod build;
mod cdi;
mod config;
mod connection;
mod convert;
mod error;
mod events;
mod gateway;
mod health;
mod images;
mod limits;
mod listing;
mod logs;
mod networks;
mod remains;
mod starts;
mod stops;
mod volumes;
mod wire;

pub use self::backend::PodmanBackend;
pub use self::config::PodmanConfig;
