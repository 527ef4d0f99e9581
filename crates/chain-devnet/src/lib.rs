//! The devnet: the embedded chain that a local network shares, as a client and as a server.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod location;

pub use location::{BadChain, ChainLocation, parse_chain};
