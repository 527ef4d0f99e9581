//! Asking for nonces and budget, and what comes of it.

use super::{
    audit::AuditEntry,
    counters::{Charge, CounterKey},
    records::StoredPayment,
};
use core::fmt;
use penstock_domain::{Address, AuthId, B256, StateId, U256, Wei};
use penstock_payments::{ExpirationParams, Ticket};

/// Most tickets that one reservation may hold (remote-signer.md: 100 a request), with room.
pub const MAX_TICKETS: u32 = 10_000;
/// Most counters that one request may charge.
pub const MAX_CHARGES: usize = 16;

/// A reservation that is neither a payment nor given back yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReservation {
    /// Its name.
    pub id: ReservationId,
    /// The session.
    pub state_id: StateId,
    /// Place in the session.
    pub sequence: u64,
    /// Its nonces.
    pub nonces: NonceRange,
    /// What it charged to each counter.
    pub amount_wei: Wei,
    /// Which counters.
    pub counters: Vec<CounterKey>,
    /// When any replica may give it back, Unix milliseconds.
    pub expires_at_ms: i64,
}

/// The random name of a reservation, made by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub [u8; 16]);

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A ticket without its nonce: the ledger adds those, and writes each ticket's digest into the
/// audit before anybody can sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketTemplate {
    /// Who is paid.
    pub recipient: Address,
    /// Who pays and signs.
    pub sender: Address,
    /// What a win pays.
    pub face_value: Wei,
    /// Chance of a win, out of 2^256 − 1.
    pub win_prob: U256,
    /// Whose nonces.
    pub recipient_rand_hash: B256,
    /// Creation round and block hash.
    pub expiration_params: ExpirationParams,
}

impl TicketTemplate {
    /// The ticket with this nonce.
    pub fn ticket(&self, sender_nonce: u32) -> Ticket {
        Ticket {
            recipient: self.recipient,
            sender: self.sender,
            face_value: self.face_value,
            win_prob: self.win_prob,
            sender_nonce,
            recipient_rand_hash: self.recipient_rand_hash,
            expiration_params: self.expiration_params,
        }
    }
}

/// Asks for nonces and budget for one payment.
#[derive(Debug, Clone)]
pub struct ReserveRequest {
    /// Random, never used before.
    pub id: ReservationId,
    /// The session; for sequence 0 the id it will get.
    pub state_id: StateId,
    /// Sequence number of the payment to be made.
    pub sequence: u64,
    /// The authenticated account.
    pub account: String,
    /// The subject it acts for, if told.
    pub auth_id: Option<AuthId>,
    /// What will be signed, once for each nonce.
    pub tickets: TicketTemplate,
    /// How many, 1 ..= [`MAX_TICKETS`].
    pub count: u32,
    /// The highest nonce the recipient accepts (payments.md section 15).
    pub max_nonce: u32,
    /// What is signed beside the tickets, such as a segment credential; goes into the audit.
    pub also_signs: Vec<AuditEntry>,
    /// `ceil(count × EV)`, wei: charged to each counter.
    pub amount_wei: Wei,
    /// Counters, none twice, at most [`MAX_CHARGES`].
    pub charges: Vec<Charge>,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// From when on the reservation may be taken back, Unix milliseconds.
    pub expires_at_ms: i64,
}

/// Consecutive nonces that nobody else has or will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceRange {
    /// Whose nonces.
    pub recipient_rand_hash: B256,
    /// First, at least 1.
    pub first: u32,
    /// Last, at least `first`.
    pub last: u32,
}

impl NonceRange {
    /// How many; 0 for a range that is none.
    pub fn count(&self) -> u32 {
        self.last.checked_sub(self.first).and_then(|n| n.checked_add(1)).unwrap_or(0)
    }
}

/// Nonces and budget held for one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Its name.
    pub id: ReservationId,
    /// The nonces, gone whatever happens.
    pub nonces: NonceRange,
}

/// Outcome of [`super::SignerLedger::reserve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// The nonces, and the amount charged to every counter.
    Nonces(Reservation),
    /// This payment has been stored meanwhile; nothing was reserved.
    Answered(StoredPayment),
    /// The hash has not enough nonces left: the caller needs fresh ticket parameters.
    Exhausted,
    /// The random id of a new session is taken: choose another.
    StateIdTaken,
    /// The session is unknown or behind the caller's state (the books were restored).
    UnknownState,
    /// The amount would pass a counter's cap: nothing was taken, no nonce either.
    OverCap {
        /// The first such counter, in the request's order.
        counter: CounterKey,
        /// What it may hold.
        cap_wei: Wei,
        /// What it holds.
        charged_wei: Wei,
    },
}
