//! Probabilistic micropayments: everything about tickets and credit that can be computed.
//!
//! Pure by design: no I/O, no async, no clock, no randomness of its own; time, chain facts and
//! random numbers are arguments. It hashes, recovers and verifies, and cannot sign.
//! Section numbers in the docs are those of `payments.md` and its neighbours.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod curve;
mod digest;
mod rand;
mod signature;
mod ticket;

pub use digest::{
    EMPTY_DATA_HASH, devnet_transaction_digest, eip191_digest, node_digest,
    orchestrator_request_digest, orchestrator_request_message, ping_digest, segment_digest,
    segment_preimage, transcode_result_digest, transcode_result_hash,
};
pub use rand::{RandInputs, RecipientRand, RecipientSecret, win_draw, wins};
pub use signature::{Signature, SignatureError, verify_bytes};
pub use ticket::{ExpirationParams, Ticket, TicketParams, ticket_ev};
