//! The network's `aiModels.json`, or its inline form (ai-pipelines.md section 8.3): which models a worker
//! serves and by what. Prices are the orchestrator's business and skipped here, as are unknown fields.

use penstock_config::Secret;
use penstock_domain::Capability;
use penstock_wire::ai::InlineModel;
use serde::Deserialize;
use std::collections::BTreeMap;
use thiserror::Error;
use url::Url;

/// Largest models file.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_ENTRIES: usize = 256;
const MAX_CAPACITY: u32 = 1024;
const MAX_ID_BYTES: usize = 256;

/// What does a model's work.
#[derive(Debug, Clone)]
pub enum Backend {
    /// Runner processes of our own, one for each unit of capacity.
    Managed {
        /// Settings of what the runner computes with, by name of an environment variable (`optimization_flags`).
        flags: BTreeMap<String, String>,
    },
    /// Containers of the network's runner, started through the Docker Engine.
    Container {
        /// The same, of the network's runner.
        flags: BTreeMap<String, String>,
    },
    /// A runner that somebody else keeps running.
    External {
        /// Its address.
        url: Url,
        /// Its bearer token.
        token: Option<Secret>,
    },
}

/// One entry.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// The pipeline.
    pub capability: Capability,
    /// The model.
    pub model_id: String,
    /// What does the work.
    pub backend: Backend,
    /// Told to the orchestrator. Loaded at start, in as many runner processes as there is room for where the model is
    /// not warm ([`super::placement`]); only containers of models that are not warm are
    /// started for their first job, and those of live video never: nobody waits so long for a session.
    pub warm: bool,
    /// Jobs, or sessions of live video, at once.
    pub capacity: u32,
}

/// The models file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelsError {
    /// Not JSON of the right shape.
    #[error("not a JSON list of models: {0}")]
    Json(String),
    /// No model, or far too many.
    #[error("it must list 1 to {MAX_ENTRIES} models")]
    Count,
    /// No such pipeline.
    #[error("unknown pipeline `{0}`")]
    Pipeline(String),
    /// No usable model id.
    #[error("`model_id` must have 1 to {MAX_ID_BYTES} printable characters")]
    ModelId,
    /// No usable address.
    #[error("`url` of {0} must be http:// or https://")]
    Url(String),
    /// Capacity out of range.
    #[error("`capacity` of {0} must be 1 to {MAX_CAPACITY}")]
    Capacity(String),
    /// A flag that makes no environment variable.
    #[error("`optimization_flags` of {0}: names of letters, digits and _, and plain values")]
    Flags(String),
    /// One model both warm and cold.
    #[error("{0} is listed both warm and cold")]
    WarmAndCold(String),
}

#[derive(Deserialize)]
struct Raw {
    pipeline: String,
    model_id: String,
    url: Option<String>,
    token: Option<String>,
    #[serde(default)]
    warm: bool,
    capacity: Option<i64>,
    #[serde(default)]
    optimization_flags: Option<BTreeMap<String, serde_json::Value>>,
}

/// Who serves the models without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unaddressed {
    /// Runner processes of our own.
    Processes,
    /// Containers.
    Containers,
}

/// Reads the file's text, for a worker that starts runner processes of its own.
pub fn parse(text: &str) -> Result<Vec<ModelEntry>, ModelsError> {
    parse_for(text, Unaddressed::Processes)
}

/// Reads the file's text.
pub fn parse_for(text: &str, unaddressed: Unaddressed) -> Result<Vec<ModelEntry>, ModelsError> {
    entries(serde_json::from_str(text).map_err(|e| ModelsError::Json(e.to_string()))?, unaddressed)
}

/// Takes models that were named without a file.
pub fn from_inline(
    models: &[InlineModel<'_>],
    unaddressed: Unaddressed,
) -> Result<Vec<ModelEntry>, ModelsError> {
    let raw = |model: &InlineModel<'_>| Raw {
        pipeline: model.pipeline.to_owned(),
        model_id: model.model_id.to_owned(),
        url: None,
        token: None,
        warm: model.warm,
        capacity: None,
        optimization_flags: None,
    };
    entries(models.iter().map(raw).collect(), unaddressed)
}

fn entries(raw: Vec<Raw>, unaddressed: Unaddressed) -> Result<Vec<ModelEntry>, ModelsError> {
    if raw.is_empty() || raw.len() > MAX_ENTRIES {
        return Err(ModelsError::Count);
    }
    let entry = |raw| entry(raw, unaddressed);
    let entries = raw.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let mut warmth = BTreeMap::new();
    for entry in &entries {
        let key = (entry.capability, entry.model_id.as_str());
        if *warmth.entry(key).or_insert(entry.warm) != entry.warm {
            return Err(ModelsError::WarmAndCold(entry.model_id.clone()));
        }
    }
    Ok(entries)
}

fn entry(raw: Raw, unaddressed: Unaddressed) -> Result<ModelEntry, ModelsError> {
    let capability = Capability::from_pipeline(&raw.pipeline)
        .filter(|c| c.is_ai())
        .ok_or_else(|| ModelsError::Pipeline(shown(&raw.pipeline)))?;
    let id = &raw.model_id;
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return Err(ModelsError::ModelId);
    }
    let capacity = match raw.capacity {
        // The reference takes 0 for "not said".
        None | Some(0) => 1,
        Some(n) => u32::try_from(n)
            .ok()
            .filter(|n| *n <= MAX_CAPACITY)
            .ok_or_else(|| ModelsError::Capacity(id.clone()))?,
    };
    let backend = match raw.url.filter(|u| !u.is_empty()) {
        None if unaddressed == Unaddressed::Containers => {
            Backend::Container { flags: environment(raw.optimization_flags, id)? }
        }
        // Whether our own runner has the model, it says itself.
        None => Backend::Managed { flags: environment(raw.optimization_flags, id)? },
        Some(text) => {
            let url = Url::parse(&text)
                .ok()
                .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
                .ok_or_else(|| ModelsError::Url(id.clone()))?;
            Backend::External { url, token: raw.token.filter(|t| !t.is_empty()).map(Secret::new) }
        }
    };
    Ok(ModelEntry { capability, model_id: raw.model_id, backend, warm: raw.warm, capacity })
}

/// Flags as environment variables.
fn environment(
    flags: Option<BTreeMap<String, serde_json::Value>>,
    model_id: &str,
) -> Result<BTreeMap<String, String>, ModelsError> {
    use serde_json::Value;
    let plain = |(name, value): (String, Value)| {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let value = match value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        let fits = !name.is_empty() && name.chars().all(named) && !value.contains('\0');
        fits.then_some((name, value))
    };
    let plain: Option<BTreeMap<_, _>> = flags.into_iter().flatten().map(plain).collect();
    plain.ok_or_else(|| ModelsError::Flags(model_id.to_owned()))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: &str = r#"[
      {"pipeline":"audio-to-text","model_id":"openai/whisper-tiny.en","warm":true,"capacity":2,
       "price_per_unit":"12.5","pixels_per_unit":1000,"currency":"USD","gateway":"","optimization_flags":{"X":true}},
      {"pipeline":"image-to-text","model_id":"a/b","url":"http://10.0.0.1:8700","token":"t0k"}]"#;

    #[test]
    fn a_full_file() {
        let models = parse(FULL).unwrap();
        assert_eq!(models[0].capability, Capability::AudioToText);
        let Backend::Managed { flags } = &models[0].backend else { panic!() };
        assert_eq!(flags["X"], "true");
        assert_eq!((models[0].warm, models[0].capacity), (true, 2));
        let Backend::External { url, token } = &models[1].backend else { panic!() };
        assert_eq!(
            (url.as_str(), token.as_ref().unwrap().expose()),
            ("http://10.0.0.1:8700/", "t0k")
        );
        assert_eq!((models[1].warm, models[1].capacity), (false, 1));
        assert!(!format!("{models:?}").contains("t0k"));
    }

    #[test]
    fn mistakes_are_named() {
        let one = |fields: &str| parse(&format!("[{{{fields}}}]")).unwrap_err().to_string();
        let a2t = r#""pipeline":"audio-to-text""#;
        assert!(parse("{}").unwrap_err().to_string().starts_with("not a JSON list"));
        assert!(parse("[]").unwrap_err().to_string().contains("1 to 256"));
        assert!(one(a2t).contains("model_id"));
        assert!(one(r#""pipeline":"dance","model_id":"m""#).contains("unknown pipeline `dance`"));
        assert!(one(r#""pipeline":"h.264","model_id":"m""#).contains("unknown pipeline"));
        assert!(one(r#""pipeline":"byoc","model_id":"m""#).contains("pipeline `byoc`"));
        assert!(one(&format!(r#"{a2t},"model_id":"""#)).contains("model_id"));
        assert!(one(&format!(r#"{a2t},"model_id":"m","url":"file:///x""#)).contains("url"));
        assert!(one(&format!(r#"{a2t},"model_id":"m","capacity":-1"#)).contains("capacity"));
        assert!(one(&format!(r#"{a2t},"model_id":"m","capacity":100000"#)).contains("capacity"));
        let both = format!(r#"[{{{a2t},"model_id":"m","warm":true}},{{{a2t},"model_id":"m"}}]"#);
        assert!(parse(&both).unwrap_err().to_string().contains("both warm and cold"));
    }

    #[test]
    fn live_video_and_models_without_a_file() {
        let text = "live-video-to-video:noop:true,upscale:a/b:false";
        let models = penstock_wire::ai::inline_models(text).unwrap();
        let entries = from_inline(&models, Unaddressed::Processes).unwrap();
        assert_eq!(entries[0].capability, Capability::LiveVideoToVideo);
        assert_eq!((entries[0].warm, entries[0].capacity), (true, 1));
        assert_eq!((entries[1].model_id.as_str(), entries[1].warm), ("a/b", false));
        let models = penstock_wire::ai::inline_models("dance:m:1").unwrap();
        let refused = from_inline(&models, Unaddressed::Processes).unwrap_err();
        assert_eq!(refused.to_string(), "unknown pipeline `dance`");
    }

    #[test]
    fn containers_serve_every_pipeline_and_take_flags() {
        let text = r#"[{"pipeline":"text-to-image","model_id":"m","warm":true,
            "optimization_flags":{"SFAST":true,"STEPS":4,"NAME":"x"}}]"#;
        let models = parse_for(text, Unaddressed::Containers).unwrap();
        let Backend::Container { flags } = &models[0].backend else { panic!() };
        let flags: Vec<_> = flags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(flags, ["NAME=x", "SFAST=true", "STEPS=4"]);
        assert!(matches!(parse(text).unwrap()[0].backend, Backend::Managed { .. }));
        for bad in [r#"{"A=B":1}"#, r#"{"A":[1]}"#, r#"{"":1}"#] {
            let text = text.replace(r#"{"SFAST":true,"STEPS":4,"NAME":"x"}"#, bad);
            let error = parse_for(&text, Unaddressed::Containers).unwrap_err();
            assert!(error.to_string().contains("optimization_flags"), "{bad}");
        }
    }

    const PIECES: &[&str] = &[
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"pipeline\":",
        "\"audio-to-text\"",
        "\"model_id\":",
        "\"m\"",
        "\"url\":",
        "\"http://[\"",
        "\"token\":",
        "\"warm\":",
        "true",
        "\"capacity\":",
        "-1",
        "1e99",
        "null",
        "\"\\ud800\"",
        "\"é\"",
        "99999999999999999999",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn nothing_panics(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12),
                          whole in any::<bool>(), value in proptest::sample::select(PIECES)) {
            let text = if whole {
                format!(r#"[{{"pipeline":"audio-to-text","model_id":"m",{}}}]"#, pieces.concat())
            } else {
                FULL.replacen("true", value, 1).replacen("\"t0k\"", &pieces.concat(), 1)
            };
            let _ = parse(&text);
        }
    }
}
