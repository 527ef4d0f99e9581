//! The worker against an orchestrator that speaks the real wire: gRPC and HTTP on one TLS port.
//! ffmpeg, the runner, the model and the media are real; `cargo xtask test` installs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod cards;
mod containers;
mod docker;
mod hostile;
mod lifecycle;
mod live;
mod orchestrator;
mod own_runners;
mod pipelines;
mod speech;
mod video;
mod worker;
