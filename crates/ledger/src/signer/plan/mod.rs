//! What a batch of requests does to the books, decided on the rows that were read: pure functions,
//! the same for both databases.
//!
//! A plan says what rows were like when it was made. Whoever applies it changes each row only if it
//! is still like that; if one is not, the whole batch is read and planned again. So no row lock and
//! no isolation level is needed for a plan to be right, only to be quick.

mod chain;
pub mod commit;
mod fold;
pub mod open;
mod totals;

#[cfg(test)]
mod tests;

pub use chain::{AuditRow, Head};
pub use commit::{CommitPlan, CommitRead, NewPaymentRow, Placed, places_of, plan_commits};
pub use fold::{Line, LineKey, OldPayment, fold};
pub use open::{OpenAsk, OpenPlan, OpenRead, answered_places, plan_opens};
pub use totals::{Totals, add_totals, ev_denominator, summary_of};

use super::{CounterKey, NonceRange, ReservationId};
use core::fmt;
use penstock_domain::{AuthId, StateId, Wei};

/// A reservation as the books hold it until it is committed, released or expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub id: ReservationId,
    pub state_id: StateId,
    pub sequence: u64,
    pub account: String,
    pub auth_id: Option<AuthId>,
    pub nonces: NonceRange,
    pub amount_wei: Wei,
    pub counters: Vec<CounterKey>,
    pub reserved_at_ms: i64,
    pub expires_at_ms: i64,
}

/// A row's value before and after; `None` before: there was no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<T> {
    pub old: Option<T>,
    pub new: T,
}

/// A text that is a part of a text column: PostgreSQL knows no NUL, and nothing that callers choose
/// may fail a batch.
pub fn is_storable(text: &str, max_bytes: usize) -> bool {
    text.len() <= max_bytes && !text.contains('\0')
}

/// `state_id/sequence/…`: what an audit record is about.
fn reference(state_id: &StateId, sequence: u64, rest: impl fmt::Display) -> String {
    format!("{state_id}/{sequence}/{rest}")
}
