//! Settings of AI jobs: models, limits, where results are found.

use crate::service::ai::{Pipeline, price_list::PriceList};
use penstock_config::ConfigError;
use penstock_domain::{Capability, ManifestId};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

const HOUR_MS: u64 = 3_600_000;

/// AI jobs.
#[derive(Debug, Clone, clap::Args)]
pub struct AiArgs {
    /// Model used when a request names none, as PIPELINE=MODEL. Repeat or separate by commas. The
    /// gateway keeps looking for orchestrators that have it, before anybody asks.
    #[arg(
        long,
        env = "PENSTOCK_DEFAULT_MODEL",
        value_delimiter = ',',
        value_name = "PIPELINE=MODEL"
    )]
    pub default_model: Vec<String>,

    /// Most bytes of an uploaded audio file.
    #[arg(long, env = "PENSTOCK_MAX_AUDIO_BYTES", default_value_t = 50 * 1024 * 1024, value_name = "BYTES",
          value_parser = penstock_config::within::<usize>(0, 1 << 40))]
    pub max_audio_bytes: usize,

    /// Most bytes of an uploaded picture.
    #[arg(long, env = "PENSTOCK_MAX_IMAGE_BYTES", default_value_t = 50 * 1024 * 1024, value_name = "BYTES",
          value_parser = penstock_config::within::<usize>(0, 1 << 40))]
    pub max_image_bytes: usize,

    /// Most bytes of a JSON request for an AI job.
    #[arg(long, env = "PENSTOCK_MAX_AI_JSON_BYTES", default_value_t = 4 * 1024 * 1024, value_name = "BYTES",
          value_parser = penstock_config::within::<usize>(0, 1 << 40))]
    pub max_ai_json_bytes: usize,

    /// How long an AI job waits for an orchestrator to appear when there is none, in milliseconds.
    #[arg(long, env = "PENSTOCK_AI_RETRY_TIMEOUT_MS", default_value_t = 2_000, value_name = "MS")]
    pub ai_retry_timeout_ms: u64,

    /// How long one AI job may take in all, in milliseconds: no further orchestrator gets it after so long.
    #[arg(long, env = "PENSTOCK_AI_JOB_TIMEOUT_MS", default_value_t = 600_000, value_name = "MS")]
    pub ai_job_timeout_ms: u64,

    /// How long one orchestrator may have an AI job, in milliseconds; then it goes to the next best. Also
    /// for one pipeline, as PIPELINE=MS; repeat or separate by commas. Below --ai-job-timeout-ms, so that
    /// there is time for another one. Default: half of it.
    #[arg(
        long,
        env = "PENSTOCK_AI_TRY_TIMEOUT_MS",
        value_delimiter = ',',
        value_name = "[PIPELINE=]MS"
    )]
    pub ai_try_timeout_ms: Vec<String>,

    /// How long one orchestrator may take to begin a streamed answer, up to its first piece, in
    /// milliseconds; then it goes to the next best. At most what --ai-try-timeout-ms says.
    #[arg(long, env = "PENSTOCK_AI_STREAM_HEAD_MS", default_value_t = 120_000, value_name = "MS")]
    pub ai_stream_head_ms: u64,

    /// Longest silence between two pieces of a streamed answer, in milliseconds.
    #[arg(long, env = "PENSTOCK_AI_STREAM_IDLE_MS", default_value_t = 60_000, value_name = "MS")]
    pub ai_stream_idle_ms: u64,

    /// How long files of results, and the results of asynchronous jobs, are kept, in milliseconds.
    #[arg(long, env = "PENSTOCK_AI_RESULT_TTL_MS", default_value_t = 3_600_000, value_name = "MS")]
    pub ai_result_ttl_ms: u64,

    /// Tokens asked and paid for when a request to /v1/chat/completions names no maximum.
    #[arg(long, env = "PENSTOCK_DEFAULT_MAX_TOKENS", default_value_t = 1_024, value_name = "N",
          value_parser = penstock_config::within::<u32>(0, 100_000_000))]
    pub default_max_tokens: u32,

    /// Another name for a model on the /v1 paths, as NAME=MODEL (whisper-1=openai/whisper-large-v3).
    /// Repeat or separate by commas.
    #[arg(long, env = "PENSTOCK_MODEL_ALIAS", value_delimiter = ',', value_name = "NAME=MODEL")]
    pub model_alias: Vec<String>,

    /// Brought capability that serves /v1/embeddings: its worker answers to POST v1/embeddings.
    #[arg(long, env = "PENSTOCK_EMBEDDINGS_CAPABILITY", value_name = "NAME")]
    pub embeddings_capability: Option<String>,

    /// Models that its worker serves, as /v1/models lists them. Default: the capability's name.
    #[arg(long, env = "PENSTOCK_EMBEDDINGS_MODEL", value_delimiter = ',', value_name = "MODEL,…")]
    pub embeddings_model: Vec<String>,

    /// Most bytes of a request for a brought capability.
    #[arg(long, env = "PENSTOCK_MAX_BYOC_BYTES", default_value_t = 50 * 1024 * 1024, value_name = "BYTES",
          value_parser = penstock_config::within::<usize>(0, 1 << 40))]
    pub max_byoc_bytes: usize,

    /// Prices to publish at /v1/capabilities: a JSON file, see docs/ai.md.
    #[arg(long, env = "PENSTOCK_PRICE_LIST", value_name = "FILE")]
    pub price_list: Option<PathBuf>,

    /// Where clients reach this gateway, for addresses of results. Default: the request's Host.
    #[arg(long, env = "PENSTOCK_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct AiSettings {
    /// `--default-model`, as given.
    pub chosen: BTreeMap<String, String>,
    /// `--max-audio-bytes`.
    pub max_audio_bytes: usize,
    /// `--max-image-bytes`.
    pub max_image_bytes: usize,
    /// `--max-ai-json-bytes`.
    pub max_json_bytes: usize,
    /// `--ai-retry-timeout-ms`.
    pub retry_timeout_ms: u64,
    /// `--ai-job-timeout-ms`.
    pub job_timeout_ms: u64,
    /// `--ai-try-timeout-ms`.
    pub try_timeout: TryTimeout,
    /// `--ai-stream-head-ms`.
    pub stream_head_ms: u64,
    /// `--ai-stream-idle-ms`.
    pub stream_idle_ms: u64,
    /// `--ai-result-ttl-ms`.
    pub result_ttl_ms: u64,
    /// `--default-max-tokens`.
    pub default_max_tokens: u32,
    /// `--model-alias`, models by name.
    pub aliases: BTreeMap<String, String>,
    /// `--embeddings-capability`.
    pub embeddings_capability: Option<String>,
    /// `--embeddings-model`, or the capability's name.
    pub embeddings_models: Vec<String>,
    /// `--max-byoc-bytes`.
    pub max_byoc_bytes: usize,
    /// `--price-list`, read.
    pub price_list: Option<PriceList>,
    /// `--public-url`, without a slash at its end.
    pub public_url: Option<String>,
}

impl AiSettings {
    /// Checks.
    pub fn from_args(args: &AiArgs) -> Result<Self, ConfigError> {
        for (setting, value) in [
            ("--max-audio-bytes", args.max_audio_bytes),
            ("--max-image-bytes", args.max_image_bytes),
            ("--max-ai-json-bytes", args.max_ai_json_bytes),
            ("--default-max-tokens", args.default_max_tokens as usize),
            ("--max-byoc-bytes", args.max_byoc_bytes),
        ] {
            if value == 0 {
                return Err(ConfigError::value(setting, "must be above 0"));
            }
        }
        // Jobs may take minutes. Of an hour of silence nobody could tell that it is no mistake.
        for (setting, value, least, most) in [
            ("--ai-retry-timeout-ms", args.ai_retry_timeout_ms, 0, HOUR_MS),
            ("--ai-job-timeout-ms", args.ai_job_timeout_ms, 1_000, 24 * HOUR_MS),
            ("--ai-stream-head-ms", args.ai_stream_head_ms, 1, HOUR_MS),
            ("--ai-stream-idle-ms", args.ai_stream_idle_ms, 1, HOUR_MS),
            ("--ai-result-ttl-ms", args.ai_result_ttl_ms, 10_000, 30 * 24 * HOUR_MS),
        ] {
            super::within(setting, value, least..=most)?;
        }
        Ok(Self {
            chosen: chosen_models(&args.default_model)?,
            max_audio_bytes: args.max_audio_bytes,
            max_image_bytes: args.max_image_bytes,
            max_json_bytes: args.max_ai_json_bytes,
            retry_timeout_ms: args.ai_retry_timeout_ms,
            job_timeout_ms: args.ai_job_timeout_ms,
            try_timeout: TryTimeout::from_args(args)?,
            stream_head_ms: args.ai_stream_head_ms,
            stream_idle_ms: args.ai_stream_idle_ms,
            result_ttl_ms: args.ai_result_ttl_ms,
            default_max_tokens: args.default_max_tokens,
            aliases: aliases(&args.model_alias)?,
            embeddings_models: embeddings_models(args)?,
            embeddings_capability: capability(args.embeddings_capability.as_deref())?,
            max_byoc_bytes: args.max_byoc_bytes,
            price_list: args.price_list.as_deref().map(price_list).transpose()?,
            public_url: args.public_url.as_deref().map(public_url).transpose()?,
        })
    }

    /// The model that serves a request: the one it names, else the operator's, else the
    /// reference's.
    pub fn model(&self, pipeline: Pipeline, asked: Option<&str>) -> String {
        let asked = asked.filter(|model| !model.is_empty());
        let chosen = || self.chosen.get(pipeline.name()).map(String::as_str);
        asked.or_else(chosen).unwrap_or(pipeline.default_model()).to_owned()
    }

    /// Models to look for before anybody asks: those that the operator chose, and that of the
    /// first pipeline that there was.
    pub fn kept_warm(&self) -> BTreeMap<String, String> {
        let mut warm = self.chosen.clone();
        let audio = Pipeline::AudioToText;
        warm.entry(audio.name().to_owned()).or_insert_with(|| audio.default_model().to_owned());
        warm
    }
}

/// How long one orchestrator may have a job: less than the job has in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryTimeout {
    usual: Duration,
    by_pipeline: BTreeMap<String, Duration>,
}

impl TryTimeout {
    /// Of the time that a job has in all: then there is room for one more.
    const SHARE: u64 = 2;

    fn from_args(args: &AiArgs) -> Result<Self, ConfigError> {
        let whole = args.ai_job_timeout_ms;
        let bad = |entry: &str, reason: String| {
            ConfigError::value("--ai-try-timeout-ms", format!("{entry:?} {reason}"))
        };
        let mut limits = Self {
            usual: Duration::from_millis((whole / Self::SHARE).max(1)),
            by_pipeline: BTreeMap::new(),
        };
        let entries = args.ai_try_timeout_ms.iter().map(|entry| entry.trim());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let (pipeline, ms) = match entry.split_once('=') {
                Some((pipeline, ms)) => (Some(pipeline), ms),
                None => (None, entry),
            };
            let ms: u64 = ms.parse().map_err(|_| bad(entry, "is not [PIPELINE=]MS".to_owned()))?;
            if ms == 0 || ms >= whole {
                let bounds = format!("must be above 0 and below --ai-job-timeout-ms ({whole})");
                return Err(bad(entry, bounds));
            }
            let limit = Duration::from_millis(ms);
            match pipeline {
                None => limits.usual = limit,
                Some(name) => {
                    if Capability::from_pipeline(name).is_none_or(|c| !c.is_ai()) {
                        return Err(bad(entry, "names no AI pipeline".to_owned()));
                    }
                    limits.by_pipeline.insert(name.to_owned(), limit);
                }
            }
        }
        Ok(limits)
    }

    /// For a job of this pipeline.
    pub fn of(&self, pipeline: Pipeline) -> Duration {
        self.by_pipeline.get(pipeline.name()).copied().unwrap_or(self.usual)
    }
}

fn chosen_models(list: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut models = BTreeMap::new();
    for entry in list.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
        let bad =
            |reason: &str| ConfigError::value("--default-model", format!("{entry:?} {reason}"));
        let (pipeline, model) =
            entry.split_once('=').ok_or_else(|| bad("is not PIPELINE=MODEL"))?;
        if Capability::from_pipeline(pipeline).is_none_or(|c| !c.is_ai()) {
            return Err(bad("names no AI pipeline"));
        }
        if model.is_empty() {
            return Err(bad("names no model"));
        }
        models.insert(pipeline.to_owned(), model.to_owned());
    }
    Ok(models)
}

fn aliases(list: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    let entries = list.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| match entry.split_once('=') {
            Some((name, model)) if !name.is_empty() && !model.is_empty() => {
                Ok((name.to_owned(), model.to_owned()))
            }
            _ => Err(ConfigError::value("--model-alias", format!("{entry:?} is not NAME=MODEL"))),
        })
        .collect()
}

/// A capability's name is an account's too.
fn capability(name: Option<&str>) -> Result<Option<String>, ConfigError> {
    let Some(name) = name else { return Ok(None) };
    match ManifestId::new(name) {
        Ok(name) => Ok(Some(name.to_string())),
        Err(_) => Err(ConfigError::value(
            "--embeddings-capability",
            format!("{name:?} must be 1 to 64 printable characters"),
        )),
    }
}

fn embeddings_models(args: &AiArgs) -> Result<Vec<String>, ConfigError> {
    let named = args.embeddings_model.iter().map(|name| name.trim()).filter(|n| !n.is_empty());
    let named: Vec<_> = named.map(str::to_owned).collect();
    match (&args.embeddings_capability, named.is_empty()) {
        (None, false) => {
            let why = "says what the worker of --embeddings-capability serves, which is not set";
            Err(ConfigError::value("--embeddings-model", why))
        }
        (capability, true) => Ok(capability.iter().cloned().collect()),
        (Some(_), false) => Ok(named),
    }
}

/// Most bytes of a price list.
const PRICE_LIST_BYTES: u64 = 1 << 20;

fn price_list(path: &Path) -> Result<PriceList, ConfigError> {
    let bad = |reason: String| {
        ConfigError::value("--price-list", format!("{}: {reason}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if size > PRICE_LIST_BYTES {
        return Err(bad(format!("is larger than {PRICE_LIST_BYTES} bytes")));
    }
    let text = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    PriceList::parse(&text).map_err(|e| bad(e.to_string()))
}

fn public_url(text: &str) -> Result<String, ConfigError> {
    let bad = |reason: &str| ConfigError::value("--public-url", format!("{text:?} {reason}"));
    let url = Url::parse(text).map_err(|_| bad("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad("must be an http or https URL with a host"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("must end with its path"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
