//! What settings hold is told nowhere, least of all when what they lead to fails: roles at level `trace` whose webhooks,
//! chain, store and collector answer with errors, and whose database and Redis go away.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::Request, http::StatusCode};
use penstock_testkit::{
    Process, Spec, collector::Collector, hostile, places, postgres, redis::RedisServer, until,
    until_ok,
};
use serde_json::json;

/// In everything that nobody may read.
const PLANTED: &str = "planted";

/// Whom the settings name: it answers nobody, and remembers by what it was asked.
#[derive(Clone, Default)]
struct Stranger(Arc<Mutex<String>>);

impl Stranger {
    async fn start() -> (Self, String) {
        let stranger = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(refuse).with_state(stranger.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (stranger, address)
    }

    /// Waits until it was shown each of these.
    async fn was_shown(&self, secrets: &[&str]) {
        until_ok("every secret is used", || async {
            let seen = self.0.lock().unwrap();
            let missing: Vec<&str> =
                secrets.iter().copied().filter(|secret| !seen.contains(*secret)).collect();
            if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
        })
        .await;
    }
}

async fn refuse(
    State(Stranger(seen)): State<Stranger>,
    request: Request<axum::body::Body>,
) -> (StatusCode, &'static str) {
    let said = format!("{} {:?}\n", request.uri(), request.headers());
    seen.lock().unwrap().push_str(&said);
    (StatusCode::INTERNAL_SERVER_ERROR, "it went wrong")
}

/// A file that only its owner reads.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// What every role is told.
fn common(folder: &Path, stranger: &str, collector: &Collector) -> BTreeMap<String, String> {
    [
        ("LOG_LEVEL", "trace".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
        ("ADMIN_TOKEN_FILE", file(folder, "admin-token", "planted-admin-token-0123456789")),
        ("OTLP_ENDPOINT", collector.url().to_owned()),
        ("OTLP_METRICS_INTERVAL_MS", "200".to_owned()),
        ("ETH_USD_URL", format!("http://{stranger}/planted-feed-path?key=planted-feed-query")),
        ("ETH_USD_POINTER", "/price".to_owned()),
    ]
    .map(|(name, value)| (format!("PENSTOCK_{name}"), value))
    .into()
}

/// A role with more settings; `{addr_file}` is where it says where it listens.
async fn start(
    role: &str,
    folder: &Path,
    common: &BTreeMap<String, String>,
    more: &[(&str, String)],
) -> Process {
    let mut spec = Spec::role(role, ["--addr-file={addr_file}"]);
    spec.env = common.clone();
    spec.env.extend(more.iter().map(|(name, value)| (format!("PENSTOCK_{name}"), value.clone())));
    spec.env
        .insert("OTEL_EXPORTER_OTLP_HEADERS".to_owned(), "x-key=planted-otlp-header".to_owned());
    Process::start(spec, folder).await
}

/// A folder with a key whose password is planted.
fn with_key(folder: &Path, name: &str) -> [(&'static str, String); 3] {
    let data = folder.join(name);
    fs::create_dir_all(&data).unwrap();
    let key = format!("keystore:{}", data.join("keystore.json").display());
    let password = file(&data, "password", "planted-keystore-password");
    let made = Command::new(places::binary("penstock-signer"))
        .args(["keys", "create", "--scrypt-log-n", "12", "--key", &key])
        .args(["--key-password-file", &password, "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(!String::from_utf8_lossy(&made.stdout).contains(PLANTED), "{made:?}");
    [("DATA_DIR", data.display().to_string()), ("KEY", key), ("KEY_PASSWORD_FILE", password)]
}

/// The same database, with a password that this server does not ask for.
fn with_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, host) = rest.split_once('@').unwrap();
    let user = user.split(':').next().unwrap();
    format!("{scheme}://{user}:planted-database-password@{host}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_settings_hold_is_told_nowhere_when_everything_fails() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    penstock_http_kit::tls::install_crypto_provider();
    let collector = Collector::start().await;
    let (seen, stranger) = Stranger::start().await;
    let mut redis = RedisServer::on_port(&[]).await;
    assert_eq!(redis.cli(&["config", "set", "requirepass", "planted-redis-password"]), "OK");
    let common = common(folder, &stranger, &collector);
    let at = |what: &str| format!("http://{stranger}/planted-{what}-path?key=planted-{what}-query");

    let gateway = [
        ("SESSION_STORE", redis.url()),
        ("SESSION_STORE_PASSWORD_FILE", file(folder, "redis", "planted-redis-password")),
        ("SEGMENT_STORE", "s3://bucket/prefix".to_owned()),
        ("SEGMENT_STORE_ENDPOINT", format!("http://{stranger}")),
        ("SEGMENT_STORE_KEY_FILE", file(folder, "s3", "planted-s3-access:planted-s3-secret")),
        ("AUTH_WEBHOOK_URL", at("webhook")),
        ("ORCHESTRATOR_WEBHOOK_URL", at("list")),
        ("SIGNER_URL", format!("http://{stranger}")),
        ("SIGNER_TOKEN_FILE", file(folder, "signer-token", "planted-signer-token-0123456789")),
        ("RTMP_ADDR", "127.0.0.1:0".to_owned()),
    ];
    let gateway = start("penstock-gateway", folder, &common, &gateway).await;

    let databases =
        [postgres::database().await, postgres::database().await, postgres::database().await];
    let [of_signer, of_orchestrator, of_redeemer] =
        databases.each_ref().map(|one| with_password(one.url()));
    let chain = format!("ethereum:{}", at("rpc"));
    let signer = [
        ("LEDGER", of_signer),
        ("CHAIN", chain.clone()),
        ("AUTH_WEBHOOK_URL", at("payer")),
        ("ORCH_WEBHOOK_URL", at("nodes")),
        ("EVENTS", format!("webhook:{}", at("events"))),
        ("EVENTS_TOKEN_FILE", file(folder, "events", "planted-events-token-0123456789")),
    ];
    let signer = [signer.as_slice(), &with_key(folder, "signer")].concat();
    let signer = start("penstock-signer", folder, &common, &signer).await;

    let orchestrator = [
        ("LEDGER", of_orchestrator),
        ("CHAIN", chain),
        ("SERVICE_ADDR", "https://127.0.0.1:0".to_owned()),
        ("AUTH_WEBHOOK_URL", at("price")),
        ("SECRET_FILE", file(folder, "workers", "planted-worker-secret-0123456789")),
    ];
    let orchestrator = [orchestrator.as_slice(), &with_key(folder, "orchestrator")].concat();
    let orchestrator = start("penstock-orchestrator", folder, &common, &orchestrator).await;

    let redeemer = [
        ("REDEEMER", "true".to_owned()),
        ("LEDGER", of_redeemer),
        ("CHAIN", format!("ethereum:{}", at("winners"))),
        ("REDEEMER_SECRET_FILE", file(folder, "redeemer-secret", "planted-redeemer-secret-01234")),
    ];
    let redeemer = [redeemer.as_slice(), &with_key(folder, "redeemer")].concat();
    let redeemer =
        start("penstock-orchestrator", &folder.join("redeemer"), &common, &redeemer).await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let roles = [
        ("gateway", &gateway),
        ("signer", &signer),
        ("orchestrator", &orchestrator),
        ("redeemer", &redeemer),
    ];
    // Somebody wants something of each.
    let segment = hostile::tiny_ts(folder);
    let push = format!("http://{}/live/film/0.ts?key=planted-stream-key", gateway.addr("http"));
    let pay = format!("http://{}/generate-live-payment", signer.addr("http"));
    for request in
        [http.put(push).body(segment), http.post(pay).json(&json!({"orchestrator": "AA=="}))]
    {
        let answer = request.bearer_auth("planted-callers-token").send().await.unwrap();
        assert!(!answer.status().is_success(), "{}", answer.status());
        let text = answer.text().await.unwrap();
        assert!(!text.contains(PLANTED), "{text}");
    }
    seen.was_shown(&[
        "planted-feed-query",
        "planted-webhook-path",
        "planted-signer-token",
        "planted-rpc-query",
        "planted-nodes-query",
        "planted-winners-query",
    ])
    .await;
    let clients = redis.cli(&["-a", "planted-redis-password", "client", "list"]);
    assert!(clients.lines().count() >= 2, "the gateway is in: {clients}");
    redis.kill9();
    for database in &databases {
        assert!(database.kill_connections().await > 0, "somebody is in");
    }
    // The gateway finds out, and says so.
    let ready = format!("http://{}/readyz", gateway.addr("metrics"));
    until("the gateway misses its store", || async {
        let text = http.get(&ready).send().await.unwrap().text().await.unwrap();
        text.contains("store")
    })
    .await;

    let mut everything = BTreeMap::new();
    for (role, process) in roles {
        let log = fs::read_to_string(process.log_file()).unwrap();
        assert!(
            log.contains("\"level\":\"WARN\"") && log.contains("\"level\":\"TRACE\""),
            "{role}"
        );
        everything.insert(format!("the log of the {role}"), log);
        for path in ["metrics", "readyz"] {
            let url = format!("http://{}/{path}", process.addr("metrics"));
            let text = http.get(url).send().await.unwrap().text().await.unwrap();
            assert!(!text.is_empty(), "{role} {path}");
            everything.insert(format!("/{path} of the {role}"), text);
        }
    }
    until("the collector is told of requests", || async { !collector.all().is_empty() }).await;
    everything.insert("spans".to_owned(), json!(collector.all()).to_string());
    until("every role has exported its metrics", || async {
        let all = collector.last_metrics();
        let services: Vec<&str> = all.keys().map(|(service, _)| service.as_str()).collect();
        services
            == ["penstock-gateway", "penstock-orchestrator", "penstock-redeemer", "penstock-signer"]
    })
    .await;
    let exported = collector.last_metrics().into_iter();
    everything.extend(exported.map(|((service, _), all)| (format!("metrics of {service}"), all)));
    let mut found = Vec::new();
    for (place, text) in &everything {
        for (at, _) in text.match_indices(PLANTED) {
            let from = text.floor_char_boundary(at.saturating_sub(200));
            let to = text.ceil_char_boundary(at + 60);
            found.push(format!("{place}: …{}…", &text[from..to]));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
