//! Logging in, and how long it holds.

use crate::{
    VaultError,
    http::{Ask, Http},
    secret_text::SecretText,
};
use penstock_config::{Secret, read_secret_file};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};
use zeroize::Zeroizing;

/// How to get a token. Files are read at every login, so that what rewrites them is honoured.
#[derive(Debug, Clone)]
pub enum VaultAuth {
    /// A token in a file, as an agent's sink writes it.
    TokenFile(PathBuf),
    /// AppRole.
    AppRole {
        /// Where the method is mounted; `approle` by default.
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// File with the secret id.
        secret_id_file: PathBuf,
    },
    /// A pod's service account.
    Kubernetes {
        /// Where the method is mounted; `kubernetes` by default.
        mount: String,
        /// The role.
        role: String,
        /// File with the account's token.
        token_file: PathBuf,
    },
}

/// A token and its life.
pub(crate) struct Login {
    pub(crate) token: Secret,
    /// 0 is for ever.
    pub(crate) ttl: Duration,
    pub(crate) renewable: bool,
}

#[derive(Deserialize)]
struct AuthAnswer {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: SecretText,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookupAnswer {
    data: Lookup,
}

#[derive(Deserialize)]
struct Lookup {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct KubernetesLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

impl VaultAuth {
    pub(crate) async fn login(&self, http: &Http) -> Result<Login, VaultError> {
        match self {
            Self::TokenFile(path) => {
                let token = read_secret_file(path, "--vault-token-file")?;
                let ask = Ask {
                    method: Method::GET,
                    path: vec!["auth/token/lookup-self".to_owned()],
                    query: None,
                    token: Some(token.clone()),
                    body: None,
                };
                let LookupAnswer { data } = http.ask(&ask).await?;
                let ttl = Duration::from_secs(data.ttl);
                Ok(Login { token, ttl, renewable: data.renewable })
            }
            Self::AppRole { mount, role_id, secret_id_file } => {
                let secret = read_secret_file(secret_id_file, "--vault-approle-secret-id-file")?;
                let body = AppRoleLogin { role_id, secret_id: secret.expose() };
                login_at(http, mount, &body).await
            }
            Self::Kubernetes { mount, role, token_file } => {
                let jwt = read_secret_file(token_file, "--vault-kubernetes-token-file")?;
                login_at(http, mount, &KubernetesLogin { role, jwt: jwt.expose() }).await
            }
        }
    }
}

async fn login_at(http: &Http, mount: &str, body: &impl Serialize) -> Result<Login, VaultError> {
    let ask = Ask {
        method: Method::POST,
        path: vec!["auth".to_owned(), mount.to_owned(), "login".to_owned()],
        query: None,
        token: None,
        body: Some(json(body)?),
    };
    let AuthAnswer { auth } = http.ask(&ask).await?;
    Ok(login_of(auth))
}

/// Asks for more life. The vault may give less than was left.
pub(crate) async fn renew(http: &Http, token: &Secret) -> Result<Login, VaultError> {
    let ask = Ask {
        method: Method::POST,
        path: vec!["auth/token/renew-self".to_owned()],
        query: None,
        token: Some(token.clone()),
        body: Some(Zeroizing::new(b"{}".to_vec())),
    };
    let AuthAnswer { auth } = http.ask(&ask).await?;
    Ok(login_of(auth))
}

fn login_of(auth: Auth) -> Login {
    let ttl = Duration::from_secs(auth.lease_duration);
    Login { token: auth.client_token.0, ttl, renewable: auth.renewable }
}

pub(crate) fn json(body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    // Room from the start: a buffer that grows leaves copies of the secret behind.
    let mut out = Zeroizing::new(Vec::with_capacity(16 << 10));
    serde_json::to_writer(&mut *out, body)
        .map_err(|_| VaultError::Config("cannot be written as JSON".to_owned()))?;
    Ok(out)
}
