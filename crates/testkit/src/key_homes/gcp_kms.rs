//! Google Cloud KMS with one key version, the token endpoint and the metadata server.
//!
//! Assertions of the service account are verified with its public key, access tokens have to be ones
//! given out here, checksums are checked and made; signatures are real ones by k256, every second one
//! with a high `s`.

use super::aws_kms::sign;
use axum::{
    Form, Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use crc::{CRC_32_ISCSI, Crc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use k256::{
    PublicKey,
    ecdsa::{SigningKey, VerifyingKey},
    pkcs8::{EncodePublicKey, LineEnding},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// The key version.
pub const NAME: &str =
    "projects/p/locations/global/keyRings/r/cryptoKeys/deposit/cryptoKeyVersions/1";
const EMAIL: &str = "signer@p.iam.gserviceaccount.com";
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How the service misbehaves.
#[derive(Debug, Clone, Default)]
pub struct Mood {
    /// Every answer is so much later.
    pub latency: Duration,
    /// The next calls are answered 503.
    pub fail: u32,
    /// The account may not use the key.
    pub denied: bool,
    /// Another algorithm.
    pub algorithm: Option<String>,
    /// A bit of the signature changes after the checksum was made.
    pub flip: bool,
    /// The digest's checksum was not looked at.
    pub unverified: bool,
}

/// A service that listens. It ends when this is dropped.
pub struct FakeGcpKms {
    /// Where.
    pub addr: SocketAddr,
    inside: Arc<Inside>,
    task: JoinHandle<()>,
}

struct Inside {
    addr: SocketAddr,
    key: SigningKey,
    account: rcgen::KeyPair,
    mood: Mutex<Mood>,
    tokens: Mutex<BTreeSet<String>>,
    given: Mutex<u32>,
    signed: Mutex<u32>,
}

impl Drop for FakeGcpKms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeGcpKms {
    /// With a key of that secret.
    pub async fn start(secret: &[u8; 32]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inside = Arc::new(Inside {
            addr,
            key: SigningKey::from_slice(secret).unwrap(),
            account: rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap(),
            mood: Mutex::default(),
            tokens: Mutex::default(),
            given: Mutex::default(),
            signed: Mutex::default(),
        });
        let metadata = "/computeMetadata/v1/instance/service-accounts/default/token";
        let router = Router::new()
            .route("/token", post(token))
            .route(metadata, get(metadata_token))
            .fallback(answer)
            .with_state(inside.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, inside, task }
    }

    /// From now on.
    pub fn set(&self, mood: Mood) {
        *self.inside.mood.lock().unwrap() = mood;
    }

    /// No token given out so far is good any more.
    pub fn revoke_tokens(&self) {
        self.inside.tokens.lock().unwrap().clear();
    }

    /// Access tokens given out.
    pub fn tokens(&self) -> u32 {
        *self.inside.given.lock().unwrap()
    }

    /// Writes the service account's file.
    pub fn write_credentials(&self, path: &Path) {
        let file = json!({
            "type": "service_account", "project_id": "p", "private_key_id": "k1",
            "private_key": self.inside.account.serialize_pem(), "client_email": EMAIL,
            "token_uri": self.inside.token_uri(),
        });
        std::fs::write(path, file.to_string()).unwrap();
    }

    /// `--key` for it, with the metadata server's tokens unless a file is named.
    pub fn uri(&self, credentials: Option<&Path>) -> String {
        let endpoint = format!("gcpkms:{NAME}?endpoint=http://{}", self.addr);
        match credentials {
            None => endpoint,
            Some(path) => format!("{endpoint}&credentials={}", path.display()),
        }
    }

    /// Environment variables that lead to the metadata server.
    pub fn env(&self) -> HashMap<String, String> {
        [("GCE_METADATA_HOST".to_owned(), self.addr.to_string())].into()
    }
}

impl Inside {
    fn token_uri(&self) -> String {
        format!("http://{}/token", self.addr)
    }

    fn give(&self) -> Response {
        let mut given = self.given.lock().unwrap();
        *given += 1;
        let token = format!("ya29.access-token-{given}");
        self.tokens.lock().unwrap().insert(token.clone());
        let body = json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" });
        Json(body).into_response()
    }
}

fn grant_refused(description: &str) -> Response {
    let body = json!({ "error": "invalid_grant", "error_description": description });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

async fn token(
    State(inside): State<Arc<Inside>>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return grant_refused("grant type");
    }
    let key = DecodingKey::from_rsa_pem(inside.account.public_key_pem().as_bytes()).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[inside.token_uri()]);
    rules.set_issuer(&[EMAIL]);
    rules.set_required_spec_claims(&["exp", "aud", "iss"]);
    match jsonwebtoken::decode::<Value>(&form["assertion"], &key, &rules) {
        Err(error) => grant_refused(&error.to_string()),
        Ok(found) if found.header.kid.as_deref() != Some("k1") => grant_refused("kid"),
        Ok(found) if found.claims["scope"] != "https://www.googleapis.com/auth/cloudkms" => {
            grant_refused("scope")
        }
        Ok(_) => inside.give(),
    }
}

async fn metadata_token(State(inside): State<Arc<Inside>>, headers: HeaderMap) -> Response {
    match headers.get("metadata-flavor") {
        Some(flavour) if flavour == "Google" => inside.give(),
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}

fn refuse(status: u16, kind: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": status, "message": message, "status": kind } });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn answer(
    State(inside): State<Arc<Inside>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bearer = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let bearer = bearer.strip_prefix("Bearer ").unwrap_or_default();
    if !inside.tokens.lock().unwrap().contains(bearer) {
        return refuse(401, "UNAUTHENTICATED", "invalid authentication credentials");
    }
    let mood = {
        let mut mood = inside.mood.lock().unwrap();
        if mood.fail > 0 {
            mood.fail -= 1;
            return refuse(503, "UNAVAILABLE", "The service is currently unavailable.");
        }
        mood.clone()
    };
    if !mood.latency.is_zero() {
        tokio::time::sleep(mood.latency).await;
    }
    if mood.denied {
        let permission = "Permission 'cloudkms.cryptoKeyVersions.useToSign' denied";
        return refuse(403, "PERMISSION_DENIED", permission);
    }
    let place = uri.path().strip_prefix("/v1/").unwrap_or_default();
    match (method, place.strip_prefix(NAME)) {
        (Method::GET, Some("/publicKey")) => {
            let public = PublicKey::from(VerifyingKey::from(&inside.key));
            let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
            Json(json!({
                "pem": pem, "name": NAME, "protectionLevel": "HSM",
                "algorithm": mood.algorithm.as_deref().unwrap_or("EC_SIGN_SECP256K1_SHA256"),
                "pemCrc32c": CRC32C.checksum(pem.as_bytes()).to_string(),
            }))
            .into_response()
        }
        (Method::POST, Some(":asymmetricSign")) => {
            let ask: Value = serde_json::from_slice(&body).unwrap();
            let digest = BASE64_STANDARD.decode(ask["digest"]["sha256"].as_str().unwrap()).unwrap();
            let crc = CRC32C.checksum(&digest).to_string();
            if digest.len() != 32 || ask["digestCrc32c"].as_str() != Some(&crc) {
                return refuse(400, "INVALID_ARGUMENT", "digest");
            }
            let mut count = inside.signed.lock().unwrap();
            *count += 1;
            let mut der = sign(&inside.key, &digest, *count % 2 == 0);
            let crc = CRC32C.checksum(&der).to_string();
            if mood.flip {
                *der.last_mut().unwrap() ^= 1;
            }
            Json(json!({
                "signature": BASE64_STANDARD.encode(der), "signatureCrc32c": crc,
                "verifiedDigestCrc32c": !mood.unverified, "name": NAME, "protectionLevel": "HSM",
            }))
            .into_response()
        }
        _ => refuse(404, "NOT_FOUND", "not found"),
    }
}
