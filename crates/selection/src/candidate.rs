//! What is known of an orchestrator at the moment of choosing, and why one is left out.

use penstock_domain::{Capabilities, Incompatible, Rational};
use serde::Serialize;
use thiserror::Error;

/// One orchestrator, as discovery and experience know it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its service URI (`OrchestratorInfo.transcoder`): its name in every table.
    pub transcoder: String,
    /// From the discovery source: ≥ 1 is trusted (selection.md section 1).
    pub score: f64,
    /// Its offer; `None` if it sent none (a legacy node).
    pub capabilities: Option<Capabilities>,
    /// Wei per unit; `None` off-chain.
    pub price: Option<Rational>,
    /// Stake in 1/100,000 tokens; 0 when unknown.
    pub stake: u64,
    /// How long it took to answer discovery.
    pub discovery_latency_ms: u64,
    /// Seconds of work per second of media in its last job; `None`: untried.
    pub latency_score: Option<f64>,
    /// Unix milliseconds until which it is suspended.
    pub suspended_until_ms: Option<u64>,
    /// It failed this very job already.
    pub tried: bool,
}

/// Why a candidate was left out.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Exclusion {
    /// It cannot do the job.
    #[error("{0}")]
    Incompatible(#[from] Incompatible),
    /// It is too dear.
    #[error("price {price} wei per unit is above the limit {limit}")]
    Price {
        /// Its price.
        price: Rational,
        /// `--max-price`.
        limit: Rational,
    },
    /// There is a price limit and it names no price.
    #[error("no price, and a price limit is set")]
    NoPrice,
    /// It failed lately.
    #[error("suspended for another {remaining_ms} ms")]
    Suspended {
        /// Until it may be chosen again.
        remaining_ms: u64,
    },
    /// It failed this very job already.
    #[error("failed this job already")]
    Tried,
}

impl Exclusion {
    /// A stable word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Incompatible(_) => "incompatible",
            Self::Price { .. } => "price",
            Self::NoPrice => "no_price",
            Self::Suspended { .. } => "suspended",
            Self::Tried => "tried",
        }
    }
}

impl Serialize for Exclusion {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
