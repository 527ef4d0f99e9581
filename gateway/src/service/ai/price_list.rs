//! The operator's own price list: what callers are told that a unit costs. Exact; it publishes and
//! charges nothing (what a caller owes is the operator's billing).
//!
//! ```json
//! {"margin": "1/20", "prices": [
//!   {"pipeline": "llm", "model": "meta-llama/llama-3.1-8B-Instruct", "wei_per_unit": "3/2"},
//!   {"pipeline": "text-to-image", "model": "*", "margin": "0.1"}]}
//! ```

use penstock_domain::{Capability, Rational};
use serde::Deserialize;
use thiserror::Error;

/// A price list that cannot be used.
#[derive(Debug, Error)]
pub enum BadPriceList {
    /// Not the JSON that is expected.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Something in it.
    #[error("{0}")]
    Entry(String),
}

/// The list, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceList {
    margin: Rational,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    pipeline: String,
    /// `None`: every model.
    model: Option<String>,
    price: Price,
}

#[derive(Debug, Clone, PartialEq)]
enum Price {
    /// So much, whatever the network takes.
    Fixed(Rational),
    /// On top of what the network takes.
    Margin(Rational),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    #[serde(default)]
    margin: Option<String>,
    #[serde(default)]
    prices: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    pipeline: String,
    model: String,
    #[serde(default)]
    wei_per_unit: Option<String>,
    #[serde(default)]
    margin: Option<String>,
}

impl PriceList {
    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<Self, BadPriceList> {
        let raw: RawList = serde_json::from_slice(text)?;
        let margin = raw.margin.as_deref().map(number).transpose()?.unwrap_or_default();
        let entries = raw.prices.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { margin, entries })
    }

    /// What callers are told, when the network takes `network` (wei per unit). The first entry that
    /// names the model counts, then the first that names every model.
    pub fn published(
        &self,
        pipeline: &str,
        model: &str,
        network: Option<&Rational>,
    ) -> Option<Rational> {
        let of_pipeline = || self.entries.iter().filter(|e| e.pipeline == pipeline);
        let entry = of_pipeline()
            .find(|e| e.model.as_deref() == Some(model))
            .or_else(|| of_pipeline().find(|e| e.model.is_none()));
        let margin = match entry.map(|e| &e.price) {
            Some(Price::Fixed(price)) => return Some(price.clone()),
            Some(Price::Margin(margin)) => margin,
            None => &self.margin,
        };
        Some(network? * &(&Rational::ONE + margin))
    }
}

fn entry(raw: RawEntry) -> Result<Entry, BadPriceList> {
    let name = format!("{}/{}", raw.pipeline, raw.model);
    let bad = |reason: &str| BadPriceList::Entry(format!("{name}: {reason}"));
    let known = raw.pipeline == "byoc" || Capability::from_pipeline(&raw.pipeline).is_some();
    if !known || raw.model.is_empty() {
        return Err(bad("names no pipeline and model"));
    }
    let price = match (&raw.wei_per_unit, &raw.margin) {
        (Some(price), None) => Price::Fixed(number(price)?),
        (None, Some(margin)) => Price::Margin(number(margin)?),
        _ => return Err(bad("must have either wei_per_unit or margin")),
    };
    let model = (raw.model != "*").then_some(raw.model);
    Ok(Entry { pipeline: raw.pipeline, model, price })
}

/// A decimal or `n/d`, not negative.
fn number(text: &str) -> Result<Rational, BadPriceList> {
    let bad = || BadPriceList::Entry(format!("{text:?} is no number, or a negative one"));
    let (n, d) = text.split_once('/').unwrap_or((text, "1"));
    let n = Rational::from_decimal(n).map_err(|_| bad())?;
    let d = Rational::from_decimal(d).map_err(|_| bad())?;
    n.checked_div(&d).filter(|n| !n.is_negative()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<PriceList, BadPriceList> {
        PriceList::parse(text.as_bytes())
    }

    #[test]
    fn the_nearest_entry_counts_and_nothing_is_rounded() {
        let list = list(
            r#"{"margin": "1/3", "prices": [
                {"pipeline": "llm", "model": "*", "margin": "0.1"},
                {"pipeline": "llm", "model": "a", "wei_per_unit": "3/7"},
                {"pipeline": "byoc", "model": "flux", "wei_per_unit": "0"}]}"#,
        )
        .unwrap();
        let network = Rational::new(3, 2).unwrap();
        let of = |pipeline, model| list.published(pipeline, model, Some(&network)).unwrap();
        assert_eq!(of("llm", "a"), Rational::new(3, 7).unwrap());
        assert_eq!(of("llm", "b"), Rational::new(33, 20).unwrap());
        assert_eq!(of("upscale", "b"), Rational::from_int(2));
        assert_eq!(list.published("llm", "a", None), Rational::new(3, 7));
        assert_eq!(list.published("upscale", "b", None), None);
    }

    #[test]
    fn mistakes_are_told() {
        for bad in [
            r#"{"margins": "1"}"#,
            r#"{"margin": "-1"}"#,
            r#"{"margin": "1/0"}"#,
            r#"{"prices": [{"pipeline": "nope", "model": "*", "margin": "1"}]}"#,
            r#"{"prices": [{"pipeline": "llm", "model": "", "margin": "1"}]}"#,
            r#"{"prices": [{"pipeline": "llm", "model": "*"}]}"#,
            r#"{"prices": [{"pipeline": "llm", "model": "*", "margin": "1", "wei_per_unit": "1"}]}"#,
            r#"{"prices": [{"pipeline": "llm", "model": "*", "wei_per_unit": "x"}]}"#,
        ] {
            assert!(list(bad).is_err(), "{bad}");
        }
        assert!(list("{}").is_ok());
    }
}
