//! Sessions with orchestrators and their payment state.
//!
//! A session is one orchestrator used for one purpose: a stream, or a capability and model. It holds
//! the newest `OrchestratorInfo` and the signer's opaque payment state. Payment state advances only
//! under a **lease** with a fence: single-flight per session, and a holder that was paused past its
//! lease cannot overwrite what its successor did.

use crate::{StoreError, UnixMs};
use async_trait::async_trait;
use penstock_domain::{AuthId, ManifestId, StreamId};
use serde::{Deserialize, Serialize};

/// Which session: what for, and with whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// `stream:{stream id}` or `ai:{capability number}_{model}`, and whose: see [`scope_of`].
    pub scope: String,
    /// The orchestrator's service URI, as it names itself (`OrchestratorInfo.transcoder`).
    pub orchestrator: String,
}

/// The scope of one caller: what is done (`stream:…`, `ai:…`) is theirs alone.
pub fn scope_of(what: &str, caller: &AuthId) -> String {
    format!("{what}@{caller}")
}

/// The stream that a scope is of, and its caller, if it names one.
pub fn stream_of_scope(scope: &str) -> Option<(StreamId, Option<&str>)> {
    let stream = scope.strip_prefix("stream:")?;
    // No stream's name has an `@`; a caller's may.
    let (id, caller) = match stream.split_once('@') {
        Some((id, caller)) => (id, Some(caller)),
        None => (stream, None),
    };
    Some((StreamId::new(id).ok()?, caller))
}

/// One replica, or one task of it: whoever may hold a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnerId(pub String);

/// Grows with each lease granted for a key; a write with an older one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(pub u64);

/// The outcome of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Ours until `until` or until released.
    Granted {
        /// Give this with every write.
        fence: Fence,
        /// When another owner may take it.
        until: UnixMs,
    },
    /// Somebody else's until then; wait and look at the credit they bought.
    Held {
        /// When it lapses at the latest.
        until: UnixMs,
    },
}

/// The outcome of a fenced write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Written.
    Yes,
    /// A newer lease exists: nothing was written, the caller's knowledge is stale.
    Fenced,
}

/// A purchase that was begun and not yet seen to its end. Stored **before** the signer is asked, so
/// that a survivor repeats the very same request and gets the very same tickets
/// (architecture.md rule 3), instead of buying again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPurchase {
    /// Names the purchase: idempotency key at the signer, and of the credit booked.
    pub id: String,
    /// Units asked for (pixels, milliseconds of audio).
    pub units: u64,
    /// The `OrchestratorInfo` sent along, protobuf.
    pub info: Vec<u8>,
}

/// What is stored of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The newest `OrchestratorInfo`, protobuf as received.
    pub info: Vec<u8>,
    /// When it was received.
    pub info_at: UnixMs,
    /// Ties payments to the orchestrator's account.
    pub manifest_id: ManifestId,
    /// The signer's `state` object, returned to it unchanged; `None` before the first payment.
    pub payment_state: Option<String>,
    /// A ready `Livepeer-Segment` value for jobs without media of their own, while its token lasts.
    pub credential: Option<String>,
    /// A purchase to be finished before another begins.
    pub purchase: Option<PendingPurchase>,
}

impl SessionRecord {
    /// Most bytes of `info` a backend takes: far above any real one, far below harm.
    pub const MAX_INFO_BYTES: usize = 256 * 1024;
    /// Most bytes of `payment_state` and of `credential`.
    pub const MAX_STATE_BYTES: usize = 64 * 1024;

    /// Checks the limit of an `OrchestratorInfo`.
    pub fn check_info(info: &[u8]) -> Result<(), StoreError> {
        if info.len() > Self::MAX_INFO_BYTES {
            return Err(StoreError::TooLarge {
                what: "an OrchestratorInfo",
                limit_bytes: Self::MAX_INFO_BYTES,
            });
        }
        Ok(())
    }

    /// Checks the two limits.
    pub fn check_size(&self) -> Result<(), StoreError> {
        Self::check_info(&self.info)?;
        self.purchase.as_ref().map_or(Ok(()), |p| Self::check_info(&p.info))?;
        let opaque = [&self.payment_state, &self.credential];
        if opaque.into_iter().flatten().any(|s| s.len() > Self::MAX_STATE_BYTES) {
            return Err(StoreError::TooLarge {
                what: "a payment state",
                limit_bytes: Self::MAX_STATE_BYTES,
            });
        }
        Ok(())
    }
}

/// Sessions and their leases.
#[async_trait]
pub trait OrchestratorSessionStore: Send + Sync {
    /// The record, if any.
    async fn session(
        &self,
        key: &SessionKey,
        now: UnixMs,
    ) -> Result<Option<SessionRecord>, StoreError>;

    /// Asks for the right to change the session. One holder at a time; the holder asking again
    /// extends its lease under the same fence, also when it had lapsed and nobody had it since.
    async fn lease_session(
        &self,
        key: &SessionKey,
        owner: &OwnerId,
        lease_ms: u64,
        now: UnixMs,
    ) -> Result<Lease, StoreError>;

    /// Writes the record if `fence` is the newest granted, for `ttl_ms` from `now`.
    async fn save_session(
        &self,
        key: &SessionKey,
        fence: Fence,
        record: &SessionRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Saved, StoreError>;

    /// Replaces only `info`, without a lease, if the session exists and still has this manifest id:
    /// every answer of an orchestrator brings fresher ticket parameters, and losing one is harmless.
    async fn refresh_session_info(
        &self,
        key: &SessionKey,
        manifest_id: &ManifestId,
        info: &[u8],
        now: UnixMs,
    ) -> Result<bool, StoreError>;

    /// Gives the lease back if it is this owner's; the record stays. By the owner and not by the fence:
    /// one whose answer was lost has no fence, and may have been granted all the same.
    async fn release_session(
        &self,
        key: &SessionKey,
        owner: &OwnerId,
        now: UnixMs,
    ) -> Result<(), StoreError>;

    /// Forgets the record if `fence` is the newest. The fence counter is kept, so that an old
    /// holder stays fenced out.
    async fn remove_session(
        &self,
        key: &SessionKey,
        fence: Fence,
        now: UnixMs,
    ) -> Result<Saved, StoreError>;
}
