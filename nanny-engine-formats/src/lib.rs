//! What container engines read and write alike, whichever API it comes by: logs in frames, build
//! contexts and single files as archives, streams of JSON, and what a builder says in one; and how
//! long to wait before they are asked again.
//!
//! For crates that implement [`ContainerBackend`](nanny_lib::backend::ContainerBackend).

mod build;
mod context;
mod decoder;
mod files;
mod json_lines;
mod logs;
mod reconnect;

pub use self::build::carry_out;
pub use self::context::{Context, Fault};
pub use self::decoder::{Broken, Decoder};
pub use self::files::archive;
pub use self::json_lines::JsonLines;
pub use self::logs::lines;
pub use self::reconnect::delay;
