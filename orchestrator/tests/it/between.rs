//! What stands between the orchestrator and the devnet, and does not pass everything on.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::{net::TcpListener, sync::Notify};

/// A running one; it stops with the test.
pub struct Between {
    addr: String,
    shared: Arc<Shared>,
}

struct Shared {
    behind: String,
    /// Paths that are answered with a 500.
    failing: Mutex<Vec<String>>,
    /// Of those, the first question of every two.
    every_other: Mutex<Vec<(String, usize)>>,
    /// Paths whose questions wait.
    held: Mutex<Vec<String>>,
    release: Notify,
    waiting: AtomicUsize,
    http: reqwest::Client,
}

impl Between {
    /// Before the devnet of `--chain=devnet:URL`.
    pub async fn before(chain: &str) -> Self {
        let shared = Arc::new(Shared {
            behind: chain.strip_prefix("devnet:").unwrap().to_owned(),
            failing: Mutex::default(),
            every_other: Mutex::default(),
            held: Mutex::default(),
            release: Notify::new(),
            waiting: AtomicUsize::new(0),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, shared }
    }

    /// As a role is told it.
    pub fn flag(&self) -> String {
        format!("--chain=devnet:http://{}", self.addr)
    }

    /// Nothing is said at this path any more.
    pub fn fail(&self, path: &str) {
        self.shared.failing.lock().unwrap().push(path.to_owned());
    }

    /// At this path every other question is not answered, beginning with the next.
    pub fn fail_every_other(&self, path: &str) {
        self.shared.every_other.lock().unwrap().push((path.to_owned(), 0));
    }

    /// Questions at this path wait.
    pub fn hold(&self, path: &str) {
        self.shared.held.lock().unwrap().push(path.to_owned());
    }

    /// What waits goes on, and nothing waits any more.
    pub fn let_go(&self) {
        self.shared.held.lock().unwrap().clear();
        self.shared.release.notify_waiters();
    }

    /// How many wait now; one whose asker goes away waits no more.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(SeqCst)
    }
}

/// Counts while it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn fails(&self, path: &str) -> bool {
        if self.failing.lock().unwrap().iter().any(|failing| failing == path) {
            return true;
        }
        let mut every_other = self.every_other.lock().unwrap();
        every_other.iter_mut().find(|(of, _)| of == path).is_some_and(|(_, count)| {
            *count += 1;
            *count % 2 == 1
        })
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if shared.fails(&path) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if shared.held.lock().unwrap().contains(&path) {
        shared.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(&shared.waiting);
        shared.release.notified().await;
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let url = format!("{}{}", shared.behind, head.uri.path_and_query().unwrap());
    let mut passed = shared.http.request(head.method, url).body(body);
    if let Some(kind) = head.headers.get("content-type") {
        passed = passed.header("content-type", kind);
    }
    let Ok(answer) = passed.send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer.status();
    let body: Bytes = answer.bytes().await.unwrap();
    (status, body).into_response()
}
