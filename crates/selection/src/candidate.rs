//! What is known of an orchestrator at the moment of choosing, and why one is left out.

use crate::Breaker;
use penstock_domain::{Capabilities, Incompatible, Rational, U256};
use serde::Serialize;
use std::sync::Arc;
use thiserror::Error;

/// What discovery knows of one orchestrator. Made once per answer and shared by all choices.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Its service URI (`OrchestratorInfo.transcoder`): its name in every table.
    pub transcoder: String,
    /// Its key's address, `0x` and lower-case hex; empty if it sent none.
    pub address: String,
    /// From the discovery source: ≥ 1 is trusted (selection.md section 1).
    pub score: f64,
    /// Its offer; `None` if it sent none (a legacy node).
    pub capabilities: Option<Capabilities>,
    /// Wei per unit; `None` off-chain.
    pub price: Option<Rational>,
    /// The same for a draw; see [`Facts::priced`].
    pub price_f64: f64,
    /// Stake in 1/100,000 tokens; 0 when unknown. See [`Facts::staked`].
    pub stake: u64,
    /// How long it took to answer discovery.
    pub discovery_latency_ms: u64,
    /// Where it is, as the discovery source or the operator says; lower case, empty when unknown.
    pub region: String,
    /// Names of its GPUs, from its full menu; `None` when it did not tell.
    pub gpus: Option<Vec<String>>,
    /// When it last answered, Unix milliseconds.
    pub heard_ms: u64,
}

/// Units of 10^-18 tokens in one of the draw's.
const LPTU_PER_UNIT: U256 = U256::from_limbs([10_000_000_000_000, 0, 0, 0]);

impl Facts {
    /// With what is bonded to it, from units of 10^-18 tokens, as the reference counts it: to five decimals, the rest cut
    /// off.
    #[must_use]
    pub fn staked(mut self, lptu: U256) -> Self {
        self.stake = u64::try_from(lptu / LPTU_PER_UNIT).unwrap_or(u64::MAX);
        self
    }

    /// With this price, also as a float. Nothing that is paid goes through the float.
    #[must_use]
    pub fn priced(mut self, price: Option<Rational>) -> Self {
        self.price_f64 = price.as_ref().and_then(|p| p.to_fixed(6).parse().ok()).unwrap_or(0.0);
        self.price = price;
        self
    }
}

/// One orchestrator, as discovery and experience know it.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    /// From discovery.
    pub facts: Arc<Facts>,
    /// Seconds of work per second of media in this stream's last segment there, or per unit in the last
    /// job (see `Speed`); `None`: untried.
    pub latency_score: Option<f64>,
    /// Unix milliseconds until which it is suspended.
    pub suspended_until_ms: Option<u64>,
    /// Its failures in a row, if its last job failed.
    pub breaker: Option<Breaker>,
    /// It failed this very job already.
    pub tried: bool,
}

/// Why a candidate was left out.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Exclusion {
    /// It cannot do the job.
    #[error("{0}")]
    Incompatible(#[from] Incompatible),
    /// Its node is older than the policy allows.
    #[error("node version {version:?} is below {minimum:?}")]
    Version {
        /// The policy's minimum.
        minimum: String,
        /// Its own.
        version: String,
    },
    /// There is a list of those that may be used, and it is not on it.
    #[error("not on the list of those that may be used")]
    NotIncluded,
    /// It is on the list of those that must not be used.
    #[error("on the list of those that must not be used")]
    Excluded,
    /// The policy wants trusted ones only.
    #[error("score {score} is below 1, and only trusted ones may be used")]
    Untrusted {
        /// Its score.
        score: f64,
    },
    /// It is in another region, or its region is not known.
    #[error("region {region:?} is not among those wanted")]
    Region {
        /// Its own; empty when unknown.
        region: String,
    },
    /// It has other GPUs.
    #[error("its GPUs, {}, are not of a class that is wanted", gpus.join(", "))]
    Gpu {
        /// Its own.
        gpus: Vec<String>,
    },
    /// It did not tell which GPUs it has, and the policy wants certain ones.
    #[error("its GPUs are not known: it did not tell its hardware")]
    GpuUnknown,
    /// It failed this very job already.
    #[error("failed this job already")]
    Tried,
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
    /// It said lately that the model has no room.
    #[error("no room for {model:?}, as it said {age_ms} ms ago")]
    Full {
        /// The job's model.
        model: String,
        /// How old that is.
        age_ms: u64,
    },
    /// It failed lately.
    #[error("suspended for another {remaining_ms} ms")]
    Suspended {
        /// Until it may be chosen again.
        remaining_ms: u64,
    },
    /// Its suspension is over and another job is finding out whether it works again.
    #[error("another job is trying it out for at most {remaining_ms} ms more")]
    Probing {
        /// Until the next job may try.
        remaining_ms: u64,
    },
}

impl Exclusion {
    /// A stable word for logs, metrics and explanations.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Incompatible(Incompatible::Model { .. }) => "model",
            Self::Incompatible(
                Incompatible::Version { .. } | Incompatible::RunnerVersion { .. },
            )
            | Self::Version { .. } => "version",
            Self::Incompatible(_) => "capability",
            Self::NotIncluded => "not_included",
            Self::Excluded => "excluded",
            Self::Untrusted { .. } => "untrusted",
            Self::Region { .. } => "region",
            Self::Gpu { .. } => "gpu",
            Self::GpuUnknown => "gpu_unknown",
            Self::Tried => "tried",
            Self::Price { .. } => "price",
            Self::NoPrice => "no_price",
            Self::Full { .. } => "capacity",
            Self::Suspended { .. } => "suspended",
            Self::Probing { .. } => "probing",
        }
    }
}

impl Serialize for Exclusion {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stakes_are_counted_to_five_decimals() {
        let units = |lptu: U256| Facts::default().staked(lptu).stake;
        let lpt = U256::from(10_u64).pow(U256::from(18));
        assert_eq!(units(lpt), 100_000);
        assert_eq!(units(lpt + U256::from(9_999_999_999_999_u64)), 100_000, "cut off");
        assert_eq!(
            units(lpt * U256::from(37_000_000_u64)),
            3_700_000_000_000,
            "more than there are"
        );
        assert_eq!((units(U256::ZERO), units(U256::MAX)), (0, u64::MAX));
    }
}
