//! A server on a port of its own, and requests whose bodies a test writes and reads piece by piece.

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use penstock_clients::{HttpOptions, http};
use penstock_http_kit::serve::{bind, serve};
use penstock_testkit::until;
use penstock_trickle::{Gate, Open, Settings, TrickleServer};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// For a hung test only.
pub const DEADLINE: Duration = Duration::from_secs(120);

pub struct Server {
    pub trickle: TrickleServer,
    pub url: String,
    pub http: reqwest::Client,
    _stop: DropGuard,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::gated(change, Arc::new(Open)).await
    }

    pub async fn gated(change: impl FnOnce(&mut Settings), gate: Arc<dyn Gate>) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let trickle = TrickleServer::with_gate(settings, gate).unwrap();
        Self::serve(trickle).await
    }

    async fn serve(trickle: TrickleServer) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let listener = bind("127.0.0.1:0".parse().unwrap(), "port").await.unwrap();
        let url = format!("http://{}/ai/trickle", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let router = Router::new().nest("/ai/trickle", trickle.router());
        tokio::spawn(serve(listener, router, stop.clone(), Duration::ZERO));
        let http = http(&HttpOptions { total_timeout: Some(DEADLINE), ..HttpOptions::default() });
        Self { trickle, url, http: http.unwrap(), _stop: stop.drop_guard() }
    }

    /// A server with one channel `c` of `text/plain`.
    pub async fn with_channel() -> Self {
        let server = Self::start().await;
        server.trickle.create("c", "text/plain").unwrap();
        server
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_body(method, path, headers, reqwest::Body::default()).await
    }

    async fn send_body(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: reqwest::Body,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}/{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[]).await
    }

    pub async fn post(&self, path: &str, body: &'static str) -> Answer {
        self.send_body(Method::POST, path, &[], body.into()).await
    }

    pub async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Answer {
        self.send_body(Method::POST, path, headers, body.into()).await
    }

    /// A POST that is open: it has reached the server, which waits for its first byte.
    pub async fn open(&self, path: &str) -> Post {
        let before = self.trickle.usage().publishers;
        let post = self.begin(path, &[]);
        self.publishers(before + 1).await;
        post
    }

    /// A POST on its way, whose body the test writes.
    pub fn begin(&self, path: &str, headers: &[(&str, &str)]) -> Post {
        let (body, chunks) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let mut request = self
            .http
            .post(format!("{}/{path}", self.url))
            .body(reqwest::Body::wrap_stream(ReceiverStream::new(chunks)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = tokio::spawn(async move { Answer::read(request.send().await.unwrap()).await });
        Post { body, answer }
    }

    /// A GET that is open: it has reached the server, which waits for the segment to begin.
    pub async fn wait_on(&self, path: &str) -> JoinHandle<reqwest::Response> {
        let before = self.trickle.usage().waiting;
        let request = self.http.get(format!("{}/{path}", self.url));
        let task = tokio::spawn(async move { request.send().await.unwrap() });
        let trickle = self.trickle.clone();
        until("the reader waits", || {
            let there = trickle.usage().waiting > before;
            async move { there }
        })
        .await;
        assert!(!task.is_finished(), "no head before the first byte");
        task
    }

    /// Waits until so many write.
    pub async fn publishers(&self, number: usize) {
        let trickle = self.trickle.clone();
        until("publishers come or go", || {
            let there = trickle.usage().publishers == number;
            async move { there }
        })
        .await;
    }

    /// Waits until so many wait for their segment to begin.
    pub async fn waiting(&self, number: usize) {
        let trickle = self.trickle.clone();
        until("readers wait", || {
            let there = trickle.usage().waiting == number;
            async move { there }
        })
        .await;
    }

    /// Waits until so many read.
    pub async fn subscribers(&self, number: usize) {
        let trickle = self.trickle.clone();
        until("subscribers come or go", || {
            let there = trickle.usage().subscribers == number;
            async move { there }
        })
        .await;
    }
}

/// A POST whose body is written piece by piece.
pub struct Post {
    body: mpsc::Sender<Result<Bytes, std::io::Error>>,
    answer: JoinHandle<Answer>,
}

impl Post {
    pub async fn write(&self, text: &'static str) {
        timeout(DEADLINE, self.body.send(Ok(Bytes::from_static(text.as_bytes()))))
            .await
            .unwrap()
            .unwrap();
    }

    /// The answer, with the body left open.
    pub async fn answer(self) -> Answer {
        let answer = timeout(DEADLINE, self.answer).await.unwrap().unwrap();
        drop(self.body);
        answer
    }

    /// Ends the body; its answer.
    pub async fn finish(self) -> Answer {
        drop(self.body);
        timeout(DEADLINE, self.answer).await.unwrap().unwrap()
    }

    /// Breaks off.
    pub fn abort(self) {
        self.answer.abort();
    }

    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn seq(&self) -> Option<&str> {
        self.header("Lp-Trickle-Seq")
    }

    pub fn latest(&self) -> Option<&str> {
        self.header("Lp-Trickle-Latest")
    }

    pub fn closed(&self) -> Option<&str> {
        self.header("Lp-Trickle-Closed")
    }

    pub fn closes_connection(&self) -> bool {
        self.header("Connection") == Some("close")
    }

    #[track_caller]
    pub fn assert(&self, status: u16, body: &str) {
        assert_eq!((self.status.as_u16(), self.body.as_str()), (status, body), "{self:?}");
    }

    /// An error in words: plain text with a newline at its end.
    #[track_caller]
    pub fn assert_error(&self, status: u16, message: &str) {
        self.assert(status, &format!("{message}\n"));
        assert_eq!(self.header("Content-Type"), Some("text/plain; charset=utf-8"));
    }
}

/// The next bytes of a response, exactly so many.
pub async fn exactly(response: &mut reqwest::Response, text: &str) {
    let started = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < text.len() {
        assert!(started.elapsed() < DEADLINE);
        let chunk = timeout(DEADLINE, response.chunk()).await.unwrap().unwrap();
        seen.extend_from_slice(&chunk.expect("more to come"));
    }
    assert_eq!(String::from_utf8_lossy(&seen), text);
}

/// What is left of a response.
pub async fn rest(response: reqwest::Response) -> String {
    timeout(DEADLINE, response.text()).await.unwrap().unwrap()
}
