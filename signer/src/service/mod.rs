//! The use cases, free of HTTP. Reading order for a payment: [`offer`] (the orchestrator's part,
//! checked), [`authorise`] (all checks in their documented order), [`charges`] (who is charged),
//! [`pay`] (reserve, sign, commit, reply), [`key_room`] (the proofs without which nothing is signed).

pub mod authorise;
mod bounded;
pub mod byoc;
pub mod charges;
mod commit;
mod consent;
pub mod credentials;
pub mod deposit;
pub mod event;
pub mod key_room;
pub mod known;
pub mod limits;
pub mod maintenance;
pub mod offer;
pub mod pay;
mod policy;
pub mod prices;
mod reserve;
pub mod reserve_watch;
pub mod retention;
pub mod runway;
mod sign;
pub mod single_flight;

use crate::{auth::Accounts, chain_facts::ChainFacts, error::SignerError, state_blob::StateKeys};
use bounded::Bounded;
use key_room::{KeyRoom, OwnAddress};
use known::KnownSessions;
use limits::Limits;
use offer::KnownOffers;
use penstock_domain::ManifestId;
use penstock_keys::TypedSigner;
use penstock_ledger::signer::SignerLedger;
use penstock_payments::Signature;
use prices::PriceLimits;
use std::sync::Arc;
use tracing::Instrument;

/// Unix nanoseconds, now. An argument, so that tests can let hours pass.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.ok().and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
    })
}

/// Does work that must not stop half way, in a task of its own: a client that hangs up stops nothing
/// between a record and its signature.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, SignerError>> + Send + 'static,
) -> Result<T, SignerError> {
    // A panic in there would be a bug; what was reserved is burnt, nothing was answered.
    let done = tokio::spawn(work.in_current_span()).await;
    done.map_err(|_| SignerError::Internal("a signing task ended badly"))?
}

/// What every use case works with.
pub struct Signer {
    /// The account's key, behind its proofs.
    pub key: KeyRoom,
    /// The books.
    pub ledger: Arc<dyn SignerLedger>,
    /// What is known of the chain.
    pub chain: Arc<ChainFacts>,
    /// For the state blobs.
    pub state_keys: StateKeys,
    /// How much may be signed, whoever asks.
    pub limits: Limits,
    /// Highest prices.
    pub prices: PriceLimits,
    /// Time.
    pub clock: Clock,
    /// One payment at a time per payment session.
    pub in_flight: single_flight::SingleFlight,
    /// Payment sessions as last seen.
    pub known: KnownSessions,
    /// Orchestrators' offers as last seen.
    pub offers: KnownOffers,
    /// Signatures of empty segments, which never change for a manifest id.
    pub credentials: Credentials,
    /// Whose rules a payment obeys, and who is asked about it.
    pub accounts: Arc<Accounts>,
    /// This signer's name in events; `None`: nobody listens and none are made.
    pub event_source: Option<String>,
}

/// Signatures of empty segments by manifest id.
pub type Credentials = Bounded<ManifestId, Signature>;

/// Manifest ids whose credential is remembered.
const CREDENTIALS_HALF: usize = 16 * 1024;

/// What a [`Signer`] is made of.
pub struct Parts {
    /// The account's key.
    pub key: TypedSigner,
    /// The books.
    pub ledger: Arc<dyn SignerLedger>,
    /// What is known of the chain.
    pub chain: Arc<ChainFacts>,
    /// For the state blobs.
    pub state_keys: StateKeys,
    /// How much may be signed.
    pub limits: Limits,
    /// Highest prices.
    pub prices: PriceLimits,
    /// Time.
    pub clock: Clock,
    /// The accounts.
    pub accounts: Arc<Accounts>,
    /// This signer's name in events, if anybody listens.
    pub event_source: Option<String>,
}

impl Signer {
    /// Remembers nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            key: KeyRoom::new(parts.key),
            ledger: parts.ledger,
            chain: parts.chain,
            state_keys: parts.state_keys,
            limits: parts.limits,
            prices: parts.prices,
            clock: parts.clock,
            in_flight: single_flight::SingleFlight::default(),
            known: known::none_known(),
            offers: KnownOffers::default(),
            credentials: Bounded::new(CREDENTIALS_HALF),
            accounts: parts.accounts,
            event_source: parts.event_source,
        }
    }

    /// The address with its signature, for GetOrchestrator requests: made once, at the start.
    pub async fn sign_own_address(&self) -> Result<Signature, SignerError> {
        let what = OwnAddress(self.key.address());
        let void = self.void(&what, None);
        let proof = self.audited(what, None).await?;
        self.or_void(self.key.sign_own_address(proof).await, void).await
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        (self.clock)().div_euclid(1_000_000)
    }
}
