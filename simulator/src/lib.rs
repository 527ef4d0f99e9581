//! Is money conserved, whatever happens in whatever order?
//!
//! A history is a seed. It runs gateways, a signer, orchestrators and a chain in one thread: their real
//! code, from the gateway's purchase to the contract, over books in memory ([`penstock_ledger::memory`]) and
//! a network that is a function (`network`). The clock is the runtime's, held still, so that an hour
//! takes no time. Messages are late, lost, doubled; disks lose writes or the answers to them; processes die
//! at failpoints and between steps, and come back with what was on their disk (`parties`). After each
//! step the books are looked at (`laws`), and nothing may have panicked (`panics`). A broken law is an error that names the seed, and the same seed
//! is the same history again.
//!
//! Reading order: `history`, `parties`, `laws`. `planted` has bugs that are put in on purpose, to
//! show that the laws find them.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod chain;
mod chance;
mod history;
mod laws;
mod many;
mod network;
mod panics;
mod parties;
mod planted;
mod thread;

pub use history::{Report, run};
pub use laws::Broken;
pub use many::{Failed, run_all};
pub use parties::Kit;
pub use planted::Planted;
