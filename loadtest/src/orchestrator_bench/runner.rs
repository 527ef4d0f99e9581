//! A live runner that has channels made for a session of its own: only an orchestrator itself makes any.

use super::{
    Settings,
    node::{Node, SECRET},
    verdict,
    wire::Publisher,
};
use crate::cpu;
use axum::{Json, Router, http::HeaderMap};
use penstock_testkit::sim::Server;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

/// Most channels in one request.
const AT_ONCE: usize = 25;
/// Bytes of a segment of usual work.
const SOME: usize = 64 << 10;
/// So often it has to be no less than before.
const STEADY: u32 = 10;
/// How long freed memory may take to come back.
const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "Livepeer-Session-Token";

/// An orchestrator with a session, in which channels are made and deleted.
pub struct Stage {
    pub node: Node,
    /// Where it serves, `host:port`.
    pub host: String,
    control: String,
    token: String,
    /// Of the runner's later heartbeats.
    secret: String,
    runner: Server,
}

impl Stage {
    pub async fn start(settings: &Settings) -> Self {
        Self::with(&settings.programs, settings.core, &settings.flags).await
    }

    /// By these programs, on this core, with further flags.
    pub async fn with(programs: &Path, core: Option<usize>, flags: &[String]) -> Self {
        let own = [
            "--use-live-runners",
            "--live-runner-ttl-ms=3600000",
            "--live-runner-lease-ms=86400000",
            "--max-runner-channels=16384",
            // One driver at one address has all channels in one session.
            "--live-trickle-readers=16384",
            "--live-trickle-session-readers=16384",
            "--live-trickle-session-writers=16384",
            "--max-peer-connections=0",
        ];
        let own = own.iter().map(|flag| (*flag).to_owned());
        let node = Node::offchain(programs, core, own.chain(flags.iter().cloned()).collect()).await;
        let runner = Server::clear(Router::new().fallback(told)).await;
        let registered = beat(&node, &runner.uri, SECRET).await;
        let secret = registered["heartbeat_secret"].as_str().expect("the runner's own").to_owned();
        let session =
            answered(node.http.post(format!("{}/apps/bench/session", node.service))).await;
        let app = session["app_url"].as_str().expect("where the session is");
        // What the runner is told about the session, by which it acts for it.
        let told = answered(node.http.get(format!("{app}/x"))).await;
        let header =
            |name: &str| told[name].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
        let control = header("livepeer-session-control");
        let token = header("livepeer-session-token");
        let host = node.process.addr("service");
        let stage = Self { node, host, control, token, secret, runner };
        // Metrics lag behind: whoever compares with them is to find the runner's own channel there.
        penstock_testkit::until("the runner's channel is counted", || async {
            stage.metric("trickle_channels").await >= 1.0
        })
        .await;
        stage
    }

    /// The runner is still there: otherwise its session ends after an hour, and the channels with it.
    pub async fn beat(&self) {
        let answer = beat(&self.node, &self.runner.uri, &self.secret).await;
        let sessions = answer["session_ids"].as_array().map(Vec::len);
        assert_eq!(sessions, Some(1), "the session with the channels: {answer}");
    }

    /// Makes so many; their names.
    pub async fn make(&self, count: usize) -> Vec<String> {
        let mut names = Vec::with_capacity(count);
        let wanted: Vec<usize> = (0..count).collect();
        for part in wanted.chunks(AT_ONCE) {
            let channels: Vec<Value> = part
                .iter()
                .map(|n| json!({ "name": format!("c{n}"), "mime_type": "video/MP2T" }))
                .collect();
            let request = self.node.http.post(format!("{}/channels", self.control));
            let body = json!({ "channels": channels }).to_string();
            let made = answered(request.header(TOKEN, &self.token).body(body)).await;
            let rows = made["channels"].as_array().expect("channels");
            names.extend(rows.iter().map(|row| row["channel_name"].as_str().unwrap().to_owned()));
        }
        assert_eq!(names.len(), count);
        names
    }

    /// Memory of the process when it has done a little of its usual work, KiB: the allocator gives freed pages
    /// back a second later, and only when it is asked for others. The least that is seen until it is no
    /// more than what `before` allows and falls no more, or for so long.
    pub async fn rss_at_rest_kib(&self, before: u64) -> u64 {
        let (pid, began) = (self.node.pid(), Instant::now());
        let mut least = cpu::rss_kib(pid);
        let mut same = 0;
        while (least > verdict::at_rest_kib(before) || same < STEADY) && began.elapsed() < PATIENCE
        {
            for name in self.make(AT_ONCE).await {
                let mut publisher = Publisher::connect(&self.host, &name).await;
                publisher.write(SOME).await;
                publisher.next().await;
            }
            self.delete(AT_ONCE).await;
            let now = cpu::rss_kib(pid);
            same = if now < least { 0 } else { same + 1 };
            least = least.min(now);
        }
        least
    }

    /// Deletes the first so many.
    pub async fn delete(&self, count: usize) {
        let wanted: Vec<String> = (0..count).map(|n| format!("c{n}")).collect();
        for part in wanted.chunks(AT_ONCE) {
            let request = self.node.http.delete(format!("{}/channels", self.control));
            let body = json!({ "channels": part }).to_string();
            answered(request.header(TOKEN, &self.token).body(body)).await;
        }
    }

    /// One number of its metrics.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.node.process.addr("metrics"));
        let text = self.node.http.get(url).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }
}

/// Says that the runner is there.
async fn beat(node: &Node, runner_url: &str, secret: &str) -> Value {
    let said = json!({
        "runner_id": "bench", "runner_url": runner_url, "app": "bench", "capacity": 1,
    });
    let url = format!("{}/runners/heartbeat", node.service);
    let request = node.http.post(url).header("Authorization", secret).body(said.to_string());
    answered(request).await
}

async fn told(headers: HeaderMap) -> Json<BTreeMap<String, String>> {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    Json(headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
}

async fn answered(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer");
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
