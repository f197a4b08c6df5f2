//! Whole nannies on paused time and an engine in memory.

mod adoption;
mod arbitration;
mod callers;
mod figures;
mod gpus;
mod health;
mod house;
mod images;
mod lifecycle;
mod news;
mod notes;
mod outage;
mod queue;
mod routing;
