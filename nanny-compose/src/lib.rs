//! nanny-compose

pub mod dotenv;
pub mod hash;
pub mod interpolate;
pub mod keys;
pub mod labels;
pub mod model;
pub mod names;
pub mod yaml;

mod files;
mod load;
mod problem;

pub use files::{DiskFiles, Files};
pub use load::{Loaded, Request, load};
pub use model::Project;
pub use problem::{Problem, Problems};
