//! The link to the orchestrator: registration streams, job inputs, results.

pub mod backoff;
pub mod channel;
pub mod download;
pub mod multipart;
pub mod stream;
pub mod upload;
