//! The Penstock gateway: takes video and AI jobs over HTTP, finds and pays orchestrators for them,
//! and hands the results back.
//!
//! `routes → service → stores and clients`: a handler translates, a use case decides, and what
//! outlives a request is in the stores (architecture.md rule 1). The gateway holds no key and no
//! database; the signer pays.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod app;
pub mod clock;
pub mod config;
pub mod error;
pub mod front;
pub mod media;
pub mod openapi;
pub mod routes;
pub mod rtmp;
pub mod service;
pub mod stack;
pub mod stores;
pub mod trace;
