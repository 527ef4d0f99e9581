//! A job, over and over: as fast as it goes, or at a pace.

use super::cpu_seconds;
use crate::{draw, samples::Buckets};
use reqwest::header::{HeaderMap, HeaderValue};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// One job's request.
#[derive(Debug)]
pub struct Job {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// A form as callers send it to a gateway; each has a key of its own.
    Keyed(Vec<u8>),
    /// The same bytes every time.
    Fixed(Vec<u8>),
}

/// What a load came to.
#[derive(Debug, Clone, Default)]
pub struct Done {
    pub per_second: f64,
    pub per_cpu_second: Option<f64>,
    pub p50_us: u64,
    pub p99_us: u64,
    pub buckets_us: Buckets,
}

const BOUNDARY: &str = "----penstock-bench";

impl Job {
    /// A second of speech, posted to a gateway on an account's key.
    pub fn through_gateway(url: &str, key: &str) -> Arc<Self> {
        Arc::new(Self::to_gateway(url, key, Body::Fixed(form(&[]))))
    }

    /// The same, each with a key of its own for repetitions.
    pub fn keyed(url: &str, key: &str) -> Arc<Self> {
        Arc::new(Self::to_gateway(url, key, Body::Keyed(form(&[]))))
    }

    fn to_gateway(url: &str, key: &str, body: Body) -> Self {
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        headers.insert("authorization", bearer);
        headers.insert("content-type", kind());
        Self { http: http(), url: format!("{url}/audio-to-text"), headers, body }
    }

    /// The same with an orchestrator's headers.
    pub fn paid(url: &str, mut headers: HeaderMap) -> Arc<Self> {
        headers.insert("content-type", kind());
        headers.insert("authorization", HeaderValue::from_static("Livepeer-AI-Worker-1.0"));
        let fields = [("model_id", crate::fleet::MODEL), ("metadata", r#"{"duration":"1"}"#)];
        let body = Body::Fixed(form(&fields));
        Arc::new(Self { http: http(), url: format!("{url}/audio-to-text"), headers, body })
    }

    async fn run(&self) {
        let (status, text) = self.ask().await;
        assert!((200..300).contains(&status), "{}: {status} {text}", self.url);
    }

    /// The status and text of an answer.
    pub async fn ask(&self) -> (u16, String) {
        let mut request = self.http.post(&self.url).headers(self.headers.clone());
        request = match &self.body {
            Body::Fixed(body) => request.body(body.clone()),
            Body::Keyed(body) => {
                let key = format!("{:032x}", draw::random::<u128>());
                request.header("Idempotency-Key", key).body(body.clone())
            }
        };
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        (status.as_u16(), answer.text().await.expect("a whole answer"))
    }
}

fn kind() -> HeaderValue {
    HeaderValue::from_str(&format!("multipart/form-data; boundary={BOUNDARY}")).unwrap()
}

fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut form = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    )
    .into_bytes();
    form.extend(crate::gateway_chaos::wav(1));
    for (name, value) in fields {
        let part = format!(
            "\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}"
        );
        form.extend(part.into_bytes());
    }
    form.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
    form
}

fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .http1_only()
        .timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(256)
        .build()
        .unwrap()
}

/// `clients` jobs are always under way, until so many were answered.
pub async fn closed(job: &Arc<Job>, clients: usize, jobs: u64, pids: &[u32]) -> Done {
    let left = Arc::new(AtomicU64::new(jobs));
    let (began, cpu) = (Instant::now(), cpu_seconds(pids));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (job, left) = (Arc::clone(job), Arc::clone(&left));
        tasks.spawn(async move {
            let mut times = Vec::new();
            let take = |n: u64| n.checked_sub(1);
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                let began = Instant::now();
                job.run().await;
                times.push(us(began));
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done.unwrap());
    }
    let wall = began.elapsed().as_secs_f64();
    let used = cpu_seconds(pids) - cpu;
    let per_cpu_second = (used > 0.0).then(|| jobs as f64 / used);
    Done { per_second: jobs as f64 / wall, per_cpu_second, ..summed(times) }
}

/// So many arrivals a second, whether the ones before are answered or not.
pub async fn paced(job: &Arc<Job>, jobs: u64, per_second: f64) -> Done {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..jobs {
        let planned = began + Duration::from_secs_f64(number as f64 / per_second);
        tokio::time::sleep_until(planned.into()).await;
        let job = Arc::clone(job);
        tasks.spawn(async move {
            job.run().await;
            us(planned)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.push(done.unwrap());
    }
    Done { per_second: jobs as f64 / began.elapsed().as_secs_f64(), ..summed(times) }
}

/// Microseconds since then.
pub fn us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn summed(times: Vec<u64>) -> Done {
    let buckets_us = Buckets::of(&times);
    let (p50_us, p99_us) = percentiles(times);
    Done { p50_us, p99_us, buckets_us, ..Done::default() }
}

/// The median, and the slowest in a hundred.
pub fn percentiles(mut times: Vec<u64>) -> (u64, u64) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or(0)
    };
    (at(50), at(99))
}
