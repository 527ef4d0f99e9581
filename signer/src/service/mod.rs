//! The use cases, free of HTTP. Reading order for a payment: [`offer`] (the orchestrator's part, checked), [`authorise`] (all checks in their documented
//! order), [`pay`] (reserve, sign, commit, reply).

pub mod authorise;
mod commit;
pub mod credentials;
pub mod limits;
pub mod offer;
pub mod pay;
pub mod prices;
mod reserve;
mod sign;
pub mod single_flight;

use crate::{chain_facts::ChainFacts, state_blob::StateKeys};
use limits::Limits;
use penstock_keys::TypedSigner;
use penstock_ledger::signer::SignerLedger;
use prices::PriceLimits;
use std::sync::Arc;

/// Unix nanoseconds, now. An argument, so that tests can let hours pass.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.ok().and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
    })
}

/// What every use case works with.
pub struct Signer {
    /// The account's key, behind its types.
    pub key: TypedSigner,
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
}
