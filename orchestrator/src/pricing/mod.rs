//! What the operator asks for work, before overhead (orchestrator-wire.md section 9).
//!
//! [`list`] is the price list and the pure function that prices work by it; [`file`] reads the operator's own,
//! [`gateways`] the Go node's prices per gateway, [`sources`] puts all together; [`book`] is the list in
//! force, what an ether costs, and what was offered lately, [`told`] what single gateways were offered because a
//! webhook says so; [`around`] what a price may depend on besides the request, [`throughput`] a part of that;
//! [`published`] what clients are shown; [`unit`] what is counted of work that others brought.

pub mod around;
pub mod book;
mod file;
mod gateways;
pub mod list;
mod published;
pub mod sources;
pub mod throughput;
mod told;
pub mod unit;

use list::{Rule, When, Who};
use penstock_domain::{BadPriceText, Capability, CurrencyPrice, Rational};
use penstock_payments::{price_with_overhead, wire_price};
use thiserror::Error;

/// Longest model name.
const MAX_MODEL_BYTES: usize = 160;

/// A price setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PriceError {
    /// Not `PIPELINE/MODEL=PRICE/UNITS`.
    #[error("must be PIPELINE/MODEL=PRICE or PIPELINE/MODEL=PRICE/UNITS, got {0:?}")]
    Form(String),
    /// No such pipeline.
    #[error("unknown pipeline {0:?}")]
    Pipeline(String),
    /// No price.
    #[error(transparent)]
    Price(#[from] BadPriceText),
}

/// `audio-to-text/openai/whisper-tiny.en=4/1`: what so many units of a model cost.
pub fn model_price(text: &str) -> Result<Rule, PriceError> {
    let form = || PriceError::Form(text.to_owned());
    let (what, price) = text.rsplit_once('=').ok_or_else(form)?;
    let (pipeline, model) = what.split_once('/').ok_or_else(form)?;
    let who = Who::Pipeline(ai_pipeline(pipeline)?);
    let model = model_name(model).ok_or_else(form)?;
    let (per, units) = price.split_once('/').unwrap_or((price, "1"));
    let price = CurrencyPrice::parse(per, units)?;
    Ok(Rule { when: When { who, model: Some(model), ..When::default() }, price })
}

/// A pipeline whose models have prices.
fn ai_pipeline(name: &str) -> Result<u32, PriceError> {
    Capability::from_pipeline(name)
        .filter(|c| c.is_ai())
        .map(Capability::number)
        .ok_or_else(|| PriceError::Pipeline(name.chars().take(64).collect()))
}

fn model_name(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= MAX_MODEL_BYTES).then(|| text.to_owned())
}

/// The lowest price an offer of today can carry for this base price. Adding overhead only raises
/// it, so any lower price in a payment was made for other work (or before a price rise).
pub fn lowest_offer(base: &Rational, auto_adjust: bool) -> Rational {
    let no_overhead = Rational::ZERO;
    let cut = if auto_adjust { price_with_overhead(base, &no_overhead) } else { base.clone() };
    wire_price(&cut).map_or(Rational::ZERO, |price| price.rational())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn settings() {
        let rule = model_price("audio-to-text/openai/whisper-tiny.en=4/3").unwrap();
        assert_eq!(rule.when.who, Who::Pipeline(31));
        assert_eq!(rule.when.model.as_deref(), Some("openai/whisper-tiny.en"));
        assert_eq!(rule.price.to_string(), "4/3 wei");
        assert_eq!(model_price("llm/m=0.5usd/1000").unwrap().price.to_string(), "1/2000 usd");
        assert_eq!(model_price("llm/a=b=0.5").unwrap().when.model.as_deref(), Some("a=b"));
        for bad in [
            "",
            "llm",
            "llm/m",
            "llm/m=",
            "llm/m=-1",
            "llm/m=1/0",
            "llm/m=1/-1",
            "llm/m=1eur",
            "x/m=1",
            "byoc/m=1",
            "llm/=1",
        ] {
            assert!(model_price(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_offer_is_below_the_lowest(n in 0u64.., d in 1u64.., m in 0u64.., k in 1u64..) {
            let base = Rational::new(n.into(), d.into()).unwrap();
            let multiplier = Rational::new(m.into(), k.into()).unwrap();
            let offered = wire_price(&price_with_overhead(&base, &multiplier));
            if let Ok(offered) = offered {
                prop_assert!(offered.rational() >= lowest_offer(&base, true));
            }
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,40}") {
            let _ = model_price(&text);
        }
    }
}
