//! The front door: who is calling, what they may ask for and how much of it, before any use case runs.

pub mod access;
pub mod auth;
pub mod caller;
pub mod catalogue;
pub mod document;
pub mod door;
pub mod hold;
pub mod idempotency;
pub mod known;
pub mod limits;
pub mod problem;
pub mod streamed;
pub mod takeover;
pub mod timing;
pub mod workload;
