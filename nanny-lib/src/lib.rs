//! nanny-lib

pub mod backend;
mod error;
pub mod gpu;
mod journal;
pub mod lifecycle;
pub mod manifest;
mod name;
mod nanny;
pub mod probe;
pub mod project;

pub use self::error::Error;
pub use self::name::{ContainerId, GpuId, InvalidName, ServiceName};
pub use self::nanny::*;
