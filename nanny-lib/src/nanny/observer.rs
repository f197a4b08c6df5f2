//! Looking over the driver's shoulder.

use std::fmt;

use crate::lifecycle::{Effect, Input, Now, World};

/// Is shown every step of the world, as the driver takes it: for simulations and tests, which judge
/// the world in between. Called in the driver's task, so it must not block.
pub trait StepObserver: fmt::Debug + Send + Sync + 'static {
    /// What is about to be taken in.
    fn before(&self, now: Now, input: &Input);

    /// How the world is after it, and what it asked for.
    fn after(&self, now: Now, world: &World, effects: &[Effect]);
}
