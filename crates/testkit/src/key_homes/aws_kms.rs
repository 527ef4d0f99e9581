//! AWS KMS with one key: `GetPublicKey` and `Sign`, over its JSON protocol.
//!
//! Signature version 4 of every request is recomputed and compared, credentials, region and clock
//! included; signatures are real ones by k256, every second one with a high `s`, as KMS makes them.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use k256::{
    PublicKey,
    ecdsa::{Signature, SigningKey, VerifyingKey},
    elliptic_curve::ops::Neg,
    pkcs8::EncodePublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
use tokio::{net::TcpListener, task::JoinHandle};

/// Access key id, secret access key and session token.
pub const CREDENTIALS: (&str, &str, &str) =
    ("AKIATEST", "secret/access+key/of+the/test", "session-token-of-test");
/// Where the key is.
pub const REGION: &str = "eu-test-1";
/// Its ARN.
pub const ARN: &str = "arn:aws:kms:eu-test-1:111122223333:key/0000-1111";
/// The alias that points to it.
pub const ALIAS: &str = "alias/deposit";

/// How the key misbehaves.
#[derive(Debug, Clone, Default)]
pub struct Mood {
    /// Every answer is so much later.
    pub latency: Duration,
    /// The next calls are throttled.
    pub throttle: u32,
    /// The next calls are answered 500.
    pub fail: u32,
    /// The policy forbids everything.
    pub denied: bool,
    /// The key's spec, if it is another one.
    pub key_spec: Option<String>,
    /// It signs with a key of its own.
    pub wrong_key: bool,
}

/// A service that listens. It ends when this is dropped.
pub struct FakeAwsKms {
    /// Where.
    pub addr: SocketAddr,
    inside: Arc<Inside>,
    task: JoinHandle<()>,
}

struct Inside {
    key: SigningKey,
    mood: Mutex<Mood>,
    signed: Mutex<u32>,
}

impl Drop for FakeAwsKms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeAwsKms {
    /// With a key of that secret.
    pub async fn start(secret: &[u8; 32]) -> Self {
        let inside = Arc::new(Inside {
            key: SigningKey::from_slice(secret).unwrap(),
            mood: Mutex::default(),
            signed: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(inside.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, inside, task }
    }

    /// From now on.
    pub fn set(&self, mood: Mood) {
        *self.inside.mood.lock().unwrap() = mood;
    }

    /// Signatures made.
    pub fn signed(&self) -> u32 {
        *self.inside.signed.lock().unwrap()
    }

    /// `--key` for it.
    pub fn uri(&self) -> String {
        format!("awskms:{ALIAS}?region={REGION}&endpoint=http://{}", self.addr)
    }

    /// Environment variables with the credentials.
    pub fn env() -> HashMap<String, String> {
        [
            ("AWS_ACCESS_KEY_ID", CREDENTIALS.0),
            ("AWS_SECRET_ACCESS_KEY", CREDENTIALS.1),
            ("AWS_SESSION_TOKEN", CREDENTIALS.2),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "__type": kind, "message": message });
    (status, [("content-type", "application/x-amz-json-1.1")], Json(body)).into_response()
}

async fn answer(State(inside): State<Arc<Inside>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 10).await.unwrap();
    if let Err(reason) = verify(&head.headers, head.uri.path(), head.method.as_str(), &body) {
        return refuse(StatusCode::BAD_REQUEST, "InvalidSignatureException", &reason);
    }
    let mood = {
        let mut mood = inside.mood.lock().unwrap();
        if mood.throttle > 0 {
            mood.throttle -= 1;
            return refuse(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded");
        }
        if mood.fail > 0 {
            mood.fail -= 1;
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return refuse(status, "KMSInternalException", "internal");
        }
        mood.clone()
    };
    if !mood.latency.is_zero() {
        tokio::time::sleep(mood.latency).await;
    }
    if mood.denied {
        let kind = "AccessDeniedException";
        return refuse(StatusCode::BAD_REQUEST, kind, "not authorized to perform: kms:Sign");
    }
    let ask: Value = serde_json::from_slice(&body).unwrap();
    if ![ARN, ALIAS].contains(&ask["KeyId"].as_str().unwrap()) {
        return refuse(StatusCode::BAD_REQUEST, "NotFoundException", "no such key");
    }
    match head.headers["x-amz-target"].to_str().unwrap() {
        "TrentService.GetPublicKey" => {
            let public = PublicKey::from(VerifyingKey::from(&inside.key));
            let der = public.to_public_key_der().unwrap();
            Json(json!({
                "KeyId": ARN, "PublicKey": BASE64_STANDARD.encode(der.as_bytes()),
                "KeySpec": mood.key_spec.as_deref().unwrap_or("ECC_SECG_P256K1"),
                "CustomerMasterKeySpec": "ECC_SECG_P256K1",
                "KeyUsage": "SIGN_VERIFY", "SigningAlgorithms": ["ECDSA_SHA_256"],
            }))
            .into_response()
        }
        "TrentService.Sign" => {
            if ask["SigningAlgorithm"] != "ECDSA_SHA_256" {
                let kind = "InvalidKeyUsageException";
                return refuse(StatusCode::BAD_REQUEST, kind, "algorithm");
            }
            let message = BASE64_STANDARD.decode(ask["Message"].as_str().unwrap()).unwrap();
            let digest = match ask["MessageType"].as_str() {
                Some("DIGEST") if message.len() == 32 => message,
                Some("DIGEST") => {
                    let text = "Digest is invalid length for algorithm ECDSA_SHA_256.";
                    return refuse(StatusCode::BAD_REQUEST, "ValidationException", text);
                }
                // What it does by default.
                _ => Sha256::digest(&message).to_vec(),
            };
            let key = match mood.wrong_key {
                true => &SigningKey::from_slice(&[9; 32]).unwrap(),
                false => &inside.key,
            };
            let mut count = inside.signed.lock().unwrap();
            *count += 1;
            let signature = sign(key, &digest, *count % 2 == 0);
            Json(json!({
                "KeyId": ARN, "Signature": BASE64_STANDARD.encode(signature),
                "SigningAlgorithm": "ECDSA_SHA_256",
            }))
            .into_response()
        }
        _ => refuse(StatusCode::BAD_REQUEST, "UnknownOperationException", "operation"),
    }
}

/// DER, with a high or a low `s`.
pub(super) fn sign(key: &SigningKey, digest: &[u8], high: bool) -> Vec<u8> {
    let (low, _) = key.sign_prehash_recoverable(digest).unwrap();
    let (r, s) = low.split_scalars();
    let signature = if high { Signature::from_scalars(r, s.neg()).unwrap() } else { low };
    signature.to_der().as_bytes().to_vec()
}

/// Signature version 4, from the documentation of AWS.
fn verify(headers: &HeaderMap, path: &str, method: &str, body: &Bytes) -> Result<(), String> {
    let header = |name: &str| -> Result<&str, String> {
        headers.get(name).and_then(|v| v.to_str().ok()).ok_or(format!("no {name}"))
    };
    let authorization = header("authorization")?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("algorithm")?;
    let parts: HashMap<&str, &str> =
        rest.split(", ").filter_map(|part| part.trim().split_once('=')).collect();
    let part = |name: &str| parts.get(name).copied().ok_or(format!("no {name}"));
    let (credential, signed) = (part("Credential")?, part("SignedHeaders")?);
    let date = header("x-amz-date")?;
    let scope = format!("{}/{REGION}/kms/aws4_request", date.get(..8).unwrap_or_default());
    if credential != format!("{}/{scope}", CREDENTIALS.0) {
        return Err(format!("credential {credential}"));
    }
    if header("x-amz-security-token")? != CREDENTIALS.2 {
        return Err("session token".to_owned());
    }
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let at = PrimitiveDateTime::parse(date, format).map_err(|e| e.to_string())?.assume_utc();
    if (OffsetDateTime::now_utc() - at).whole_minutes().abs() >= 5 {
        return Err("Signature expired".to_owned());
    }
    for needed in ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
        if !signed.split(';').any(|name| name == needed) {
            return Err(format!("{needed} is not signed"));
        }
    }
    let body_hash = hex::encode(Sha256::digest(body));
    if headers.contains_key("x-amz-content-sha256") && header("x-amz-content-sha256")? != body_hash
    {
        return Err("the body's hash".to_owned());
    }
    let mut lines = String::new();
    for name in signed.split(';') {
        lines.push_str(&format!("{name}:{}\n", header(name)?.trim()));
    }
    let canonical = format!("{method}\n{path}\n\n{lines}\n{signed}\n{body_hash}");
    let canonical = hex::encode(Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let mut key = format!("AWS4{}", CREDENTIALS.1).into_bytes();
    for step in scope.split('/') {
        key = hmac(&key, step);
    }
    match hex::encode(hmac(&key, &text)) == part("Signature")? {
        true => Ok(()),
        false => Err("The request signature we calculated does not match".to_owned()),
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
