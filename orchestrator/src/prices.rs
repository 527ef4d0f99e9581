//! What the operator asks for work, before overhead (orchestrator-wire.md section 9).

use penstock_domain::{Address, Capabilities, Capability, Rational};
use penstock_payments::{price_with_overhead, wire_price};
use std::collections::BTreeMap;
use thiserror::Error;

/// A price setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PriceError {
    /// Not `PIPELINE/MODEL=PRICE/UNITS`.
    #[error("must be PIPELINE/MODEL=PRICE or PIPELINE/MODEL=PRICE/UNITS, got {0:?}")]
    Form(String),
    /// No such pipeline.
    #[error("unknown pipeline {0:?}")]
    Pipeline(String),
    /// Negative or absurd.
    #[error("a price must be a number ≥ 0, units a number > 0")]
    Number,
}

/// One model's price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPrice {
    /// The pipeline's capability.
    pub capability: Capability,
    /// The model.
    pub model: String,
    /// Wei per unit.
    pub price: Rational,
}

impl ModelPrice {
    /// `audio-to-text/openai/whisper-tiny.en=4/1`: wei per so many units.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let form = || PriceError::Form(text.to_owned());
        let (what, price) = text.rsplit_once('=').ok_or_else(form)?;
        let (pipeline, model) = what.split_once('/').ok_or_else(form)?;
        if model.is_empty() || model.len() > 160 {
            return Err(form());
        }
        let capability = Capability::from_pipeline(pipeline)
            .filter(|c| c.is_ai())
            .ok_or_else(|| PriceError::Pipeline(pipeline.to_owned()))?;
        let (per, units) = price.split_once('/').unwrap_or((price, "1"));
        Ok(Self { capability, model: model.to_owned(), price: ratio(per, units)? })
    }
}

/// `price / units` from two decimal texts.
pub fn ratio(price: &str, units: &str) -> Result<Rational, PriceError> {
    let number = |text: &str| Rational::from_decimal(text).map_err(|_| PriceError::Number);
    let (price, units) = (number(price)?, number(units)?);
    if price.is_negative() || !units.is_positive() {
        return Err(PriceError::Number);
    }
    price.checked_div(&units).ok_or(PriceError::Number)
}

/// The operator's prices, in wei per unit.
#[derive(Debug, Clone, Default)]
pub struct PriceBook {
    transcoding: Rational,
    transcoding_by_gateway: BTreeMap<Address, Rational>,
    models: BTreeMap<(u32, String), Rational>,
}

impl PriceBook {
    /// One price for pixels, and one for each priced model.
    pub fn new(transcoding: Rational, models: impl IntoIterator<Item = ModelPrice>) -> Self {
        Self {
            transcoding,
            transcoding_by_gateway: BTreeMap::new(),
            models: models
                .into_iter()
                .map(|m| ((m.capability.number(), m.model), m.price))
                .collect(),
        }
    }

    /// Another price for pixels for one gateway.
    #[must_use]
    pub fn with_gateway(mut self, gateway: Address, price: Rational) -> Self {
        self.transcoding_by_gateway.insert(gateway, price);
        self
    }

    /// Before overhead. With capabilities: the sum over those that carry a capacity and name
    /// models; the transcoding price if that is nothing.
    pub fn base(&self, sender: Address, job: Option<&Capabilities>) -> Rational {
        let transcoding =
            self.transcoding_by_gateway.get(&sender).unwrap_or(&self.transcoding).clone();
        let Some(job) = job else { return transcoding };
        let mut sum = Rational::ZERO;
        for (number, models) in &job.models {
            if !job.capacities.contains_key(number) {
                continue;
            }
            for model in models.keys() {
                if let Some(price) = self.models.get(&(*number, model.clone())) {
                    sum += price;
                }
            }
        }
        if sum.is_zero() { transcoding } else { sum }
    }

    /// Each priced model, without overhead.
    pub fn models(&self) -> impl Iterator<Item = (u32, &str, &Rational)> {
        self.models.iter().map(|((number, model), price)| (*number, model.as_str(), price))
    }
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

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    #[test]
    fn settings() {
        let m = ModelPrice::parse("audio-to-text/openai/whisper-tiny.en=4/3").unwrap();
        assert_eq!(
            (m.capability, m.model.as_str()),
            (Capability::AudioToText, "openai/whisper-tiny.en")
        );
        assert_eq!(m.price, r("4/3"));
        assert_eq!(ModelPrice::parse("llm/a=b=0.5").unwrap().model, "a=b");
        for bad in [
            "",
            "llm",
            "llm/m",
            "llm/m=",
            "llm/m=-1",
            "llm/m=1/0",
            "llm/m=1/-1",
            "x/m=1",
            "byoc/m=1",
            "llm/=1",
        ] {
            assert!(ModelPrice::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base_prices() {
        let book = PriceBook::new(
            r("7"),
            [
                ModelPrice::parse("audio-to-text/m=4").unwrap(),
                ModelPrice::parse("llm/n=1/2").unwrap(),
            ],
        );
        let gateway = Address::repeat_byte(1);
        let book = book.with_gateway(gateway, r("2"));
        let job = |c, m| Capabilities::ai_job(c, m, false);
        let audio = job(Capability::AudioToText, "m");
        assert_eq!(book.base(Address::ZERO, None), r("7"));
        assert_eq!(book.base(gateway, None), r("2"));
        assert_eq!(book.base(Address::ZERO, Some(&audio)), r("4"));
        assert_eq!(book.base(Address::ZERO, Some(&job(Capability::AudioToText, "x"))), r("7"));
        assert_eq!(book.base(Address::ZERO, Some(&Capabilities::default())), r("7"));
        let mut both = audio.clone();
        both.models.insert(33, [("n".to_owned(), Default::default())].into());
        assert_eq!(
            book.base(Address::ZERO, Some(&both)),
            r("4"),
            "without a capacity it is not priced"
        );
        both.capacities.insert(33, 1);
        assert_eq!(book.base(Address::ZERO, Some(&both)), r("9/2"));
        assert_eq!(book.models().collect::<Vec<_>>(), [(31, "m", &r("4")), (33, "n", &r("1/2"))]);
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
            let _ = ModelPrice::parse(&text);
        }
    }
}
