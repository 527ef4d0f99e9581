//! An application behind the orchestrator: says what it got, streams, redirects, talks another
//! protocol, and waits when told to.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use penstock_testkit::sim::Server;
use serde_json::{Value, json};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};

pub struct App {
    pub server: Server,
    /// Each permit lets one waiting request, or one more event, pass.
    pub gate: Arc<Semaphore>,
    /// A permit for each request that it works on by itself.
    pub asked: Arc<Semaphore>,
}

impl App {
    pub async fn start() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (waiting, streaming) = (Arc::clone(&gate), Arc::clone(&gate));
        let wait = move || {
            let gate = Arc::clone(&waiting);
            async move {
                gate.acquire().await.unwrap().forget();
                "waited"
            }
        };
        let events = move || {
            let gate = Arc::clone(&streaming);
            let events = futures::stream::unfold(0, move |n| {
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.unwrap().forget();
                    let event = Bytes::from(format!("data: {n}\n\n"));
                    (n < 3).then_some((Ok::<_, Infallible>(event), n + 1))
                }
            });
            let kind = [(header::CONTENT_TYPE, "text/event-stream")];
            async move { (kind, Body::from_stream(events)) }
        };
        let breaking = Arc::clone(&gate);
        // Says something, and breaks off when it is let.
        let breaks = move || {
            let gate = Arc::clone(&breaking);
            let begun = futures::stream::iter([Ok(Bytes::from_static(b"begun"))]);
            let broken = futures::stream::once(async move {
                gate.acquire().await.unwrap().forget();
                Err(std::io::Error::other("broken"))
            });
            async move { Body::from_stream(futures::StreamExt::chain(begun, broken)) }
        };
        let asked = Arc::new(Semaphore::new(0));
        let (working, begun) = (Arc::clone(&gate), Arc::clone(&asked));
        // Goes on when its client is gone, and ends its session when it is let.
        let works = move |headers: HeaderMap| {
            let (working, begun) = (Arc::clone(&working), Arc::clone(&begun));
            async move {
                tokio::spawn(async move {
                    begun.add_permits(1);
                    working.acquire().await.unwrap().forget();
                    stop(&headers).await;
                });
                std::future::pending::<&'static str>().await
            }
        };
        let router = Router::new()
            .route("/base/work", any(works))
            .route("/base/duplex", any(duplex))
            .route("/base/wait", any(wait))
            .route("/base/events", any(events))
            .route("/base/redirect", any(redirect))
            .route("/base/break", any(breaks))
            .route("/base/flood", any(flood))
            .route("/base/last", any(last))
            .route("/base/socket", get(socket))
            .route("/base", any(echo))
            .route("/base/{*rest}", any(echo))
            .fallback(async || (StatusCode::NOT_FOUND, "outside"));
        Self { server: Server::clear(router).await, gate, asked }
    }

    /// Where it is, for the orchestrator only.
    pub fn url(&self) -> String {
        format!("{}/base", self.server.uri)
    }

    /// What must not be told to clients.
    pub fn address(&self) -> &str {
        self.server.uri.trim_start_matches("http://")
    }
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap_or("?"))).collect();
    Json(json!({
        "method": method.as_str(), "path": uri.path(), "query": uri.query(), "headers": headers,
        "body": String::from_utf8_lossy(&body),
    }))
}

async fn redirect(headers: HeaderMap) -> Response {
    let host = headers[header::HOST].to_str().unwrap();
    let own = format!("http://{host}/base/next?x=1");
    let telling = [("location", own.as_str()), ("x-server", host), ("x-harmless", "yes")];
    (StatusCode::FOUND, telling, "elsewhere").into_response()
}

/// Answers each piece of a request with it, while the rest is on its way.
async fn duplex(request: Request) -> Body {
    Body::from_stream(request.into_body().into_data_stream())
}

/// Goes on for as long as anybody takes it.
async fn flood() -> Body {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    Body::from_stream(futures::stream::iter(std::iter::repeat_with(move || {
        Ok::<_, Infallible>(piece.clone())
    })))
}

/// Ends its session before it answers.
async fn last(headers: HeaderMap) -> &'static str {
    stop(&headers).await;
    "the last words"
}

/// Ends the session of a request.
async fn stop(headers: &HeaderMap) {
    let said = |name: &str| headers[name].to_str().unwrap().to_owned();
    let url = format!("{}/stop", said("livepeer-session-control"));
    let http = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
    let stop = http.post(url).header("Livepeer-Session-Token", said("livepeer-session-token"));
    assert_eq!(stop.send().await.unwrap().status(), 204);
}

/// Speaks `shout`: everything comes back in capitals. Asked to pour, it says more than anybody wants to hear.
async fn socket(mut request: Request) -> Response {
    let pours = request.uri().query() == Some("pour");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let mut stream = hyper_util::rt::TokioIo::new(stream);
        while pours && stream.write_all(&[b'X'; 8 * 1024]).await.is_ok() {}
        let mut piece = [0; 256];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            piece[..read].make_ascii_uppercase();
            if stream.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "shout")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
