//! The flags of authentication, and what they become.

use super::{TokenFile, webhook::WebhookSettings};
use clap::Args;
use http::HeaderMap;
use penstock_clients::EthUsdSettings;
use penstock_config::{ConfigError, EthUsdArgs, read_secret_file};
use penstock_oidc::{OidcArgs, OidcSettings};
use penstock_wire::checked_url;
use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};
use url::Url;

/// The flag that lets anyone in.
const RISK: &str = "--i-accept-that-anyone-can-spend-the-deposit";

/// Who may call.
#[derive(Debug, Clone, Args)]
pub struct AuthArgs {
    /// File with the bearer tokens of the operator's own gateways, TOKEN or ACCOUNT TOKEN a line. They
    /// have no limits and may name subjects.
    #[arg(long, env = "PENSTOCK_AUTH_TOKEN_FILE", value_name = "FILE")]
    pub auth_token_file: Option<PathBuf>,

    /// Let accounts of the ledger in, by their API keys and client certificates (`penstock accounts`).
    #[arg(long, env = "PENSTOCK_ACCOUNTS")]
    pub accounts: bool,

    /// How many replicas share the load: each lets the N-th part of an account's requests_per_second
    /// through.
    #[arg(
        long,
        env = "PENSTOCK_RATE_REPLICAS",
        value_name = "N",
        default_value_t = NonZeroU32::MIN
    )]
    pub rate_replicas: NonZeroU32,

    /// Listen beyond loopback although no caller has to say who he is.
    #[arg(
        long = "i-accept-that-anyone-can-spend-the-deposit",
        env = "PENSTOCK_I_ACCEPT_THAT_ANYONE_CAN_SPEND_THE_DEPOSIT"
    )]
    pub open_to_anyone: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub oidc: OidcArgs,

    /// Asked before each payment whether it may be made (the Go node's -remoteSignerWebhookUrl).
    #[arg(long, env = "PENSTOCK_AUTH_WEBHOOK_URL", value_name = "URL")]
    pub auth_webhook_url: Option<String>,

    /// File with headers for the auth webhook, NAME: VALUE a line.
    #[arg(long, env = "PENSTOCK_AUTH_WEBHOOK_HEADERS_FILE", value_name = "FILE")]
    pub auth_webhook_headers_file: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub ether: EthUsdArgs,
}

/// Who may call, checked.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// The tokens of `--auth-token-file`.
    pub tokens: Option<TokenFile>,
    /// `--accounts`
    pub keys: bool,
    /// `--oidc-…`
    pub oidc: Option<OidcSettings>,
    /// `--auth-webhook-…`
    pub webhook: Option<WebhookSettings>,
    /// `--eth-usd…`
    pub eth_usd: EthUsdSettings,
    /// `--rate-replicas`
    pub rate_replicas: NonZeroU32,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            tokens: None,
            keys: false,
            oidc: None,
            webhook: None,
            eth_usd: EthUsdSettings::default(),
            rate_replicas: NonZeroU32::MIN,
        }
    }
}

impl AuthSettings {
    /// Whether callers without a credential are let in.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none() && !self.keys && self.oidc.is_none()
    }
}

impl AuthArgs {
    /// Checks them; `http_addr` decides whether strangers could come.
    pub fn settings(&self, http_addr: SocketAddr) -> Result<AuthSettings, ConfigError> {
        let tokens = self.auth_token_file.as_deref();
        let tokens = tokens.map(|path| read_secret_file(path, "--auth-token-file")).transpose()?;
        let settings = AuthSettings {
            tokens: tokens.as_ref().map(TokenFile::parse).transpose()?,
            keys: self.accounts,
            oidc: self.oidc.settings()?,
            webhook: self.webhook()?,
            eth_usd: EthUsdSettings::try_from(&self.ether)?,
            rate_replicas: self.rate_replicas,
        };
        // As in the reference, a webhook is somebody who decides.
        let decided = !settings.is_open() || settings.webhook.is_some();
        if !http_addr.ip().is_loopback() && !decided && !self.open_to_anyone {
            return Err(ConfigError::value(
                "--http-addr",
                format!(
                    "{http_addr} is not loopback, so callers must say who they are: set --accounts, \
                     --auth-token-file, --oidc-issuer or --auth-webhook-url; or say {RISK}"
                ),
            ));
        }
        Ok(settings)
    }

    fn webhook(&self) -> Result<Option<WebhookSettings>, ConfigError> {
        let Some(text) = &self.auth_webhook_url else { return Ok(None) };
        let url = url("--auth-webhook-url", text)?;
        let headers = match &self.auth_webhook_headers_file {
            None => HeaderMap::new(),
            Some(path) => {
                let setting = "--auth-webhook-headers-file";
                let text = read_secret_file(path, setting)?;
                WebhookSettings::headers(text.expose())
                    .map_err(|e| ConfigError::value(setting, e))?
            }
        };
        Ok(Some(WebhookSettings { url, headers }))
    }
}

fn url(setting: &str, text: &str) -> Result<Url, ConfigError> {
    let bad = |reason: String| ConfigError::value(setting, reason);
    checked_url("url", text).map_err(|e| bad(e.to_string()))?;
    text.parse().map_err(|e: url::ParseError| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::Args;

    fn settings(words: &[&str]) -> Result<super::AuthSettings, String> {
        let argv = std::iter::once("penstock-signer").chain(words.iter().copied());
        let args: Args = penstock_config::try_parse_from(argv).map_err(|e| e.to_string())?;
        args.auth.settings(args.http_addr).map_err(|e| e.to_string())
    }

    #[test]
    fn strangers_are_let_in_only_by_name_of_the_risk() {
        let public = ["--http-addr", "0.0.0.0:0"];
        let with = |more: &[&str]| settings(&[&public[..], more].concat());
        let refused = with(&[]).unwrap_err();
        for way in
            ["--accounts", "--auth-token-file", "--i-accept-that-anyone-can-spend-the-deposit"]
        {
            assert!(refused.contains(way), "{refused}");
        }
        assert!(with(&["--i-accept-that-anyone-can-spend-the-deposit"]).unwrap().is_open());
        assert!(!with(&["--accounts"]).unwrap().is_open());
        assert!(with(&["--auth-webhook-url", "http://h/x"]).unwrap().webhook.is_some());
        assert!(settings(&[]).unwrap().is_open(), "on loopback");
    }

    #[test]
    fn identity_providers_are_set_up_whole_or_not_at_all() {
        let whole = [
            "--oidc-issuer=https://i",
            "--oidc-audience=a",
            "--oidc-jwks-url=https://i/keys",
            "--oidc-account=acme",
        ];
        let oidc = settings(&whole).unwrap().oidc.unwrap();
        assert_eq!(oidc.algorithms, [jsonwebtoken::Algorithm::RS256]);
        for left_out in 1..whole.len() {
            let part: Vec<&str> =
                whole.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, w)| *w).collect();
            assert!(settings(&part).is_err(), "{part:?}");
        }
        for more in ["--oidc-algorithms=HS256", "--oidc-jwks-file=/x", "--oidc-account-claim=org"] {
            assert!(settings(&[&whole[..], &[more]].concat()).is_err(), "{more}");
        }
    }

    #[test]
    fn there_is_one_price_of_ether() {
        assert!(settings(&["--eth-usd=2500.50"]).is_ok());
        for bad in [
            &["--eth-usd=0"][..],
            &["--eth-usd=x"],
            &["--eth-usd=1", "--eth-usd-file=/p"],
            &["--eth-usd-url=ftp://x"],
            &["--eth-usd-pointer=a"],
        ] {
            assert!(settings(bad).is_err(), "{bad:?}");
        }
    }
}
