//! Settings of the front door: who is let in, how much they may ask for, places, memory.

use clap::ValueEnum;
use http::HeaderValue;
use penstock_config::ConfigError;
use penstock_oidc::{OidcArgs, OidcSettings};
use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

/// How callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// They are not: everybody is --auth-id.
    None,
    /// By what the signer says of their API key or token (`POST /v1/verify`).
    Signer,
    /// By a token of the identity provider (--oidc-issuer), checked here.
    Jwt,
}

/// Whether orchestrators are paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// They are, through the signer.
    #[value(name = "on-chain")]
    OnChain,
    /// They ask for nothing: no signer, no chain.
    #[value(name = "offchain")]
    Offchain,
}

/// Who may watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Watching {
    /// Everybody.
    Open,
    /// Callers.
    Caller,
}

/// Who may send video in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Publishing {
    /// Callers.
    Caller,
    /// Everybody who reaches the gateway, or whom the stream webhook accepts.
    Open,
}

/// The front door.
#[derive(Debug, Clone, clap::Args)]
pub struct FrontArgs {
    /// `on-chain`: orchestrators are paid through the signer. `offchain`: those of --orchestrators ask
    /// for nothing, and there is no signer.
    #[arg(long, env = "PENSTOCK_NETWORK", value_enum, default_value = "on-chain")]
    pub network: Network,

    /// How callers are told apart, by bearer token: `none`, `signer`, `jwt`, or `signer,jwt`.
    #[arg(
        long,
        env = "PENSTOCK_CALLER_AUTH",
        value_delimiter = ',',
        value_enum,
        default_value = "none",
        value_name = "WAY,…"
    )]
    pub caller_auth: Vec<Way>,

    /// How long a caller who was let in stays known while the signer cannot be asked, in milliseconds.
    #[arg(
        long,
        env = "PENSTOCK_CALLER_AUTH_STALE_MS",
        default_value_t = 600_000,
        value_name = "MS",
        value_parser = penstock_config::within::<u64>(0, 2_592_000_000)
    )]
    pub caller_auth_stale_ms: u64,

    /// Who may watch streams, when callers are told apart.
    #[arg(long, env = "PENSTOCK_PLAYBACK_AUTH", value_enum, default_value = "open")]
    pub playback_auth: Watching,

    /// Who may push to /live, when callers are told apart. `open` leaves it to the stream webhook.
    #[arg(long, env = "PENSTOCK_PUBLISH_AUTH", value_enum, default_value = "caller")]
    pub publish_auth: Publishing,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub oidc: OidcArgs,

    /// With --caller-auth jwt: the claim that names the caller's tier (a text), as in --tier-policies.
    #[arg(long, env = "PENSTOCK_CALLER_TIER_CLAIM", value_name = "CLAIM")]
    pub caller_tier_claim: Option<String>,

    /// With --caller-auth jwt: the claim that holds the caller's rules: an object with any of `tier`,
    /// `allowed_capabilities`, `max_price_wei_per_unit`, `requests_per_second`, `requests_per_day`. A
    /// token whose claim is something else is refused; one without it has no rules of its own.
    #[arg(long, env = "PENSTOCK_CALLER_POLICY_CLAIM", value_name = "CLAIM")]
    pub caller_policy_claim: Option<String>,

    /// Requests that cost something that one caller may make in a second, over all replicas, if neither
    /// their account nor their tier says anything else; more get 429. Default: no limit.
    #[arg(long, env = "PENSTOCK_CALLER_REQUESTS_PER_SECOND", value_name = "N")]
    pub caller_requests_per_second: Option<NonZeroU32>,

    /// The same in 24 hours from the first.
    #[arg(long, env = "PENSTOCK_CALLER_REQUESTS_PER_DAY", value_name = "N")]
    pub caller_requests_per_day: Option<NonZeroU64>,

    /// After SIGTERM, how long the gateway goes on taking requests while `/readyz` already says no, in
    /// milliseconds: as long as load balancers need to notice. Then those in flight have
    /// --drain-timeout-ms.
    #[arg(long, env = "PENSTOCK_DRAIN_NOTICE_MS", default_value_t = 2_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 86_400_000))]
    pub drain_notice_ms: u64,

    /// Origins whose pages may call from browsers, as `https://app.example`; repeat or separate by
    /// commas. `*` allows all, `none` none.
    #[arg(
        long,
        env = "PENSTOCK_CORS_ORIGIN",
        value_delimiter = ',',
        default_value = "*",
        value_name = "ORIGIN,…"
    )]
    pub cors_origin: Vec<String>,

    /// How long an answer is kept for a repetition with the same Idempotency-Key, in milliseconds.
    #[arg(
        long,
        env = "PENSTOCK_IDEMPOTENCY_TTL_MS",
        default_value_t = 86_400_000,
        value_name = "MS",
        value_parser = clap::value_parser!(u64).range(1_000..=2_592_000_000)
    )]
    pub idempotency_ttl_ms: u64,

    /// Video segments at work at a time; more wait.
    #[arg(long, env = "PENSTOCK_VIDEO_MAX_IN_FLIGHT", default_value_t = 256, value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 1_000_000))]
    pub video_max_in_flight: usize,

    /// Video segments that may wait for a place; more get 503.
    #[arg(long, env = "PENSTOCK_VIDEO_QUEUE", default_value_t = 512, value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 1_000_000))]
    pub video_queue: usize,

    /// How long a video segment waits for a place before it gets 503, in milliseconds.
    #[arg(long, env = "PENSTOCK_VIDEO_QUEUE_WAIT_MS", default_value_t = 2_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 86_400_000))]
    pub video_queue_wait_ms: u64,

    /// AI jobs at work at a time; more wait. They never take a place of a video segment.
    #[arg(long, env = "PENSTOCK_AI_MAX_IN_FLIGHT", default_value_t = 256, value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 1_000_000))]
    pub ai_max_in_flight: usize,

    /// AI jobs that may wait for a place; more get 503.
    #[arg(long, env = "PENSTOCK_AI_QUEUE", default_value_t = 512, value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 1_000_000))]
    pub ai_queue: usize,

    /// How long an AI job waits for a place before it gets 503, in milliseconds.
    #[arg(long, env = "PENSTOCK_AI_QUEUE_WAIT_MS", default_value_t = 10_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 86_400_000))]
    pub ai_queue_wait_ms: u64,

    /// Jobs that one caller may have at work or waiting at this replica; more get 429. Default: a
    /// quarter of the smaller one of both limits when callers are told apart, else none.
    #[arg(long, env = "PENSTOCK_CALLER_MAX_IN_FLIGHT", value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 1_000_000))]
    pub caller_max_in_flight: Option<usize>,

    /// Most bytes of request bodies in memory at a time; above it requests get 503. Of these neither
    /// workload may hold more than three quarters.
    #[arg(
        long,
        env = "PENSTOCK_MAX_BUFFERED_BYTES",
        default_value_t = 2_000_000_000,
        value_name = "BYTES",
        value_parser = penstock_config::within::<usize>(0, 16 << 40)
    )]
    pub max_buffered_bytes: usize,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// `--network offchain`.
    pub offchain: bool,
    /// Who is let in.
    pub auth: AuthSettings,
    /// How much of it.
    pub limits: LimitSettings,
    /// `--cors-origin`.
    pub cors: Cors,
    /// `--drain-notice-ms`.
    pub drain_notice: Duration,
    /// `--idempotency-ttl-ms`.
    pub idempotency_ttl_ms: u64,
    /// For segments.
    pub video: LaneSettings,
    /// For AI jobs.
    pub ai: LaneSettings,
    /// `--caller-max-in-flight`.
    pub caller_max_in_flight: Option<usize>,
    /// `--max-buffered-bytes`.
    pub max_buffered_bytes: usize,
}

/// Who is let in.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Credentials that the signer knows.
    pub by_signer: bool,
    /// Tokens that are checked here.
    pub jwt: Option<OidcSettings>,
    /// `--caller-tier-claim`.
    pub tier_claim: Option<String>,
    /// `--caller-policy-claim`.
    pub policy_claim: Option<String>,
    /// `--caller-auth-stale-ms`.
    pub stale_for: Duration,
    /// Watching needs a caller.
    pub playback: bool,
    /// Pushing needs none.
    pub publish_open: bool,
}

/// How much one caller may ask for.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// In a second.
    pub requests_per_second: Option<NonZeroU32>,
    /// In a day.
    pub requests_per_day: Option<NonZeroU64>,
}

/// Whose pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Everybody's.
    Any,
    /// These.
    Only(Vec<HeaderValue>),
}

/// One workload's places.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// At work at a time.
    pub max_in_flight: usize,
    /// In line at a time.
    pub queue: usize,
    /// Longest wait in line.
    pub queue_wait: Duration,
}

impl FrontSettings {
    /// Checks.
    pub fn from_args(args: &FrontArgs) -> Result<Self, ConfigError> {
        for (setting, value) in [
            ("--video-max-in-flight", args.video_max_in_flight),
            ("--ai-max-in-flight", args.ai_max_in_flight),
            ("--caller-max-in-flight", args.caller_max_in_flight.unwrap_or(1)),
            ("--max-buffered-bytes", args.max_buffered_bytes),
        ] {
            if value == 0 {
                return Err(ConfigError::value(setting, "must be above 0"));
            }
        }
        let auth = auth(args)?;
        let told_apart = auth.by_signer || auth.jwt.is_some();
        let share = (args.video_max_in_flight.min(args.ai_max_in_flight) / 4).max(1);
        let offchain = args.network == Network::Offchain;
        if offchain && auth.by_signer {
            let reason = "there is no signer to ask with --network offchain; use jwt";
            return Err(ConfigError::value("--caller-auth", reason));
        }
        Ok(Self {
            offchain,
            auth,
            limits: LimitSettings {
                requests_per_second: args.caller_requests_per_second,
                requests_per_day: args.caller_requests_per_day,
            },
            cors: cors(&args.cors_origin)?,
            drain_notice: Duration::from_millis(args.drain_notice_ms),
            idempotency_ttl_ms: args.idempotency_ttl_ms,
            video: LaneSettings {
                max_in_flight: args.video_max_in_flight,
                queue: args.video_queue,
                queue_wait: Duration::from_millis(args.video_queue_wait_ms),
            },
            ai: LaneSettings {
                max_in_flight: args.ai_max_in_flight,
                queue: args.ai_queue,
                queue_wait: Duration::from_millis(args.ai_queue_wait_ms),
            },
            caller_max_in_flight: args.caller_max_in_flight.or(told_apart.then_some(share)),
            max_buffered_bytes: args.max_buffered_bytes,
        })
    }
}

fn auth(args: &FrontArgs) -> Result<AuthSettings, ConfigError> {
    let has = |way| args.caller_auth.contains(&way);
    if has(Way::None) && args.caller_auth.len() > 1 {
        return Err(ConfigError::value("--caller-auth", "`none` cannot stand beside others"));
    }
    let jwt = args.oidc.settings()?;
    match (has(Way::Jwt), jwt.is_some()) {
        (true, false) => {
            return Err(ConfigError::value("--oidc-issuer", "is required with --caller-auth jwt"));
        }
        (false, true) => {
            return Err(ConfigError::value("--caller-auth", "say jwt to use --oidc-issuer"));
        }
        _ => {}
    }
    let claims = [
        ("--caller-tier-claim", &args.caller_tier_claim),
        ("--caller-policy-claim", &args.caller_policy_claim),
    ];
    for (setting, claim) in claims {
        if claim.is_some() && jwt.is_none() {
            return Err(ConfigError::value(setting, "is read of tokens: say --caller-auth jwt"));
        }
    }
    Ok(AuthSettings {
        by_signer: has(Way::Signer),
        jwt,
        tier_claim: args.caller_tier_claim.clone(),
        policy_claim: args.caller_policy_claim.clone(),
        stale_for: Duration::from_millis(args.caller_auth_stale_ms),
        playback: args.playback_auth == Watching::Caller,
        publish_open: args.publish_auth == Publishing::Open,
    })
}

fn cors(list: &[String]) -> Result<Cors, ConfigError> {
    let list: Vec<_> = list.iter().map(|o| o.trim()).filter(|o| !o.is_empty()).collect();
    match list.as_slice() {
        ["*"] => return Ok(Cors::Any),
        ["none"] => return Ok(Cors::Only(Vec::new())),
        _ => {}
    }
    let origin = |text: &&str| {
        let bad = |why: &str| ConfigError::value("--cors-origin", format!("{text:?} {why}"));
        let url = url::Url::parse(text).map_err(|_| bad("is no origin"))?;
        // Browsers compare byte by byte with what they send: scheme, host, port, nothing else.
        if url.origin().ascii_serialization() != **text {
            return Err(bad("is not as browsers send it: `https://host` or `https://host:port`"));
        }
        HeaderValue::from_str(text).map_err(|_| bad("is no origin"))
    };
    list.iter().map(origin).collect::<Result<_, _>>().map(Cors::Only)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        front: FrontArgs,
    }

    /// What these flags become.
    pub(crate) fn settings(flags: &[&str]) -> Result<FrontSettings, ConfigError> {
        let argv = std::iter::once("front").chain(flags.iter().copied());
        FrontSettings::from_args(&Only::try_parse_from(argv).unwrap().front)
    }

    #[test]
    fn ways_in() {
        let oidc = [
            "--oidc-issuer=https://i",
            "--oidc-audience=a",
            "--oidc-jwks-file=/x",
            "--oidc-account=acme",
        ];
        let open = settings(&[]).unwrap();
        assert!(!open.auth.by_signer && open.auth.jwt.is_none());
        assert_eq!(open.caller_max_in_flight, None);
        let both = [&["--caller-auth=signer,jwt"][..], &oidc].concat();
        let both = settings(&both).unwrap();
        assert!(both.auth.by_signer && both.auth.jwt.is_some());
        assert_eq!(both.caller_max_in_flight, Some(64), "a quarter");
        for bad in [
            &["--caller-auth=none,signer"][..],
            &["--caller-auth=jwt"],
            &[&["--caller-auth=signer"][..], &oidc].concat(),
            &["--ai-max-in-flight=0"],
            &["--caller-auth=jwt", "--oidc-issuer=i"],
            &["--caller-auth=signer", "--network=offchain"],
            &["--caller-auth=signer", "--caller-tier-claim=tier"],
            &["--caller-policy-claim=rules"],
        ] {
            assert!(settings(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn origins() {
        let of = |list: &[&str]| cors(&list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["*"]).unwrap(), Cors::Any);
        assert_eq!(of(&["none"]).unwrap(), Cors::Only(Vec::new()));
        let two = ["https://a.example", "http://localhost:3000"];
        assert_eq!(of(&two).unwrap(), Cors::Only(two.map(HeaderValue::from_static).to_vec()));
        for bad in [
            "https://a.example/",
            "a.example",
            "https://a.example:443",
            "https://A.example",
            "null",
            "*",
        ] {
            assert!(of(&["https://b.example", bad]).is_err(), "{bad}");
        }
    }
}
