//! What system tests share: role processes that can be killed and started again, waiting for a
//! condition instead of for time, real media, and readers of what ffprobe and a listener say. With
//! the feature `sim` also simulated peers that speak the real wire ([`sim`]).
//!
//! A test that lacks something (a binary, a server, a film) panics with the command that installs
//! it; it never passes because something is missing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test support: a failure here is a failed test, and it must say where"
)]

#[cfg(feature = "anvil")]
pub mod anvil;
#[cfg(feature = "certificates")]
pub mod certificates;
#[cfg(feature = "collector")]
pub mod collector;
pub mod figures;
pub mod hostile;
pub mod http2;
#[cfg(feature = "key-homes")]
pub mod key_homes;
pub mod media;
pub mod places;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod s3;
pub mod schemathesis;
pub mod sdk;
#[cfg(feature = "sim")]
pub mod sim;
pub mod softhsm;
pub mod until;
pub mod wer;

pub use figures::figure;
pub use process::{Process, Spec};
pub use proxy::Proxy;
pub use sdk::Sdk;
pub use until::{until, until_ok, until_some};
