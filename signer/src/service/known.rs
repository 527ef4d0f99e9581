//! What a replica remembers of payment sessions: a hint that saves reading the books.
//!
//! It cannot do harm. A session only changes together with its sequence number, and the books take
//! a payment only with the number that follows theirs; whoever decided on an old memory is told so
//! there, before anything is signed.

use super::bounded::Bounded;
use penstock_domain::{PriceInfo, Rational, StateId};
use penstock_ledger::signer::{Binding, Session};
use std::sync::Arc;

/// Sessions remembered, at about a kilobyte each, for as long as they pay.
const HALF: usize = 16 * 1024;

/// The part of a session that payments need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What the newest payment was bound to.
    pub binding: Binding,
    /// Price of the first payment, which all fees use.
    pub initial_price: PriceInfo,
    /// Sequence number of the newest payment.
    pub sequence: u64,
    /// Time of the newest payment, Unix nanoseconds.
    pub last_update_ns: i64,
    /// Wei; may be negative.
    pub balance_wei: Rational,
    /// Until when the auth webhook need not be asked, Unix seconds. The books do not say: it comes from
    /// the newest state; with an older one whoever remembers nothing asks again.
    pub auth_expiry_s: i64,
}

impl From<Session> for Known {
    fn from(session: Session) -> Self {
        Self {
            binding: session.binding,
            initial_price: session.initial_price,
            sequence: session.sequence,
            last_update_ns: session.last_update_ns,
            balance_wei: session.balance_wei,
            auth_expiry_s: 0,
        }
    }
}

/// The memory.
pub type KnownSessions = Bounded<StateId, Arc<Known>>;

/// An empty one.
pub fn none_known() -> KnownSessions {
    Bounded::new(HALF)
}
