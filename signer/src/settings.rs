//! What the service runs with: the command line, checked, with every default filled in.

use crate::{
    args::Args,
    auth::args::AuthSettings,
    deposit_args::DepositSettings,
    discovery::args::DiscoverySettings,
    events::args::EventsSettings,
    key_source::{Surroundings, state_keys::StateKeysSource},
    service::{
        limits::Limits,
        prices::{PriceFile, PriceLimits},
        retention::Retention,
    },
};
use penstock_config::{ConfigError, Secret, read_secret_file};
use penstock_domain::Rational;
use penstock_http_kit::{serve::LeastSpeed, tls::TlsFiles};
use penstock_payments::SenderLimits;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the service runs with: checked, with every default filled in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--http-addr`
    pub http_addr: SocketAddr,
    /// `--admin-addr`
    pub admin_addr: SocketAddr,
    /// `--admin-token-file`, read.
    pub admin_token: Option<Secret>,
    /// `--metrics-addr`
    pub metrics_addr: Option<SocketAddr>,
    /// `--addr-file`
    pub addr_file: Option<PathBuf>,
    /// `--drain-timeout-ms`
    pub drain: Duration,
    /// `--min-read-bytes-per-second`, `--min-read-window-ms`
    pub least_speed: LeastSpeed,
    /// `--state-keys-file`
    pub state_keys: StateKeysSource,
    /// Who may call.
    pub auth: AuthSettings,
    /// Limits on tickets.
    pub limits: Limits,
    /// Limits on prices.
    pub prices: PriceLimits,
    /// Deposit and reserve.
    pub deposit: DepositSettings,
    /// `--chain-poll-ms`
    pub chain_poll: Duration,
    /// `--chain-max-age-ms`
    pub chain_max_age: Duration,
    /// Who is listed.
    pub discovery: DiscoverySettings,
    /// `--replica`
    pub replica: String,
    /// How long the books keep what.
    pub retention: Retention,
    /// Where events of payments go; without it none are made.
    pub events: Option<EventsSettings>,
    /// TLS of the API; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// `--max-in-flight`
    pub max_in_flight: usize,
    /// `--request-timeout-ms`
    pub request_timeout: Duration,
}

impl Args {
    /// `--ledger`, or its default.
    pub fn ledger_url(&self) -> String {
        let default = || format!("sqlite://{}", self.data_dir.join("signer.db").display());
        self.ledger.clone().unwrap_or_else(default)
    }

    /// What decides about places of keys, beside the flags.
    pub fn surroundings(&self) -> Surroundings {
        Surroundings::of_process(&self.data_dir)
    }

    /// Checks everything that can be checked without I/O beyond reading the named files.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let auth = self.auth.settings(self.http_addr)?;
        let units = Rational::from(self.pixels_per_unit.get());
        let general = self.max_price_per_unit.checked_div(&units);
        let mut prices = PriceLimits { general, ..PriceLimits::default() };
        if let Some(path) = &self.max_price_per_capability {
            prices = prices
                .with_file(&price_file(path)?)
                .map_err(|e| ConfigError::value("--max-price-per-capability", e))?;
        }
        Ok(Settings {
            http_addr: self.http_addr,
            admin_addr: self.common.admin_addr,
            admin_token: self.common.admin_token()?,
            metrics_addr: self.common.metrics_addr,
            addr_file: self.common.addr_file.clone(),
            drain: self.common.drain_timeout(),
            least_speed: LeastSpeed::new(
                self.readers.min_read_bytes_per_second,
                self.readers.window(),
            ),
            state_keys: self.keys.state_keys(&self.surroundings())?,
            auth,
            limits: Limits {
                sender: SenderLimits {
                    max_ev: self.max_ticket_ev.clone(),
                    max_total_ev: self.max_total_ev.clone(),
                    deposit_multiplier: self.deposit_multiplier,
                    expiry_margin_blocks: self.ticket_expiry_margin_blocks,
                },
                max_tickets: self.max_tickets,
                spend_per_orchestrator_hour: self.max_spend_per_orchestrator_hour,
                spend_per_hour: self.max_spend_per_hour,
            },
            prices,
            deposit: self.deposit.settings(),
            chain_poll: Duration::from_millis(self.chain_poll_ms),
            chain_max_age: Duration::from_millis(self.chain_max_age_ms),
            discovery: self.discovery.settings()?,
            replica: self.replica.clone(),
            retention: self.retention.settings()?,
            events: self.events.settings()?,
            tls: self.tls.files()?,
            max_in_flight: usize::try_from(self.max_in_flight).unwrap_or(usize::MAX),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
        })
    }
}

fn price_file(path: &Path) -> Result<PriceFile, ConfigError> {
    let setting = "--max-price-per-capability";
    let text = read_secret_file(path, setting)?;
    serde_json::from_str(text.expose()).map_err(|e| ConfigError::value(setting, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_source::KeySource;

    fn settings(words: &[&str]) -> Result<Settings, ConfigError> {
        let argv = std::iter::once("penstock-signer").chain(words.iter().copied());
        penstock_config::try_parse_from::<Args>(argv)?.settings()
    }

    #[test]
    fn the_definition_is_sound() {
        penstock_config::assert_definition::<Args>();
        let s = settings(&[]).unwrap();
        assert_eq!(s.http_addr.to_string(), "127.0.0.1:7936");
        let sender = SenderLimits { expiry_margin_blocks: 3, ..SenderLimits::default() };
        assert_eq!(s.limits, Limits { sender, ..Limits::default() });
        assert_eq!(s.prices.for_model(1, "x"), None);
        assert!(settings(&["serve"]).is_ok());
    }

    #[test]
    fn a_public_address_needs_tokens() {
        let error = settings(&["--http-addr", "0.0.0.0:0"]).unwrap_err().to_string();
        assert!(error.contains("--auth-token-file"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        std::fs::write(&file, "t1\n").unwrap();
        let file = file.to_str().unwrap();
        let s = settings(&["--http-addr", "0.0.0.0:0", "--auth-token-file", file]).unwrap();
        assert!(s.auth.tokens.is_some());
        std::fs::write(file, "\n").unwrap();
        assert!(settings(&["--auth-token-file", file]).is_err());
        assert!(settings(&["--admin-addr", "0.0.0.0:0"]).is_err());
    }

    #[test]
    fn numbers_and_urls_are_checked() {
        let s = settings(&[
            "--max-price-per-unit",
            "1.5",
            "--pixels-per-unit",
            "2",
            "--orchestrators",
            "https://a:1/,b:2,https://a:1",
        ])
        .unwrap();
        assert_eq!(s.prices.for_model(1, "x").unwrap().to_string(), "3/4");
        assert_eq!(s.discovery.orchestrators, ["https://a:1", "https://b:2"]);
        for bad in [
            ["--max-ticket-ev", "-1"],
            ["--max-total-ev", "x"],
            ["--deposit-multiplier", "0"],
            ["--pixels-per-unit", "0"],
            ["--orchestrators", "ftp://x"],
            ["--orch-webhook-url", "file:///x"],
            ["--extra-nodes", "257"],
            ["--tls-cert", "/c"],
            ["--client-ca", "/c"],
            ["--max-price-per-capability", "/nonexistent"],
            ["--chain-poll-ms", "0"],
            ["--max-tickets", "0"],
            ["--max-tickets", "101"],
            ["--ticket-expiry-margin-blocks", "0"],
            ["--max-spend-per-hour", "0"],
            ["--max-spend-per-orchestrator-hour", "1.5"],
            ["--retain-answers-days", "0"],
            ["--retain-payments-days", "34"],
        ] {
            assert!(settings(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn answers_do_not_outlive_their_payments() {
        assert_eq!(settings(&[]).unwrap().retention, Retention::default());
        let kept = |answers, payments| {
            settings(&["--retain-answers-days", answers, "--retain-payments-days", payments])
        };
        let retention = Retention { answers_days: Some(40), payments_days: Some(40) };
        assert_eq!(kept("40", "40").unwrap().retention, retention);
        assert!(kept("41", "40").unwrap_err().to_string().contains("--retain-answers-days"));
    }

    #[test]
    fn keys_and_ledger_have_places() {
        let args: Args = penstock_config::try_parse_from([
            "penstock-signer",
            "--data-dir",
            "/d",
            "keys",
            "create",
            "--key",
            "keystore:/k",
        ])
        .unwrap();
        assert_eq!(args.ledger_url(), "sqlite:///d/signer.db");
        let KeySource::Keystore { path, .. } =
            KeySource::of(&args.keys, &args.surroundings()).unwrap()
        else {
            panic!()
        };
        assert_eq!(path, Path::new("/k"));
        let s = settings(&["--data-dir", "/d"]).unwrap();
        assert!(
            matches!(s.state_keys, StateKeysSource::File(path) if path == Path::new("/d/state-keys"))
        );
        assert!(settings(&["--state-keys-file", "vault:x"]).is_err());
    }
}
