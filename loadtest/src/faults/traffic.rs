//! Work of every kind, asked for all the while: each client has one job after the other done, asks again
//! until it is answered, and says what it was told each time.

use super::{
    cell::{KINDS, Kind},
    promise::{self, Answer, Seen},
    world::{CAPABILITY, OWN_MODEL, SHARED_MODEL},
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
    time::{Duration, Instant},
};
use tokio::{
    sync::{RwLock, RwLockWriteGuard},
    task::JoinSet,
};

/// What a client does between two jobs, and before it asks again.
const THINKING: Duration = Duration::from_millis(60);
const AGAIN: Duration = Duration::from_millis(150);
/// Tokens of the first job in words; each further one has one more, so that each charge is of one job.
const FIRST_TOKENS: u64 = 20_000;
/// The smallest rendition: this is not about pictures.
const CONFIGURATION: &str =
    r#"{"profiles":[{"name":"tiny","width":128,"height":72,"bitrate":100000,"fps":0}]}"#;
/// How long a brought job looks for somebody who does it.
const SEARCH: &str = "3s";
/// Enough of them to see what is wrong.
const MAX_WRONG: usize = 10;

/// One answer, or none.
#[derive(Debug, Clone)]
struct Told {
    kind: Kind,
    began: Instant,
    answer: Answer,
}

/// What clients share.
#[derive(Debug)]
pub struct Traffic {
    http: reqwest::Client,
    gateway: String,
    media: Arc<Vec<Vec<u8>>>,
    name: String,
    patience_ms: AtomicU64,
    stop: AtomicBool,
    // A job holds it to be read, whoever wants quiet to be written.
    turn: RwLock<()>,
    told: Mutex<Vec<Told>>,
    /// Tokens of each job in words, and whether it was answered.
    words: Mutex<BTreeMap<Kind, BTreeMap<u64, bool>>>,
    brought: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Traffic {
    /// Work for this gateway, with these segments.
    pub fn new(gateway: String, media: Arc<Vec<Vec<u8>>>) -> Arc<Self> {
        Arc::new(Self {
            http: crate::fleet::http(None),
            gateway,
            media,
            name: format!("faults-{}", rand::random::<u32>()),
            patience_ms: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            turn: RwLock::default(),
            told: Mutex::default(),
            words: Mutex::default(),
            brought: AtomicU64::new(0),
            wrong: Mutex::default(),
        })
    }

    /// Starts a client for each kind of work.
    pub fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for kind in KINDS {
            let traffic = Arc::clone(self);
            clients.spawn(async move { traffic.client(kind).await });
        }
        clients
    }

    /// Clients end after the job that they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// How long a client waits for an answer.
    pub fn set_patience(&self, patience: Duration) {
        let ms = u64::try_from(patience.as_millis()).unwrap();
        self.patience_ms.store(ms, Ordering::SeqCst);
    }

    /// Waits until no job is under way; none begins while this is held.
    pub async fn quiet(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().await
    }

    /// What clients were told of requests that began since then.
    pub fn seen(&self, from: Instant) -> Seen {
        let mut seen = Seen::default();
        for told in self.told.lock().unwrap().iter().filter(|told| told.began >= from) {
            match told.answer {
                Answer::Done => *seen.answered.entry(told.kind).or_default() += 1,
                Answer::NotNow => *seen.refused.entry(told.kind).or_default() += 1,
                Answer::Lost(_) => seen.lost += 1,
                Answer::Wrong(_) => {}
            }
        }
        seen
    }

    /// Tokens of the jobs in words of that kind, and whether each was answered.
    pub fn words(&self, kind: Kind) -> BTreeMap<u64, bool> {
        self.words.lock().unwrap().get(&kind).cloned().unwrap_or_default()
    }

    /// Brought jobs that were answered.
    pub fn brought(&self) -> u64 {
        self.brought.load(Ordering::SeqCst)
    }

    /// Everything that was answered.
    pub fn answered(&self) -> BTreeMap<Kind, u64> {
        let mut answered = BTreeMap::new();
        for told in self.told.lock().unwrap().iter().filter(|told| told.answer == Answer::Done) {
            *answered.entry(told.kind).or_default() += 1;
        }
        answered
    }

    /// Answers that nobody promised, since they were asked for last.
    pub fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.wrong.lock().unwrap())
    }

    async fn client(&self, kind: Kind) {
        for number in 0.. {
            {
                let _turn = self.turn.read().await;
                if self.stop.load(Ordering::SeqCst) {
                    return;
                }
                self.job(kind, number).await;
            }
            tokio::time::sleep(THINKING).await;
        }
    }

    /// One job, until it is answered or nobody wants to know any more.
    async fn job(&self, kind: Kind, number: u64) {
        let tokens = FIRST_TOKENS + number;
        let note = |answered| {
            if matches!(kind, Kind::Words | Kind::OwnWords) {
                let mut words = self.words.lock().unwrap();
                words.entry(kind).or_default().insert(tokens, answered);
            }
        };
        note(false);
        while !self.stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            let answer = self.ask(kind, number, tokens).await;
            let is_done = answer == Answer::Done;
            if let Answer::Wrong(what) = &answer {
                let mut wrong = self.wrong.lock().unwrap();
                if wrong.len() < MAX_WRONG {
                    wrong.push(format!("{kind}, {number}: {what}"));
                }
            }
            self.told.lock().unwrap().push(Told { kind, began, answer });
            if is_done {
                note(true);
                if kind == Kind::Brought {
                    self.brought.fetch_add(1, Ordering::SeqCst);
                }
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn ask(&self, kind: Kind, number: u64, tokens: u64) -> Answer {
        let (request, wanted) = match kind {
            Kind::Segments => (self.segment(number), "Rendition-Name: tiny".to_owned()),
            Kind::Words => (self.in_words(SHARED_MODEL, tokens), "choices".to_owned()),
            Kind::OwnWords => (self.in_words(OWN_MODEL, tokens), "choices".to_owned()),
            Kind::Brought => {
                let body = format!("0 job {number}");
                (self.to_bring(number, &body), body)
            }
        };
        let patience = Duration::from_millis(self.patience_ms.load(Ordering::SeqCst));
        let key = format!("{}-{kind:?}-{number}", self.name);
        let request = request.header("Idempotency-Key", key).timeout(patience);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::Lost(error.to_string()),
        };
        let status = answer.status().as_u16();
        let retry_after = answer.headers().contains_key("retry-after");
        match answer.bytes().await {
            Ok(body) => {
                let text = String::from_utf8_lossy(&body);
                match promise::answer(status, retry_after, &text) {
                    Answer::Done if !text.contains(&wanted) => {
                        Answer::Wrong(format!("another answer: {text:.300}"))
                    }
                    answer => answer,
                }
            }
            Err(error) => Answer::Lost(error.to_string()),
        }
    }

    fn segment(&self, number: u64) -> RequestBuilder {
        let segment = self.media[number as usize % self.media.len()].clone();
        self.http
            .put(format!("{}/live/{}/{number}.ts", self.gateway, self.name))
            .header("Accept", "multipart/mixed")
            .header("Content-Duration", "2000")
            .header("Livepeer-Transcode-Configuration", CONFIGURATION)
            .body(segment)
    }

    fn in_words(&self, model: &str, tokens: u64) -> RequestBuilder {
        let body = json!({"model": model, "max_tokens": tokens, "stream": false,
            "messages": [{"role": "user", "content": "is it?"}]});
        let request = self.http.post(format!("{}/llm", self.gateway));
        request.header("Content-Type", "application/json").body(body.to_string())
    }

    fn to_bring(&self, number: u64, body: &str) -> RequestBuilder {
        let job = json!({"id": format!("{}-{number}", self.name), "request": "{}", "parameters": "{}",
            "capability": CAPABILITY, "timeout_seconds": 5});
        self.http
            .post(format!("{}/process/request/echo", self.gateway))
            .header("livepeer", to_base64(job.to_string().into_bytes()))
            // A moment is the usual time, and some faults take longer.
            .header("livepeer-orch-search-timeout", SEARCH)
            .header("livepeer-orch-search-resp-timeout", SEARCH)
            .header("Content-Type", "text/plain")
            .body(body.to_owned())
    }
}
