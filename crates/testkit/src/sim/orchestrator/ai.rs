//! The batch AI pipelines over the real wire (ai-pipelines.md sections 3, 4 and 6): headers and balance
//! checked, units counted as a real orchestrator counts them, files of results served from here.
//! No model runs: what comes out names what went in.

use super::{Node, Order, SimOrchestrator};
use crate::sim::{Script, form};
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{Capability, PriceInfo, model_capability_key};
use penstock_wire::CapabilityPrice;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// A model that an orchestrator has besides the speech model of its terms.
#[derive(Debug, Clone)]
pub struct SimModel {
    /// What for.
    pub capability: Capability,
    /// Its id.
    pub model: String,
    /// Wei a unit, if it is not the price of the terms.
    pub price: Option<PriceInfo>,
    /// Whether it is said to be loaded.
    pub warm: bool,
}

impl SimModel {
    /// A loaded model at the price of the terms.
    pub fn new(capability: Capability, model: &str) -> Self {
        Self { capability, model: model.to_owned(), price: None, warm: true }
    }

    /// At a price of its own.
    pub fn at(self, price: PriceInfo) -> Self {
        Self { price: Some(price), ..self }
    }
}

/// A job as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AiJob {
    /// The route.
    pub pipeline: String,
    /// Name and size of the file.
    pub file: Option<(String, usize)>,
    /// Fields of the form, in order.
    pub fields: Vec<(String, String)>,
    /// The JSON body.
    pub json: Option<Value>,
}

/// What concerns AI jobs.
#[derive(Debug)]
pub struct AiDesk {
    /// Models besides the speech model of the terms.
    pub models: Mutex<Vec<SimModel>>,
    /// For every pipeline but audio-to-text.
    pub orders: Script<Order>,
    /// Each job takes so long, after it was paid.
    pub latency: Mutex<Duration>,
    /// Speech of so many seconds or more takes so long besides.
    pub long_speech: Mutex<Option<(u64, Duration)>>,
    /// Pieces of a streamed answer.
    pub pieces: AtomicUsize,
    /// While it is set, each piece of a stream waits for a permit of it; so does the cut of a broken
    /// one, since what was not read before a cut is lost.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
    /// Jobs that arrived, audio-to-text left out.
    pub jobs: Mutex<Vec<AiJob>>,
    /// A permit for each stream whose head was answered.
    pub begun: Arc<Semaphore>,
    /// A permit for each stream that its reader left before its end.
    pub abandoned: Arc<Semaphore>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Default for AiDesk {
    fn default() -> Self {
        Self {
            models: Mutex::default(),
            orders: Script::default(),
            latency: Mutex::default(),
            long_speech: Mutex::default(),
            pieces: AtomicUsize::new(5),
            gate: Mutex::default(),
            jobs: Mutex::default(),
            begun: Arc::new(Semaphore::new(0)),
            abandoned: Arc::new(Semaphore::new(0)),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }
}

impl AiDesk {
    /// Adds a model.
    pub fn has(&self, model: SimModel) {
        self.models.lock().unwrap().push(model);
    }

    /// Most jobs that ran at the same time.
    pub fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// How many jobs arrived for a pipeline.
    pub fn count(&self, pipeline: &str) -> usize {
        self.jobs.lock().unwrap().iter().filter(|job| job.pipeline == pipeline).count()
    }

    /// The price of an account `{capability}_{model}`, if it has one of its own.
    pub(super) fn price(&self, account: &str) -> Option<PriceInfo> {
        let models = self.models.lock().unwrap();
        let named = |m: &&SimModel| model_capability_key(m.capability, &m.model) == account;
        models.iter().find(named).and_then(|m| m.price)
    }

    /// All prices of models that have one of their own.
    pub(super) fn prices(&self) -> Vec<CapabilityPrice> {
        let models = self.models.lock().unwrap();
        let priced = models.iter().filter_map(|m| Some((m, m.price?)));
        priced
            .map(|(m, price)| CapabilityPrice {
                capability: m.capability.number(),
                constraint: m.model.clone(),
                price,
            })
            .collect()
    }

    /// Waits as long as speech of that length takes besides.
    pub(super) async fn listen(&self, seconds: u64) {
        let long = *self.long_speech.lock().unwrap();
        if let Some((_, besides)) = long.filter(|(from, _)| seconds >= *from) {
            tokio::time::sleep(besides).await;
        }
    }

    /// Waits as long as a job takes, counted as running.
    pub(super) async fn work(&self) {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _done = Done(self);
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

struct Done<'a>(&'a AiDesk);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The head of a PNG file of this size, and what it is a picture of. Enough for whoever looks at
/// the size only.
pub fn picture(width: u32, height: u32, of: &str) -> Bytes {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    file.extend(b"\x08\x02\0\0\0");
    file.extend(of.as_bytes());
    file.into()
}

fn refuse(status: StatusCode, text: impl Into<String>) -> Response {
    (status, text.into()).into_response()
}

/// Every batch pipeline but audio-to-text.
pub(super) async fn job(State(Node(sim)): State<Node>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let pipeline = head.uri.path().trim_matches('/').to_owned();
    let Some(capability) = Capability::from_pipeline(&pipeline) else {
        return refuse(StatusCode::NOT_FOUND, "pipeline not available");
    };
    let (payment, credential) = match sim.admit(&head.headers) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.into_response(),
    };
    let (job, image) = match read(&head.headers, body, &pipeline).await {
        Ok(read) => read,
        Err(text) => return refuse(StatusCode::BAD_REQUEST, text),
    };
    let order = sim.ai.orders.next();
    sim.ai.jobs.lock().unwrap().push(job.clone());
    match &order {
        Some(Order::Status(status, text)) => {
            return refuse(StatusCode::from_u16(*status).unwrap(), *text);
        }
        Some(Order::Hang) => std::future::pending().await,
        _ => {}
    }
    let units = match units(&pipeline, &job, image) {
        Ok(units) => units,
        Err(text) => return refuse(StatusCode::BAD_REQUEST, text),
    };
    let model = job.take("model_id").or_else(|| job.take("model")).unwrap_or_default();
    let account = model_capability_key(capability, &model);
    if credential.manifest_id.as_str() != account {
        return refuse(StatusCode::FORBIDDEN, "another account");
    }
    if let Err(text) = sim.credit(&payment, &credential.manifest_id) {
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    if !sim.has_balance(&account) {
        return refuse(StatusCode::BAD_REQUEST, "Insufficient balance");
    }
    sim.ai.work().await;
    sim.debit(&account, units);
    if let Some(Order::Garbage) = order {
        return "garbage".into_response();
    }
    let stays = head.headers.get("authorization").is_some_and(|v| v == "Livepeer-AI-Worker-1.0");
    if pipeline == "llm" && job.take("stream").as_deref() == Some("true") {
        return stream(&sim, &model, order.as_ref());
    }
    axum::Json(answer(&sim, &pipeline, &model, &job, order.as_ref(), stays)).into_response()
}

impl AiJob {
    /// A field of the form or of the JSON object, as text.
    pub fn take(&self, name: &str) -> Option<String> {
        if let Some((_, value)) = self.fields.iter().find(|(n, _)| n == name) {
            return Some(value.clone());
        }
        match self.json.as_ref()?.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.take(name)?.parse().ok()
    }
}

/// Size of the picture in a form.
type Image = Option<(u64, u64)>;

async fn read(headers: &HeaderMap, body: Body, pipeline: &str) -> Result<(AiJob, Image), String> {
    let mut job =
        AiJob { pipeline: pipeline.to_owned(), file: None, fields: Vec::new(), json: None };
    let kind = headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(boundary) = multer::parse_boundary(kind) else {
        let body = axum::body::to_bytes(body, 64 << 20).await.map_err(|e| e.to_string())?;
        job.json = Some(serde_json::from_slice(&body).map_err(|e| e.to_string())?);
        return Ok((job, None));
    };
    let mut parts = form::parts_of(body, boundary).await.map_err(|e| e.to_string())?;
    let mut image = None;
    while let Some(part) = parts.next_field().await.map_err(|e| e.to_string())? {
        let name = part.name().unwrap_or_default().to_owned();
        if let Some(file_name) = part.file_name().map(str::to_owned) {
            if !job.fields.is_empty() {
                return Err("the file comes first".to_owned());
            }
            let data = part.bytes().await.map_err(|e| e.to_string())?;
            let side = |at: usize| {
                data.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().unwrap()).into())
            };
            image = side(16).zip(side(20));
            job.file = Some((file_name, data.len()));
        } else {
            job.fields.push((name, part.text().await.map_err(|e| e.to_string())?));
        }
    }
    Ok((job, image))
}

fn units(pipeline: &str, job: &AiJob, image: Image) -> Result<u64, String> {
    let pictures = job.number("num_images_per_prompt").unwrap_or(1).max(1);
    let side = |name: &str, default| job.number(name).unwrap_or(default);
    let area = || image.map(|(w, h)| w * h).ok_or_else(|| "image: unknown format".to_owned());
    Ok(match pipeline {
        "text-to-image" => side("height", 512) * side("width", 512) * pictures,
        "image-to-image" => area()? * pictures,
        "image-to-video" => side("height", 576) * side("width", 1024) * 25,
        "llm" => job.number("max_tokens").ok_or("MaxTokens not specified")?,
        "text-to-speech" => {
            1_000 * job.take("text").ok_or("text field is required")?.chars().count() as u64
        }
        _ => area()?,
    })
}

fn answer(
    sim: &SimOrchestrator,
    pipeline: &str,
    model: &str,
    job: &AiJob,
    order: Option<&Order>,
    stays: bool,
) -> Value {
    let base = match order {
        Some(Order::Elsewhere(base)) => base.clone(),
        _ => sim.uri(),
    };
    let keep = |name: String, data: Bytes, kind: &str| {
        if !stays {
            return format!("data:{kind};base64,{}", BASE64.encode(&data));
        }
        let path = format!("ai/{name}");
        sim.files.lock().unwrap().insert(path.clone(), data);
        format!("{base}/stream/{path}")
    };
    let prompt = job.take("prompt").unwrap_or_default();
    let id = format!("{:016x}", rand::random::<u64>());
    match pipeline {
        "text-to-image" | "image-to-image" | "upscale" => {
            let count = job.number("num_images_per_prompt").unwrap_or(1).max(1);
            let images: Vec<_> = (0..count)
                .map(|n| {
                    let data = picture(64, 64, &format!("{pipeline} {n}: {prompt}"));
                    let url = keep(format!("{id}-{n}.png"), data, "image/png");
                    json!({ "url": url, "seed": 7 + n, "nsfw": false })
                })
                .collect();
            json!({ "images": images })
        }
        "image-to-video" => {
            let film = Bytes::from_static(b"\0\0\0\x18ftypisom\0\0\0\0isomiso2a film");
            let url = keep(format!("{id}.mp4"), film, "video/mp4");
            json!({ "images": [{ "url": url, "seed": 7, "nsfw": false }] })
        }
        "segment-anything-2" => json!({ "masks": "[[1]]", "scores": "[0.9]", "logits": "[[0.1]]" }),
        "image-to-text" => json!({ "text": format!("a picture ({prompt})") }),
        "text-to-speech" => {
            let sound = format!("RIFF____WAVE{}", job.take("text").unwrap_or_default());
            json!({ "audio": { "url": keep(format!("{id}.wav"), sound.into(), "audio/wav") } })
        }
        _ => {
            let words: Vec<_> = (0..sim.ai.pieces.load(Ordering::SeqCst)).map(word).collect();
            let mut answer = piece(model, &words.concat(), Some("stop"), words.len());
            let choice = &mut answer["choices"][0];
            choice["message"] = choice["delta"].take();
            choice.as_object_mut().unwrap().remove("delta");
            answer
        }
    }
}

fn word(number: usize) -> String {
    format!("word{number} ")
}

fn piece(model: &str, words: &str, reason: Option<&str>, tokens: usize) -> Value {
    let mut choice = json!({ "index": 0, "delta": { "role": "assistant", "content": words } });
    if let Some(reason) = reason {
        choice["finish_reason"] = reason.into();
    }
    json!({
        "id": "chat-1", "model": model, "created": 1_700_000_000,
        "usage": { "prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": tokens + 3 },
        "choices": [choice],
    })
}

/// A streamed answer; says so when it is dropped before its end.
struct Speech {
    model: String,
    next: usize,
    pieces: usize,
    cut_after: Option<usize>,
    gate: Option<Arc<Semaphore>>,
    abandoned: Option<Arc<Semaphore>>,
}

impl Drop for Speech {
    fn drop(&mut self) {
        if let Some(abandoned) = self.abandoned.take() {
            abandoned.add_permits(1);
        }
    }
}

impl Speech {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        if self.next >= self.pieces {
            self.abandoned = None;
            return None;
        }
        if let Some(gate) = self.gate.clone() {
            gate.acquire_owned().await.unwrap().forget();
        }
        if self.cut_after == Some(self.next) {
            (self.abandoned, self.pieces) = (None, 0);
            return Some((Err(std::io::Error::other("cut")), self));
        }
        let last = self.next + 1 == self.pieces;
        let reason = last.then_some("stop");
        let said = piece(&self.model, &word(self.next), reason, self.next + 1);
        self.next += 1;
        if last {
            self.abandoned = None;
        }
        Some((Ok(format!("data: {said}\n\n").into()), self))
    }
}

fn stream(sim: &SimOrchestrator, model: &str, order: Option<&Order>) -> Response {
    let speech = Speech {
        model: model.to_owned(),
        next: 0,
        pieces: sim.ai.pieces.load(Ordering::SeqCst),
        cut_after: match order {
            Some(Order::CutAfter(pieces)) => Some(*pieces),
            _ => None,
        },
        gate: sim.ai.gate.lock().unwrap().clone(),
        abandoned: Some(Arc::clone(&sim.ai.abandoned)),
    };
    sim.ai.begun.add_permits(1);
    let body = Body::from_stream(futures::stream::unfold(speech, Speech::next));
    ([("content-type", "text/event-stream"), ("cache-control", "no-cache")], body).into_response()
}
