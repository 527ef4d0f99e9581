//! The operator's price list, `--price-file`, in TOML:
//!
//! ```toml
//! [[price]]
//! pipeline = "text-to-image"      # "transcoding", a pipeline, or left out: both
//! model = "stabilityai/sdxl-turbo"
//! gateways = ["0x…"]
//! gpu = "h100"
//! region = "eu"
//! latency = "warm"
//! load_percent = 80
//! units_per_second = 50_000_000
//! price = "0.12usd"
//! units = "1000000"
//!
//! [[price]]
//! app = "demo/echo"               # live runners; `capability` for what workers brought; "*" is all of them
//! unit = "hour"                   # what `units` are
//! price = "0.36usd"
//! ```

use super::{
    PriceError, ai_pipeline,
    list::{Latency, Rule, When, Who},
    model_name,
    unit::Unit,
};
use penstock_domain::{Capability, CurrencyPrice, Rational, parse_address};
use penstock_wire::limits;
use serde::Deserialize;

/// Rules in a file.
const MAX_RULES: usize = 10_000;
/// Every capability, every app.
const ALL: &str = "*";
/// As errors list them.
const UNITS: &str = r#""seconds", "hour", "720p-pixel-seconds", "720p" or "fixed""#;
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
    unit: Option<String>,
    pipeline: Option<String>,
    model: Option<String>,
    capability: Option<String>,
    app: Option<String>,
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
        let (who, model) = self.whom()?;
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
        let price = if who.is_others() { self.of_others(who, price)? } else { price };
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

    /// What it is for: a pipeline and a model, a brought capability, or live runners by their app.
    fn whom(&self) -> Result<(Who, Option<String>), String> {
        match (&self.capability, &self.app) {
            (None, None) => self.pipeline(),
            _ if self.pipeline.is_some() || self.model.is_some() => {
                Err("is for a pipeline and its model, a capability, or an app: not for two of them"
                    .into())
            }
            (Some(_), Some(_)) => Err("is for a capability or an app: not for both".into()),
            (Some(name), None) => Ok((Who::Brought, named("capability", name)?)),
            (None, Some(app)) => {
                let (unit, _) = self.said_unit()?.ok_or_else(|| {
                    format!("needs the unit that the app is sold by: unit = {UNITS}")
                })?;
                Ok((Who::Runner(unit), named("app", app)?))
            }
        }
    }

    fn pipeline(&self) -> Result<(Who, Option<String>), String> {
        if self.unit.is_some() {
            return Err(
                "unit goes with capability and app: what a pipeline counts is its own".into()
            );
        }
        let byoc = Capability::Byoc.pipeline();
        let who = match self.pipeline.as_deref() {
            None => Who::Any,
            Some("transcoding") => Who::Transcoding,
            Some(name) if name == byoc => {
                return Err("what workers bring is named by capability, without a pipeline".into());
            }
            Some(name) => {
                Who::Pipeline(ai_pipeline(name).map_err(|error: PriceError| error.to_string())?)
            }
        };
        match (self.model.as_deref(), who) {
            (None, _) => Ok((who, None)),
            (Some(_), Who::Transcoding) => Err("transcoding has no models".into()),
            (Some(name), _) => Ok((who, Some(model_name(name).ok_or("no such model can be")?))),
        }
    }

    fn said_unit(&self) -> Result<Option<(Unit, u64)>, String> {
        let Some(said) = &self.unit else { return Ok(None) };
        Unit::of_list(said).map(Some).ok_or_else(|| format!("unit must be {UNITS}"))
    }

    /// The price of one unit of what others brought. Conditions that could never hold are a mistake in money.
    fn of_others(&self, who: Who, price: CurrencyPrice) -> Result<CurrencyPrice, String> {
        let (unit, in_said) = self.said_unit()?.unwrap_or((Unit::Seconds, 1));
        if who == Who::Brought {
            if unit != Unit::Seconds {
                let why =
                    "brought capabilities are sold by the second: unit = \"seconds\" or \"hour\"";
                return Err(why.into());
            }
            if self.latency.is_some() {
                let why = "latency never holds for a capability: jobs, streams and training have one price";
                return Err(why.into());
            }
        }
        if matches!(self.latency, Some(Soon::Warm)) {
            return Err(
                "latency of an app is \"realtime\" (sessions) or \"batch\" (single calls)".into()
            );
        }
        if self.units_per_second.is_some() {
            let why = "units_per_second never holds for a capability or an app: nobody counts what they do";
            return Err(why.into());
        }
        let of = |whole: Rational| whole.checked_div(&Rational::from(in_said)).unwrap_or_default();
        let price = match price {
            CurrencyPrice::Wei(wei) => CurrencyPrice::Wei(of(wei)),
            CurrencyPrice::Usd(usd) => CurrencyPrice::Usd(of(usd)),
        };
        match (who, &price) {
            (Who::Runner(_), CurrencyPrice::Wei(wei)) if wei.floor_i64().is_none_or(|n| n < 1) => {
                Err("an app costs whole wei: at least 1 for each unit, within 64 bits".into())
            }
            (Who::Runner(_), CurrencyPrice::Usd(usd)) if usd.is_zero() => {
                Err("an app cannot be free: its clients take no such price".into())
            }
            _ => Ok(price),
        }
    }
}

/// A name that a worker may register, or `*` for all.
fn named(key: &str, name: &str) -> Result<Option<String>, String> {
    if name == ALL {
        return Ok(None);
    }
    let may_be = !name.is_empty()
        && name.trim() == name
        && name.len() <= limits::NAME_BYTES
        && !name.chars().any(char::is_control);
    may_be.then(|| Some(name.to_owned())).ok_or_else(|| format!("no {key} can be called {name:?}"))
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
        assert_eq!(read(toml, "eu").unwrap().len(), 3);
    }

    #[test]
    fn what_others_brought_is_priced_by_its_unit() {
        let text = r#"
            [[price]]
            capability = "flux"
            price = "0.36usd"
            unit = "hour"

            [[price]]
            capability = "*"
            price = 7

            [[price]]
            app = "demo/echo"
            unit = "720p"
            units = 2
            latency = "realtime"
            gpu = "H100"
            price = "0.2eth"

            [[price]]
            app = "*"
            unit = "fixed"
            price = 5
        "#;
        let rules = read(text, "").unwrap();
        let of = |n: usize| {
            (rules[n].when.who, rules[n].when.model.as_deref(), rules[n].price.to_string())
        };
        assert_eq!(of(0), (Who::Brought, Some("flux"), "1/10000 usd".into()));
        assert_eq!(of(1), (Who::Brought, None, "7 wei".into()));
        // 10^17 wei for an hour of 27,648,000 pixels a second.
        let pixels = Who::Runner(Unit::PixelSeconds);
        assert_eq!(of(2), (pixels, Some("demo/echo"), "244140625/243 wei".into()));
        assert_eq!(of(3), (Who::Runner(Unit::Fixed), None, "5 wei".into()));
    }

    #[test]
    fn rules_that_could_never_hold_are_refused() {
        let capability = "[[price]]\nprice = 1\ncapability = \"flux\"\n";
        let app = "[[price]]\nprice = 1\napp = \"demo/echo\"\nunit = \"seconds\"\n";
        for (rule, more, why) in [
            (capability, "pipeline = \"llm\"", "not for two"),
            (capability, "app = \"demo/echo\"", "not for both"),
            (capability, "model = \"m\"", "not for two"),
            (capability, "unit = \"fixed\"", "by the second"),
            (capability, "unit = \"720p\"", "by the second"),
            (capability, "unit = \"day\"", "unit must be"),
            (capability, "latency = \"batch\"", "latency never holds"),
            (capability, "units_per_second = 1", "never holds"),
            (app, "latency = \"warm\"", "sessions"),
            (app, "units_per_second = 1", "never holds"),
            (app, "units = 2", "at least 1"),
            ("[[price]]\nprice = \"0usd\"\napp = \"a\"\nunit = \"hour\"", "", "free"),
            ("[[price]]\nprice = \"99999999999eth\"\napp = \"a\"\nunit = \"fixed\"", "", "64 bits"),
            ("[[price]]\nprice = 1\napp = \"a\"", "", "needs the unit"),
            ("[[price]]\nprice = 1\napp = \" a\"\nunit = \"hour\"", "", "no app can be called"),
            ("[[price]]\nprice = 1\ncapability = \"\"", "", "no capability can be called"),
            ("[[price]]\nprice = 1\npipeline = \"byoc\"", "", "named by capability"),
            ("[[price]]\nprice = 1\nunit = \"hour\"", "", "unit goes with"),
        ] {
            let text = format!("{rule}{more}");
            let error = read(&text, "").unwrap_err();
            assert!(error.starts_with("price 1: ") && error.contains(why), "{text}: {error}");
        }
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
            text in "(\\[\\[price\\]\\]\n)?(price|units|model|gpu|region|latency|load_percent|units_per_second|pipeline|capability|app|unit) = [\"0-9a-z.x\\]\\[-]{0,12}\n?"
        ) {
            let _ = read(&text, "eu");
        }
    }
}
