//! Compose files, as Compose itself reads them.
//!
//! A Compose file goes in as text, a typed and canonical [`Project`] comes out: every default
//! filled in, every path absolute, every variable replaced. The crate is pure: it knows no engine
//! and no network, reads no process environment, and reaches files only through [`Files`].
//!
//! ```
//! use nanny_compose::{Files, Request, load};
//! # use std::{io, path::Path};
//! # struct OneFile(&'static str);
//! # impl Files for OneFile {
//! #     fn read(&self, path: &Path, _limit: u64) -> io::Result<Vec<u8>> {
//! #         if self.exists(path) { Ok(self.0.into()) } else { Err(io::ErrorKind::NotFound.into()) }
//! #     }
//! #     fn exists(&self, path: &Path) -> bool {
//! #         path.ends_with("compose.yaml")
//! #     }
//! # }
//! # let files = OneFile("
//! # services:
//! #   llm:
//! #     image: vllm/vllm-openai:${TAG:-latest}
//! #     ports: [8000:8000]
//! #     volumes: [./models:/models]
//! #     gpus: all
//! # ");
//! // services:
//! //   llm:
//! //     image: vllm/vllm-openai:${TAG:-latest}
//! //     ports: [8000:8000]
//! //     volumes: [./models:/models]
//! //     gpus: all
//! let request = Request::new("/srv/chat/compose.yaml");
//! let environment = |name: &str| (name == "TAG").then(|| "v1".to_owned());
//! let loaded = load(&request, &environment, &files)?; // `&DiskFiles` for real files
//!
//! let project = &loaded.project;
//! let llm = &project.services["llm"];
//! assert_eq!(llm.image, "vllm/vllm-openai:v1");
//! assert_eq!(llm.ports[0].target, 8000);
//! assert!(llm.gpus[0].wants_all());
//! assert_eq!(project.container_name(llm), "chat-llm-1");
//! assert_eq!(project.container_labels(llm)["com.docker.compose.service"], "llm");
//! # Ok::<(), nanny_compose::Problems>(())
//! ```
//!
//! When something is wrong, [`load`] says all that is wrong, each [`Problem`] with file, line,
//! column and the path in the tree:
//!
//! ```text
//! /srv/chat/compose.yaml:4:5: services.llm.imag: not a Compose key; did you mean 'image'?
//! /srv/chat/compose.yaml:9:9: services.llm.volumes[0]: the volume 'models' is not defined; …
//! ```
//!
//! # The way through
//!
//! | module | what it does |
//! |---|---|
//! | [`yaml`] | text to a tree with positions, by Compose's rules for scalars, within limits |
//! | [`interpolate`] | `${NAME:-default}` and its kin |
//! | [`dotenv`] | `.env` and `env_file` |
//! | [`spec`] | the specification as a table: what each key may hold, and what becomes of it |
//! | [`model`] | the canonical project |
//! | [`names`], [`labels`] | what Compose calls its containers, networks and volumes, and how it knows them again |
//! | [`hash`] | Compose's config hash, so that `docker compose up` leaves our containers alone |
//!
//! # What to rely on
//!
//! - Nothing is dropped in silence: a key that has no effect is a warning, one that cannot be
//!   honoured is an error.
//! - For the keys we support, the canonical JSON behind the config hash is that of Compose
//!   [2.40.3](labels::COMPOSE_VERSION), byte for byte. `tests/golden.rs` compares real files.
//! - No problem, no error and no `Debug` of an environment shows the value of a variable.
//! - Hostile text is answered quickly and within [`yaml::Limits`].

pub mod dotenv;
pub mod hash;
pub mod interpolate;
pub mod labels;
pub mod model;
pub mod names;
pub mod spec;
pub mod yaml;

mod files;
mod load;
mod problem;

pub use files::{DiskFiles, Files};
pub use load::{
    DEFAULT_NAMES, Loaded, OVERRIDE_NAMES, Request, default_files, load, override_file, parse_bytes,
};
pub use model::Project;
pub use problem::{Problem, Problems, brief};
