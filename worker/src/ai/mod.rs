//! AI: which models are served, the runner processes that serve them, the jobs.

pub mod client;
pub mod containers;
pub mod film;
pub mod job;
pub mod models;
pub mod offer;
pub mod placement;
pub mod pool;
pub mod result;
pub mod runner;
mod timing;
pub mod words;
pub mod work;
