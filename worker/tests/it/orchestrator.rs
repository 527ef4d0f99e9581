//! The orchestrator's side of the link: registrations, files to fetch, results. Made of the same
//! generated services that orchestrators serve.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use futures::{Stream, StreamExt as _};
use penstock_wire::{
    ai::events::EventReader,
    live_worker::{
        LiveAnswer, LiveCall, LiveHeard, LiveLease, LiveRunners,
        live_worker_server::{LiveWorker, LiveWorkerServer},
    },
    net::{
        self,
        ai_worker_server::{AiWorker, AiWorkerServer},
        transcoder_server::{Transcoder, TranscoderServer},
    },
    worker_upload::WORKER_INSTANCE,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

pub const SECRET: &str = "correct horse";
/// No single step takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker that registered: what it said, and the way to send it jobs.
pub struct Registered<R, N> {
    pub request: R,
    /// Its name for its process, if it has one.
    pub instance: Option<String>,
    pub jobs: UnboundedSender<Result<N, Status>>,
}

/// A result that was posted.
#[derive(Debug, Clone)]
pub struct Posted {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Posted {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Parts with their headers, in order.
    pub async fn parts(&self) -> Vec<(HeaderMap, Bytes)> {
        let boundary = self.header("content-type").strip_prefix("multipart/mixed; boundary=");
        let boundary = boundary.expect("a multipart/mixed body").to_owned();
        assert_eq!(boundary.len(), 20);
        let body = self.body.clone();
        let body = futures::stream::once(async { Ok::<_, std::io::Error>(body) });
        let mut multipart = multer::Multipart::new(body, boundary);
        let mut parts = Vec::new();
        while let Some(field) = multipart.next_field().await.unwrap() {
            let headers = field.headers().clone();
            parts.push((headers, field.bytes().await.unwrap()));
        }
        parts
    }
}

type Jobs<N> = Pin<Box<dyn Stream<Item = Result<N, Status>> + Send>>;

#[derive(Clone)]
struct Shared {
    transcoders: UnboundedSender<Registered<net::RegisterRequest, net::NotifySegment>>,
    ai_workers: UnboundedSender<Registered<net::RegisterAiWorkerRequest, net::NotifyAiJob>>,
    live_workers: UnboundedSender<Registered<LiveRunners, LiveCall>>,
    live_updates: UnboundedSender<LiveRunners>,
    hears_nothing: Arc<AtomicBool>,
    live_answers: UnboundedSender<LiveAnswer>,
    results: UnboundedSender<Posted>,
    streams: UnboundedSender<Streamed>,
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

pub struct Orchestrator {
    pub addr: SocketAddr,
    transcoders: UnboundedReceiver<Registered<net::RegisterRequest, net::NotifySegment>>,
    ai_workers: UnboundedReceiver<Registered<net::RegisterAiWorkerRequest, net::NotifyAiJob>>,
    live_workers: UnboundedReceiver<Registered<LiveRunners, LiveCall>>,
    live_updates: UnboundedReceiver<LiveRunners>,
    hears_nothing: Arc<AtomicBool>,
    live_answers: UnboundedReceiver<LiveAnswer>,
    results: UnboundedReceiver<Posted>,
    streams: UnboundedReceiver<Streamed>,
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    handle: Handle<SocketAddr>,
}

impl Orchestrator {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// On a given address: that of an orchestrator that stopped.
    pub async fn start_at(addr: SocketAddr) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let (transcoders_in, transcoders) = unbounded_channel();
        let (ai_workers_in, ai_workers) = unbounded_channel();
        let (live_workers_in, live_workers) = unbounded_channel();
        let (live_updates_in, live_updates) = unbounded_channel();
        let (live_answers_in, live_answers) = unbounded_channel();
        let (results_in, results) = unbounded_channel();
        let (streams_in, streams) = unbounded_channel();
        let (files, hears_nothing) = (Arc::default(), Arc::default());
        let shared = Shared {
            transcoders: transcoders_in,
            ai_workers: ai_workers_in,
            live_workers: live_workers_in,
            live_updates: live_updates_in,
            hears_nothing: Arc::clone(&hears_nothing),
            live_answers: live_answers_in,
            results: results_in,
            streams: streams_in,
            files: Arc::clone(&files),
        };
        let grpc = tonic::service::Routes::new(TranscoderServer::new(shared.clone()))
            .add_service(AiWorkerServer::new(shared.clone()))
            .add_service(LiveWorkerServer::new(shared.clone()))
            .prepare()
            .into_axum_router()
            .reset_fallback();
        let router = Router::new()
            .route("/transcodeResults", post(result))
            .route("/aiResults", post(result))
            .route("/stream/{name}", get(file))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(shared)
            .merge(grpc);
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let tls = RustlsConfig::from_pem(
            key.cert.pem().into_bytes(),
            key.signing_key.serialize_pem().into_bytes(),
        )
        .await
        .unwrap();
        let handle = Handle::new();
        let server = axum_server::bind_rustls(addr, tls).handle(handle.clone());
        tokio::spawn(server.serve(router.into_make_service()));
        let addr = handle.listening().await.expect("the port is free");
        Self {
            addr,
            transcoders,
            ai_workers,
            live_workers,
            live_updates,
            hears_nothing,
            live_answers,
            results,
            streams,
            files,
            handle,
        }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// Serves `data`; returns its address.
    pub fn offer(&self, name: &str, data: impl Into<Bytes>) -> String {
        self.files.lock().unwrap().insert(name.to_owned(), data.into());
        format!("{}/stream/{name}", self.url())
    }

    pub async fn transcoder(&mut self) -> Registered<net::RegisterRequest, net::NotifySegment> {
        expect("a transcoder's registration", self.transcoders.recv()).await.unwrap()
    }

    pub async fn ai_worker(
        &mut self,
    ) -> Registered<net::RegisterAiWorkerRequest, net::NotifyAiJob> {
        expect("an AI worker's registration", self.ai_workers.recv()).await.unwrap()
    }

    pub async fn live_worker(&mut self) -> Registered<LiveRunners, LiveCall> {
        expect("live runners", self.live_workers.recv()).await.unwrap()
    }

    /// The next word of a worker on its live runners.
    pub async fn live_update(&mut self) -> LiveRunners {
        expect("a word on live runners", self.live_updates.recv()).await.unwrap()
    }

    /// Whether words on live runners are refused from now on.
    pub fn hears_nothing(&self, nothing: bool) {
        self.hears_nothing.store(nothing, Ordering::SeqCst);
    }

    /// The next answer of a live runner.
    pub async fn live_answer(&mut self) -> LiveAnswer {
        expect("a live runner's answer", self.live_answers.recv()).await.unwrap()
    }

    pub fn no_ai_worker_yet(&mut self) -> bool {
        self.ai_workers.try_recv().is_err()
    }

    /// The next result. Every one is checked for what all have in common.
    pub async fn result(&mut self) -> Posted {
        let posted = expect("a result", self.results.recv()).await.unwrap();
        let authorization = match posted.path.as_str() {
            "/transcodeResults" => "Livepeer-Transcoder-1.0",
            "/aiResults" => "Livepeer-AI-Worker-1.0",
            other => panic!("{other}"),
        };
        assert_eq!(posted.header("authorization"), authorization);
        assert_eq!(posted.header("credentials"), SECRET);
        posted
    }

    /// The next result that comes in pieces.
    pub async fn stream(&mut self) -> Streamed {
        expect("a stream", self.streams.recv()).await.unwrap()
    }

    pub fn no_result_yet(&mut self) -> bool {
        self.results.try_recv().is_err()
    }

    /// Drops every connection.
    pub async fn stop(self) {
        self.handle.shutdown();
    }
}

pub async fn expect<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no {what} came"))
}

async fn file(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Bytes, StatusCode> {
    shared.files.lock().unwrap().get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
}

/// Keeps what is posted; a stream as long as the test reads it.
async fn result(
    State(shared): State<Shared>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Body,
) -> &'static str {
    let path = uri.path().to_owned();
    if headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        let (over, read) = tokio::sync::oneshot::channel();
        let body = body.into_data_stream();
        let events = EventReader::new(1 << 20);
        let _ = shared.streams.send(Streamed { headers, body, events, _over: over });
        let _ = read.await;
        return "OK";
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let _ = shared.results.send(Posted { path, headers, body });
    "OK"
}

/// A result that comes in pieces. Dropped, it is answered.
pub struct Streamed {
    headers: HeaderMap,
    body: axum::body::BodyDataStream,
    events: EventReader,
    _over: tokio::sync::oneshot::Sender<()>,
}

impl Streamed {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// The next piece; `None` at the end in order.
    pub async fn piece(&mut self) -> Option<serde_json::Value> {
        loop {
            if let Some(event) = self.events.next_event().unwrap() {
                return Some(serde_json::from_str(&event).unwrap());
            }
            let bytes = expect("a piece", self.body.next()).await?;
            self.events.push(&bytes.expect("the stream goes on"));
        }
    }

    /// Whether it ends before the piece that says why. (HTTP/2 has no other sign that every peer sees:
    /// a stream that its sender cancelled reads as one that ended.)
    pub async fn broke_off(&mut self) -> bool {
        while let Some(Ok(bytes)) = expect("an end", self.body.next()).await {
            self.events.push(&bytes);
        }
        let rest = std::iter::from_fn(|| self.events.next_event().unwrap());
        rest.into_iter().all(|event| !event.contains("finish_reason"))
    }
}

fn admitted<R, N: Send + 'static>(
    secret: impl Fn(&R) -> &str,
    request: Request<R>,
    to: &UnboundedSender<Registered<R, N>>,
) -> Result<Response<Jobs<N>>, Status> {
    let instance = request.metadata().get(WORKER_INSTANCE);
    let instance = instance.map(|name| name.to_str().unwrap().to_owned());
    let request = request.into_inner();
    if secret(&request) != SECRET {
        return Err(Status::unknown("invalid secret"));
    }
    let (jobs, stream) = unbounded_channel();
    let _ = to.send(Registered { request, instance, jobs });
    Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
}

#[tonic::async_trait]
impl Transcoder for Shared {
    type RegisterTranscoderStream = Jobs<net::NotifySegment>;

    async fn register_transcoder(
        &self,
        request: Request<net::RegisterRequest>,
    ) -> Result<Response<Self::RegisterTranscoderStream>, Status> {
        admitted(|request| &request.secret, request, &self.transcoders)
    }
}

#[tonic::async_trait]
impl AiWorker for Shared {
    type RegisterAIWorkerStream = Jobs<net::NotifyAiJob>;

    async fn register_ai_worker(
        &self,
        request: Request<net::RegisterAiWorkerRequest>,
    ) -> Result<Response<Self::RegisterAIWorkerStream>, Status> {
        admitted(|request| &request.secret, request, &self.ai_workers)
    }
}

#[tonic::async_trait]
impl LiveWorker for Shared {
    type ServeStream = Jobs<LiveCall>;

    async fn serve(
        &self,
        request: Request<LiveRunners>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        admitted(|request| &request.secret, request, &self.live_workers)
    }

    async fn update(&self, request: Request<LiveRunners>) -> Result<Response<LiveLease>, Status> {
        if self.hears_nothing.load(Ordering::SeqCst) {
            return Err(Status::unavailable("not now"));
        }
        let _ = self.live_updates.send(request.into_inner());
        Ok(Response::new(LiveLease { lease_ms: 24_000, left_out: 0 }))
    }

    async fn answer(&self, request: Request<LiveAnswer>) -> Result<Response<LiveHeard>, Status> {
        let _ = self.live_answers.send(request.into_inner());
        Ok(Response::new(LiveHeard {}))
    }
}
