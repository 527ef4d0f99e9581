//! aiModels.json, or its inline form (ai-pipelines.md section 8.3), as far as it concerns an orchestrator: prices of
//! models, and the runners of live video that have an address. The rest is the worker's business.

use crate::{
    live::{
        Hosted, Hosting, RunnerApi, runner_client,
        runners::{Runner, Runners},
        scope::MODEL as SCOPE,
    },
    pricing::{
        list::{Rule, When},
        model_price,
    },
};
use penstock_config::{ConfigError, Secret};
use penstock_domain::{Capability, CurrencyPrice, parse_address};
use penstock_wire::ai::{InlineModel, inline_models};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use url::Url;

/// Bytes read of a models file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
const SETTING: &str = "--models-file";

/// The file, read.
pub struct ModelsFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Default, Deserialize)]
struct Entry {
    pipeline: String,
    model_id: String,
    price_per_unit: Option<serde_json::Number>,
    pixels_per_unit: Option<serde_json::Number>,
    currency: Option<String>,
    gateway: Option<String>,
    url: Option<String>,
    token: Option<String>,
    capacity: Option<u32>,
}

/// Reads it; where there is no such file, its name may be the models themselves.
pub fn read(path: &Path) -> Result<ModelsFile, ConfigError> {
    let inline = path.to_str().filter(|_| !path.is_file()).and_then(inline_models);
    if let Some(models) = inline {
        let entry = |model: &InlineModel<'_>| Entry {
            pipeline: model.pipeline.to_owned(),
            model_id: model.model_id.to_owned(),
            ..Entry::default()
        };
        let entries = models.iter().map(entry).collect();
        return Ok(ModelsFile { path: path.to_owned(), entries });
    }
    let failed =
        |source| ConfigError::Read { setting: SETTING.to_owned(), path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES), &mut text)
        .map_err(failed)?;
    let entries = serde_json::from_slice(&text)
        .map_err(|e| ConfigError::value(SETTING, format!("{}: {e}", path.display())))?;
    Ok(ModelsFile { path: path.to_owned(), entries })
}

impl ModelsFile {
    /// Prices of models, for everybody or for one `gateway`; without one of its own, a model has the price of
    /// pixels: so much text for so many units. Of several entries for the same, the last counts.
    pub fn prices(&self, price: &str, units: &str) -> Result<Vec<Rule>, ConfigError> {
        let rule = |entry: &Entry| {
            let of = entry.pixels_per_unit.as_ref();
            let of = of.map_or_else(|| units.to_owned(), ToString::to_string);
            let currency = entry.currency.as_deref().unwrap_or_default();
            let price = match &entry.price_per_unit {
                None => CurrencyPrice::parse(price, &of),
                Some(price) => CurrencyPrice::new(&price.to_string(), currency, &of),
            };
            let price = price.map_err(|e| self.bad(entry, e))?;
            let gateway = entry.gateway.as_deref().filter(|name| !matches!(*name, "" | "default"));
            let gateway = gateway.map(|text| {
                parse_address(text).ok_or_else(|| self.bad(entry, "gateway must be an address"))
            });
            let spelled = format!("{}/{}=0", entry.pipeline, entry.model_id);
            let checked =
                model_price(&spelled).map_err(|e| ConfigError::value(SETTING, e.to_string()))?;
            let when =
                When { gateways: gateway.transpose()?.into_iter().collect(), ..checked.when };
            Ok(Rule { when, price })
        };
        self.entries.iter().rev().map(rule).collect()
    }

    /// Runners of live video: its entries that say where they are.
    pub fn live_runners(&self, hosting: &Hosting) -> Result<Runners, ConfigError> {
        let http = runner_client().map_err(|e| ConfigError::value(SETTING, e.to_string()))?;
        let live = Capability::LiveVideoToVideo.pipeline();
        let mut runners = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.pipeline == live) {
            let Some(url) = entry.url.as_deref().filter(|url| !url.is_empty()) else {
                let (file, model) = (self.path.display(), &entry.model_id);
                tracing::info!(%file, model, "live video without a url: sessions begin when a worker has brought a runner");
                continue;
            };
            let url = Url::parse(url).map_err(|e| self.bad(entry, e))?;
            let is_hosted = matches!(url.scheme(), "ws" | "wss");
            if !is_hosted && !matches!(url.scheme(), "http" | "https") {
                return Err(
                    self.bad(entry, "url must be http or https, or ws or wss of a hosted runner")
                );
            }
            if is_hosted && entry.model_id != SCOPE {
                return Err(self.bad(entry, "hosted runners (ws, wss) are of the model scope"));
            }
            // The reference takes 0 for "not said", and so do workers, which read the same file.
            let capacity = entry.capacity.unwrap_or(0).max(1);
            let token = entry.token.clone().filter(|token| !token.is_empty()).map(Secret::new);
            let api = if is_hosted {
                let hosted = Hosted::new(hosting, &url, token);
                let hosted = hosted.map_err(|e| ConfigError::value(SETTING, e.to_string()))?;
                RunnerApi::hosted(hosted.ok_or_else(|| self.bad(entry, "url has no host"))?)
            } else {
                RunnerApi::new(http.clone(), url, token, hosting.limits.live_answer_bytes)
            };
            runners.push(Runner::new(api, entry.model_id.clone(), capacity));
        }
        Ok(Runners::new(runners))
    }

    fn bad(&self, entry: &Entry, why: impl std::fmt::Display) -> ConfigError {
        let (path, model) = (self.path.display(), &entry.model_id);
        ConfigError::value(SETTING, format!("{path}: {model}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn hosting() -> Hosting {
        Hosting {
            trickle: penstock_trickle::TrickleServer::new(Default::default()).unwrap(),
            longest: std::time::Duration::from_secs(1),
            grace: std::time::Duration::ZERO,
            prefix: None,
            limits: Limits::default(),
        }
    }

    #[test]
    fn live_runners() {
        penstock_http_kit::tls::install_crypto_provider();
        let runners = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("aiModels.json");
            std::fs::write(&path, text).unwrap();
            read(&path).unwrap().live_runners(&hosting()).map(|runners| runners.view())
        };
        let view = runners(
            r#"[{"pipeline":"live-video-to-video","model_id":"noop","url":"http://10.0.0.1:8900",
                 "token":"t","capacity":3},
                {"pipeline":"live-video-to-video","model_id":"a","url":"http://10.0.0.1","capacity":0},
                {"pipeline":"live-video-to-video","model_id":"managed"},
                {"pipeline":"llm","model_id":"x","url":"http://10.0.0.2"}]"#,
        )
        .unwrap();
        assert_eq!(view.len(), 2);
        assert_eq!((&view[0]["model"], &view[0]["capacity"]), (&"noop".into(), &3.into()));
        assert_eq!((&view[1]["model"], &view[1]["capacity"]), (&"a".into(), &1.into()));
        assert!(!view[0].to_string().contains("\"t\""));
        let inline = read(Path::new("live-video-to-video:noop:true,llm:m:false")).unwrap();
        assert!(inline.live_runners(&hosting()).unwrap().view().is_empty());
        assert_eq!(inline.prices("7", "1").unwrap().len(), 2);
        assert!(read(Path::new("/nowhere/aiModels.json")).is_err());
        for bad in [r#""url":"x""#, r#""url":"ftp://h""#] {
            let text = format!(r#"[{{"pipeline":"live-video-to-video","model_id":"m",{bad}}}]"#);
            assert!(runners(&text).is_err(), "{bad}");
        }
    }
}
