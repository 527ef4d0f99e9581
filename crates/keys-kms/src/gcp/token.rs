//! Access tokens: from a service account's key, or from the metadata server of the machine.

use crate::{
    Environment,
    gcp::GcpKmsUri,
    http::{Failed, read, words},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use penstock_config::{Secret, read_secret_file};
use penstock_keys::KeyError;
use reqwest::{Client, RequestBuilder};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

const SERVICE: &str = "Google credentials";
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// Life of an assertion, the longest allowed.
const ASSERTION_S: u64 = 3600;
/// A token is replaced so long before its end.
const MARGIN: Duration = Duration::from_secs(120);
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// Where tokens come from.
enum Source {
    ServiceAccount(Box<ServiceAccount>),
    /// `http://HOST/computeMetadata/…`
    Metadata(String),
}

struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: EncodingKey,
    token_uri: String,
}

/// A service account's file.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    private_key: Zeroizing<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Zeroizing<String>,
    expires_in: u64,
}

/// The token in use, fetched when there is none or its end is near.
pub(crate) struct Tokens {
    client: Client,
    source: Source,
    current: Mutex<Option<(Secret, Instant)>>,
}

impl Tokens {
    pub(crate) fn new(
        uri: &GcpKmsUri,
        environment: &Environment,
        client: Client,
    ) -> Result<Self, KeyError> {
        let file = uri.credentials.clone();
        let file =
            file.or_else(|| environment.get("GOOGLE_APPLICATION_CREDENTIALS").map(Into::into));
        let source = match file {
            Some(path) => {
                let text = read_secret_file(&path, SERVICE)
                    .map_err(|error| KeyError::Denied(error.to_string()))?;
                Source::ServiceAccount(Box::new(ServiceAccount::read(&text)?))
            }
            None => {
                let host = environment.get("GCE_METADATA_HOST");
                let host = host.unwrap_or_else(|| "metadata.google.internal".to_owned());
                Source::Metadata(format!("http://{host}{METADATA_PATH}"))
            }
        };
        Ok(Self { client, source, current: Mutex::new(None) })
    }

    /// A token that is good for a while.
    pub(crate) async fn get(&self) -> Result<Secret, Failed> {
        let mut current = self.current.lock().await;
        match &*current {
            Some((token, until)) if *until > Instant::now() => Ok(token.clone()),
            _ => {
                let (token, life) = self.fetch().await?;
                *current = Some((token.clone(), Instant::now() + life.saturating_sub(MARGIN)));
                Ok(token)
            }
        }
    }

    /// Forgets a token that was refused, unless there is another one already.
    pub(crate) async fn forget(&self, refused: &Secret) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|(token, _)| token.expose() == refused.expose()) {
            *current = None;
        }
    }

    async fn fetch(&self) -> Result<(Secret, Duration), Failed> {
        let request = match &self.source {
            Source::Metadata(url) => self.client.get(url).header("metadata-flavor", "Google"),
            Source::ServiceAccount(account) => account.request(&self.client)?,
        };
        let answer = send(request).await?;
        let life = Duration::from_secs(answer.expires_in);
        Ok((Secret::new(answer.access_token.as_str()), life))
    }
}

impl ServiceAccount {
    fn read(text: &Secret) -> Result<Self, KeyError> {
        let bad = |reason: &str| KeyError::Denied(format!("{SERVICE}: {reason}"));
        let file: File = serde_json::from_str(text.expose())
            .map_err(|_| bad("the file is not a service account's JSON"))?;
        if file.kind != "service_account" {
            return Err(bad(&format!(
                "the file is of the type `{}`; there are service_account, and the metadata server \
                 without a file",
                words(&file.kind)
            )));
        }
        let key = EncodingKey::from_rsa_pem(file.private_key.as_bytes())
            .map_err(|_| bad("the file's private_key is not an RSA key in PEM"))?;
        let token_uri = file.token_uri;
        let token_uri =
            token_uri.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
        Ok(Self { email: file.client_email, key_id: file.private_key_id, key, token_uri })
    }

    /// RFC 7523: a signed assertion for a token.
    fn request(&self, client: &Client) -> Result<RequestBuilder, KeyError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let header = Header { kid: self.key_id.clone(), ..Header::new(Algorithm::RS256) };
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.token_uri,
            iat: now,
            exp: now.saturating_add(ASSERTION_S),
        };
        let assertion = jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|_| KeyError::Denied(format!("{SERVICE}: the key does not sign")))?;
        Ok(client.post(&self.token_uri).form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &assertion),
        ]))
    }
}

async fn send(request: RequestBuilder) -> Result<Answer, Failed> {
    let response = request.send().await.map_err(|error| Failed::unreachable(SERVICE, error))?;
    let status = response.status();
    let body = Zeroizing::new(read(SERVICE, response).await?);
    if status.is_success() {
        let answer = serde_json::from_slice(&body);
        return answer.map_err(|_| KeyError::BadAnswer("not a token's JSON").into());
    }
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let refusal = serde_json::from_slice(&body)
        .unwrap_or(Refusal { error: String::new(), error_description: String::new() });
    let text = format!("{SERVICE}: {status} {}: {}", refusal.error, refusal.error_description);
    let text = words(&text);
    Err(match status.is_server_error() || status.as_u16() == 429 {
        true => Failed { error: KeyError::Unavailable(text), again: true },
        false => KeyError::Denied(text).into(),
    })
}
