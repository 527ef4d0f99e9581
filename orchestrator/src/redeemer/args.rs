//! Settings of redemption by a process of its own.

use clap::Args;
use http::HeaderValue;
use penstock_clients::{RedeemerClient, RedeemerOptions, Trust, is_public};
use penstock_config::{ConfigError, Secret, read_secret_file};
use penstock_domain::Address;
use penstock_ledger::orchestrator::QueueLimits;
use std::{net::IpAddr, path::PathBuf, time::Duration};
use url::{Host, Url};

/// Where the Go node's redeemer listens.
const DEFAULT_PORT: u16 = 8935;

/// Settings of redemption by a process of its own.
#[derive(Debug, Clone, Args)]
pub struct RedeemerArgs {
    /// Runs as a redeemer: takes winning tickets from orchestrators and redeems them; does no other work.
    /// Listens on loopback unless --http-addr says otherwise.
    #[arg(long, env = "PENSTOCK_REDEEMER", conflicts_with = "redeemer_addr")]
    pub redeemer: bool,

    /// With --redeemer: the orchestrator whose tickets are redeemed. Default: the account of --key.
    #[arg(long, env = "PENSTOCK_REDEEMER_RECIPIENT", value_name = "0x…", requires = "redeemer")]
    pub redeemer_recipient: Option<Address>,

    /// Hands winning tickets over to the redeemer there, ours or the Go node's, instead of redeeming them.
    #[arg(long, env = "PENSTOCK_REDEEMER_ADDR", value_name = "[https://]HOST[:PORT]")]
    pub redeemer_addr: Option<String>,

    /// File with a secret that orchestrators and their redeemer share. With --redeemer only who knows it
    /// is served, which the Go node's orchestrators do not; without it --http-addr has to be private.
    #[arg(long, env = "PENSTOCK_REDEEMER_SECRET_FILE", value_name = "FILE")]
    pub redeemer_secret_file: Option<PathBuf>,

    /// PEM file with the redeemer's certificate (cert.pem in its --data-dir), the only one that is accepted
    /// then. Without it any is; a public address needs one.
    #[arg(long, env = "PENSTOCK_REDEEMER_CERT", value_name = "FILE", requires = "redeemer_addr")]
    pub redeemer_cert: Option<PathBuf>,

    /// How long an offer waits for the redeemer's word about a sender, in milliseconds, before the
    /// cautious rule takes its place.
    #[arg(long, env = "PENSTOCK_REDEEMER_PATIENCE_MS", default_value_t = 1_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub redeemer_patience_ms: u64,

    /// Senders whose max float is followed at the redeemer at once; the cautious rule holds for others.
    #[arg(long, env = "PENSTOCK_REDEEMER_MAX_SENDERS", default_value_t = 1_000,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub redeemer_max_senders: usize,

    /// With --redeemer: winning tickets that wait at once.
    #[arg(long, env = "PENSTOCK_REDEEMER_MAX_TICKETS", default_value_t = 100_000,
          value_parser = penstock_config::within::<u32>(1, 100_000_000))]
    pub redeemer_max_tickets: u32,

    /// With --redeemer: winning tickets of one sender that wait at once.
    #[arg(long, env = "PENSTOCK_REDEEMER_MAX_SENDER_TICKETS", default_value_t = 10_000,
          value_parser = penstock_config::within::<u32>(1, 100_000_000))]
    pub redeemer_max_sender_tickets: u32,

    /// With --redeemer: streams of max floats at once, one for each sender and orchestrator.
    #[arg(long, env = "PENSTOCK_REDEEMER_MAX_STREAMS", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub redeemer_max_streams: u32,
}

impl RedeemerArgs {
    /// The redeemer to hand over to, if there is one.
    pub fn client(&self) -> Result<Option<RedeemerClient>, ConfigError> {
        let Some(text) = &self.redeemer_addr else { return Ok(None) };
        let url = address(text).map_err(|why| ConfigError::value("--redeemer-addr", why))?;
        let trust = match &self.redeemer_cert {
            Some(path) => Trust::only_from_file(path)
                .map_err(|why| ConfigError::value("--redeemer-cert", why))?,
            None if is_strangers(&url) => {
                let reason = format!(
                    "is required because --redeemer-addr {text} is a public address: whoever sits between would \
                     read the secret and the numbers by which tickets win"
                );
                return Err(ConfigError::value("--redeemer-cert", reason));
            }
            None => Trust::AcceptAny,
        };
        let secret = self.secret()?.map(|secret| header(&secret)).transpose()?;
        let options = RedeemerOptions { trust, secret, ..RedeemerOptions::default() };
        RedeemerClient::new(&url, options)
            .map(Some)
            .map_err(|error| ConfigError::value("--redeemer-addr", error.to_string()))
    }

    /// How long an offer waits.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.redeemer_patience_ms)
    }

    /// What waits at most.
    pub fn queue_limits(&self) -> QueueLimits {
        QueueLimits { all: self.redeemer_max_tickets, sender: self.redeemer_max_sender_tickets }
    }

    /// What a redeemer that listens at `ip` asks for. Where strangers can come, it asks for something.
    pub fn secret_at(&self, ip: IpAddr) -> Result<Option<Secret>, ConfigError> {
        let secret = self.secret()?;
        if let Some(secret) = &secret {
            header(secret)?;
        } else if ip.is_unspecified() || is_public(ip) {
            let reason = format!(
                "is required because --http-addr {ip} is not a private address: whoever reaches it could \
                 have tickets redeemed at this account's cost"
            );
            return Err(ConfigError::value("--redeemer-secret-file", reason));
        }
        Ok(secret)
    }

    fn secret(&self) -> Result<Option<Secret>, ConfigError> {
        let path = self.redeemer_secret_file.as_deref();
        path.map(|path| read_secret_file(path, "--redeemer-secret-file")).transpose()
    }
}

/// Whether the way to a redeemer leaves the operator's own network, as far as an address tells.
fn is_strangers(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_public(ip.into()),
        Some(Host::Ipv6(ip)) => is_public(ip.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

/// The secret as it travels.
fn header(secret: &Secret) -> Result<HeaderValue, ConfigError> {
    let text = secret.expose();
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| {
            let reason = "must hold printable ASCII without spaces, to be sent in a header";
            ConfigError::value("--redeemer-secret-file", reason)
        })
}

/// As the Go node reads it, `host:port` is TLS, and the port may be left out.
fn address(text: &str) -> Result<Url, String> {
    let has_scheme = text.contains("://");
    let whole = if has_scheme { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&whole).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("scheme must be https or http, not {}", url.scheme()));
    }
    let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_plain || !url.username().is_empty() || url.password().is_some() {
        return Err("must be a scheme, a host and a port, nothing else".to_owned());
    }
    // A port that is the scheme's own has to be looked for in the text.
    let names_port = |port: u16| {
        let text = whole.trim_end_matches('/');
        text.ends_with(&format!(":{port}"))
    };
    let is_default = url.port().is_none() && !names_port(443) && !names_port(80);
    if is_default && url.set_port(Some(DEFAULT_PORT)).is_err() {
        return Err("must name a host".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        args: RedeemerArgs,
    }

    fn args(flags: &[&str]) -> Result<RedeemerArgs, clap::Error> {
        Only::try_parse_from(["x"].iter().chain(flags)).map(|only| only.args)
    }

    #[test]
    fn addresses_are_read_as_the_network_writes_them() {
        for (text, origin) in [
            ("127.0.0.1:7000", "https://127.0.0.1:7000"),
            ("redeemer", "https://redeemer:8935"),
            ("[::1]", "https://[::1]:8935"),
            ("https://r.example:443", "https://r.example:443"),
            ("http://10.0.0.1:80/", "http://10.0.0.1:80"),
            ("http://10.0.0.1", "http://10.0.0.1:8935"),
        ] {
            let url = address(text).unwrap();
            let port = url.port_or_known_default().unwrap();
            let shown = format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap());
            assert_eq!(shown, origin, "{text}");
        }
        for bad in ["", "ftp://h:1", "https://h/path", "https://u:p@h", "h?x", "https://"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strangers_are_asked_for_a_secret() {
        let open = args(&["--redeemer"]).unwrap();
        for private in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1"] {
            assert!(open.secret_at(private.parse().unwrap()).unwrap().is_none(), "{private}");
        }
        for public in ["0.0.0.0", "::", "8.8.8.8", "2a00::1"] {
            let error = open.secret_at(public.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("--redeemer-secret-file"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let flag = format!("--redeemer-secret-file={}", file.display());
        let guarded = args(&["--redeemer", &flag]).unwrap();
        std::fs::write(&file, "sesame\n").unwrap();
        let secret = guarded.secret_at("0.0.0.0".parse().unwrap()).unwrap().unwrap();
        assert_eq!(secret.expose(), "sesame");
        std::fs::write(&file, "two words").unwrap();
        assert!(guarded.secret_at("127.0.0.1".parse().unwrap()).is_err());
    }

    #[tokio::test]
    async fn the_two_sides_are_not_one_process() {
        assert!(args(&["--redeemer", "--redeemer-addr=h"]).is_err());
        assert!(
            args(&["--redeemer-recipient=0x0123456789012345678901234567890123456789"]).is_err()
        );
        assert!(args(&["--redeemer-cert=c.pem"]).is_err());
        assert!(args(&[]).unwrap().client().unwrap().is_none());
        let public = args(&["--redeemer-addr=8.8.8.8"]).unwrap();
        assert!(public.client().unwrap_err().to_string().contains("--redeemer-cert"));
        assert!(args(&["--redeemer-addr=10.0.0.1"]).unwrap().client().unwrap().is_some());
        let bad = args(&["--redeemer-addr=ftp://h"]).unwrap();
        assert!(bad.client().unwrap_err().to_string().contains("--redeemer-addr"));
    }
}
