//! The flags, which are the same for every role that takes tokens.

use crate::{AccountFrom, OidcSettings, Source, algorithm};
use clap::Args;
use penstock_config::ConfigError;
use std::path::PathBuf;
use url::Url;

/// Tokens of an identity provider.
#[derive(Debug, Clone, Args)]
pub struct OidcArgs {
    /// Let callers in by tokens of this OpenID Connect issuer (`iss`, exactly). Needs
    /// --oidc-audience, a place of its keys, and an account.
    #[arg(long, env = "PENSTOCK_OIDC_ISSUER", value_name = "ISS")]
    pub oidc_issuer: Option<String>,

    /// Audiences, separated by commas; a token has to be for one of them.
    #[arg(long, env = "PENSTOCK_OIDC_AUDIENCE", value_name = "AUD,…", value_delimiter = ',')]
    pub oidc_audience: Vec<String>,

    /// The issuer's JSON Web Key Set.
    #[arg(long, env = "PENSTOCK_OIDC_JWKS_URL", value_name = "URL")]
    pub oidc_jwks_url: Option<String>,

    /// The same in a file.
    #[arg(long, env = "PENSTOCK_OIDC_JWKS_FILE", value_name = "FILE")]
    pub oidc_jwks_file: Option<PathBuf>,

    /// Algorithms that tokens may be signed with. Symmetric ones are refused.
    #[arg(
        long,
        env = "PENSTOCK_OIDC_ALGORITHMS",
        value_name = "ALG,…",
        value_delimiter = ',',
        default_value = "RS256"
    )]
    pub oidc_algorithms: Vec<String>,

    /// The account of every token's bearer.
    #[arg(long, env = "PENSTOCK_OIDC_ACCOUNT", value_name = "NAME")]
    pub oidc_account: Option<String>,

    /// The claim that names the account, instead.
    #[arg(long, env = "PENSTOCK_OIDC_ACCOUNT_CLAIM", value_name = "CLAIM")]
    pub oidc_account_claim: Option<String>,

    /// The claim that names the subject, whose budget counts.
    #[arg(long, env = "PENSTOCK_OIDC_SUBJECT_CLAIM", value_name = "CLAIM", default_value = "sub")]
    pub oidc_subject_claim: String,

    /// How far the issuer's clock may be from ours, seconds.
    #[arg(
        long,
        env = "PENSTOCK_OIDC_LEEWAY_S",
        value_name = "S",
        default_value_t = 60,
        value_parser = clap::value_parser!(i64).range(0..=600)
    )]
    pub oidc_leeway_s: i64,
}

impl OidcArgs {
    /// The same, checked. `None` without an issuer.
    pub fn settings(&self) -> Result<Option<OidcSettings>, ConfigError> {
        let Some(issuer) = self.oidc_issuer.clone().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let audiences: Vec<String> =
            self.oidc_audience.iter().filter(|a| !a.is_empty()).cloned().collect();
        if audiences.is_empty() {
            let reason = "is required with --oidc-issuer: a token for others must not count here";
            return Err(ConfigError::value("--oidc-audience", reason));
        }
        let algorithms = self.oidc_algorithms.iter().map(|name| algorithm(name.trim()));
        let algorithms = algorithms.collect::<Result<Vec<_>, String>>();
        let algorithms = algorithms.map_err(|e| ConfigError::value("--oidc-algorithms", e))?;
        let source = match (&self.oidc_jwks_url, &self.oidc_jwks_file) {
            (Some(text), None) => Source::Url(url(text)?),
            (None, Some(path)) => Source::File(path.clone()),
            _ => {
                let reason = "say either this or --oidc-jwks-file with --oidc-issuer";
                return Err(ConfigError::value("--oidc-jwks-url", reason));
            }
        };
        let account = match (&self.oidc_account, &self.oidc_account_claim) {
            (Some(name), None) => AccountFrom::Fixed(name.clone()),
            (None, Some(claim)) => AccountFrom::Claim(claim.clone()),
            _ => {
                let reason = "say either this or --oidc-account-claim with --oidc-issuer";
                return Err(ConfigError::value("--oidc-account", reason));
            }
        };
        Ok(Some(OidcSettings {
            issuer,
            audiences,
            algorithms,
            source,
            account,
            subject_claim: self.oidc_subject_claim.clone(),
            leeway_s: self.oidc_leeway_s,
        }))
    }
}

fn url(text: &str) -> Result<Url, ConfigError> {
    let bad = |reason: &str| ConfigError::value("--oidc-jwks-url", format!("{text:?} {reason}"));
    let url = Url::parse(text).map_err(|e| bad(&format!("is not a URL: {e}")))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() => Ok(url),
        _ => Err(bad("must be an http or https URL with a host")),
    }
}
