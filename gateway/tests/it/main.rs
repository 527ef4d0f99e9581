//! The gateway by its routes, against a signer and orchestrators that speak the real wire.
// Tests hold whole gateways in their futures.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod ai;
mod ai_later;
mod ai_stream;
mod audio;
mod bad_input;
mod byoc;
mod callers;
mod company;
mod failover;
mod idempotency;
mod keys;
mod money;
mod openai;
mod operator;
mod pages;
mod peers;
mod playback;
mod prepay;
mod process;
mod ready;
mod recordings;
mod rounds;
mod rtmp;
mod rules;
mod schemathesis;
mod sdks;
mod selection;
mod silence;
mod spread;
mod stores;
mod stream_auth;
mod video;
mod workloads;
mod world;
