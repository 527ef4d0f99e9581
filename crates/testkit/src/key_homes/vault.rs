//! HashiCorp Vault, as far as logging in and the KV engine go.
//!
//! Tokens have a life and end with it, wrong credentials and missing policies get the real errors,
//! KV 2 keeps versions and checks `cas`, namespaces are apart. A test can seal it, revoke all tokens
//! or let requests fail.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// Role id, and secret id of the AppRole.
pub const APPROLE: (&str, &str) = ("role-id-1", "secret-id-of-approle");
/// Role, and token of the pod's account.
pub const KUBERNETES: (&str, &str) = ("penstock-signer", "jwt.of.service-account");
/// A token that is there from the start and never ends.
pub const ROOT_TOKEN: &str = "hvs.root-token-of-test";

/// The service. Clones are the same vault.
#[derive(Clone, Default)]
pub struct FakeVault(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    namespace: Option<String>,
    /// Life of a login's token, in seconds.
    ttl_s: u64,
    /// How long renewals can stretch a token's life.
    max_ttl: Option<Duration>,
    tokens: BTreeMap<String, Token>,
    /// By mount and path, every version; `None` was deleted.
    secrets: BTreeMap<String, Vec<Option<Value>>>,
    sealed: bool,
    failing: u32,
    counts: Counts,
}

struct Token {
    made: Instant,
    ends: Option<Instant>,
}

/// What was asked so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Logins that got a token.
    pub logins: u32,
    /// Renewals that were given.
    pub renewals: u32,
    /// Secrets that were read.
    pub reads: u32,
    /// Requests answered 5xx.
    pub failures: u32,
}

/// One that listens. It ends when this is dropped.
pub struct Listening {
    /// The vault.
    pub vault: FakeVault,
    /// Where.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeVault {
    /// Tokens live an hour.
    pub fn new() -> Self {
        let vault = Self::default();
        vault.inside().ttl_s = 3600;
        let root = Token { made: Instant::now(), ends: None };
        vault.inside().tokens.insert(ROOT_TOKEN.to_owned(), root);
        vault
    }

    /// Serves plain HTTP on a port of its own.
    pub async fn listen(self) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = self.router();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Listening { vault: self, addr, task }
    }

    /// For a server of the test's own, with TLS for example.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/auth/token/lookup-self", get(lookup))
            .route("/v1/auth/token/renew-self", post(renew))
            .route("/v1/auth/{mount}/login", post(login))
            .route("/v1/{*path}", any(kv))
            .with_state(self.clone())
    }

    /// Everything is in that namespace, and nothing outside it.
    pub fn in_namespace(self, namespace: &str) -> Self {
        self.inside().namespace = Some(namespace.to_owned());
        self
    }

    /// Tokens of logins live so long, renewals included at most `max`.
    pub fn with_leases(self, ttl_s: u64, max: Duration) -> Self {
        self.inside().ttl_s = ttl_s;
        self.inside().max_ttl = Some(max);
        self
    }

    /// Writes a secret, past all permissions. `place` is `MOUNT/PATH`.
    pub fn put(&self, place: &str, fields: Value) {
        self.inside().secrets.entry(place.to_owned()).or_default().push(Some(fields));
    }

    /// The newest version of a secret.
    pub fn newest(&self, place: &str) -> Option<Value> {
        self.inside().secrets.get(place)?.last()?.clone()
    }

    /// Deletes the newest version of a secret, as `vault kv delete` does.
    pub fn delete(&self, place: &str) {
        if let Some(last) = self.inside().secrets.get_mut(place).and_then(|v| v.last_mut()) {
            *last = None;
        }
    }

    /// No token is good any more, but the first one.
    pub fn revoke_tokens(&self) {
        self.inside().tokens.retain(|token, _| token == ROOT_TOKEN);
    }

    /// Seals or unseals it.
    pub fn seal(&self, sealed: bool) {
        self.inside().sealed = sealed;
    }

    /// The next requests are answered 500.
    pub fn fail(&self, requests: u32) {
        self.inside().failing = requests;
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.inside().counts
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }
}

fn refuse(status: u16, reasons: &[&str]) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "errors": reasons }))).into_response()
}

impl Inside {
    /// What comes before any path is looked at.
    fn gate(&mut self, headers: &HeaderMap) -> Result<(), Response> {
        if self.sealed {
            self.counts.failures += 1;
            return Err(refuse(503, &["Vault is sealed"]));
        }
        if self.failing > 0 {
            self.failing -= 1;
            self.counts.failures += 1;
            return Err(refuse(500, &["internal error"]));
        }
        let namespace = headers.get("x-vault-namespace").map(|v| v.to_str().unwrap().to_owned());
        if namespace != self.namespace {
            return Err(refuse(403, &["permission denied"]));
        }
        // Without it, a vault behind an agent refuses (protection against forged requests).
        match headers.get("x-vault-request") {
            Some(value) if value == "true" => Ok(()),
            _ => Err(refuse(412, &["missing required header"])),
        }
    }

    fn token(&self, headers: &HeaderMap) -> Result<String, Response> {
        let denied = || refuse(403, &["permission denied"]);
        let token = headers.get("x-vault-token").ok_or_else(denied)?.to_str().unwrap();
        let known = self.tokens.get(token).ok_or_else(denied)?;
        match known.ends {
            Some(ends) if ends <= Instant::now() => Err(denied()),
            _ => Ok(token.to_owned()),
        }
    }
}

async fn login(
    State(vault): State<FakeVault>,
    Path(mount): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inside = vault.inside();
    if let Err(refused) = inside.gate(&headers) {
        return refused;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return refuse(400, &["error parsing JSON"]);
    };
    let said = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match mount.as_str() {
        "approle" if (said("role_id").as_str(), said("secret_id").as_str()) == APPROLE => {}
        "approle" => return refuse(400, &["invalid role or secret ID"]),
        "kubernetes" if (said("role").as_str(), said("jwt").as_str()) == KUBERNETES => {}
        "kubernetes" => return refuse(403, &["permission denied"]),
        _ => return refuse(403, &["permission denied"]),
    }
    inside.counts.logins += 1;
    let token = format!("hvs.login-{}-{}", inside.counts.logins, inside.tokens.len());
    let ttl = inside.ttl_s;
    let made = Instant::now();
    let ends = Some(made + Duration::from_secs(ttl));
    inside.tokens.insert(token.clone(), Token { made, ends });
    Json(json!({
        "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null,
        "auth": {
            "client_token": token, "accessor": "a", "policies": ["default", "penstock"],
            "lease_duration": ttl, "renewable": true, "token_type": "service",
        }
    }))
    .into_response()
}

async fn lookup(State(vault): State<FakeVault>, headers: HeaderMap) -> Response {
    let mut inside = vault.inside();
    let token = match inside.gate(&headers).and_then(|()| inside.token(&headers)) {
        Ok(token) => token,
        Err(refused) => return refused,
    };
    let ends = inside.tokens[&token].ends;
    let ttl = ends.map_or(0, |ends| ends.saturating_duration_since(Instant::now()).as_secs());
    let data = json!({ "id": token, "ttl": ttl, "renewable": ends.is_some() });
    Json(json!({ "data": data })).into_response()
}

async fn renew(State(vault): State<FakeVault>, headers: HeaderMap) -> Response {
    let mut inside = vault.inside();
    let token = match inside.gate(&headers).and_then(|()| inside.token(&headers)) {
        Ok(token) => token,
        Err(refused) => return refused,
    };
    let (ttl, max) = (Duration::from_secs(inside.ttl_s), inside.max_ttl);
    let known = inside.tokens.get_mut(&token).unwrap();
    if known.ends.is_none() {
        return refuse(400, &["lease is not renewable"]);
    }
    let now = Instant::now();
    let last = max.map(|max| known.made + max);
    let ends = last.map_or(now + ttl, |last| last.min(now + ttl));
    known.ends = Some(ends);
    inside.counts.renewals += 1;
    let left = ends.saturating_duration_since(now).as_secs();
    Json(json!({
        "auth": { "client_token": token, "lease_duration": left, "renewable": true }
    }))
    .into_response()
}

async fn kv(
    State(vault): State<FakeVault>,
    method: Method,
    Path(path): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inside = vault.inside();
    if let Err(refused) = inside.gate(&headers).and_then(|()| inside.token(&headers)) {
        return refused;
    }
    // `kv1` is the mount of version 1, `forbidden` one that no policy allows.
    let (mount, rest) = path.split_once('/').unwrap_or((&path, ""));
    if mount == "forbidden" {
        return refuse(403, &["1 error occurred:\n\t* permission denied\n\n"]);
    }
    let one = mount == "kv1";
    let rest = match (one, rest.strip_prefix("data/")) {
        (true, _) => rest,
        (false, Some(rest)) => rest,
        (false, None) => return refuse(404, &[]),
    };
    let place = format!("{mount}/{rest}");
    match method {
        Method::GET => {
            inside.counts.reads += 1;
            let versions = inside.secrets.get(&place).map(Vec::as_slice).unwrap_or_default();
            let version = query.get("version").map_or(versions.len(), |v| v.parse().unwrap());
            let found = version.checked_sub(1).and_then(|index| versions.get(index));
            let metadata = json!({ "version": version, "destroyed": false });
            match found {
                None => refuse(404, &[]),
                Some(Some(fields)) if one => Json(json!({ "data": fields })).into_response(),
                Some(Some(fields)) => {
                    Json(json!({ "data": { "data": fields, "metadata": metadata } }))
                        .into_response()
                }
                Some(None) => {
                    let data = json!({ "data": { "data": null, "metadata": metadata } });
                    (StatusCode::NOT_FOUND, Json(data)).into_response()
                }
            }
        }
        Method::PUT | Method::POST => {
            let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                return refuse(400, &["error parsing JSON"]);
            };
            let versions = inside.secrets.entry(place).or_default();
            if one {
                versions.push(Some(body));
                return StatusCode::NO_CONTENT.into_response();
            }
            match body["options"]["cas"].as_u64() {
                Some(cas) if cas != versions.len() as u64 => {
                    let text = "check-and-set parameter did not match the current version";
                    return refuse(400, &[text]);
                }
                _ => versions.push(Some(body["data"].clone())),
            }
            Json(json!({ "data": { "version": versions.len() } })).into_response()
        }
        _ => refuse(405, &["unsupported operation"]),
    }
}
