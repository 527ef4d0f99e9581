//! Whole-system tests: real processes on free ports, real stores, real media.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod architecture;
mod bad_input;
mod books;
mod chain_chaos;
mod chaos;
mod combined;
mod dashboards;
mod deploy;
mod dev_command;
mod documented;
mod ethereum;
mod failpoints;
mod faults;
mod fleet;
mod funds;
mod go_metrics;
mod jobs;
mod journals;
mod kills;
mod live_style;
mod live_video;
mod log_fields;
mod long_session;
mod measured;
mod network;
mod on_anvil;
mod orchestrator_chaos;
mod orchestrators;
mod payer;
mod pipelines;
mod playback;
mod poor_sender;
mod redeemer;
mod sdk;
mod sdk_byoc;
mod sdk_killed;
mod sdk_lasting;
mod sdk_live;
mod sdk_runners;
mod secrets;
mod servers;
mod soak;
mod speech;
mod stake;
mod stakes_in_discovery;
mod traces;
mod video;
mod winners;
