//! Live video: sessions that run for as long as they are paid (live-video.md sections 6 and 8).
//!
//! [`start`] is the order of a start, [`paid_start`] what becomes of its payment; [`runners`] is who does the
//! work and how much room it has, [`workers`] who of them was brought by workers, [`crate::standing`] who is asked, [`trial`] who is tried,
//! [`runner_api`] how it is spoken to, [`line`] by which way if it is a worker's, [`serverless`] if somebody hosts it, [`health`] what its word means; [`channels`] are a session's
//! trickle channels; [`session`] is a session's life, [`flow`] what passes meanwhile, [`billing`] its fees, [`sessions`] all of them.

pub mod args;
mod billing;
mod channels;
pub mod error;
mod flow;
mod health;
mod line;
mod paid_start;
mod runner_api;
pub mod runners;
pub mod scope;
mod serverless;
mod session;
pub mod sessions;
mod start;
mod trial;
pub mod workers;

pub use channels::{PATH, with_host};
pub use runner_api::{RunnerApi, client as runner_client};
pub use serverless::{Hosted, Hosting};

use args::LiveSettings;
use penstock_trickle::TrickleServer;
use runners::Runners;
use sessions::Sessions;
use std::sync::Arc;
use workers::LiveWorkers;

/// A session's name for the log: its begin. Whoever knows all of it may use its channels.
fn shown(name: &str) -> &str {
    name.get(..8).unwrap_or(name)
}

/// What live video needs of a process.
pub struct Live {
    /// The channels.
    pub trickle: TrickleServer,
    /// Who does the work.
    pub runners: Arc<Runners>,
    /// Those of them that workers bring.
    pub workers: Arc<LiveWorkers>,
    /// What runs.
    pub sessions: Arc<Sessions>,
    /// As set by the operator.
    pub settings: LiveSettings,
}
