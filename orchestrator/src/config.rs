//! The orchestrator's settings, and what they mean when put together.

use crate::{
    auth_webhook::AuthWebhookArgs,
    chain_senders::SenderBounds,
    limits::Limits,
    live::{Hosting, args::LiveArgs, runners::Runners},
    models_file,
    objects::args::ObjectArgs,
    peers::args::PeerArgs,
    redeemer::args::RedeemerArgs,
    runners::args::RunnerArgs,
    service::sessions::MaxSessions,
    stake_args::StakeArgs,
};
use clap::{Parser, ValueEnum};
use penstock_chain_ethereum::EthereumArgs;
use penstock_config::{CommonArgs, ConfigError, EthUsdArgs};
use penstock_domain::Wei;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use url::Url;

/// The network's node version whose protocol is spoken here.
const NODE_VERSION: &str = "0.9.1";

/// Whether work is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Work is paid with tickets; needs --key, --chain and a ledger.
    Onchain,
    /// No keys, no payments, every signature is accepted. For trusted networks only.
    Offchain,
}

/// An orchestrator: takes paid work from gateways and hands it to workers.
#[derive(Debug, Clone, Parser)]
#[command(name = "penstock-orchestrator", version)]
pub struct Args {
    /// Address that gateways are told. `https://` serves TLS, `http://` cleartext. Port 0 is
    /// replaced by the port really bound.
    #[arg(long, env = "PENSTOCK_SERVICE_ADDR", default_value = "https://127.0.0.1:8935")]
    pub service_addr: String,

    /// Where to listen; by default all interfaces, with --redeemer loopback, and the port of --service-addr.
    #[arg(long, env = "PENSTOCK_HTTP_ADDR", value_name = "IP:PORT")]
    pub http_addr: Option<SocketAddr>,

    /// Folder for the certificate, the secrets and the ledger.
    #[arg(long, env = "PENSTOCK_DATA_DIR", default_value = ".penstock/orchestrator")]
    pub data_dir: PathBuf,

    /// File with the secret that workers register with. Without it no worker can.
    #[arg(long, env = "PENSTOCK_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// File with the secret behind ticket offers (64 hex digits, made if absent). Several
    /// orchestrators with one ledger share it. Default: recipient.secret in --data-dir.
    #[arg(long, env = "PENSTOCK_RECIPIENT_SECRET_FILE", value_name = "FILE")]
    pub recipient_secret_file: Option<PathBuf>,

    /// Whether work is paid.
    #[arg(long, env = "PENSTOCK_NETWORK", value_enum, default_value_t = Network::Onchain)]
    pub network: Network,

    /// The recipient's key: keystore:PATH.
    #[arg(long, env = "PENSTOCK_KEY", value_name = "keystore:PATH")]
    pub key: Option<String>,

    /// File with the keystore's password.
    #[arg(long, env = "PENSTOCK_KEY_PASSWORD_FILE", value_name = "FILE")]
    pub key_password_file: Option<PathBuf>,

    /// File with the secret behind session tokens (64 hex digits, made if absent). Several
    /// orchestrators with one ledger share it. Default: auth-token.secret in --data-dir.
    #[arg(long, env = "PENSTOCK_AUTH_TOKEN_SECRET_FILE", value_name = "FILE")]
    pub auth_token_secret_file: Option<PathBuf>,

    /// The books: a file of this process's own, or a PostgreSQL that several share. Default: ledger.db
    /// in --data-dir.
    #[arg(long, env = "PENSTOCK_LEDGER", value_name = "sqlite://PATH|postgres://…")]
    pub ledger: Option<String>,

    /// Takes this process's key and secrets for those of the ledger, though it was used with others:
    /// what was offered under those is lost. No other process may use the ledger at that time.
    #[arg(long, env = "PENSTOCK_REPLACE_SECRETS")]
    pub replace_secrets: bool,

    /// With a PostgreSQL ledger: how long this process may be silent there before the others take it for
    /// dead, in milliseconds. What its jobs had set aside is free then, and others redeem.
    #[arg(long, env = "PENSTOCK_LEASE_MS", default_value_t = 15_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1_000..=600_000))]
    pub lease_ms: u64,

    /// Lines of payments and fees are kept in the ledger for so many hours, then as sums of their
    /// accounts only. A job id is known for as long.
    #[arg(long, env = "PENSTOCK_JOURNAL_HOURS", default_value_t = 720, value_name = "HOURS",
          value_parser = clap::value_parser!(u64).range(24..=87_600))]
    pub journal_hours: u64,

    /// The chain: devnet:http://HOST:PORT, or ethereum:URL[,URL] with the endpoints to ask, the first one first.
    #[arg(long, env = "PENSTOCK_CHAIN", value_name = "devnet:URL | ethereum:URL,…")]
    pub chain: Option<String>,

    /// The network's contracts.
    #[command(flatten)]
    pub ethereum: EthereumArgs,

    /// Its own stake there.
    #[command(flatten)]
    pub stake: StakeArgs,

    /// Registers this orchestrator in the chain's pool, with its service address, at start.
    #[arg(long, env = "PENSTOCK_REGISTER")]
    pub register: bool,

    /// How often the chain is asked for news, in milliseconds.
    #[arg(long, env = "PENSTOCK_CHAIN_POLL_MS", default_value_t = 1_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub chain_poll_ms: u64,

    /// How old what is known of the chain may be, in milliseconds, before offers and payments are refused
    /// and /readyz is red.
    #[arg(long, env = "PENSTOCK_CHAIN_MAX_AGE_MS", default_value_t = 300_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub chain_max_age_ms: u64,

    /// Questions to the chain at once after senders that are not known to have money: an address costs nothing.
    #[arg(long, env = "PENSTOCK_MAX_SENDER_LOOKUPS", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_sender_lookups: u32,

    /// Price of --pixels-per-unit pixels of transcoding: a decimal number ≥ 0 of wei, or with a currency,
    /// `0.12usd` or `0.001eth`. Dollars need --eth-usd or another source of it.
    #[arg(
        long,
        env = "PENSTOCK_PRICE_PER_UNIT",
        default_value = "0",
        value_name = "NUMBER[wei|eth|usd]"
    )]
    pub price_per_unit: String,

    /// Pixels that --price-per-unit pays for.
    #[arg(long, env = "PENSTOCK_PIXELS_PER_UNIT", default_value = "1")]
    pub pixels_per_unit: String,

    /// Price of so many units of an AI model, for example
    /// `audio-to-text/openai/whisper-tiny.en=3/2` (wei) or `llm/m=0.5usd/1000000`; may be repeated.
    #[arg(
        long,
        env = "PENSTOCK_PRICE_PER_MODEL",
        value_name = "PIPELINE/MODEL=PRICE/UNITS",
        value_delimiter = ','
    )]
    pub price_per_model: Vec<String>,

    /// Prices of transcoding for single gateways, instead of --price-per-unit: JSON or a file with it, in the Go
    /// node's form, {"gateways":[{"ethaddress":"0x…","priceperunit":0.5,"currency":"USD","pixelsperunit":1000}]}.
    #[arg(long, env = "PENSTOCK_PRICE_PER_GATEWAY", value_name = "JSON|FILE")]
    pub price_per_gateway: Option<String>,

    /// Price list in TOML, by pipeline and model, brought capability or live runner's app, and by gateway, card, region,
    /// latency and load: the first of its [[price]] tables that fits goes before all other prices.
    #[arg(long, env = "PENSTOCK_PRICE_FILE", value_name = "FILE")]
    pub price_file: Option<PathBuf>,

    /// Milliseconds between two looks at the files with prices (--price-file, --models-file,
    /// --price-per-gateway), whose changes count without a restart.
    #[arg(long, env = "PENSTOCK_PRICE_POLL_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub price_poll_ms: u64,

    /// The region that this orchestrator is in, for prices of --price-file with a `region`.
    #[arg(long, env = "PENSTOCK_REGION", default_value = "", value_name = "NAME")]
    pub region: String,

    /// aiModels.json whose `pipeline`, `model_id`, `price_per_unit`, `pixels_per_unit`, `currency` and `gateway` are
    /// the models' prices; --price-per-model goes before it. Its `live-video-to-video` entries with a
    /// `url` are runners of live video (`token`: their bearer token; `capacity`: sessions at
    /// once, 1); workers bring others. Where there is no such file, the models themselves, `pipeline:model:warm[,…]`.
    #[arg(long, env = "PENSTOCK_MODELS_FILE", value_name = "FILE|LIST")]
    pub models_file: Option<PathBuf>,

    /// Adds the expected cost of redeeming tickets to prices.
    #[arg(long, env = "PENSTOCK_AUTO_ADJUST_PRICE", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub auto_adjust_price: bool,

    /// Expected value of one ticket, in wei.
    #[arg(long, env = "PENSTOCK_TICKET_EV", default_value = "8000000000", value_name = "WEI")]
    pub ticket_ev: Wei,

    /// Largest face value offered, in wei; 0 is no limit.
    #[arg(long, env = "PENSTOCK_MAX_FACE_VALUE", default_value = "0", value_name = "WEI")]
    pub max_face_value: Wei,

    /// Transcoding sessions at once; `auto`: as many as the registered workers take together.
    #[arg(long, env = "PENSTOCK_MAX_SESSIONS", default_value = "10", value_name = "NUMBER|auto")]
    pub max_sessions: MaxSessions,

    /// A transcoding session ends after so many milliseconds without a segment.
    #[arg(long, env = "PENSTOCK_SESSION_IDLE_MS", default_value_t = 70_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub session_idle_ms: u64,

    /// Other service addresses of this operator, told to gateways.
    #[arg(long, env = "PENSTOCK_NODES", value_name = "URL", value_delimiter = ',')]
    pub nodes: Vec<String>,

    /// Version told to gateways, which may ask for a minimum.
    #[arg(long, env = "PENSTOCK_NODE_VERSION", default_value = NODE_VERSION)]
    pub node_version: String,

    /// Lets segment URLs lead to private and loopback addresses.
    #[arg(long, env = "PENSTOCK_ALLOW_PRIVATE_URLS")]
    pub allow_private_urls: bool,

    /// Memory for results and sources that wait to be fetched, in bytes.
    #[arg(long, env = "PENSTOCK_RESULT_MEMORY_BYTES", default_value_t = 1 << 30, value_name = "BYTES",
          value_parser = penstock_config::within::<usize>(65_536, 16 << 40))]
    pub result_memory_bytes: usize,

    /// Largest body of an AI request, in bytes.
    #[arg(long, env = "PENSTOCK_MAX_AI_BODY_BYTES", default_value_t = 64 << 20, value_name = "BYTES",
          value_parser = penstock_config::within::<usize>(1 << 10, 64 << 30))]
    pub max_ai_body_bytes: usize,

    /// Longest time an AI job may take, in milliseconds.
    #[arg(long, env = "PENSTOCK_AI_TIMEOUT_MS", default_value_t = 900_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(1, 86_400_000))]
    pub ai_timeout_ms: u64,

    /// The program that tells how long audio is.
    #[arg(long, env = "PENSTOCK_FFPROBE", default_value = "ffprobe", value_name = "PROGRAM")]
    pub ffprobe: PathBuf,

    /// Capabilities that workers may bring (`/capability/register`) at once.
    #[arg(long, env = "PENSTOCK_MAX_BYOC_CAPABILITIES", default_value_t = 1_000,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_byoc_capabilities: usize,

    /// Jobs, streams and training jobs of brought capabilities at once, over all of them. What a capability says it
    /// has room for is told to clients, and does not bound what it is sent.
    #[arg(long, env = "PENSTOCK_MAX_BYOC_JOBS", default_value_t = 1_000,
          value_parser = penstock_config::within::<u32>(1, 1_000_000))]
    pub max_byoc_jobs: u32,

    /// Longest time a job of a brought capability may take, in milliseconds, whatever it asks for.
    #[arg(long, env = "PENSTOCK_BYOC_TIMEOUT_MS", default_value_t = 3_600_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(1_000, 2_592_000_000))]
    pub byoc_timeout_ms: u64,

    /// Seconds of a brought capability's work that a balance has to cover before it begins.
    #[arg(long, env = "PENSTOCK_BYOC_LEAST_SECONDS", default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub byoc_least_seconds: u64,

    /// How often a worker is asked about a training job, and a stream's that is silent tried whether it takes a connection,
    /// in milliseconds.
    #[arg(long, env = "PENSTOCK_BYOC_POLL_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub byoc_poll_ms: u64,

    /// What an ether costs.
    #[command(flatten)]
    pub ether: EthUsdArgs,

    /// Whom the operator serves.
    #[command(flatten)]
    pub auth_webhook: AuthWebhookArgs,

    /// Where results go.
    #[command(flatten)]
    pub objects: ObjectArgs,

    /// Live video.
    #[command(flatten)]
    pub live: LiveArgs,

    /// Live runners.
    #[command(flatten)]
    pub runners: RunnerArgs,

    /// Redemption by a process of its own.
    #[command(flatten)]
    pub redeemer: RedeemerArgs,

    /// What peers may do.
    #[command(flatten)]
    pub peers: PeerArgs,

    /// How much of everything they may send, hold or leave behind.
    #[command(flatten)]
    pub limits: Limits,

    /// Settings that every role has.
    #[command(flatten)]
    pub common: CommonArgs,

    /// How slow readers of answers may be.
    #[command(flatten)]
    pub readers: penstock_config::ReaderArgs,

    /// Where traces go, and how many.
    #[command(flatten)]
    pub otlp: penstock_config::OtlpArgs,
}

/// Where the service is, from --service-addr and --http-addr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    /// As advertised; the port may still be 0.
    pub url: Url,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether TLS is served.
    pub tls: bool,
}

impl ServiceAddress {
    /// The host as it goes into the certificate: no brackets around an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    /// What gateways are told, now that the port is known; without a trailing slash.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        let mut url = self.url.clone();
        if url.port() == Some(0) {
            // Cannot fail: the URL has a host, or it would not have been accepted.
            let _ = url.set_port(Some(bound.port()));
        }
        url.as_str().trim_end_matches('/').to_owned()
    }
}

impl Args {
    /// The service address, checked.
    pub fn service_address(&self) -> Result<ServiceAddress, ConfigError> {
        let bad = |reason: String| ConfigError::value("--service-addr", reason);
        let url = Url::parse(&self.service_addr).map_err(|error| bad(error.to_string()))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(bad(format!("scheme must be https or http, not {other}"))),
        };
        let plain = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !plain || url.host_str().is_none_or(str::is_empty) {
            return Err(bad("must be a scheme, a host and a port, nothing else".into()));
        }
        if url.host_str().is_some_and(|host| host == "0.0.0.0" || host == "[::]") {
            return Err(bad("must be an address that gateways can reach".into()));
        }
        let port = url.port_or_known_default().unwrap_or(8935);
        let all = if self.redeemer.redeemer { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let listen = self.http_addr.unwrap_or_else(|| SocketAddr::from((all, port)));
        Ok(ServiceAddress { url, listen, tls })
    }

    /// Whether this process redeems what others bring, and does nothing else.
    pub fn is_redeemer(&self) -> bool {
        self.redeemer.redeemer
    }

    /// The books' address.
    pub fn ledger_url(&self) -> String {
        match &self.ledger {
            Some(url) => url.clone(),
            None => format!("sqlite://{}", self.data_dir.join("ledger.db").display()),
        }
    }

    /// Silence after which other processes on the ledger take this one for dead.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How old what is known of the chain may be.
    pub fn chain_max_age(&self) -> Duration {
        Duration::from_millis(self.chain_max_age_ms)
    }

    /// Where the secret behind session tokens is.
    pub fn auth_token_secret_path(&self) -> PathBuf {
        let default = || self.data_dir.join("auth-token.secret");
        self.auth_token_secret_file.clone().unwrap_or_else(default)
    }

    /// The bounds of what is asked, and remembered, of senders.
    pub fn sender_questions(&self) -> SenderBounds {
        let lookups = usize::try_from(self.max_sender_lookups).unwrap_or(usize::MAX);
        SenderBounds { lookups, known: self.limits.senders_known }
    }

    /// The runners of live video.
    pub fn live_runners(&self, hosting: &Hosting) -> Result<Runners, ConfigError> {
        match &self.models_file {
            Some(path) => models_file::read(path)?.live_runners(hosting),
            None => Ok(Runners::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::{
        list::{Around, Work},
        sources::{Set, Sources},
    };
    use penstock_domain::{Address, Capabilities, Capability, CurrencyPrice};

    fn args(extra: &[&str]) -> Args {
        let argv = ["penstock-orchestrator"].iter().chain(extra);
        penstock_config::try_parse_from(argv.copied()).unwrap()
    }

    #[test]
    fn definition() {
        penstock_config::assert_definition::<Args>();
    }

    #[test]
    fn every_number_has_a_range() {
        let zero = [
            "auth-webhook-ttl-ms",
            "drain-timeout-ms",
            "eth-lost-nonce",
            "eth-max-head-age-ms",
            "eth-tx-replacements",
            "initialize-rounds-max-delay-ms",
            "live-trickle-writer-room",
            "max-peer-connections",
            "min-read-bytes-per-second",
            "otlp-metrics-interval-ms",
            "otlp-traces-per-second",
            "serverless-grace-ms",
        ];
        // A gas price has no largest one.
        let any = ["eth-max-gas-price-wei"];
        let check = |args: Args| {
            args.live.settings()?;
            args.live.trickle().map(drop)
        };
        penstock_config::assert_ranges(&["penstock-orchestrator"], &any, &zero, check);
        let sessions = |text: &str| {
            let argv = ["penstock-orchestrator", "--max-sessions", text];
            penstock_config::try_parse_from::<Args>(argv).map(drop).map_err(|e| e.to_string())
        };
        assert!(sessions("1000000").is_ok() && sessions("auto").is_ok());
        assert!(sessions("1000001").unwrap_err().contains("--max-sessions"));
    }

    #[test]
    fn service_addresses() {
        let a = args(&["--service-addr", "https://orch.example:0", "--http-addr", "127.0.0.1:0"]);
        let a = a.service_address().unwrap();
        assert!(a.tls);
        assert_eq!(a.host(), "orch.example");
        assert_eq!(a.advertised("127.0.0.1:4711".parse().unwrap()), "https://orch.example:4711");
        let b = args(&["--service-addr", "http://[::1]:9000"]).service_address().unwrap();
        assert!(!b.tls);
        assert_eq!(b.host(), "::1");
        assert_eq!(b.listen, "0.0.0.0:9000".parse().unwrap());
        assert_eq!(b.advertised(b.listen), "http://[::1]:9000");
        let redeemer = args(&["--redeemer"]).service_address().unwrap();
        assert_eq!(redeemer.listen, "127.0.0.1:8935".parse().unwrap());
        for bad in [
            "ftp://h:1",
            "h:1",
            "https://",
            "https://h:1/path",
            "https://u:p@h:1",
            "https://0.0.0.0:8935",
        ] {
            assert!(args(&["--service-addr", bad]).service_address().is_err(), "{bad}");
        }
    }

    #[test]
    fn prices_from_files_and_flags() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Address::repeat_byte(1);
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let models = file(
            "aiModels.json",
            &format!(
                r#"[{{"pipeline":"audio-to-text","model_id":"a","price_per_unit":0.1,"pixels_per_unit":3,"warm":true}},
                {{"pipeline":"audio-to-text","model_id":"a","price_per_unit":8,"gateway":"{gateway}"}},
                {{"pipeline":"audio-to-text","model_id":"b"}},
                {{"pipeline":"llm","model_id":"d","price_per_unit":0.1,"pixels_per_unit":1,"currency":"USD"}},
                {{"pipeline":"llm","model_id":"c","price_per_unit":9}}]"#
            ),
        );
        let list = file(
            "prices.toml",
            "[[price]]\nmodel = \"f\"\nprice = 77\n[[price]]\nregion = \"eu\"\nmodel = \"g\"\nprice = 78",
        );
        let gateways = format!(
            r#"{{"gateways":[{{"ethaddress":"{gateway}","priceperunit":6,"pixelsperunit":1}}]}}"#
        );
        let all = args(&[
            "--models-file",
            &models,
            "--price-per-unit=5",
            "--price-per-model=llm/c=1/2",
            "--price-file",
            &list,
            "--price-per-gateway",
            &gateways,
        ]);
        let list = Sources::from(&all).read(&Set::new()).unwrap();
        let ether = 2_000_000_000_u64.into();
        let price = |sender, job: Option<&Capabilities>| {
            let around = |_: Work<'_>| Around::default();
            list.price(sender, job, &around, Some(&ether)).unwrap().to_string()
        };
        let of = |c, m| price(Address::ZERO, Some(&Capabilities::ai_job(c, m, false)));
        assert_eq!(of(Capability::AudioToText, "a"), "1/30");
        assert_eq!(of(Capability::AudioToText, "b"), "5");
        assert_eq!(of(Capability::Llm, "c"), "1/2", "the flag before the file");
        assert_eq!(of(Capability::Llm, "d"), "50000000000000");
        assert_eq!(of(Capability::Llm, "f"), "77");
        assert_eq!(of(Capability::Llm, "g"), "5", "another region's");
        let job = Capabilities::ai_job(Capability::AudioToText, "a", false);
        assert_eq!((price(gateway, None), price(Address::ZERO, None)), ("6".into(), "5".into()));
        assert_eq!(price(gateway, Some(&job)), "8");
        // What was set while the process runs.
        let three = CurrencyPrice::parse("3", "1").unwrap();
        let set = Set::from([(None, three.clone()), (Some(Address::repeat_byte(2)), three)]);
        let list = Sources::from(&all).read(&set).unwrap();
        let of = |sender| {
            list.price(sender, None, &|_: Work<'_>| Around::default(), None).unwrap().to_string()
        };
        assert_eq!(of(gateway), "6");
        assert_eq!((of(Address::repeat_byte(2)), of(Address::ZERO)), ("3".into(), "3".into()));

        let bad = file("bad.json", "{}");
        for bad in [
            ["--price-per-unit", "x"],
            ["--models-file", &bad],
            ["--price-file", "/nowhere"],
            ["--price-per-gateway", "{}x"],
            ["--price-per-model", "llm"],
        ] {
            assert!(Sources::from(&args(&bad)).read(&Set::new()).is_err(), "{bad:?}");
        }
    }
}
