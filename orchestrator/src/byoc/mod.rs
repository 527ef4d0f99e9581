//! Brought capabilities: HTTP services that their owners register here, and whose jobs are passed on
//! and charged by the second (byoc.md sections 2, 3 and 5).
//!
//! [`registry`] is who is there and how much room; [`admission`] who may have a job done; [`terms`] what
//! it costs; [`job`] passes one on, [`events`] an answer that is a stream of events; [`meter`] charges;
//! [`members`] takes requests apart; [`streams`] and [`training`] are those that go on.

mod admission;
pub mod error;
mod events;
mod job;
mod members;
mod meter;
pub mod registry;
pub mod streams;
mod terms;
pub mod training;
mod worker;

pub use job::{Answer, Incoming};
pub use worker::client as worker_client;
