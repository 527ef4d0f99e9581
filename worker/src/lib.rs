//! The worker: ffmpeg and runner processes, and the job loop that feeds them.
//!
//! It registers with one orchestrator, takes segments and AI jobs from it, runs them in processes
//! of their own and sends the results back. It knows no money and talks to no gateway.
//! `app` puts the parts together; `registration` is the job loop; `video` and `ai` do the work, `live` has runners
//! of live video called.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod ai;
mod app;
pub mod check;
pub mod child;
pub mod gpu;
mod limits;
pub mod link;
pub mod live;
pub mod registration;
pub mod settings;
pub mod status;
pub mod video;
pub mod workdir;

pub use app::{App, BuildError, RenderMetrics, RunError};
pub use penstock_confine as confine;
