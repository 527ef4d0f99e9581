//! Runner containers of the network's kind (ai-pipelines.md section 8.2), through the Docker Engine:
//! what one is called and given, and the few calls that start, look at and remove it. Who needs one,
//! and when, is the caller's affair.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod engine;
mod plan;

pub use engine::{Engine, EngineError, Look};
pub use plan::{Gpu, Images, ImagesError, Plan, PlanError, Wanted, gpus, plan};
