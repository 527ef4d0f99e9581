//! HTTP plumbing that every role needs and none should own: the error envelope, the order of the
//! layers, health routes, operator authentication, serving with a drain, the TLS provider, the limit of open files.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod admin;
mod error;
pub mod files;
pub mod health;
pub mod layers;
pub mod log_level;
pub mod metrics_route;
pub mod serve;
pub mod stack;
pub mod tls;
pub mod traced;

pub use error::ApiError;
pub use tokio_util::sync::CancellationToken;
