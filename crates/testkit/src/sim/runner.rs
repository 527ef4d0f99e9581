//! An AI runner as workers meet it (ai-pipelines.md section 8.1): health, version, hardware, and one
//! route a pipeline. A stand-in for the network's own: it runs no model, but checks every request
//! against the interface, and answers as that says.

use super::{Faults, Running, Script, form, runner_api, server::Server};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

/// What to do instead of the job.
#[derive(Debug, Clone)]
pub enum Order {
    /// This status, with this message in the runner's envelope.
    Status(u16, &'static str),
    /// Never answer.
    Hang,
    /// 200, and something that is not JSON.
    Garbage,
    /// 200, and this.
    Answer(Value),
    /// Of a stream: one piece, and then the connection breaks.
    BreakOff,
}

/// A job as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The route: `audio-to-text`, `text-to-image`…
    pub pipeline: String,
    /// Name and content of each field of the form; of a file, how many bytes it has. A JSON body is
    /// one field without a name.
    pub fields: Vec<(String, String)>,
}

/// A simulated runner.
#[derive(Debug)]
pub struct SimRunner {
    /// Bearer token that it wants; `None`: anybody may call.
    pub token: Option<String>,
    /// `status` of `/health`.
    pub health: Mutex<&'static str>,
    /// The model it says it has.
    pub model: String,
    /// For jobs of any pipeline.
    pub orders: Script<Order>,
    /// Jobs that arrived.
    pub jobs: Mutex<Vec<Job>>,
    /// While it is set, each piece of a stream waits for a permit of it.
    pub pace: Mutex<Option<Arc<Semaphore>>>,
    /// Streams that somebody reads.
    pub streams: Arc<AtomicUsize>,
    /// Slowness, refusals, silence.
    pub faults: Arc<Faults>,
}

type Shared = State<Arc<SimRunner>>;

impl SimRunner {
    /// A healthy runner of one model.
    pub async fn start(model: &str, token: Option<&str>) -> Running<Self> {
        let sim = Arc::new(Self {
            token: token.map(str::to_owned),
            health: Mutex::new("OK"),
            model: model.to_owned(),
            orders: Script::default(),
            jobs: Mutex::default(),
            pace: Mutex::default(),
            streams: Arc::default(),
            faults: Arc::default(),
        });
        let router = Router::new()
            .route("/health", get(health))
            .route("/version", get(version))
            .route("/hardware/info", get(hardware))
            .route("/{pipeline}", post(job))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&sim));
        let server = Server::clear(sim.faults.over(router)).await;
        Running { sim, server }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok());
        sent == Some(&format!("Bearer {token}"))
    }
}

fn refuse(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(json!({ "detail": { "msg": message } }))).into_response()
}

async fn health(State(sim): Shared) -> Json<Value> {
    Json(json!({ "status": *sim.health.lock().unwrap() }))
}

async fn version(State(sim): Shared) -> Json<Value> {
    Json(json!({ "pipeline": "audio-to-text", "model_id": sim.model, "version": "0.0.0" }))
}

async fn hardware(State(sim): Shared) -> Json<Value> {
    let gpu = json!({
        "id": "GPU-simulated", "name": "simulated", "memory_total": 1, "memory_free": 1,
        "major": 9, "minor": 0,
    });
    Json(json!({ "pipeline": "audio-to-text", "model_id": sim.model, "gpu_info": { "0": gpu } }))
}

async fn job(State(sim): Shared, Path(pipeline): Path<String>, request: Request) -> Response {
    if !sim.admits(request.headers()) {
        return refuse(401, "Invalid bearer token");
    }
    let fields = match fields(request).await {
        Ok(fields) => fields,
        Err(reason) => return refuse(422, &reason),
    };
    let job = Job { pipeline, fields };
    if let Some(reason) = runner_api::wrong(&job) {
        let detail = json!([{ "loc": ["body"], "msg": reason, "type": "value_error" }]);
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": detail })))
            .into_response();
    }
    sim.jobs.lock().unwrap().push(job.clone());
    let order = sim.orders.next();
    match order {
        Some(Order::Status(status, message)) => refuse(status, message),
        Some(Order::Hang) => std::future::pending().await,
        Some(Order::Garbage) => "garbage".into_response(),
        Some(Order::Answer(answer)) => Json(answer).into_response(),
        Some(Order::BreakOff) => stream(&sim, 1, true),
        None if job.wants_stream() => stream(&sim, usize::MAX, false),
        None => Json(runner_api::answer(&job)).into_response(),
    }
}

impl Job {
    fn wants_stream(&self) -> bool {
        let body =
            self.fields.first().and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
        self.pipeline == "llm" && body.is_some_and(|body| body["stream"] == true)
    }
}

/// Counts a stream as long as it is read.
struct Reading(Arc<AtomicUsize>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Pieces of an answer at the pace that the test sets.
fn stream(sim: &SimRunner, count: usize, broken: bool) -> Response {
    let pace = sim.pace.lock().unwrap().clone();
    sim.streams.fetch_add(1, Ordering::SeqCst);
    let reading = Reading(Arc::clone(&sim.streams));
    let pieces = runner_api::pieces().into_iter().take(count).map(|p| Ok(format!("data: {p}\n\n")));
    let end = if broken { Err("broken") } else { Ok("data: [DONE]\n\n".to_owned()) };
    let pieces = futures::stream::iter(pieces.chain([end])).then(move |piece| {
        let (pace, _reading) = (pace.clone(), &reading);
        async move {
            if let Some(pace) = pace {
                pace.acquire().await.unwrap().forget();
            }
            piece.map_err(std::io::Error::other)
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
}

async fn fields(request: Request) -> Result<Vec<(String, String)>, String> {
    let (head, body) = request.into_parts();
    let kind = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    let Ok(boundary) = multer::parse_boundary(kind.unwrap_or_default()) else {
        let body: Bytes =
            axum::body::to_bytes(body, 64 << 20).await.map_err(|error| error.to_string())?;
        return Ok(vec![(String::new(), String::from_utf8_lossy(&body).into_owned())]);
    };
    let mut parts = form::parts_of(body, boundary).await.map_err(|e| e.to_string())?;
    let mut fields = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|error| error.to_string())? {
        let name = part.name().unwrap_or_default().to_owned();
        let is_file = part.file_name().is_some();
        let content = part.bytes().await.map_err(|error| error.to_string())?;
        let shown = if is_file {
            content.len().to_string()
        } else {
            String::from_utf8_lossy(&content).into_owned()
        };
        fields.push((name, shown));
    }
    Ok(fields)
}
