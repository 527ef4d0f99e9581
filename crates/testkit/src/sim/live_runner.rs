//! A live video runner as orchestrators and workers meet it (live-video.md section 6): health, the start
//! of a session, and from then on four trickle channels. It runs no model: its pipeline is `noop`, so
//! frames come out as they went in. Everything else is what a runner does: each segment goes out while
//! it comes in, control messages are answered by an event, and the session ends with its input.

use super::{Faults, Running, Script, server::Server};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use penstock_clients::{Reach, Trust};
use penstock_trickle::{
    Position,
    client::{ClientError, Publisher, PublisherOptions, Subscriber, SubscriberOptions, Then, http},
};
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::Notify;

/// Largest message read from a control channel.
const MAX_MESSAGE: usize = 1 << 20;

/// What to do with a request for a session.
#[derive(Debug, Clone)]
pub enum Order {
    /// This status, with this message in the runner's envelope, and no session.
    Refuse(u16, &'static str),
    /// Begin, and answer when told to.
    AnswerWhen(Arc<Notify>),
    /// Begin, and break the answer off.
    BreakOff,
    /// Begin, bring so many segments of what comes, and no more: the rest is taken all the same.
    Bring(usize),
}

/// A simulated live runner. Any number of sessions at once: whoever calls counts them.
#[derive(Debug)]
pub struct SimLiveRunner {
    /// Bearer token that it wants; `None`: anybody may call.
    pub token: Option<String>,
    /// `status` of `/health`, instead of `OK` with a session and `IDLE` without.
    pub health: Mutex<Option<&'static str>>,
    /// For requests.
    pub orders: Script<Order>,
    /// Requests that arrived.
    pub requests: Mutex<Vec<Value>>,
    /// Control messages that arrived, keep-alives included.
    pub controls: Mutex<Vec<Value>>,
    /// Slowness, refusals, silence.
    pub faults: Arc<Faults>,
    sessions: AtomicUsize,
}

type Shared = State<Arc<SimLiveRunner>>;

impl SimLiveRunner {
    /// A healthy runner.
    pub async fn start(token: Option<&str>) -> Running<Self> {
        let sim = Arc::new(Self {
            token: token.map(str::to_owned),
            health: Mutex::default(),
            orders: Script::default(),
            requests: Mutex::default(),
            controls: Mutex::default(),
            faults: Arc::default(),
            sessions: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/health", get(health))
            .route("/live-video-to-video", post(start))
            .with_state(Arc::clone(&sim));
        let server = Server::clear(sim.faults.over(router)).await;
        Running { sim, server }
    }

    /// Sessions that it has.
    pub fn sessions(&self) -> usize {
        self.sessions.load(SeqCst)
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok());
        sent == Some(&format!("Bearer {token}"))
    }
}

async fn health(State(sim): Shared) -> Json<Value> {
    let own = if sim.sessions() > 0 { "OK" } else { "IDLE" };
    let status = sim.health.lock().unwrap().unwrap_or(own);
    Json(json!({ "status": status }))
}

fn refuse(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(json!({ "detail": { "msg": message } }))).into_response()
}

fn broken_off() -> Response {
    let pieces = [Ok("{"), Err(std::io::Error::other("broken off"))];
    Body::from_stream(futures::stream::iter(pieces)).into_response()
}

async fn start(State(sim): Shared, headers: HeaderMap, Json(request): Json<Value>) -> Response {
    if !sim.admits(&headers) {
        return refuse(401, "Invalid bearer token");
    }
    sim.requests.lock().unwrap().push(request.clone());
    let order = match sim.orders.next() {
        Some(Order::Refuse(status, message)) => return refuse(status, message),
        order => order,
    };
    sim.sessions.fetch_add(1, SeqCst);
    let most = if let Some(Order::Bring(most)) = order { most } else { usize::MAX };
    tokio::spawn(session(Arc::clone(&sim), request, most));
    match order {
        Some(Order::AnswerWhen(told)) => told.notified().await,
        Some(Order::BreakOff) => return broken_off(),
        _ => {}
    }
    Json(json!({})).into_response()
}

/// A session, to the end of its input; so many segments come out.
async fn session(sim: Arc<SimLiveRunner>, request: Value, most: usize) {
    let urls = Urls::of(&request);
    if urls.input.is_empty() {
        // Of `/scope`: messages only, to the end of those that come.
        let _ended = control(Arc::clone(&sim), urls.clone()).await;
        if let Ok(publisher) = publisher(&urls.events).await {
            let _ = publisher.close().await;
        }
        sim.sessions.fetch_sub(1, SeqCst);
        return;
    }
    let controls = tokio::spawn(control(Arc::clone(&sim), urls.clone()));
    let _ended = frames(&urls, most).await;
    controls.abort();
    let _ = controls.await;
    // A runner closes what it has published.
    for url in [&urls.output, &urls.events] {
        if let Ok(publisher) = publisher(url).await {
            let _ = publisher.close().await;
        }
    }
    sim.sessions.fetch_sub(1, SeqCst);
}

#[derive(Debug, Clone)]
struct Urls {
    input: String,
    output: String,
    control: String,
    events: String,
}

impl Urls {
    fn of(request: &Value) -> Self {
        let url = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        Self {
            input: url("subscribe_url"),
            output: url("publish_url"),
            control: url("control_url"),
            events: url("events_url"),
        }
    }
}

async fn publisher(url: &str) -> Result<Publisher, ClientError> {
    // Any certificate will do, as for the network's runners.
    let http = http(Trust::AcceptAny, Reach::Anywhere).unwrap();
    Publisher::open(http, url, PublisherOptions::default()).await
}

fn subscriber(url: &str) -> Result<Subscriber, ClientError> {
    // From the channel's first segment on, as runners do who join before it began.
    let options = SubscriberOptions { start: Position::Current, ..SubscriberOptions::default() };
    let http = http(Trust::AcceptAny, Reach::Anywhere).unwrap();
    Subscriber::new(http, url, options)
}

/// Segment by segment, chunk by chunk.
async fn frames(urls: &Urls, most: usize) -> Result<(), ClientError> {
    let mut input = subscriber(&urls.input)?;
    let mut output = publisher(&urls.output).await?;
    for n in 0.. {
        let mut coming = match input.next_segment().await {
            Ok(coming) => coming,
            Err(ClientError::EndOfStream | ClientError::NoChannel) => return Ok(()),
            Err(error) => return Err(error),
        };
        if n >= most {
            while coming.chunk().await?.is_some() {}
            continue;
        }
        let mut going = output.next_segment()?;
        let passed = async {
            while let Some(chunk) = coming.chunk().await? {
                going.write(chunk).await?;
            }
            going.finish().await.map(drop)
        };
        if let Err(error) = passed.await {
            if error.then() == Then::Stop {
                return Err(error);
            }
            let _ = going.abandon().await;
        }
    }
    Ok(())
}

/// Says that it is online, and answers each message by an event.
async fn control(sim: Arc<SimLiveRunner>, urls: Urls) -> Result<(), ClientError> {
    let mut messages = subscriber(&urls.control)?;
    let mut events = publisher(&urls.events).await?;
    let status = json!({ "type": "status", "pipeline": "noop", "state": "ONLINE" });
    let first = json!({ "event": status, "queue_event_type": "ai_stream_status" });
    events.write(first.to_string().into()).await?;
    loop {
        let text = messages.next_segment().await?.bytes(MAX_MESSAGE).await?;
        let Ok(message) = serde_json::from_slice::<Value>(&text) else { continue };
        sim.controls.lock().unwrap().push(message.clone());
        if message.get("keep").is_none() {
            let event = json!({ "type": "params_update", "params": message });
            let said = json!({ "event": event, "queue_event_type": "ai_stream_events" });
            events.write(said.to_string().into()).await?;
        }
    }
}
