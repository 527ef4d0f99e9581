//! The chain port: deposits and reserves, rounds, the active set, ticket redemption.
//!
//! [`Chain`] is what a role needs from the contracts and nothing else. `penstock-chain-devnet` is
//! the embedded implementation; the Ethereum one speaks to the real contracts. Both pass the same
//! suite. Errors say whether a retry helps, and a revert keeps the contract's own text.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

#[cfg(feature = "testing")]
pub mod conformance;
mod error;
mod notes;
mod port;
mod revert;
mod staking;
mod ticket;
mod view;
mod voting;
mod worth;

pub use error::ChainError;
pub use notes::Notes;
#[cfg(feature = "testing")]
pub use notes::NotesInMemory;
pub use port::Chain;
pub use revert::Revert;
pub use staking::{PARTS, RoundStanding, StakeAction, StakeStanding, Staking, UnbondingLock};
pub use ticket::{OnChainTicket, WinningTicket};
pub use view::{
    ActiveOrchestrator, Look, NEVER, Receipt, Redemption, ReserveInfo, Rounds, SenderInfo, Standing,
};
pub use voting::{
    Ballots, MAX_REASON_BYTES, OpenPoll, OpenProposal, PollChoice, PollStanding, ProposalStanding,
    ProposalState, Support,
};
pub use worth::{Purse, Worth};
