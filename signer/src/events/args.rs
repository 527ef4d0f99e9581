//! The flags of events.

use penstock_config::{ConfigError, Secret, read_secret_file};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use url::Url;

/// Longest topic or stream name.
const NAME_BYTES: usize = 249;

/// The command line's part.
#[derive(Debug, Clone, clap::Args)]
pub struct EventsArgs {
    /// Where an event of each payment goes: webhook:URL, redis://HOST:PORT[/DB]?stream=NAME[&maxlen=N]
    /// (rediss: for TLS) or kafka://HOST:PORT,…/TOPIC. Without it no events are made.
    #[arg(long, env = "PENSTOCK_EVENTS", value_name = "SINK")]
    pub events: Option<String>,

    /// File with the webhook's bearer token, or with the password for Redis.
    #[arg(long, env = "PENSTOCK_EVENTS_TOKEN_FILE", value_name = "FILE")]
    pub events_token_file: Option<PathBuf>,

    /// File with the key under which webhook bodies are signed (HMAC-SHA256, header
    /// Penstock-Signature).
    #[arg(long, env = "PENSTOCK_EVENTS_HMAC_KEY_FILE", value_name = "FILE")]
    pub events_hmac_key_file: Option<PathBuf>,

    /// File with settings of the Kafka client, librdkafka's NAME=VALUE a line: TLS, SASL.
    #[arg(long, env = "PENSTOCK_EVENTS_KAFKA_CONFIG", value_name = "FILE")]
    pub events_kafka_config: Option<PathBuf>,

    /// What events say in their field `gateway`. Default: --replica.
    #[arg(long, env = "PENSTOCK_EVENTS_GATEWAY", value_name = "NAME")]
    pub events_gateway: Option<String>,

    /// Milliseconds that a replica which died keeps the others from delivering. A delivery has
    /// two fifths of it.
    #[arg(
        long,
        env = "PENSTOCK_EVENTS_LEASE_MS",
        value_name = "MS",
        default_value_t = 15_000,
        value_parser = clap::value_parser!(u64).range(300..=600_000)
    )]
    pub events_lease_ms: u64,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct EventsSettings {
    /// Where to.
    pub target: Target,
    /// `--events-gateway`
    pub gateway: Option<String>,
    /// `--events-lease-ms`
    pub lease: Duration,
}

impl EventsSettings {
    /// Time for one delivery: it ends before another replica may begin. The ledger renews a lease
    /// when half of it is over.
    pub fn delivery_time(&self) -> Duration {
        self.lease * 2 / 5
    }
}

/// A sink with all that it needs.
#[derive(Debug, Clone)]
pub enum Target {
    /// `webhook:URL`
    Webhook {
        /// Posted to.
        url: Url,
        /// `Authorization: Bearer …`
        token: Option<Secret>,
        /// Signs bodies.
        hmac_key: Option<Secret>,
    },
    /// `redis://…`
    Redis {
        /// Without what follows.
        url: Url,
        /// Of the user, or of the server.
        password: Option<Secret>,
        /// Stream's key.
        stream: String,
        /// About so many entries are kept.
        maxlen: Option<u64>,
    },
    /// `kafka://…`
    Kafka {
        /// `host:port,…`
        brokers: String,
        /// Topic.
        topic: String,
        /// librdkafka's settings.
        properties: KafkaProperties,
    },
}

/// librdkafka's settings. Some are passwords: none is shown.
#[derive(Clone, Default)]
pub struct KafkaProperties(pub BTreeMap<String, String>);

impl std::fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl std::fmt::Display for Target {
    /// For logs: no secrets, no user part, no query, and no path, which is what some webhooks are known by.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Webhook { url, .. } => {
                write!(f, "webhook:{}", url.origin().ascii_serialization())
            }
            Self::Redis { url, stream, .. } => {
                let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(6379));
                write!(f, "{}://{host}:{port}{} stream {stream}", url.scheme(), url.path())
            }
            Self::Kafka { brokers, topic, .. } => write!(f, "kafka://{brokers}/{topic}"),
        }
    }
}

impl EventsArgs {
    /// What to deliver to, if anything; reads the named files.
    pub fn settings(&self) -> Result<Option<EventsSettings>, ConfigError> {
        let Some(text) = self.events.as_deref().map(str::trim).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let target = self.target(text)?;
        self.refuse_foreign_files(&target)?;
        let gateway = self.events_gateway.clone();
        let lease = Duration::from_millis(self.events_lease_ms);
        Ok(Some(EventsSettings { target, gateway, lease }))
    }

    fn target(&self, text: &str) -> Result<Target, ConfigError> {
        let bad = |e: &str| ConfigError::value("--events", e);
        if let Some(url) = text.strip_prefix("webhook:") {
            let url = Url::parse(url).map_err(|e| bad(&e.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(bad("webhook: wants an http or https URL"));
            }
            refuse_password(&url)?;
            return Ok(Target::Webhook {
                url,
                token: secret(self.events_token_file.as_ref(), "--events-token-file")?,
                hmac_key: secret(self.events_hmac_key_file.as_ref(), "--events-hmac-key-file")?,
            });
        }
        if let Some(rest) = text.strip_prefix("kafka://") {
            let (brokers, topic) =
                rest.split_once('/').ok_or_else(|| bad("kafka:// wants HOST:PORT,…/TOPIC"))?;
            if brokers.is_empty() || brokers.contains('@') || !is_name(topic) {
                return Err(bad("kafka:// wants HOST:PORT,…/TOPIC, without credentials"));
            }
            let properties = self.kafka_properties()?;
            return Ok(Target::Kafka { brokers: brokers.into(), topic: topic.into(), properties });
        }
        if text.starts_with("redis://") || text.starts_with("rediss://") {
            return self.redis(text);
        }
        Err(bad("must be webhook:URL, redis://… or kafka://…"))
    }

    fn redis(&self, text: &str) -> Result<Target, ConfigError> {
        let bad = |e: &str| ConfigError::value("--events", e);
        let mut url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        refuse_password(&url)?;
        let (mut stream, mut maxlen) = (None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "stream" if is_name(&value) => stream = Some(value.into_owned()),
                "maxlen" => {
                    let number = value.parse().ok().filter(|n| *n > 0);
                    maxlen = Some(number.ok_or_else(|| bad("maxlen must be a number above 0"))?);
                }
                _ => return Err(bad("redis:// takes ?stream=NAME and &maxlen=N only")),
            }
        }
        let stream = stream.ok_or_else(|| bad("redis:// wants ?stream=NAME"))?;
        url.set_query(None);
        let password = secret(self.events_token_file.as_ref(), "--events-token-file")?;
        Ok(Target::Redis { url, password, stream, maxlen })
    }

    fn kafka_properties(&self) -> Result<KafkaProperties, ConfigError> {
        let setting = "--events-kafka-config";
        let Some(text) = secret(self.events_kafka_config.as_ref(), setting)? else {
            return Ok(KafkaProperties::default());
        };
        let mut properties = BTreeMap::new();
        for (line, number) in text.expose().lines().zip(1u32..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| {
                ConfigError::value(setting, format!("line {number}: expected NAME=VALUE"))
            })?;
            let (name, value) = (name.trim(), value.trim());
            refuse_unsupported(name, value)?;
            properties.insert(name.to_owned(), value.to_owned());
        }
        Ok(KafkaProperties(properties))
    }

    /// A file that would not be used is a misunderstanding.
    fn refuse_foreign_files(&self, target: &Target) -> Result<(), ConfigError> {
        let (webhook, redis, kafka) = match target {
            Target::Webhook { .. } => (true, false, false),
            Target::Redis { .. } => (false, true, false),
            Target::Kafka { .. } => (false, false, true),
        };
        for (setting, given, wanted) in [
            ("--events-token-file", self.events_token_file.is_some(), webhook || redis),
            ("--events-hmac-key-file", self.events_hmac_key_file.is_some(), webhook),
            ("--events-kafka-config", self.events_kafka_config.is_some(), kafka),
        ] {
            if given && !wanted {
                return Err(ConfigError::value(setting, "has no use with this --events"));
            }
        }
        Ok(())
    }
}

/// What this build's Kafka client cannot do is refused here, by name: librdkafka's own words for it come
/// late and say little.
fn refuse_unsupported(name: &str, value: &str) -> Result<(), ConfigError> {
    const TLS: bool = cfg!(feature = "kafka-tls");
    let value = value.to_ascii_uppercase();
    let supported = match name {
        "security.protocol" => {
            matches!(value.as_str(), "PLAINTEXT" | "SASL_PLAINTEXT")
                || (TLS && matches!(value.as_str(), "SSL" | "SASL_SSL"))
        }
        "sasl.mechanism" | "sasl.mechanisms" => {
            value == "PLAIN" || (TLS && matches!(value.as_str(), "SCRAM-SHA-256" | "SCRAM-SHA-512"))
        }
        _ => TLS || !name.starts_with("ssl."),
    };
    if supported {
        return Ok(());
    }
    let can = if TLS {
        "this build has plaintext and TLS, SASL with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512"
    } else {
        "this build has plaintext, and SASL with PLAIN; a build with --features kafka-tls has TLS and \
         SCRAM as well"
    };
    Err(ConfigError::value("--events-kafka-config", format!("{name}: not supported: {can}")))
}

fn secret(path: Option<&PathBuf>, setting: &str) -> Result<Option<Secret>, ConfigError> {
    path.map(|path| read_secret_file(path, setting)).transpose()
}

fn refuse_password(url: &Url) -> Result<(), ConfigError> {
    if url.password().is_some() {
        return Err(ConfigError::value(
            "--events",
            "must hold no password: see --events-token-file",
        ));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:{}".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        events: EventsArgs,
    }

    fn settings(words: &[&str]) -> Result<Option<EventsSettings>, ConfigError> {
        let argv = std::iter::once("x").chain(words.iter().copied());
        Only::try_parse_from(argv).unwrap().events.settings()
    }

    fn shown(sink: &str) -> String {
        settings(&["--events", sink]).unwrap().unwrap().target.to_string()
    }

    #[test]
    fn sinks_are_read_and_shown_without_secrets() {
        assert!(settings(&[]).unwrap().is_none());
        assert_eq!(shown("webhook:https://user@h:1/p?token=x"), "webhook:https://h:1");
        assert_eq!(shown("redis://u@h/2?stream=s:1&maxlen=9"), "redis://h:6379/2 stream s:1");
        assert_eq!(shown("kafka://a:1,b:2/topic"), "kafka://a:1,b:2/topic");
    }

    #[test]
    fn bad_sinks_are_refused() {
        for bad in [
            "x",
            "webhook:",
            "webhook:ftp://h",
            "webhook:https://u:p@h/",
            "redis://h",
            "redis://h?stream=",
            "redis://h?stream=s&maxlen=0",
            "redis://h?stream=s&password=x",
            "redis://u:p@h?stream=s",
            "kafka://h:1",
            "kafka://h:1/",
            "kafka:///t",
            "kafka://u:p@h:1/t",
            "kafka://h:1/a/b",
        ] {
            assert!(settings(&["--events", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_belong_to_their_sink() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "# comment\n\nsasl.password = secret=1\n").unwrap();
        let file = file.to_str().unwrap();
        let kafka = ["--events=kafka://h:1/t", "--events-kafka-config", file];
        let Target::Kafka { properties, .. } = settings(&kafka).unwrap().unwrap().target else {
            panic!("not Kafka");
        };
        assert_eq!(properties.0["sasl.password"], "secret=1");
        assert!(!format!("{properties:?}").contains("secret"));
        let webhook = "--events=webhook:https://h/";
        assert!(settings(&[webhook, "--events-token-file", file]).is_ok());
        assert!(settings(&[webhook, "--events-kafka-config", file]).is_err());
        assert!(settings(&["--events=kafka://h:1/t", "--events-token-file", file]).is_err());
        std::fs::write(file, "no equals sign").unwrap();
        assert!(settings(&kafka).is_err());
    }

    #[test]
    fn what_the_kafka_client_cannot_do_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let with = |line: &str| {
            std::fs::write(path, line).unwrap();
            settings(&["--events=kafka://h:1/t", "--events-kafka-config", path])
        };
        for good in ["security.protocol=sasl_plaintext", "sasl.mechanisms=PLAIN"] {
            assert!(with(good).is_ok(), "{good}");
        }
        for never in ["sasl.mechanism=GSSAPI", "sasl.mechanisms=OAUTHBEARER"] {
            assert!(with(never).is_err(), "{never}");
        }
        for tls in ["security.protocol=ssl", "ssl.ca.location=/ca", "sasl.mechanisms=SCRAM-SHA-512"]
        {
            let said = with(tls);
            assert_eq!(said.is_ok(), cfg!(feature = "kafka-tls"), "{tls}");
            if let Err(error) = said {
                assert!(error.to_string().contains("--features kafka-tls"), "{error}");
            }
        }
    }
}
