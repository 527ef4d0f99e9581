//! The front door: who is calling, what they may ask for and how much of it, before any use case runs.

pub mod caller;
pub mod timing;
pub mod workload;
