//! What container engines read and write alike, whichever API it comes by: logs in frames, build
//! contexts and single files as archives, and what a builder says.
//!
//! For crates that implement [`ContainerBackend`](nanny_lib::backend::ContainerBackend).

mod build;
mod context;
mod decoder;
mod files;
mod logs;

pub use self::build::carry_out;
pub use self::context::{Context, Fault};
pub use self::decoder::{Broken, Decoder};
pub use self::files::archive;
pub use self::logs::lines;
