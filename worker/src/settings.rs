//! The worker's settings, as an operator writes them.

use crate::{
    gpu::{
        Inventory,
        monitor::Monitor,
        nvml::{DEFAULT_LIBRARY, NvmlSource},
    },
    limits::Limits,
    video::encoder::Device,
};
use clap::Parser;
use penstock_config::{CommonArgs, ConfigError};
use penstock_containers::Images;
use std::{
    collections::BTreeSet, ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr,
    time::Duration,
};
use url::Url;

/// Runs GPU and CPU work for one orchestrator: transcodes video with ffmpeg and serves AI models
/// through runner processes. Needs the ffmpeg program; opens no port but --metrics-addr.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "penstock-worker",
    version,
    after_help = "`penstock-worker check-gpu` tries and measures the cards of this machine; see its --help."
)]
pub struct Args {
    /// The orchestrator's service address, `https://host:8935`. Its certificate is not checked
    /// against any authority, since orchestrators sign their own; `http://` is for tests.
    #[arg(long, env = "PENSTOCK_ORCHESTRATOR", value_name = "URL")]
    pub orchestrator: Url,

    /// File with the secret that this worker and its orchestrator share.
    #[arg(long, env = "PENSTOCK_SECRET_FILE", value_name = "FILE")]
    pub secret_file: PathBuf,

    /// Models to serve: a JSON list in the network's aiModels.json format, or, where there is no such file, the
    /// models themselves, `pipeline:model:warm[,…]`. Without it the worker only transcodes.
    #[arg(long, env = "PENSTOCK_MODELS_FILE", value_name = "FILE|LIST")]
    pub models_file: Option<PathBuf>,

    /// Cards, and how they are watched.
    #[command(flatten)]
    pub cards: CardArgs,

    /// Segments transcoded at once. 0: no transcoding.
    #[arg(long, env = "PENSTOCK_MAX_SESSIONS", default_value_t = 10, value_name = "N",
          value_parser = penstock_config::within::<u16>(0, 10_000))]
    pub max_sessions: u16,

    /// Most transcoding sessions on one card: more go to another card, and to the processor while all cards are full.
    /// Default: no such bound.
    #[arg(long, env = "PENSTOCK_MAX_SESSIONS_PER_CARD", value_name = "N",
          value_parser = penstock_config::within::<u16>(1, 10_000))]
    pub max_sessions_per_card: Option<u16>,

    /// Python that runs the runner: the one in the environment that runner/install.py made.
    #[arg(long, env = "PENSTOCK_RUNNER_PYTHON", default_value = "python3", value_name = "PROGRAM")]
    pub runner_python: OsString,

    /// Most runner processes of our own on one card; the card with most room has the next one. Those of warm models and
    /// of live video have to fit; of other models as many start, and are offered, as do. The processor has no such bound.
    #[arg(long, env = "PENSTOCK_MAX_RUNNERS_PER_CARD", default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_runners_per_card: u32,

    /// The folder that holds the `penstock_runner` package.
    #[arg(long, env = "PENSTOCK_RUNNER_DIR", default_value = "runner", value_name = "DIR")]
    pub runner_dir: PathBuf,

    /// The models that runner/install.py fetched.
    #[arg(long, env = "PENSTOCK_MODELS_DIR", default_value = "models", value_name = "DIR")]
    pub models_dir: PathBuf,

    /// Longest text of a language model that a runner of our own serves: question and answer together, in
    /// tokens. It costs memory.
    #[arg(long, env = "PENSTOCK_CONTEXT_TOKENS", default_value_t = 4096, value_name = "N",
        value_parser = clap::value_parser!(u32).range(512..=1_048_576))]
    pub context_tokens: u32,

    /// Containers for models without a `url`.
    #[command(flatten)]
    pub containers: ContainerArgs,

    /// Where segments lie while they are worked on; memory-backed is best. Default: the system's
    /// folder for temporary files.
    #[arg(long, env = "PENSTOCK_WORK_DIR", value_name = "DIR")]
    pub work_dir: Option<PathBuf>,

    /// The ffmpeg program.
    #[arg(long, env = "PENSTOCK_FFMPEG", default_value = "ffmpeg", value_name = "PROGRAM")]
    pub ffmpeg: OsString,

    /// Speed preset of the software encoders, `ultrafast` to `veryslow`.
    #[arg(long, env = "PENSTOCK_ENCODER_PRESET", default_value = "veryfast", value_name = "NAME")]
    pub encoder_preset: Preset,

    /// Address space of one ffmpeg process, in MiB (not applied to GPU work).
    #[arg(long, env = "PENSTOCK_FFMPEG_MEMORY_MIB", default_value_t = 4096, value_name = "MIB",
          value_parser = penstock_config::within::<u64>(256, 16_777_216))]
    pub ffmpeg_memory_mib: u64,

    /// How long a card may take over one segment before another device gets it, in milliseconds.
    /// Default: half of the time in which the segment must be done.
    #[arg(long, env = "PENSTOCK_CARD_TIMEOUT_MS", value_name = "MS",
          value_parser = penstock_config::within::<u64>(1, 86_400_000))]
    pub card_timeout_ms: Option<u64>,

    /// Fetch segments from private and loopback addresses too. The orchestrator's own address is
    /// always allowed; set this when its object store is on your network.
    #[arg(long, env = "PENSTOCK_ALLOW_PRIVATE_URLS")]
    pub allow_private_urls: bool,

    /// Node version told to the orchestrator, which may refuse older ones.
    #[arg(long, env = "PENSTOCK_NODE_VERSION", default_value = DEFAULT_NODE_VERSION, value_name = "X.Y.Z")]
    pub node_version: String,

    /// How much of everything is taken.
    #[command(flatten)]
    pub limits: Limits,

    /// What every role has.
    #[command(flatten)]
    pub common: CommonArgs,

    /// How slow readers of answers may be.
    #[command(flatten)]
    pub readers: penstock_config::ReaderArgs,

    /// Where traces go, and how many.
    #[command(flatten)]
    pub otlp: penstock_config::OtlpArgs,
}

/// Which cards are used, and how the worker learns of them.
#[derive(Debug, Clone, clap::Args)]
pub struct CardArgs {
    /// Which NVIDIA cards to use: `all`, `none`, or the driver's numbers such as `0,1`. Each is
    /// tried with a real transcode at start; what it cannot do, the processor does.
    #[arg(long, env = "PENSTOCK_NVIDIA", default_value = "all", value_name = "LIST")]
    pub nvidia: GpuChoice,

    /// Which Netint cards to use for video: `none`, or numbers such as `0,1`. Needs Netint's build of
    /// ffmpeg.
    #[arg(long, env = "PENSTOCK_NETINT", default_value = "none", value_name = "LIST")]
    pub netint: GpuChoice,

    /// NVIDIA's management library, which is part of the driver.
    #[arg(long, env = "PENSTOCK_NVML_LIBRARY", default_value = DEFAULT_LIBRARY, value_name = "FILE")]
    pub nvml_library: OsString,

    /// How often the driver is asked about the cards, in milliseconds.
    #[arg(long, env = "PENSTOCK_GPU_POLL_MS", default_value_t = 5000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(1, 3_600_000))]
    pub gpu_poll_ms: u64,
}

impl CardArgs {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.netint == GpuChoice::All {
            let reason = "nothing here lists Netint cards; name them, for example 0,1";
            return Err(ConfigError::value("--netint", reason));
        }
        Ok(())
    }

    /// Numbers of the NVIDIA cards that are meant.
    pub fn nvidia_numbers(&self, inventory: &Inventory) -> Vec<u32> {
        match &self.nvidia {
            GpuChoice::None => Vec::new(),
            GpuChoice::All => inventory.indices().into_iter().collect(),
            GpuChoice::Some(list) => list.clone(),
        }
    }

    /// All cards that are meant.
    pub fn devices(&self, inventory: &Inventory) -> Vec<Device> {
        let netint = match &self.netint {
            GpuChoice::Some(list) => list.clone(),
            GpuChoice::None | GpuChoice::All => Vec::new(),
        };
        let nvidia = self.nvidia_numbers(inventory).into_iter().map(Device::Nvidia);
        nvidia.chain(netint.into_iter().map(Device::Netint)).collect()
    }

    /// Watches the NVIDIA cards, unless none is wanted.
    pub async fn watch(&self) -> Monitor {
        if self.nvidia == GpuChoice::None {
            return Monitor::none();
        }
        let source = NvmlSource::new(self.nvml_library.clone());
        Monitor::start(source, Duration::from_millis(self.gpu_poll_ms)).await
    }
}

/// Docker-managed runner containers.
#[derive(Debug, Clone, clap::Args)]
pub struct ContainerArgs {
    /// Docker Engine on this machine, `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`. With it,
    /// models without a `url` are served by containers of the network's ai-runner instead of runner
    /// processes, and --models-dir is mounted into them.
    #[arg(long, env = "PENSTOCK_DOCKER_HOST", value_name = "URL")]
    pub docker_host: Option<String>,

    /// Image of pipelines that have none of their own.
    #[arg(
        long,
        env = "PENSTOCK_AI_RUNNER_IMAGE",
        default_value = "livepeer/ai-runner:latest",
        value_name = "IMAGE"
    )]
    pub ai_runner_image: String,

    /// Other images: JSON `{"default":image,"batch":{pipeline:image},"live":{model:image}}`.
    #[arg(long, env = "PENSTOCK_AI_RUNNER_IMAGE_OVERRIDES", value_name = "JSON")]
    pub ai_runner_image_overrides: Option<String>,

    /// Containers that share a card.
    #[arg(long, env = "PENSTOCK_AI_RUNNER_CONTAINERS_PER_GPU", default_value_t = 1, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10))]
    pub ai_runner_containers_per_gpu: u32,

    /// Let runners in containers say more.
    #[arg(long, env = "PENSTOCK_AI_VERBOSE_LOGS")]
    pub ai_verbose_logs: bool,

    /// Name by which this worker knows its containers after a restart; two workers on one engine need
    /// two. Default: this machine's name and the orchestrator's address.
    #[arg(long, env = "PENSTOCK_CONTAINER_OWNER", value_name = "NAME")]
    pub container_owner: Option<String>,
}

impl ContainerArgs {
    /// Refuses what cannot work: containers publish their ports on their machine's loopback address.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(host) = &self.docker_host else { return Ok(()) };
        let local = host.strip_prefix("tcp://").and_then(|a| a.parse::<SocketAddr>().ok());
        if !host.starts_with("unix:///") && !local.is_some_and(|a| a.ip().is_loopback()) {
            let reason = "must be unix:///path or tcp://127.0.0.1:port";
            return Err(ConfigError::value("--docker-host", reason));
        }
        self.images().map(|_| ())
    }

    /// Which image a model's container is made from.
    pub fn images(&self) -> Result<Images, ConfigError> {
        let images = match &self.ai_runner_image_overrides {
            None => Images::default(),
            Some(text) => Images::parse(text).map_err(|error| {
                ConfigError::value("--ai-runner-image-overrides", error.to_string())
            })?,
        };
        Ok(images.or_default(&self.ai_runner_image))
    }

    /// The name on this worker's containers.
    pub fn owner(&self, orchestrator: &Url) -> String {
        self.container_owner.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let orchestrator = orchestrator.authority();
            format!("{}@{orchestrator}", host.trim())
        })
    }
}

/// The network's node version whose protocol we speak.
pub const DEFAULT_NODE_VERSION: &str = "0.9.1";

impl Args {
    /// Refuses what cannot work together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let url = &self.orchestrator;
        if !matches!(url.scheme(), "https" | "http") || url.host().is_none() || url.path() != "/" {
            return Err(ConfigError::value("--orchestrator", "must be https://host:port"));
        }
        if self.max_sessions == 0 && self.models_file.is_none() {
            let reason = "0 leaves this worker without work; give it models with --models-file";
            return Err(ConfigError::value("--max-sessions", reason));
        }
        self.cards.check()?;
        self.containers.check()
    }
}

/// Which cards to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuChoice {
    /// None.
    None,
    /// Whatever is there.
    All,
    /// These.
    Some(Vec<u32>),
}

impl FromStr for GpuChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            list => list
                .split(',')
                .map(|n| n.trim().parse::<u32>().ok().filter(|n| *n < 64))
                .collect::<Option<BTreeSet<_>>>()
                .map(|numbers| Self::Some(numbers.into_iter().collect()))
                .ok_or_else(|| "expected `all`, `none` or indices such as `0,1`".to_owned()),
        }
    }
}

/// A preset name of x264 and x265.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset(pub String);

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NAMES: [&str; 9] = [
            "ultrafast",
            "superfast",
            "veryfast",
            "faster",
            "fast",
            "medium",
            "slow",
            "slower",
            "veryslow",
        ];
        match NAMES.contains(&text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("expected one of {}", NAMES.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(extra: &[&str]) -> Result<Args, ConfigError> {
        let base = ["w", "--orchestrator", "https://o:8935", "--secret-file", "/s"];
        let args: Args = penstock_config::try_parse_from(base.iter().chain(extra))?;
        args.check().map(|()| args)
    }

    #[test]
    fn definition_and_defaults() {
        penstock_config::assert_definition::<Args>();
        let args = args(&[]).unwrap();
        assert_eq!((args.cards.nvidia, args.max_sessions), (GpuChoice::All, 10));
        assert_eq!(args.cards.netint, GpuChoice::None);
        assert_eq!((args.max_runners_per_card, args.max_sessions_per_card), (10, None));
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (extra, flag) in [
            (vec!["--orchestrator=https://o/x"], "--orchestrator"),
            (vec!["--orchestrator=ftp://o"], "--orchestrator"),
            (vec!["--max-sessions=0"], "--max-sessions"),
            (vec!["--nvidia=one"], "--nvidia"),
            (vec!["--netint=all"], "--netint"),
            (vec!["--gpu-poll-ms=0"], "--gpu-poll-ms"),
            (vec!["--gpu-poll-ms=18446744073709551615"], "--gpu-poll-ms"),
            (vec!["--max-sessions=10001"], "--max-sessions"),
            (vec!["--max-sessions-per-card=0"], "--max-sessions-per-card"),
            (vec!["--max-runners-per-card=0"], "--max-runners-per-card"),
            (vec!["--max-runners-per-card=1025"], "--max-runners-per-card"),
            (vec!["--card-timeout-ms=0"], "--card-timeout-ms"),
            (vec!["--ffmpeg-memory-mib=18446744073709551615"], "--ffmpeg-memory-mib"),
            (vec!["--docker-host=tcp://10.0.0.1:2375"], "--docker-host"),
            (vec!["--docker-host=ssh://h"], "--docker-host"),
            (
                vec!["--docker-host=unix:///s", "--ai-runner-image-overrides=[]"],
                "--ai-runner-image-overrides",
            ),
            (vec!["--ai-runner-containers-per-gpu=11"], "--ai-runner-containers-per-gpu"),
            (vec!["--encoder-preset=fastest"], "--encoder-preset"),
            (vec!["--ffmpeg-memory-mib=1"], "--ffmpeg-memory-mib"),
            (vec!["--limit-film-frames=0"], "--limit-film-frames"),
            (vec!["--limit-segment-bytes=999"], "--limit-segment-bytes"),
        ] {
            let mut line = vec!["w", "--secret-file", "/s"];
            if flag != "--orchestrator" {
                line.push("--orchestrator=https://o:8935");
            }
            line.extend(&extra);
            let got = penstock_config::try_parse_from::<Args>(line).and_then(|a| a.check());
            assert!(got.unwrap_err().to_string().contains(flag), "{extra:?}");
        }
        assert!(args(&["--max-sessions=0", "--models-file=/m"]).is_ok());
    }

    #[test]
    fn gpu_lists() {
        assert_eq!("1, 0,1".parse(), Ok(GpuChoice::Some(vec![0, 1])));
        assert_eq!("none".parse(), Ok(GpuChoice::None));
        for bad in ["", "a", "0,", "-1", "99"] {
            assert!(bad.parse::<GpuChoice>().is_err(), "{bad}");
        }
    }
}
