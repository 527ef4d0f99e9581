//! One trace through all processes, and no secret in anything that they tell: a paid AI job and a
//! transcoded segment at level `trace`, with a collector that speaks OTLP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock::dev::Role;
use penstock_testkit::{
    collector::{Collector, Span},
    hostile, media, until, until_ok,
};
use serde_json::{Value, json};

use crate::network::{Needs, Network, Watched};

/// The application's own span.
const PARENT: &str = "b7ad6b7169203331";
const JOB: &str = "0af7651916cd43dd8448eb211c80319c";
const SEGMENT: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Planted where they are used.
const GATEWAY_TOKEN: &str = "planted-gateway-token-5f1c9d";
const STREAM_KEY_QUERY: &str = "planted-stream-key-77aa01";
const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.cGxhbnRlZC1jbGFpbXM.cGxhbnRlZC1zaWduYXR1cmU";
const BAGGAGE: &str = "planted-baggage-90ab";

/// What has to be in the trace of a paid AI job: who says it, its name, and whose work it is part of.
const JOB_SPANS: [(&str, &str, &str); 20] = [
    ("penstock-gateway", "audio-to-text", ""),
    ("penstock-gateway", "selection", "audio-to-text"),
    ("penstock-gateway", "try", "audio-to-text"),
    ("penstock-gateway", "payment", "try"),
    ("penstock-gateway", "sign_payment", "payment"),
    ("penstock-signer", "generate-live-payment", "sign_payment"),
    ("penstock-signer", "authorise", "generate-live-payment"),
    ("penstock-signer", "reserve", "generate-live-payment"),
    ("penstock-signer", "sign", "generate-live-payment"),
    ("penstock-signer", "commit", "generate-live-payment"),
    ("penstock-gateway", "deliver_payment", "payment"),
    ("penstock-orchestrator", "payment", "deliver_payment"),
    ("penstock-orchestrator", "receive_payment", "payment"),
    ("penstock-gateway", "orchestrator", "try"),
    ("penstock-orchestrator", "audio-to-text", "orchestrator"),
    ("penstock-orchestrator", "worker", "audio-to-text"),
    ("penstock-worker", "audio-to-text", "worker"),
    ("penstock-worker", "runner", "audio-to-text"),
    ("penstock-runner", "audio-to-text", "runner"),
    ("penstock-runner", "work", "audio-to-text"),
];

const SEGMENT_SPANS: [(&str, &str, &str); 11] = [
    ("penstock-gateway", "segment", ""),
    ("penstock-gateway", "selection", "segment"),
    ("penstock-gateway", "sign_credential", "payment"),
    ("penstock-signer", "sign-segment-credentials", "sign_credential"),
    ("penstock-orchestrator", "segment", "orchestrator"),
    ("penstock-orchestrator", "worker", "segment"),
    ("penstock-worker", "transcode", "worker"),
    ("penstock-worker", "download", "transcode"),
    ("penstock-worker", "ffmpeg", "transcode"),
    ("penstock-worker", "upload", "transcode"),
    ("penstock-orchestrator", "charge", "segment"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paid_job_is_one_trace_and_tells_no_secret() {
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let network = watched(&collector, folder.path()).await;
    let key = api_key(&network).await;
    refused(&network).await;

    let clip = media::speech().remove(0).wav;
    let speech = fs::read(&clip).unwrap();
    let segment = hostile::tiny_ts(folder.path());
    let heard = transcribe(&network, &key, speech.clone()).await;
    push(&network, &key, segment.clone()).await;

    let job = whole(&collector, JOB, &JOB_SPANS).await;
    let pushed = whole(&collector, SEGMENT, &SEGMENT_SPANS).await;
    amounts_are_there(&job);
    if let Some(file) = std::env::var_os("PENSTOCK_TRACE_FILE") {
        fs::write(file, told(&job)).unwrap();
    }

    until("the metrics arrive as well", || async {
        collector.metrics("penstock-gateway").contains("penstock_gateway_jobs_total")
            && collector.metrics("penstock-gateway").contains("penstock_gateway_job_cost_wei")
            && collector.metrics("penstock-orchestrator").contains("livepeer_ticket_value_recv")
    })
    .await;
    let mut secrets = secrets(&network, &key);
    secrets.extend([("what was said", heard.into_bytes())]);
    secrets.extend(media("the speech", &speech).into_iter().chain(media("the film", &segment)));
    let mut everything = logs_and_metrics(&network).await;
    of_the_jobs(&String::from_utf8_lossy(
        &everything[&format!("the metrics of the {}", Role::Gateway)],
    ));
    let spans: Vec<Span> = collector.all();
    assert!(spans.len() >= job.len() + pushed.len());
    everything.insert("spans".to_owned(), json!(spans).to_string().into_bytes());
    let exported = collector.last_metrics();
    for ((service, instance), all) in exported {
        assert!(all.contains("_build_info") || all.contains("livepeer_"), "{service}: {all}");
        everything.insert(format!("metrics of {service} {instance}"), all.into_bytes());
    }
    let mut found = Vec::new();
    for (place, text) in &everything {
        assert!(text.len() > 200, "{place} says nothing");
        let text = String::from_utf8_lossy(text);
        for (what, secret) in &secrets {
            if let Some(at) = text.find(&*String::from_utf8_lossy(secret)) {
                let from = text.floor_char_boundary(at.saturating_sub(300));
                let to = text.ceil_char_boundary(at + 60);
                found.push(format!("{what} in {place}: …{}…", &text[from..to]));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A network that tells everything it can, with callers who have keys.
async fn watched(collector: &Collector, folder: &Path) -> Network {
    let tokens = folder.join("gateways");
    fs::write(&tokens, GATEWAY_TOKEN).unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let tokens = tokens.display().to_string();
    let env = [
        ("PENSTOCK_OTLP_ENDPOINT", collector.url()),
        ("PENSTOCK_OTLP_METRICS_INTERVAL_MS", "500"),
        ("PENSTOCK_LOG_FORMAT", "json"),
        // The signer's accounts, and the gateway as one of them.
        ("PENSTOCK_ACCOUNTS", "true"),
        ("PENSTOCK_AUTH_TOKEN_FILE", &tokens),
        ("PENSTOCK_SIGNER_TOKEN_FILE", &tokens),
        ("PENSTOCK_CALLER_AUTH", "signer"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let watched = Watched { log_level: Some("trace".to_owned()), env };
    Network::start_watched(Needs::SPEECH, watched).await
}

/// Of an account that the operator makes at the signer.
async fn api_key(network: &Network) -> String {
    let admin = network.admin(Role::Signer);
    let make = async |path: &str, body: Value| -> Value {
        let answer = network.http.post(format!("{admin}{path}")).body(body.to_string()).send();
        let answer = answer.await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    };
    make("/v1/accounts", json!({"name": "acme", "policy": {}})).await;
    let key = make("/v1/accounts/acme/keys", json!({})).await;
    key["key"].as_str().unwrap().to_owned()
}

/// A stranger's token goes all the way to the signer and is refused there.
async fn refused(network: &Network) {
    let url = format!("{}/live/stranger/0.ts?key={STREAM_KEY_QUERY}", network.url(Role::Gateway));
    let answer = network.http.put(url).bearer_auth(JWT).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 401);
}

fn traced(request: reqwest::RequestBuilder, trace: &str) -> reqwest::RequestBuilder {
    request
        .header("traceparent", format!("00-{trace}-{PARENT}-01"))
        .header("tracestate", format!("vendor={BAGGAGE}"))
        .header("baggage", format!("user={BAGGAGE}"))
}

async fn transcribe(network: &Network, key: &str, speech: Vec<u8>) -> String {
    let part = reqwest::multipart::Part::bytes(speech).file_name("speech.wav");
    let form = reqwest::multipart::Form::new().part("audio", part);
    let url = format!("{}/audio-to-text", network.url(Role::Gateway));
    let request = network.http.post(url).bearer_auth(key).multipart(form);
    let answer = traced(request, JOB).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
    assert_eq!(answer.headers()["x-trace-id"], JOB);
    let answer: Value = answer.json().await.unwrap();
    answer["text"].as_str().unwrap().trim().to_owned()
}

async fn push(network: &Network, key: &str, segment: Vec<u8>) {
    let url = format!("{}/live/film/0.ts?key={STREAM_KEY_QUERY}", network.url(Role::Gateway));
    let request = network.http.put(url).bearer_auth(key).header("Content-Duration", "2000");
    let answer = traced(request.body(segment), SEGMENT).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
}

/// The trace, once all of it has arrived: every expected span below the one that it belongs to, no span
/// without a parent that is there, and nothing but the application's span above the first.
async fn whole(collector: &Collector, trace: &str, expected: &[(&str, &str, &str)]) -> Vec<Span> {
    let spans = until_ok(&format!("trace {trace} is complete"), || {
        let spans = collector.trace(trace);
        let missing = missing(&spans, expected);
        async move { if missing.is_empty() { Ok(spans) } else { Err(missing.join("; ")) } }
    })
    .await;
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert!(services.len() >= 4, "{services:?}");
    for span in &spans {
        assert!(span.start_ns <= span.end_ns, "{span:?}");
        // What one process asks of another is told by both.
        let parent = spans.iter().find(|other| other.span_id == span.parent_id);
        if let Some(parent) = parent
            && parent.service != span.service
        {
            assert_eq!(span.kind, "server", "{span:?}");
        }
    }
    spans
}

/// What a trace lacks, in words.
fn missing(spans: &[Span], expected: &[(&str, &str, &str)]) -> Vec<String> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|s| (s.span_id.as_str(), s)).collect();
    let parent = |span: &Span| match by_id.get(span.parent_id.as_str()) {
        Some(parent) => Some(parent.name.clone()),
        None => (span.parent_id == PARENT).then(String::new),
    };
    let orphans = spans.iter().filter(|span| parent(span).is_none());
    let mut missing: Vec<String> =
        orphans.map(|span| format!("the parent of {} {}", span.service, span.name)).collect();
    for (service, name, above) in expected {
        let there = spans.iter().any(|span| {
            span.service == *service
                && span.name == *name
                && parent(span).as_deref() == Some(*above)
        });
        if !there {
            missing.push(format!("{service} {name} below {above:?}"));
        }
    }
    missing
}

/// Who did the jobs and what they cost is in the metrics.
fn of_the_jobs(metrics: &str) {
    for said in [
        "penstock_ready 1\n",
        "penstock_gateway_jobs_total{capability=\"video\",outcome=\"done\"} 1\n",
        "penstock_gateway_job_seconds_count{capability=\"audio-to-text\"} 1\n",
        "penstock_gateway_job_cost_wei_count{capability=\"audio-to-text\"} 1\n",
        "penstock_gateway_orchestrator_jobs_total{capability=\"video\",orchestrator=\"https://",
        "livepeer_ai_models_requested{node_id=\"",
        "livepeer_transcode_time_seconds_bucket{node_id=\"",
        "orchestrator_address=\"0x",
    ] {
        assert!(metrics.contains(said), "{said}: {metrics}");
    }
}

/// Money is in the spans in the units that logs and metrics have.
fn amounts_are_there(job: &[Span]) {
    let sign = job.iter().find(|span| span.name == "sign").unwrap();
    assert!(sign.fields["fee_wei"].parse::<u128>().unwrap() > 0, "{sign:?}");
    assert!(sign.fields["num_tickets"].parse::<u32>().unwrap() > 0, "{sign:?}");
    let first = job.iter().find(|span| span.parent_id == PARENT).unwrap();
    assert_eq!(first.fields["trace_id"], JOB);
    assert_eq!(first.fields["status"], "200");
}

/// The picture's data: times in microseconds since the trace's beginning, ids as numbers in order.
fn told(job: &[Span]) -> String {
    let start_ns = job.iter().map(|span| span.start_ns).min().unwrap();
    let number = |id: &str| job.iter().position(|span| span.span_id == id);
    let spans = job.iter().enumerate().map(|(n, span)| {
        json!({
            "id": n,
            "parent": number(&span.parent_id),
            "service": span.service,
            "name": span.name,
            "kind": span.kind,
            "start_us": (span.start_ns - start_ns) / 1_000,
            "end_us": (span.end_ns - start_ns) / 1_000,
        })
    });
    let text = serde_json::to_string_pretty(&json!({ "spans": spans.collect::<Vec<_>>() }));
    text.unwrap() + "\n"
}

/// Everything that nobody may ever read.
fn secrets(network: &Network, key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let layout = &network.plan.layout;
    let mut secrets = vec![
        ("the API key", key.as_bytes().to_vec()),
        ("the gateway's token", GATEWAY_TOKEN.into()),
        ("the stream key", STREAM_KEY_QUERY.into()),
        ("the JWT", JWT.into()),
        ("the baggage", BAGGAGE.into()),
    ];
    let mut file = |what: &'static str, path: &Path| {
        let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let text = text.trim_ascii().to_vec();
        assert!(text.len() >= 16, "{what}");
        secrets.push((what, text));
    };
    file("the worker's secret", &layout.worker_secret());
    file("the signer's password", &layout.key_password(Role::Signer));
    file("the orchestrator's password", &layout.key_password(Role::Orchestrator));
    let state = layout.state(Role::Orchestrator);
    file("the seed of the tickets", &state.join("recipient.secret"));
    file("the secret of the sessions", &state.join("auth-token.secret"));
    // Raw bytes are also looked for as people write them.
    let mut all = Vec::new();
    for (what, secret) in secrets {
        if secret.iter().any(|byte| !byte.is_ascii_graphic()) {
            all.push((what, STANDARD.encode(&secret).into_bytes()));
            all.push((what, hex::encode(&secret).into_bytes()));
        }
        all.push((what, secret));
    }
    all
}

/// Some bytes from the middle of a file, in the ways in which they could be written.
fn media(what: &'static str, file: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    // Not silence, which is found everywhere.
    let loud = |bytes: &&[u8]| bytes.iter().collect::<BTreeSet<_>>().len() >= 20;
    let sample = file[file.len() / 2..].windows(24).find(loud).expect("some noise");
    let listed = format!("{sample:?}");
    let listed = listed.trim_matches(['[', ']']).to_owned();
    let quoted = format!("{:?}", String::from_utf8_lossy(sample)).trim_matches('"').to_owned();
    vec![
        (what, sample.to_vec()),
        (what, hex::encode(sample).into_bytes()),
        (what, listed.into_bytes()),
        (what, quoted.into_bytes()),
    ]
}

async fn logs_and_metrics(network: &Network) -> BTreeMap<String, Vec<u8>> {
    let mut everything = BTreeMap::new();
    for role in network.roles() {
        let log = fs::read(network.scratch().join("logs").join(format!("{}.log", role.name())));
        everything.insert(format!("the log of the {role}"), log.unwrap());
        if role == Role::Devnet {
            // It has none.
            continue;
        }
        let url = format!("{}/metrics", network.metrics(role));
        let metrics = network.http.get(url).send().await.unwrap().bytes().await.unwrap();
        everything.insert(format!("the metrics of the {role}"), metrics.to_vec());
    }
    everything
}
