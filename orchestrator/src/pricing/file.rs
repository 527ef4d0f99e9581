//! The operator's price list, `--price-file`, in TOML:
//!
//! ```toml
//! [[price]]
//! pipeline = "text-to-image"      # "transcoding", a pipeline, or left out: everything
//! model = "stabilityai/sdxl-turbo"
//! gateways = ["0x…"]
//! gpu = "h100"
//! region = "eu"
//! latency = "warm"
//! load_percent = 80
//! units_per_second = 50_000_000
//! price = "0.12usd"
//! units = "1000000"
//! ```

use super::{
    PriceError, ai_pipeline,
    list::{Latency, Rule, When, Who},
    model_name,
};
use penstock_domain::{CurrencyPrice, parse_address};
use serde::Deserialize;

/// Rules in a file.
const MAX_RULES: usize = 10_000;
/// Longest name of a card or a region.
const MAX_NAME_BYTES: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    price: Vec<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    price: Number,
    units: Option<Number>,
    pipeline: Option<String>,
    model: Option<String>,
    #[serde(default)]
    gateways: Vec<String>,
    gpu: Option<String>,
    region: Option<String>,
    latency: Option<Soon>,
    load_percent: Option<u32>,
    units_per_second: Option<u64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Soon {
    Realtime,
    Warm,
    Batch,
}

/// Exact: a number with a point would be rounded by the format.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text, as \"0.12usd\", or a whole number")]
enum Number {
    Whole(u64),
    Text(String),
}

impl Number {
    fn text(&self) -> String {
        match self {
            Self::Whole(n) => n.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The rules that hold in this orchestrator's region. The error says which rule, and why.
pub fn read(text: &str, region: &str) -> Result<Vec<Rule>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.price.len() > MAX_RULES {
        return Err(format!("has more than {MAX_RULES} prices"));
    }
    let mut rules = Vec::new();
    for (at, said) in file.price.iter().enumerate() {
        let rule = said.rule().map_err(|why| format!("price {}: {why}", at + 1))?;
        let here = said.region.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(region));
        if here {
            rules.push(rule);
        }
    }
    Ok(rules)
}

impl Said {
    fn rule(&self) -> Result<Rule, String> {
        let said = |error: PriceError| error.to_string();
        let who = match self.pipeline.as_deref() {
            None => Who::Any,
            Some("transcoding") => Who::Transcoding,
            Some(name) => Who::Pipeline(ai_pipeline(name).map_err(said)?),
        };
        let model = match (self.model.as_deref(), who) {
            (None, _) => None,
            (Some(_), Who::Transcoding) => return Err("transcoding has no models".into()),
            (Some(name), _) => Some(model_name(name).ok_or("no such model can be")?),
        };
        let address = |text: &String| {
            parse_address(text).ok_or_else(|| format!("{text:?} is no address in hex"))
        };
        for name in self.gpu.iter().chain(&self.region) {
            if name.trim().is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(format!("gpu and region must be 1 to {MAX_NAME_BYTES} bytes"));
            }
        }
        if self.load_percent.is_some_and(|percent| percent > 100) {
            return Err("load_percent must be 0 to 100".into());
        }
        let units = self.units.as_ref().map_or_else(|| "1".to_owned(), Number::text);
        let price = CurrencyPrice::parse(&self.price.text(), &units).map_err(|e| e.to_string())?;
        let when = When {
            who,
            model,
            gateways: self.gateways.iter().map(address).collect::<Result<_, _>>()?,
            latency: self.latency.map(|soon| match soon {
                Soon::Realtime => Latency::Realtime,
                Soon::Warm => Latency::Warm,
                Soon::Batch => Latency::Batch,
            }),
            gpu: self.gpu.as_ref().map(|gpu| gpu.trim().to_lowercase()),
            region: self.region.clone(),
            load_percent: self.load_percent,
            units_per_second: self.units_per_second,
        };
        Ok(Rule { when, price })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list() {
        let text = r#"
            [[price]]
            pipeline = "text-to-image"
            model = "a/b"
            gateways = ["0x0101010101010101010101010101010101010101"]
            gpu = " H100 "
            region = "EU"
            latency = "warm"
            load_percent = 80
            units_per_second = 5_000_000
            price = "0.12USD"
            units = 1000000

            [[price]]
            region = "us"
            price = 7

            [[price]]
            pipeline = "transcoding"
            price = "1200"
            units = "3"
        "#;
        let rules = read(text, "eu").unwrap();
        assert_eq!(rules.len(), 2, "not those of other regions");
        let (first, second) = (&rules[0], &rules[1]);
        assert_eq!(first.price.to_string(), "3/25000000 usd");
        assert_eq!(first.when.gpu.as_deref(), Some("h100"));
        assert_eq!(first.when.units_per_second, Some(5_000_000));
        assert_eq!((first.when.who, first.when.latency), (Who::Pipeline(27), Some(Latency::Warm)));
        assert_eq!(
            (second.when.who, second.price.to_string()),
            (Who::Transcoding, "400 wei".into())
        );
        assert_eq!(read(text, "").unwrap().len(), 1);
        assert!(read("", "").unwrap().is_empty());
    }

    #[test]
    fn the_documents_list_is_one() {
        let document = include_str!("../../../docs/orchestrator.md");
        let toml = document.split("```toml").nth(1).unwrap().split("```").next().unwrap();
        assert_eq!(read(toml, "eu").unwrap().len(), 1);
    }

    #[test]
    fn what_is_refused_says_where() {
        for (bad, why) in [
            ("prices = 1", "unknown field"),
            ("[[price]]\nprice = 1\ncolour = 2", "unknown field"),
            ("[[price]]\nprice = 0.1", "expected text"),
            ("[[price]]\nunits = 1", "missing field"),
            ("[[price]]\nprice = 1\n[[price]]\nprice = \"1eur\"", "price 2: currency"),
            ("[[price]]\nprice = 1\nunits = 0", "price 1: a price"),
            ("[[price]]\nprice = 1\npipeline = \"x\"", "unknown pipeline"),
            ("[[price]]\nprice = 1\npipeline = \"transcoding\"\nmodel = \"m\"", "no models"),
            ("[[price]]\nprice = 1\ngateways = [\"0x1\"]", "no address"),
            ("[[price]]\nprice = 1\nlatency = \"soon\"", "unknown variant"),
            ("[[price]]\nprice = 1\nload_percent = 101", "0 to 100"),
            ("[[price]]\nprice = 1\ngpu = \"\"", "1 to 64"),
        ] {
            let error = read(bad, "").unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn no_text_panics(
            text in "(\\[\\[price\\]\\]\n)?(price|units|model|gpu|region|latency|load_percent|units_per_second|pipeline) = [\"0-9a-z.x\\]\\[-]{0,12}\n?"
        ) {
            let _ = read(&text, "eu");
        }
    }
}
