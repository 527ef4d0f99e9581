//! Credit: units bought from an orchestrator and not used yet.
//!
//! A job **reserves** its estimate, which is taken off at once, and **settles** with what it really
//! used. A replica that dies in between leaves the estimate spent: too little credit is harmless, the
//! gateway buys again; too much would make the orchestrator refuse. Booking a purchase and settling a
//! hold are idempotent by their ids, so a retried call changes nothing.

use crate::{StoreError, UnixMs};
use async_trait::async_trait;
use penstock_domain::{Address, AuthId};
use serde::{Deserialize, Serialize};

/// Whose credit, with whom: as the orchestrator's account is keyed, plus the payer's tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreditKey {
    /// The tenant whose budget the signer charges.
    pub auth_id: AuthId,
    /// The signer's address.
    pub sender: Address,
    /// The orchestrator's service URI.
    pub orchestrator: String,
    /// The orchestrator's account: auth token session id, or `{capability}_{model}`.
    pub session: String,
}

/// Names one reservation within a [`CreditKey`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HoldId(pub String);

impl HoldId {
    /// A hold so old is a dead replica's: its trace may go to make room, what it took stays spent.
    pub const FORGOTTEN_AFTER_MS: u64 = 3_600_000;
}

/// Accounts and amounts stop here instead of growing: the largest number that every backend counts
/// exactly, and 72 million seconds of 1080p60 in pixels.
pub const MAX_CREDIT_UNITS: i64 = (1 << 53) - 1;

/// The outcome of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// The estimate was taken off; settle later.
    Granted {
        /// What is left.
        left_units: i64,
    },
    /// Not enough; nothing was taken.
    Short {
        /// What there is: may be negative after jobs that used more than their estimate.
        have_units: i64,
    },
}

/// Credit accounts.
#[async_trait]
pub trait CreditStore: Send + Sync {
    /// Units available now (holds are already taken off); 0 for an unknown key.
    async fn credit(&self, key: &CreditKey, now: UnixMs) -> Result<i64, StoreError>;

    /// Adds bought units once per `purchase_id` and lets the account live `ttl_ms` more; the new
    /// amount.
    async fn book_purchase(
        &self,
        key: &CreditKey,
        purchase_id: &str,
        units: u64,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<i64, StoreError>;

    /// Takes `estimate_units` off if at least `max(estimate_units, floor_units)` is available. The
    /// floor is what the orchestrator wants to see before any job: one ticket's expected value.
    /// The same `hold` again answers as before and takes nothing more.
    async fn reserve(
        &self,
        key: &CreditKey,
        hold: &HoldId,
        estimate_units: u64,
        floor_units: u64,
        now: UnixMs,
    ) -> Result<Reserve, StoreError>;

    /// Ends a hold: gives back the estimate, takes off `used_units`. Once per hold; an unknown or
    /// settled hold changes nothing. The new amount.
    async fn settle(
        &self,
        key: &CreditKey,
        hold: &HoldId,
        used_units: u64,
        now: UnixMs,
    ) -> Result<i64, StoreError>;

    /// Ends holds whose jobs used exactly what was set aside: only their traces go. Unknown or settled
    /// ones change nothing.
    async fn end_holds(
        &self,
        key: &CreditKey,
        holds: &[HoldId],
        now: UnixMs,
    ) -> Result<(), StoreError>;

    /// Sets the account to zero: the orchestrator says it has none of what we think there is.
    async fn forfeit(&self, key: &CreditKey, now: UnixMs) -> Result<(), StoreError>;
}
