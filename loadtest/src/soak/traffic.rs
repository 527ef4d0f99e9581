//! Paid work of every kind at a pace: clients of applications that have one job after the other done, each with an
//! `Idempotency-Key`, and ask for each again, now at one gateway and now at the other, until it is answered.

use super::pace::{self, Clock};
use crate::faults::{
    cell::Kind,
    promise::{self, Answer},
    world::{CAPABILITY, SHARED_MODEL},
};
use penstock_wire::header::to_base64;
use reqwest::RequestBuilder;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{RwLock, RwLockWriteGuard},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// What is asked for, and by how many.
pub const CLIENTS: [(Kind, usize); 3] = [(Kind::Segments, 4), (Kind::Words, 8), (Kind::Brought, 4)];
/// Before a client asks again.
const AGAIN: Duration = Duration::from_millis(150);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(100);
/// Tokens of the first job in words; each further one has one more, so that each charge is of one job.
const FIRST_TOKENS: u64 = 20_000;
/// The smallest rendition: this is not about pictures.
const CONFIGURATION: &str =
    r#"{"profiles":[{"name":"tiny","width":128,"height":72,"bitrate":100000,"fps":0}]}"#;
/// How long a brought job looks for somebody who does it.
const SEARCH: &str = "3s";
/// Enough of them to see what is wrong.
const MAX_WRONG: usize = 20;

/// What clients were told.
#[derive(Debug, Default)]
struct Told {
    answered: BTreeMap<Kind, u64>,
    /// Answers that said to come again, and answers that were lost.
    not_now: u64,
    lost: u64,
    /// Tokens of each job in words, and whether it was answered.
    words: BTreeMap<u64, bool>,
    /// The last segment of each stream that was answered.
    streams: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

/// What clients share.
#[derive(Debug)]
pub struct Traffic {
    http: reqwest::Client,
    gateways: Vec<String>,
    media: Arc<Vec<Vec<u8>>>,
    name: String,
    stop: AtomicBool,
    // A job holds it to be read, whoever wants quiet to be written.
    turn: RwLock<()>,
    /// Stands still while it is quiet, and until it is.
    clock: Clock,
    /// Microseconds from when a client's job is to begin to when its next one is.
    pace_us: BTreeMap<Kind, AtomicU64>,
    /// Streams that are going on; a new one begins all of them anew.
    generation: AtomicU64,
    next_tokens: AtomicU64,
    next_brought: AtomicU64,
    told: Mutex<Told>,
}

impl Traffic {
    /// Work for these gateways, with these segments, as fast as they are answered.
    pub fn new(gateways: Vec<String>, media: Arc<Vec<Vec<u8>>>) -> Arc<Self> {
        Arc::new(Self {
            http: crate::fleet::http(None),
            gateways,
            media,
            name: format!("soak-{}", rand::random::<u32>()),
            stop: AtomicBool::new(false),
            turn: RwLock::default(),
            clock: Clock::start(),
            pace_us: CLIENTS.map(|(kind, _)| (kind, AtomicU64::new(0))).into(),
            generation: AtomicU64::new(0),
            next_tokens: AtomicU64::new(FIRST_TOKENS),
            next_brought: AtomicU64::new(0),
            told: Mutex::default(),
        })
    }

    /// Starts the clients.
    pub fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for (kind, count) in CLIENTS {
            for number in 0..count {
                let traffic = Arc::clone(self);
                clients.spawn(async move { traffic.client(kind, number).await });
            }
        }
        clients
    }

    /// From now on so many jobs of that kind a second of [`at_work`](Self::at_work), if they are answered as fast.
    pub fn set_pace(&self, kind: Kind, per_second: f64) {
        let clients = CLIENTS.iter().find(|(other, _)| *other == kind).map_or(0, |(_, n)| *n);
        let us = clients as f64 / per_second * 1e6;
        self.pace_us[&kind].store(us as u64, Ordering::SeqCst);
    }

    /// Clients end after the job that they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits until no job is under way; none begins before this is dropped. One at a time.
    pub async fn quiet(&self) -> Quiet<'_> {
        self.clock.stand();
        let goes_on = GoesOn(&self.clock);
        Quiet { _turn: self.turn.write().await, _goes_on: goes_on }
    }

    /// Time so far in which jobs could begin: without pauses, and without the wait for the last jobs before each.
    pub fn at_work(&self) -> Duration {
        self.clock.now()
    }

    /// Every stream ends here, and another one begins in its place.
    pub fn new_streams(&self) {
        self.told.lock().unwrap().streams.clear();
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Streams going on, and the last segment of each that was answered.
    pub fn streams(&self) -> BTreeMap<String, u64> {
        self.told.lock().unwrap().streams.clone()
    }

    /// Everything that was answered.
    pub fn answered(&self) -> BTreeMap<Kind, u64> {
        self.told.lock().unwrap().answered.clone()
    }

    /// Answers that said to come again, and answers that were lost.
    pub fn in_vain(&self) -> [u64; 2] {
        let told = self.told.lock().unwrap();
        [told.not_now, told.lost]
    }

    /// Tokens of the jobs in words, and whether each was answered.
    pub fn words(&self) -> BTreeMap<u64, bool> {
        self.told.lock().unwrap().words.clone()
    }

    /// Answers that nobody promised.
    pub fn wrong(&self) -> Vec<String> {
        self.told.lock().unwrap().wrong.clone()
    }

    /// A playlist as a viewer gets it.
    pub async fn playlist(&self, stream: &str) -> Result<String, String> {
        let url = format!("{}/stream/{stream}/tiny.m3u8", self.gateways[0]);
        let answer = self.http.get(&url).timeout(PATIENCE).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        if status.is_success() { Ok(text) } else { Err(format!("{url}: {status} {text}")) }
    }

    async fn client(&self, kind: Kind, client: usize) {
        let mut segment = (0, 0);
        let mut due = self.clock.now();
        loop {
            {
                let _turn = self.turn.read().await;
                if self.stop.load(Ordering::SeqCst) {
                    return;
                }
                let generation = self.generation.load(Ordering::SeqCst);
                if generation != segment.0 {
                    segment = (generation, 0);
                }
                let job = match kind {
                    Kind::Segments => Job::Segment {
                        stream: format!("{}-{client}-{generation}", self.name),
                        number: segment.1,
                    },
                    Kind::Words | Kind::OwnWords => {
                        Job::Words(self.next_tokens.fetch_add(1, Ordering::SeqCst))
                    }
                    Kind::Brought => {
                        let number = self.next_brought.fetch_add(1, Ordering::SeqCst);
                        Job::Brought(format!("{}-{number}", self.name))
                    }
                };
                self.until_answered(kind, &job, client).await;
                segment.1 += 1;
            }
            let every = Duration::from_micros(self.pace_us[&kind].load(Ordering::SeqCst));
            due = pace::next(due, every, self.clock.now());
            // A pause that begins meanwhile makes this one early by as much, and no other.
            sleep_until(self.clock.at(due)).await;
        }
    }

    /// Until it is answered, or nobody wants to know any more.
    async fn until_answered(&self, kind: Kind, job: &Job, client: usize) {
        if let Job::Words(tokens) = job {
            self.told.lock().unwrap().words.insert(*tokens, false);
        }
        let began = Instant::now();
        for attempt in client.. {
            let gateway = &self.gateways[attempt % self.gateways.len()];
            let answer = self.ask(gateway, job).await;
            let is_done = answer == Answer::Done;
            self.note(kind, job, answer);
            // What was begun is finished: a purchase for it may be under way.
            let is_over = self.stop.load(Ordering::SeqCst) && began.elapsed() > PATIENCE;
            if is_done || is_over {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    fn note(&self, kind: Kind, job: &Job, answer: Answer) {
        let mut told = self.told.lock().unwrap();
        match answer {
            Answer::Done => {
                *told.answered.entry(kind).or_default() += 1;
                match job {
                    Job::Words(tokens) => {
                        told.words.insert(*tokens, true);
                    }
                    Job::Segment { stream, number } => {
                        told.streams.insert(stream.clone(), *number);
                    }
                    Job::Brought(_) => {}
                }
            }
            Answer::NotNow => told.not_now += 1,
            Answer::Lost(_) => told.lost += 1,
            Answer::Wrong(what) => {
                if told.wrong.len() < MAX_WRONG {
                    told.wrong.push(format!("{kind}, {job:?}: {what}"));
                }
            }
        }
    }

    async fn ask(&self, gateway: &str, job: &Job) -> Answer {
        let (request, wanted) = match job {
            Job::Segment { stream, number } => {
                (self.segment(gateway, stream, *number), "Rendition-Name: tiny")
            }
            Job::Words(tokens) => (self.in_words(gateway, *tokens), "choices"),
            Job::Brought(id) => (self.to_bring(gateway, id), id.as_str()),
        };
        let key = match job {
            Job::Segment { stream, number } => format!("{stream}-{number}"),
            Job::Words(tokens) => format!("{}-words-{tokens}", self.name),
            Job::Brought(id) => format!("{id}-brought"),
        };
        let answer = match request.header("Idempotency-Key", key).timeout(PATIENCE).send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::Lost(error.to_string()),
        };
        let status = answer.status().as_u16();
        let retry_after = answer.headers().contains_key("retry-after");
        match answer.bytes().await {
            Ok(body) => {
                let text = String::from_utf8_lossy(&body);
                match promise::answer(status, retry_after, &text) {
                    Answer::Done if !text.contains(wanted) => {
                        Answer::Wrong(format!("another answer: {text:.300}"))
                    }
                    answer => answer,
                }
            }
            Err(error) => Answer::Lost(error.to_string()),
        }
    }

    fn segment(&self, gateway: &str, stream: &str, number: u64) -> RequestBuilder {
        let segment = self.media[number as usize % self.media.len()].clone();
        self.http
            .put(format!("{gateway}/live/{stream}/{number}.ts"))
            .header("Accept", "multipart/mixed")
            .header("Content-Duration", "2000")
            .header("Livepeer-Transcode-Configuration", CONFIGURATION)
            .body(segment)
    }

    fn in_words(&self, gateway: &str, tokens: u64) -> RequestBuilder {
        let body = json!({"model": SHARED_MODEL, "max_tokens": tokens, "stream": false,
            "messages": [{"role": "user", "content": "is it?"}]});
        let request = self.http.post(format!("{gateway}/llm"));
        request.header("Content-Type", "application/json").body(body.to_string())
    }

    fn to_bring(&self, gateway: &str, id: &str) -> RequestBuilder {
        let job = json!({"id": id, "request": "{}", "parameters": "{}",
            "capability": CAPABILITY, "timeout_seconds": 5});
        self.http
            .post(format!("{gateway}/process/request/echo"))
            .header("livepeer", to_base64(job.to_string().into_bytes()))
            // A moment is the usual time, and some faults take longer.
            .header("livepeer-orch-search-timeout", SEARCH)
            .header("livepeer-orch-search-resp-timeout", SEARCH)
            .header("Content-Type", "text/plain")
            .body(format!("0 {id}"))
    }
}

/// No job is under way while it lives.
#[derive(Debug)]
pub struct Quiet<'a> {
    _turn: RwLockWriteGuard<'a, ()>,
    _goes_on: GoesOn<'a>,
}

/// Time goes on when it is dropped, also by who waits for quiet no longer.
#[derive(Debug)]
struct GoesOn<'a>(&'a Clock);

impl Drop for GoesOn<'_> {
    fn drop(&mut self) {
        self.0.go_on();
    }
}

/// One job.
#[derive(Debug)]
enum Job {
    Segment { stream: String, number: u64 },
    Words(u64),
    Brought(String),
}
