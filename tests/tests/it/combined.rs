//! Gateway, orchestrator and worker of one operator on one host: without a chain, and with one, where the gateway pays
//! the orchestrator beside it and no other.

use crate::{
    books::Books,
    jobs::push,
    network::{Needs, Network, PATIENT},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{
    Process, Spec, hostile, places,
    sim::{Server, SimRunner},
    until, until_ok,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use tempfile::TempDir;

const MODEL: &str = "m/1";
const RENDITIONS: &str = "P240p25fps16x9,P360p25fps16x9";
/// As many files as many systems let a process have at first.
const FILES: u64 = 512;

/// A role that starts with few files allowed.
async fn role(binary: &str, folder: &Path, flags: &[String]) -> Process {
    let mut spec = Spec::role(binary, flags.iter().cloned());
    spec.args.extend(["--metrics-addr=127.0.0.1:0", "--addr-file={addr_file}"].map(str::to_owned));
    let program = spec.program.display().to_string();
    let under = [format!("--nofile={FILES}:"), program];
    spec.args = under.into_iter().chain(spec.args).collect();
    spec.program = "prlimit".into();
    Process::start(spec, folder).await
}

/// How many files a process may have open, and how many it may let itself have.
fn files(process: &Process) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The three roles on one host, each told of its neighbour and of nothing else.
struct Host {
    orchestrator: Process,
    gateway: Process,
    worker: Process,
    http: reqwest::Client,
    folder: TempDir,
}

impl Host {
    async fn start(runner: &str) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-host-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let secret = at("secret");
        fs::write(&secret, "sesame").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let models = at("models.json");
        let entry = json!({ "pipeline": "llm", "model_id": MODEL, "url": runner, "warm": true });
        fs::write(&models, json!([entry]).to_string()).unwrap();
        let secret = format!("--secret-file={}", secret.display());

        let orchestrator = [
            "--network=offchain".to_owned(),
            "--service-addr=https://127.0.0.1:0".to_owned(),
            "--http-addr=127.0.0.1:0".to_owned(),
            "--admin-addr=127.0.0.1:0".to_owned(),
            format!("--data-dir={}", at("orchestrator").display()),
            secret.clone(),
        ];
        let orchestrator = role("penstock-orchestrator", folder.path(), &orchestrator).await;
        let service = format!("https://{}", orchestrator.addr("service"));
        let worker = [
            format!("--orchestrator={service}"),
            secret,
            format!("--work-dir={}", at("worker").display()),
            "--nvidia=none".to_owned(),
            "--runner-python=python3".to_owned(),
            format!("--runner-dir={}", places::repository().join("runner").display()),
            format!("--models-dir={}", at("none").display()),
            format!("--models-file={}", models.display()),
        ];
        let worker = role("penstock-worker", folder.path(), &worker).await;
        let mut gateway = vec![
            "--network=offchain".to_owned(),
            format!("--orchestrators={service}"),
            "--http-addr=127.0.0.1:0".to_owned(),
            "--admin-addr=127.0.0.1:0".to_owned(),
            format!("--transcoding-options={RENDITIONS}"),
            "--discovery-interval-ms=500".to_owned(),
            "--drain-notice-ms=0".to_owned(),
        ];
        gateway.extend(PATIENT.map(str::to_owned));
        let gateway = role("penstock-gateway", folder.path(), &gateway).await;
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        Self { orchestrator, gateway, worker, http, folder }
    }

    async fn operator(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.orchestrator.addr("admin"));
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// A job, done sooner or later: what discovery does not know yet is refused.
    async fn done(&self, path: &str, header: Option<(&str, &str)>, body: &Value) -> Value {
        let url = format!("http://{}{path}", self.gateway.addr("http"));
        let text = until_ok(path, || async {
            let mut request = self.http.post(&url).json(body);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
            if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}")) }
        })
        .await;
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn without_a_chain_one_host_serves_segments_ai_and_brought_capabilities() {
    let runner = SimRunner::start(MODEL, None).await;
    let host = Host::start(&runner.uri()).await;
    for process in [&host.orchestrator, &host.gateway, &host.worker] {
        let (now, most) = files(process);
        assert!(now == most && most > FILES, "{}: {now} of {most}", process.pid());
    }
    until("the worker is there with its model", || async {
        let workers = host.operator("/v1/workers").await;
        let models = |w: &Value| w["models"].as_array().map_or(0, Vec::len);
        workers.as_array().unwrap().iter().any(|w| models(w) > 0)
    })
    .await;

    // Video.
    let gateway = format!("http://{}", host.gateway.addr("http"));
    let segment = hostile::tiny_ts(host.folder.path());
    let renditions = until_ok("a segment is served", || {
        push(&host.http, &gateway, "film", 0, segment.clone(), None)
    })
    .await;
    let names: Vec<_> = renditions.iter().map(|rendition| rendition.name.as_str()).collect();
    assert_eq!(names.join(","), RENDITIONS);

    // AI.
    let chat = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "count" }],
        "stream": false, "max_tokens": 64 });
    let said = host.done("/llm", None, &chat).await;
    assert!(said["choices"][0]["message"]["content"].is_string(), "{said}");

    // A brought capability.
    let brought = Server::clear(axum::Router::new().fallback(async || r#"{"made":true}"#)).await;
    let told = json!({ "name": "kites", "url": brought.uri, "capacity": 1,
        "price_per_unit": 0, "token": "" });
    let url = format!("https://{}/capability/register", host.orchestrator.addr("service"));
    let any = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let registers = any.build().unwrap().post(url).header("Authorization", "sesame");
    assert_eq!(registers.body(told.to_string()).send().await.unwrap().status(), 200);
    let job = json!({ "id": "1", "capability": "kites", "request": "{}", "parameters": "{}",
        "timeout_seconds": 30 });
    let job = BASE64.encode(job.to_string());
    let made = host.done("/process/request/x", Some(("Livepeer", &job)), &json!({})).await;
    assert_eq!(made, json!({ "made": true }));

    // Nobody paid, and nothing was asked for.
    assert_eq!(host.operator("/v1/accounts").await["error"]["code"], "offchain");
}

#[tokio::test]
async fn a_gateway_pays_the_orchestrator_beside_it() {
    let mut network = Network::start(Needs::VIDEO).await;
    let neighbour = network.url(Role::Orchestrator);
    let at = network.url(Role::Gateway).trim_start_matches("http://").parse().unwrap();
    let mut gateway = network.plan.gateway(at, &network.url(Role::Signer)).args;
    gateway.extend(PATIENT.map(str::to_owned));
    gateway.push(format!("--orchestrators={neighbour}"));
    network.process(Role::Gateway).set_args(gateway);
    network.crash(Role::Gateway).await;
    network.ready(Role::Gateway).await;
    let segment = hostile::tiny_ts(network.scratch());
    let gateway = network.url(Role::Gateway);
    until_ok("a segment is served", || {
        push(&network.http, &gateway, "film", 0, segment.clone(), None)
    })
    .await;
    let books = Books::read(&network).await;
    assert!(books.debited_wei > Rational::ZERO);
    books.assert_settled();
}
