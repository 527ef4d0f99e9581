//! What to load, how hard, and for how long: a TOML file, read strictly. Pure.
//!
//! A key that is not known is an error that names it, and so is a number beyond its limit: nobody floods
//! anything by a typing mistake.

mod read;

use serde::Deserialize;
use std::time::Duration;
use thiserror::Error;

/// Arrivals a second of one load, at most.
pub const MAX_PER_SECOND: f64 = 10_000.0;
/// Seconds of one load, at most.
pub const MAX_DURATION_S: u64 = 3_600;
/// Operations of one load, at most.
pub const MAX_COUNT: u64 = 10_000_000;
/// Operations at once of one load, at most.
pub const MAX_AT_ONCE: usize = 10_000;
/// Loads of one scenario, at most.
pub const MAX_LOADS: usize = 32;
/// Simulated orchestrators, at most.
pub const MAX_ORCHESTRATORS: usize = 1_000;
/// Gateways that the load balancer's file has places for.
pub const MAX_GATEWAYS: usize = 3;

/// Why a scenario is not run. All of them are the file's fault: running it again does not help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScenarioError {
    /// Not TOML, a key that is not known, or a value of another kind.
    #[error("{0}")]
    Toml(String),
    /// A number outside its limits.
    #[error("{key} = {value}: it has to be within {range}")]
    Range {
        /// Which.
        key: String,
        /// As it is.
        value: String,
        /// What it may be.
        range: String,
    },
    /// Of some tables exactly one has to be there.
    #[error("{load}: exactly one of {names} is needed, and there are {found}")]
    OneOf {
        /// Where.
        load: String,
        /// The tables.
        names: &'static str,
        /// How many are there.
        found: usize,
    },
    /// Neither `count` nor `duration_s`.
    #[error("{0}: count or duration_s is needed (or both: what is met first ends it)")]
    Endless(String),
    /// A name that cannot be one.
    #[error("{key} = {value:?}: it has to be 1 to 64 letters, digits, '-' or '_'")]
    Name {
        /// Which.
        key: String,
        /// As it is.
        value: String,
    },
    /// Two loads of one name.
    #[error("load {0:?}: there are two of that name; give each a name of its own")]
    Twice(String),
}

/// A scenario that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name, for reports and files.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Decides random arrivals.
    pub seed: u64,
    /// What is started when no target is given.
    pub network: NetworkPlan,
    /// All at the same time.
    pub loads: Vec<Load>,
}

/// What is started when no target is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPlan {
    /// Gateways behind the load balancer; `--replicas` goes before it.
    pub gateways: usize,
    /// Simulated orchestrators.
    pub orchestrators: usize,
    /// How much later than on loopback each of them answers, milliseconds.
    pub orchestrator_latency_ms: u64,
    /// Also a real orchestrator with a worker, which transcodes.
    pub transcoder: bool,
}

impl Default for NetworkPlan {
    fn default() -> Self {
        Self { gateways: 1, orchestrators: 4, orchestrator_latency_ms: 0, transcoder: false }
    }
}

/// One load.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Its name in the report.
    pub name: String,
    /// How operations follow each other.
    pub pace: Pace,
    /// When it is over.
    pub end: End,
    /// Operations before anything is counted.
    pub warm_up: u64,
    /// Time that an operation has, beside what it takes by itself (a publication, a session's calls).
    pub timeout: Duration,
    /// What an operation is.
    pub work: Work,
}

/// How operations follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// At their times, whether the ones before are answered or not.
    Open {
        /// Arrivals a second.
        per_second: f64,
        /// Evenly, or at random.
        arrivals: Arrivals,
        /// One more waits for its place, and its waiting counts.
        max_in_flight: usize,
    },
    /// So many clients, each of which begins when its last one was answered.
    Closed {
        /// How many.
        clients: usize,
    },
}

/// How arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// The same time between any two.
    #[default]
    Even,
    /// As many independent callers make them: exponential times between them.
    Poisson,
}

/// When a load is over: whatever is met first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// After so many operations.
    pub count: Option<u64>,
    /// No operation begins later.
    pub duration: Option<Duration>,
}

/// What an operation is.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A batch AI job through a gateway.
    Ai(Ai),
    /// A segment of a stream, pushed over HTTP to a gateway.
    Push(Push),
    /// A publication by RTMP to a gateway, watched in its playlist.
    Rtmp(Rtmp),
    /// A session of a live runner at an orchestrator, with calls.
    LiveRunner(LiveRunner),
    /// A payment by a signer.
    Payments(Payments),
    /// A segment of a trickle channel, to all of its readers.
    Trickle(Trickle),
}

impl Work {
    /// The table's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ai(_) => "ai",
            Self::Push(_) => "push",
            Self::Rtmp(_) => "rtmp",
            Self::LiveRunner(_) => "live_runner",
            Self::Payments(_) => "payments",
            Self::Trickle(_) => "trickle",
        }
    }
}

/// The pipelines that jobs are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pipeline {
    /// `POST /audio-to-text` with silence.
    AudioToText,
    /// `POST /text-to-image`.
    TextToImage,
    /// `POST /llm`.
    Llm,
}

/// AI jobs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ai {
    /// Which.
    pub pipeline: Pipeline,
    /// The model; empty: the gateway's default.
    #[serde(default)]
    pub model: String,
    /// Seconds of speech (audio-to-text).
    #[serde(default = "one")]
    pub seconds: u64,
    /// Pixels of a side (text-to-image).
    #[serde(default = "default_side")]
    pub side: u32,
    /// `max_tokens` (llm).
    #[serde(default = "default_tokens")]
    pub max_tokens: u64,
    /// A streamed answer (llm); its first byte is a series of its own.
    #[serde(default)]
    pub streamed: bool,
}

/// A rendition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rendition {
    /// Its name.
    pub name: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Bits a second.
    pub bitrate: u32,
}

/// Segments pushed over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// Streams that take turns: operation `n` is segment `n / streams` of stream `n % streams`.
    pub streams: u64,
    /// Seconds of a segment.
    #[serde(default = "default_segment")]
    pub segment_s: u64,
    /// Pixels of the source across.
    #[serde(default = "default_width")]
    pub width: u32,
    /// Pixels of the source down.
    #[serde(default = "default_height")]
    pub height: u32,
    /// What is asked for.
    #[serde(default = "default_renditions")]
    pub renditions: Vec<Rendition>,
}

/// Publications by RTMP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rtmp {
    /// How long each lasts.
    #[serde(default = "default_publication")]
    pub seconds: u64,
    /// Pixels across.
    #[serde(default = "default_width")]
    pub width: u32,
    /// Pixels down.
    #[serde(default = "default_height")]
    pub height: u32,
}

/// What a live runner's price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentType {
    /// Seconds.
    #[default]
    Live,
    /// Pixels of 720p.
    Lv2v,
    /// A session.
    Fixed,
}

impl PaymentType {
    /// As signers are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Lv2v => "lv2v",
            Self::Fixed => "fixed",
        }
    }
}

/// Sessions of a live runner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRunner {
    /// Calls in a session.
    #[serde(default = "default_calls")]
    pub calls: u64,
    /// From one call's planned start to the next one's, milliseconds.
    #[serde(default = "default_every")]
    pub every_ms: u64,
    /// Bytes of a call.
    #[serde(default = "default_body")]
    pub body_bytes: usize,
    /// Where in the application.
    #[serde(default = "default_path")]
    pub path: String,
    /// What its price is for, if it has one.
    #[serde(default)]
    pub payment_type: PaymentType,
}

/// Payments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payments {
    /// Payment sessions: each pays once at a time, and goes on from the state it was given.
    #[serde(default = "default_sessions")]
    pub sessions: usize,
    /// Units of one payment.
    #[serde(default = "default_units")]
    pub units: u64,
    /// Whether each is also handed to its orchestrator.
    #[serde(default)]
    pub deliver: bool,
}

/// Segments of trickle channels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trickle {
    /// Channels that take turns.
    #[serde(default = "default_channels")]
    pub channels: usize,
    /// Readers of each.
    pub readers: usize,
    /// Bytes of a segment.
    #[serde(default = "default_bytes")]
    pub bytes: usize,
}

fn one() -> u64 {
    1
}
fn default_side() -> u32 {
    512
}
fn default_tokens() -> u64 {
    64
}
fn default_segment() -> u64 {
    2
}
fn default_width() -> u32 {
    320
}
fn default_height() -> u32 {
    180
}
fn default_renditions() -> Vec<Rendition> {
    vec![Rendition { name: "tiny".to_owned(), width: 128, height: 72, bitrate: 100_000 }]
}
fn default_publication() -> u64 {
    10
}
fn default_calls() -> u64 {
    5
}
fn default_every() -> u64 {
    100
}
fn default_body() -> usize {
    1_024
}
fn default_path() -> String {
    "echo".to_owned()
}
fn default_sessions() -> usize {
    64
}
fn default_units() -> u64 {
    100_000
}
fn default_channels() -> usize {
    1
}
fn default_bytes() -> usize {
    16 << 10
}

impl Scenario {
    /// The same with fewer operations, or less time, in each load.
    pub fn shortened(mut self, count: Option<u64>, duration_s: Option<u64>) -> Self {
        for load in &mut self.loads {
            let shorter = duration_s.map(Duration::from_secs);
            load.end.count = least(load.end.count, count);
            load.end.duration = least(load.end.duration, shorter);
        }
        self
    }
}

impl Load {
    /// Operations at once, at most.
    pub fn at_once(&self) -> usize {
        match self.pace {
            Pace::Open { max_in_flight, .. } => max_in_flight,
            Pace::Closed { clients } => clients,
        }
    }

    /// Time that an operation has, with what it takes by itself.
    pub fn patience(&self) -> Duration {
        let own = match &self.work {
            Work::Rtmp(rtmp) => Duration::from_secs(rtmp.seconds),
            Work::LiveRunner(runner) => {
                Duration::from_millis(runner.every_ms.saturating_mul(runner.calls))
            }
            _ => Duration::ZERO,
        };
        self.timeout.saturating_add(own)
    }

    /// Operations, as far as the file tells.
    pub fn expected(&self) -> Option<u64> {
        let by_time = match (self.pace, self.end.duration) {
            (Pace::Open { per_second, .. }, Some(duration)) => {
                Some((per_second * duration.as_secs_f64()).ceil() as u64)
            }
            _ => None,
        };
        least(self.end.count, by_time)
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
