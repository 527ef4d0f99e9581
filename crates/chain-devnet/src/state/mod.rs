//! The contracts' state and its transitions, as pure functions.
//!
//! A transition reads a [`State`] and returns [`Change`]s or the contract's revert; it does no I/O
//! and knows no clock. The caller makes the changes durable first and applies them then, so that
//! memory never shows what a crash could take back.

mod account;
mod change;
mod funding;
mod mining;
mod model;
mod orchestrators;
mod queries;
mod redemption;
mod reserve;

pub use account::{AccountError, act};
pub use change::Change;
pub use funding::{Funder, cancel_unlock, fund, unlock, withdraw};
pub use mining::{MAX_BLOCKS, MAX_ROUNDS, Mining, MiningError, block_hash, mine};
pub use model::{Account, Claim, Flows, Genesis, Head, Orchestrator, Sender, State};
pub use orchestrators::{MAX_SERVICE_URI, POOL_MAX, PoolError, register, resign};
pub use redemption::redeem;
pub use reserve::claimable_reserve;

/// Rounds between `unlock` and the first possible `withdraw`, as deployed.
pub const UNLOCK_PERIOD: u64 = 2;
/// Rounds in which a ticket can be redeemed, its creation round included, as deployed.
pub const TICKET_VALIDITY_PERIOD: u64 = 2;
