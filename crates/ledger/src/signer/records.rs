//! What goes into the signer's books and comes out: plain values, no SQL.

use super::{outbox::NewEvent, reservation::Reservation};
use penstock_domain::{Address, AuthId, B256, ManifestId, PriceInfo, Rational, StateId, U256, Wei};
use penstock_payments::BillingType;

/// The manifest id of a payment, and whether the caller named it or the signer made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBinding {
    /// The id inside the credentials.
    pub id: ManifestId,
    /// `false`: made by the signer, so that a later request may name another.
    pub named: bool,
}

/// What a payment is bound to; a replay has to agree (architecture.md rule 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The authenticated account.
    pub account: String,
    /// The subject it acts for, if told.
    pub auth_id: Option<AuthId>,
    /// From `OrchestratorInfo.address`.
    pub orchestrator: Address,
    /// Application label, may be empty.
    pub app: String,
    /// Billing type.
    pub job_type: BillingType,
    /// Manifest id.
    pub manifest: ManifestBinding,
}

/// A payment session as the books have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, 8 hex digits.
    pub state_id: StateId,
    /// What the newest payment was bound to.
    pub binding: Binding,
    /// Price of the first payment, which all fees use.
    pub initial_price: PriceInfo,
    /// Sequence number of the newest payment.
    pub sequence: u64,
    /// Time of the newest payment, Unix nanoseconds.
    pub last_update_ns: i64,
    /// Tickets signed and stored so far.
    pub tickets: u64,
    /// Σ tickets × EV, wei.
    pub ticket_ev_total_wei: Rational,
    /// Σ fees, wei.
    pub fee_total_wei: Rational,
    /// `ticket_ev_total − fee_total`, wei; may be negative.
    pub balance_wei: Rational,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// A stored answer with what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayment {
    /// The session.
    pub state_id: StateId,
    /// Its place in the session.
    pub sequence: u64,
    /// What it was made for.
    pub binding: Binding,
    /// Units billed.
    pub units: u64,
    /// The answer's body, to be sent again byte for byte.
    pub answer: Vec<u8>,
}

/// What only the first payment of a session brings.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The price that all fees of the session use.
    pub initial_price: PriceInfo,
    /// Caller's key for repeating a first request safely.
    pub idempotency_key: Option<String>,
}

/// A signed payment to be stored.
#[derive(Debug, Clone)]
pub struct NewPayment {
    /// The session.
    pub state_id: StateId,
    /// 0 exactly when `new_session` is there.
    pub sequence: u64,
    /// Present for a first payment.
    pub new_session: Option<NewSession>,
    /// What it is bound to.
    pub binding: Binding,
    /// The reservation, all of whose nonces are signed.
    pub reservation: Reservation,
    /// What the reservation charged to every counter, wei.
    pub charged_wei: Wei,
    /// Per ticket.
    pub face_value: Wei,
    /// Per ticket, of 2^256 − 1.
    pub win_prob: U256,
    /// Per ticket, wei.
    pub ticket_ev_wei: Rational,
    /// Units billed.
    pub units: u64,
    /// units × initial price, wei.
    pub fee_wei: Rational,
    /// The answer's body.
    pub answer: Vec<u8>,
    /// When the session's auth token ends, Unix seconds; 0 if unknown.
    pub auth_expiry: i64,
    /// To be delivered to whoever listens.
    pub event: Option<NewEvent>,
    /// Unix nanoseconds.
    pub now_ns: i64,
}

/// Outcome of [`super::SignerLedger::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Stored; the session's new balance in wei.
    Stored(Rational),
    /// Another payment has this place; answer with it.
    Superseded(StoredPayment),
    /// The reservation is gone (it expired): nothing was stored, the tickets must be forgotten.
    Expired,
}

/// What a payment was charged with, for adding charges up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargedPayment {
    /// Its number in the books; grows.
    pub n: i64,
    /// Account that asked.
    pub account: String,
    /// Subject the account acted for.
    pub auth_id: Option<AuthId>,
    /// Whole wei, to each of its counters.
    pub charged_wei: Wei,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// One line of the payments list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// The session.
    pub state_id: StateId,
    /// Place in the session.
    pub sequence: u64,
    /// Manifest id in the credentials.
    pub manifest_id: ManifestId,
    /// Whom it pays.
    pub orchestrator: Address,
    /// Account that asked.
    pub account: String,
    /// Subject the account acted for.
    pub auth_id: Option<AuthId>,
    /// Billing type.
    pub job_type: BillingType,
    /// Tickets in it.
    pub num_tickets: u32,
    /// Per ticket.
    pub face_value: Wei,
    /// Per ticket, of 2^256 − 1.
    pub win_prob: U256,
    /// Per ticket, wei.
    pub ticket_ev_wei: Rational,
    /// Units billed.
    pub units: u64,
    /// Wei.
    pub fee_wei: Rational,
    /// The session's balance after it, wei.
    pub balance_wei: Rational,
    /// Charged to the budgets, wei.
    pub charged_wei: Wei,
    /// When the session's auth token ends, Unix seconds; 0 if unknown.
    pub auth_expiry: i64,
    /// First nonce.
    pub first_nonce: u32,
    /// Last nonce.
    pub last_nonce: u32,
    /// Whose nonces.
    pub recipient_rand_hash: B256,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// Totals. `ticket_ev_total − fee_total = balance_total`, exactly; the fees are, unless
/// `fee_rounding_wei` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Payments stored.
    pub payments: u64,
    /// Tickets in them.
    pub tickets: u64,
    /// Wei.
    pub ticket_ev_total_wei: Rational,
    /// Wei.
    pub fee_total_wei: Rational,
    /// `fee_total_wei` is too large by less than this; 0: it is exact. More than some dozens of prices
    /// that have no common denominator are rounded up to whole wei.
    pub fee_rounding_wei: u64,
    /// Wei.
    pub balance_total_wei: Rational,
}
