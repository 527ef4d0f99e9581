//! Which orchestrator takes a job, and why the others do not.
//!
//! [`choose`] is a pure function over plain values: clock and dice are arguments, so the same code
//! that picks can explain, and a test can replay any decision. Rules: selection.md sections 5 to
//! 7. What differs from the Go node, on purpose: a suspension is a time and not a counter that
//! lapses by itself in a long stream, and a suspended orchestrator is a last resort, so that
//! a job fails only when nobody at all could have served it.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod breaker;
mod candidate;
mod choice;
mod draw;
mod names;
#[cfg(test)]
mod sample;
mod suspension;
mod weights;

pub use breaker::{Breaker, Breakers, Circuit, PROBE_MS, circuit};
pub use candidate::{Candidate, Exclusion, Facts};
pub use choice::{Decision, Policy, Reason, choose};
pub use draw::Speed;
pub use names::Names;
pub use suspension::{Fault, MAX_MS, suspension_ms};
pub use weights::{BadWeights, Weights};
