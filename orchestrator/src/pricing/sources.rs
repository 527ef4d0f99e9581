//! Where prices come from, put together in the order in which they count: what an operator set while the process
//! runs for a gateway, `--price-file`, `--price-per-gateway`, models with a `gateway` of their own,
//! `--price-per-model`, the other models, what was set for everybody, and `--price-per-unit`.

use super::{
    file, gateways,
    list::{PriceList, Rule, When, Who},
    model_price,
};
use crate::{config::Args, models_file};
use penstock_config::ConfigError;
use penstock_domain::{Address, CurrencyPrice};
use std::{collections::BTreeMap, io::Read as _, path::Path, path::PathBuf};

/// Bytes read of a file.
const MAX_BYTES: u64 = 4 << 20;

/// What the operator set while the process runs: prices of transcoding, for a gateway or for everybody.
pub type Set = BTreeMap<Option<Address>, CurrencyPrice>;

/// The settings that say where prices are.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Default))]
pub struct Sources {
    price_per_unit: String,
    pixels_per_unit: String,
    price_per_model: Vec<String>,
    price_per_gateway: Option<String>,
    models_file: Option<PathBuf>,
    price_file: Option<PathBuf>,
    region: String,
}

impl From<&Args> for Sources {
    fn from(args: &Args) -> Self {
        Self {
            price_per_unit: args.price_per_unit.clone(),
            pixels_per_unit: args.pixels_per_unit.clone(),
            price_per_model: args.price_per_model.clone(),
            price_per_gateway: args.price_per_gateway.clone(),
            models_file: args.models_file.clone(),
            price_file: args.price_file.clone(),
            region: args.region.clone(),
        }
    }
}

impl Sources {
    /// Whether anything of it is in a file, which may change.
    pub fn may_change(&self) -> bool {
        let gateways = self.price_per_gateway.as_deref().is_some_and(|text| !is_json(text));
        self.price_file.is_some() || self.models_file.is_some() || gateways
    }

    /// Where this orchestrator is.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Reads all of it. The error names the setting.
    pub fn read(&self, set: &Set) -> Result<PriceList, ConfigError> {
        let pixels =
            |price| Rule { when: When { who: Who::Transcoding, ..When::default() }, price };
        let base = CurrencyPrice::parse(&self.price_per_unit, &self.pixels_per_unit)
            .map_err(|e| ConfigError::value("--price-per-unit", e.to_string()))?;
        let mut rules = Vec::new();
        for (gateway, price) in set {
            if let Some(gateway) = gateway {
                let when = When { gateways: [*gateway].into(), ..pixels(price.clone()).when };
                rules.push(Rule { when, price: price.clone() });
            }
        }
        if let Some(path) = &self.price_file {
            let bad =
                |why| ConfigError::value("--price-file", format!("{}: {why}", path.display()));
            let text = read_text(path, "--price-file")?;
            rules.extend(file::read(&text, &self.region).map_err(bad)?);
        }
        if let Some(said) = &self.price_per_gateway {
            let text = match is_json(said) {
                true => said.clone(),
                false => read_text(Path::new(said), "--price-per-gateway")?,
            };
            let bad = |why| ConfigError::value("--price-per-gateway", why);
            rules.extend(gateways::read(&text).map_err(bad)?);
        }
        let (price, units) = (self.price_per_unit.as_str(), self.pixels_per_unit.as_str());
        let models = match &self.models_file {
            Some(path) => models_file::read(path)?.prices(price, units)?,
            None => Vec::new(),
        };
        let (of_gateways, models): (Vec<_>, Vec<_>) =
            models.into_iter().partition(|rule| !rule.when.gateways.is_empty());
        rules.extend(of_gateways);
        // The last one for a model counts.
        for text in self.price_per_model.iter().rev() {
            let bad = |e: super::PriceError| ConfigError::value("--price-per-model", e.to_string());
            rules.push(model_price(text).map_err(bad)?);
        }
        rules.extend(models);
        rules.extend(set.get(&None).cloned().map(pixels));
        rules.push(pixels(base));
        Ok(PriceList::new(rules))
    }
}

/// Like the Go node's settings of this kind: JSON, or a file with it.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn read_text(path: &Path, setting: &str) -> Result<String, ConfigError> {
    let failed =
        |source| ConfigError::Read { setting: setting.to_owned(), path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        let why = format!("{} has more than {MAX_BYTES} bytes", path.display());
        return Err(ConfigError::value(setting, why));
    }
    Ok(text)
}
