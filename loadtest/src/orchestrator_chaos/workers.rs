//! Workers of one orchestrator, over the real protocols: one transcodes, one answers in words, one brings a
//! capability of its own. What they make is nothing; they register again whenever their orchestrator comes
//! back. Behind the last one, and behind the live runner, is an application that sends back what it got.

use super::trio::{BROUGHT_WEI, CAPABILITY, MODEL};
use axum::{
    Router,
    body::Bytes,
    routing::{get, post},
};
use penstock_clients::{Trust, channel};
use penstock_domain::{Capabilities, Capability, SegmentFormat};
use penstock_testkit::sim::Server;
use penstock_wire::{
    capabilities, net,
    net::{ai_worker_client::AiWorkerClient, transcoder_client::TranscoderClient},
    worker_upload::{
        AI_WORKER_AUTHORIZATION, CREDENTIALS, PART_END, PIPELINE, PIXELS, TASK_ID,
        TRANSCODER_AUTHORIZATION, multipart_end, rendition_part_head,
    },
};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

const BOUNDARY: &str = "0123456789abcdef0123";
/// Jobs at once.
const CAPACITY: u32 = 10_000;
/// A rendition of as many pixels as its segment's number and these.
const LEAST_PIXELS: u64 = 10_000;
/// Until the next try to register.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two registrations of a capability: nobody says that its orchestrator has forgotten it.
const AGAIN: Duration = Duration::from_millis(200);

/// Pixels of a segment with this number.
pub fn pixels_of(seq: i64) -> u64 {
    LEAST_PIXELS + seq.unsigned_abs()
}

/// One orchestrator, as a worker knows it.
#[derive(Debug, Clone)]
struct Boss {
    url: String,
    secret: String,
    http: reqwest::Client,
}

/// The application: `/echo` sends its request back after as many milliseconds as it begins with, `/health` says that it is well.
pub async fn application() -> Server {
    let echo = async |body: Bytes| {
        let said = std::str::from_utf8(&body).unwrap_or_default();
        let ms = said.split(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        // What the work takes.
        tokio::time::sleep(Duration::from_millis(ms)).await;
        body
    };
    let router = Router::new().route("/echo", post(echo)).route("/health", get(async || "ok"));
    Server::clear(router).await
}

/// Starts all of one orchestrator.
pub fn start(tasks: &mut JoinSet<()>, url: &str, secret: &str, application: &str) {
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    let boss = Boss { url: url.to_owned(), secret: secret.to_owned(), http };
    tasks.spawn(again(boss.clone(), async |boss| boss.transcode().await));
    tasks.spawn(again(boss.clone(), async |boss| boss.speak().await));
    let application = application.to_owned();
    tasks.spawn(again(boss, async move |boss| boss.bring(&application).await));
}

/// Work until the connection ends, and again.
async fn again(boss: Boss, work: impl AsyncFn(&Boss) -> Option<()>) {
    loop {
        let _ = work(&boss).await;
        tokio::time::sleep(PAUSE).await;
    }
}

impl Boss {
    async fn transcode(&self) -> Option<()> {
        let to =
            channel(&self.url.parse().ok()?, &Trust::AcceptAny, Duration::from_secs(5)).ok()?;
        let request = net::RegisterRequest {
            secret: self.secret.clone(),
            capacity: CAPACITY.into(),
            capabilities: None,
        };
        let answer = TranscoderClient::new(to).register_transcoder(request).await.ok()?;
        let mut jobs = answer.into_inner();
        while let Some(job) = jobs.message().await.ok()? {
            let boss = self.clone();
            tokio::spawn(async move { boss.segment(job).await });
        }
        Some(())
    }

    /// Fetches the source and uploads a rendition.
    async fn segment(&self, job: net::NotifySegment) -> Option<()> {
        let told = job.seg_data?;
        let source = self.http.get(&job.url).send().await.ok()?.bytes().await.ok()?;
        let pixels = pixels_of(told.seq);
        let length = source.len() as u64;
        let mut body = rendition_part_head(BOUNDARY, SegmentFormat::MpegTs, length, pixels);
        body.push_str(&String::from_utf8_lossy(&source));
        body.push_str(PART_END);
        body.push_str(&multipart_end(BOUNDARY));
        let upload = self.upload("transcodeResults", TRANSCODER_AUTHORIZATION, job.task_id);
        upload.header(PIXELS, "1").body(body).send().await.ok()?;
        Some(())
    }

    async fn speak(&self) -> Option<()> {
        let mut offer = Capabilities::ai_job(Capability::Llm, MODEL, true);
        let models = offer.models.get_mut(&Capability::Llm.number())?;
        models.get_mut(MODEL)?.capacity = CAPACITY;
        let to =
            channel(&self.url.parse().ok()?, &Trust::AcceptAny, Duration::from_secs(5)).ok()?;
        let request = net::RegisterAiWorkerRequest {
            secret: self.secret.clone(),
            capabilities: Some(capabilities::write(&offer)),
            hardware: Vec::new(),
        };
        let answer = AiWorkerClient::new(to).register_ai_worker(request).await.ok()?;
        let mut jobs = answer.into_inner();
        while let Some(job) = jobs.message().await.ok()? {
            let boss = self.clone();
            tokio::spawn(async move { boss.words(job.task_id).await });
        }
        Some(())
    }

    async fn words(&self, task_id: i64) -> Option<()> {
        let choice = json!({"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "yes"}});
        let json = json!({"id": "1", "model": MODEL, "created": 1, "choices": [choice],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
        .to_string();
        let body = format!(
            "--{BOUNDARY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}{PART_END}{}",
            json.len(),
            multipart_end(BOUNDARY)
        );
        let upload = self.upload("aiResults", AI_WORKER_AUTHORIZATION, task_id);
        upload.header(PIPELINE, "llm").body(body).send().await.ok()?;
        Some(())
    }

    /// Registers the capability, again and again.
    async fn bring(&self, application: &str) -> Option<()> {
        let said = json!({"name": CAPABILITY, "url": application, "capacity": CAPACITY,
            "price_per_unit": BROUGHT_WEI, "price_scaling": 1});
        let url = format!("{}/capability/register", self.url);
        let register = self.http.post(url).header("Authorization", &self.secret);
        register.body(said.to_string()).send().await.ok()?;
        tokio::time::sleep(AGAIN).await;
        Some(())
    }

    fn upload(&self, path: &str, authorization: &str, task_id: i64) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}/{path}", self.url))
            .header("Authorization", authorization)
            .header(CREDENTIALS, &self.secret)
            .header(TASK_ID, task_id.to_string())
            .header("Content-Type", format!("multipart/mixed; boundary={BOUNDARY}"))
    }
}
