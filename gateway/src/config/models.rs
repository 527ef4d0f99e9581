//! Settings that name models: what their units may cost at most, and how old their runners may be. The
//! forms are the Go node's (operator.md section 3): JSON, or a file with it.

use super::selection::Ceiling;
use penstock_config::ConfigError;
use penstock_domain::{Capabilities, Capability, version_at_least};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Largest file.
const MAX_BYTES: u64 = 1 << 20;
/// Stands for all models of a pipeline that have no entry of their own.
const DEFAULT: &str = "default";

/// Highest prices by capability and model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "RawCeilings")]
pub struct Ceilings(BTreeMap<(u32, String), Ceiling>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCeilings {
    capabilities_prices: Vec<RawCeiling>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCeiling {
    pipeline: String,
    #[serde(default)]
    model_id: String,
    price_per_unit: serde_json::Value,
    #[serde(default)]
    pixels_per_unit: Option<serde_json::Value>,
    #[serde(default)]
    currency: String,
}

/// By the name of its pipeline; `byoc` is one here.
pub fn capability_named(pipeline: &str) -> Option<Capability> {
    match pipeline {
        "byoc" => Some(Capability::Byoc),
        name => Capability::from_pipeline(name),
    }
}

fn capability(pipeline: &str) -> Result<u32, String> {
    let known = capability_named(pipeline);
    known.map(Capability::number).ok_or_else(|| format!("{pipeline:?} is no pipeline"))
}

fn model(id: String) -> String {
    if id.is_empty() { DEFAULT.to_owned() } else { id }
}

/// A number as it was written, or a text with one.
fn number(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl TryFrom<RawCeilings> for Ceilings {
    type Error = String;

    fn try_from(raw: RawCeilings) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for one in raw.capabilities_prices {
            let units = one.pixels_per_unit.as_ref().map_or_else(|| "1".to_owned(), number);
            let text = format!("{}{}/{units}", number(&one.price_per_unit), one.currency);
            let ceiling = Ceiling::try_from(text)?;
            all.insert((capability(&one.pipeline)?, model(one.model_id)), ceiling);
        }
        Ok(Self(all))
    }
}

impl Ceilings {
    /// That of a capability's model, or of all its models.
    pub fn of(&self, capability: u32, model: &str) -> Option<&Ceiling> {
        let entry = |model: &str| self.0.get(&(capability, model.to_owned()));
        entry(model).or_else(|| entry(DEFAULT))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Ceiling> {
        self.0.values()
    }
}

/// Oldest versions of runners by capability and model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunnerVersions(BTreeMap<(u32, String), String>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawVersion {
    #[serde(rename = "model_id")]
    model_id: String,
    pipeline: String,
    min_version: String,
}

impl RunnerVersions {
    /// The job, asking for runners that are not older.
    pub fn required(&self, mut job: Capabilities) -> Capabilities {
        for (capability, models) in &mut job.models {
            for (id, model) in models {
                if let Some(least) = self.0.get(&(*capability, id.clone())) {
                    model.runner_version.clone_from(least);
                }
            }
        }
        job
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The text of a setting that is JSON itself or names a file with it.
fn text_of(setting: &str, value: &str) -> Result<String, ConfigError> {
    if value.trim_start().starts_with(['{', '[']) {
        return Ok(value.to_owned());
    }
    let bad = |why: String| ConfigError::value(setting, format!("{value}: {why}"));
    let size = std::fs::metadata(value).map_err(|e| bad(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(bad(format!("has more than {MAX_BYTES} bytes")));
    }
    std::fs::read_to_string(value).map_err(|e| bad(e.to_string()))
}

/// `--max-price-per-capability`.
pub fn ceilings(value: Option<&str>) -> Result<Ceilings, ConfigError> {
    const SETTING: &str = "--max-price-per-capability";
    let Some(value) = value.filter(|v| !v.is_empty()) else { return Ok(Ceilings::default()) };
    let text = text_of(SETTING, value)?;
    serde_json::from_str(&text).map_err(|e| ConfigError::value(SETTING, e.to_string()))
}

/// `--ai-min-runner-version`.
pub fn runner_versions(value: Option<&str>) -> Result<RunnerVersions, ConfigError> {
    const SETTING: &str = "--ai-min-runner-version";
    let Some(value) = value.filter(|v| !v.is_empty()) else { return Ok(RunnerVersions::default()) };
    let bad = |why: String| ConfigError::value(SETTING, why);
    let text = text_of(SETTING, value)?;
    let raw: Vec<RawVersion> = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let mut all = BTreeMap::new();
    for one in raw {
        if one.model_id.is_empty() || !version_at_least("0", &one.min_version) {
            return Err(bad(format!(
                "{:?}, {:?}: no version of a model",
                one.model_id, one.min_version
            )));
        }
        all.insert((capability(&one.pipeline).map_err(bad)?, one.model_id), one.min_version);
    }
    Ok(RunnerVersions(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Rational;

    #[test]
    fn prices_by_model() {
        let json = r#"{"capabilities_prices":[
            {"pipeline":"llm","model_id":"m","price_per_unit":1.5,"pixels_per_unit":3},
            {"pipeline":"llm","model_id":"","price_per_unit":"7","pixels_per_unit":1,"currency":"wei"},
            {"pipeline":"byoc","model_id":"flux","price_per_unit":0.36,"pixels_per_unit":3600,"currency":"usd"}
        ]}"#;
        let all = ceilings(Some(json)).unwrap();
        let wei = |capability, model: &str| all.of(capability, model)?.wei(None);
        assert_eq!(wei(33, "m"), Rational::new(1, 2));
        assert_eq!(wei(33, "another"), Some(Rational::from_int(7)), "default");
        assert_eq!(wei(31, "m"), None);
        assert_eq!(all.of(37, "flux"), Ceiling::parse("0.0001usd").as_ref(), "a second");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        assert_eq!(ceilings(file.path().to_str()).unwrap(), all);
        assert_eq!(ceilings(None).unwrap(), Ceilings::default());
        for (bad, says) in [
            ("{", "EOF"),
            (r#"{"capabilities_prices":[{"pipeline":"x","price_per_unit":1}]}"#, "no pipeline"),
            (r#"{"capabilities_prices":[{"pipeline":"llm","price_per_unit":0}]}"#, "no price"),
            (
                r#"{"capabilities_prices":[{"pipeline":"llm","price_per_unit":1,"currency":"x"}]}"#,
                "no price",
            ),
            ("/nonexistent", "/nonexistent"),
        ] {
            let error = ceilings(Some(bad)).unwrap_err().to_string();
            assert!(
                error.starts_with("--max-price-per-capability") && error.contains(says),
                "{error}"
            );
        }
    }

    #[test]
    fn versions_by_model() {
        let json = r#"[{"model_id":"m","pipeline":"llm","minVersion":"0.13.0"}]"#;
        let all = runner_versions(Some(json)).unwrap();
        let wanted = |model: &str| {
            let job = all.required(Capabilities::ai_job(Capability::Llm, model, false));
            job.model(Capability::Llm, model).unwrap().runner_version.clone()
        };
        assert_eq!((wanted("m").as_str(), wanted("another").as_str()), ("0.13.0", ""));
        for bad in [
            r#"[{"model_id":"","pipeline":"llm","minVersion":"1"}]"#,
            r#"[{"model_id":"m","pipeline":"llm","minVersion":"x"}]"#,
            r#"[{"model_id":"m","pipeline":"x","minVersion":"1"}]"#,
            "[{}]",
        ] {
            assert!(runner_versions(Some(bad)).is_err(), "{bad}");
        }
    }
}
