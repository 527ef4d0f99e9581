//! The signer's own price limits: one for everything, and one for each capability and model.

use penstock_domain::{Capabilities, Capability, PriceInfo, Rational};
use penstock_payments::configured_maximum;
use serde::Deserialize;
use std::collections::HashMap;

/// The model name whose price stands for all models of a capability.
const DEFAULT_MODEL: &str = "default";

/// The configured limits. Zero or absent means none.
#[derive(Debug, Clone, Default)]
pub struct PriceLimits {
    /// `--max-price-per-unit / --pixels-per-unit`, wei per unit.
    pub general: Option<Rational>,
    /// By capability number and model, wei per unit.
    pub per_capability: HashMap<u32, HashMap<String, Rational>>,
}

/// The file of `--max-price-per-capability`: the Go node's JSON (operator.md section 3).
#[derive(Debug, Deserialize)]
pub struct PriceFile {
    capabilities_prices: Vec<PriceEntry>,
}

#[derive(Debug, Deserialize)]
struct PriceEntry {
    pipeline: String,
    #[serde(default)]
    model_id: String,
    price_per_unit: i64,
    pixels_per_unit: i64,
    #[serde(default)]
    currency: String,
}

impl PriceLimits {
    /// Adds the entries of a price file; the error names the entry.
    pub fn with_file(mut self, file: &PriceFile) -> Result<Self, String> {
        for (entry, place) in file.capabilities_prices.iter().zip(1u32..) {
            let at = |what: &str| format!("entry {place}: {what}");
            let capability = Capability::from_pipeline(&entry.pipeline)
                .ok_or_else(|| at(&format!("unknown pipeline {:?}", entry.pipeline)))?;
            if !matches!(entry.currency.to_ascii_lowercase().as_str(), "" | "wei") {
                return Err(at("the currency must be wei"));
            }
            let price = PriceInfo::new(entry.price_per_unit, entry.pixels_per_unit)
                .map_err(|e| at(&e.to_string()))?;
            let model = if entry.model_id.is_empty() { DEFAULT_MODEL } else { &entry.model_id };
            let models = self.per_capability.entry(capability.number()).or_default();
            models.insert(model.to_owned(), price.rational());
        }
        Ok(self)
    }

    /// The limit for what a request asks for (remote-signer.md section 6).
    pub fn for_request(&self, capabilities: Option<&Capabilities>) -> Option<Rational> {
        let pairs = capabilities
            .into_iter()
            .flat_map(|c| &c.models)
            .flat_map(|(number, models)| models.keys().map(|model| (*number, model.as_str())));
        configured_maximum(pairs, |c, m| self.of_model(c, m).cloned(), self.general.as_ref())
    }

    /// The limit for one capability and model: discovery's filter.
    pub fn for_model(&self, capability: u32, model: &str) -> Option<Rational> {
        let pair = std::iter::once((capability, model));
        configured_maximum(pair, |c, m| self.of_model(c, m).cloned(), self.general.as_ref())
    }

    fn of_model(&self, capability: u32, model: &str) -> Option<&Rational> {
        let models = self.per_capability.get(&capability)?;
        models.get(model).or_else(|| models.get(DEFAULT_MODEL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{ModelConstraint, Models};

    fn r(text: &str) -> Option<Rational> {
        Some(text.parse().unwrap())
    }

    fn asks(capability: u32, models: &[&str]) -> Capabilities {
        let models: Models =
            models.iter().map(|m| ((*m).to_owned(), ModelConstraint::default())).collect();
        Capabilities { models: [(capability, models)].into(), ..Capabilities::default() }
    }

    #[test]
    fn limits_of_capabilities_come_before_the_general_one() {
        let file = r#"{"capabilities_prices":[
            {"pipeline":"text-to-image","model_id":"a/b","price_per_unit":10,"pixels_per_unit":2,"currency":"wei"},
            {"pipeline":"text-to-image","price_per_unit":3,"pixels_per_unit":1}]}"#;
        let file: PriceFile = serde_json::from_str(file).unwrap();
        let limits =
            PriceLimits { general: r("1"), ..Default::default() }.with_file(&file).unwrap();
        assert_eq!(limits.for_request(Some(&asks(27, &["a/b"]))), r("5"));
        assert_eq!(limits.for_request(Some(&asks(27, &["a/b", "other"]))), r("8"), "a sum");
        assert_eq!(limits.for_request(Some(&asks(28, &["a/b"]))), r("1"));
        assert_eq!(limits.for_request(None), r("1"));
        assert_eq!(limits.for_model(27, "x"), r("3"));
        assert_eq!(limits.for_model(35, "x"), r("1"));
        let none = PriceLimits { general: r("0"), ..Default::default() };
        assert_eq!(none.for_request(None), None);
    }

    #[test]
    fn bad_entries_are_refused() {
        for bad in [
            r#"{"pipeline":"x","price_per_unit":1,"pixels_per_unit":1}"#,
            r#"{"pipeline":"llm","price_per_unit":1,"pixels_per_unit":0}"#,
            r#"{"pipeline":"llm","price_per_unit":-1,"pixels_per_unit":1}"#,
            r#"{"pipeline":"llm","price_per_unit":1,"pixels_per_unit":1,"currency":"usd"}"#,
        ] {
            let file =
                serde_json::from_str(&format!("{{\"capabilities_prices\":[{bad}]}}")).unwrap();
            assert!(PriceLimits::default().with_file(&file).is_err(), "{bad}");
        }
    }
}
