//! The orchestrator by route, over real TLS, with real tickets and a real devnet; only the worker
//! is scripted, and speaks the real protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod admission;
mod auth_webhook;
mod bad_input;
mod between;
mod byoc;
mod byoc_ends;
mod byoc_streams;
mod byoc_training;
mod byoc_training_kept;
mod delivery;
mod hostile;
mod killed;
mod limits;
mod live;
mod live_scope;
mod live_serverless;
mod live_starts;
mod live_workers;
mod object_stores;
mod offers;
mod others_prices;
mod payer;
mod payments;
mod pipelines;
mod port;
mod pricing;
mod redeemer;
mod redemption;
mod runner_app;
mod runner_leftovers;
mod runner_proxy;
mod runner_sessions;
mod runners;
mod scripted_worker;
mod segments;
mod speech;
mod words;
mod workers;
mod world;
