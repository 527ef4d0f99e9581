//! Peers that break, stall, or talk nonsense: each is an error with a name, within its deadline.

use super::{at, bytes, read, trickle_http};
use crate::harness::Server;
use penstock_clients::Fault;
use penstock_testkit::until;
use penstock_trickle::client::{
    ClientError, Deadlines, Publisher, PublisherOptions, Subscriber, SubscriberOptions, Then, Wait,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to a connection.
#[derive(Clone, Copy)]
enum Does {
    /// Nothing is read or answered.
    Silent,
    /// The head is read, and the connection ends.
    Hangs,
    /// The head is read, this is sent, and the connection stays.
    Says(&'static str),
    /// The head is read, this is sent, and the connection ends.
    Ends(&'static str),
    /// All is read and nothing answered.
    Reads,
    /// It is another server's.
    Forwards(SocketAddr),
}

/// A peer whose connections each do the next thing, and the last thing ever after.
struct Peer {
    url: String,
    task: JoinHandle<()>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    async fn start(script: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ai/trickle/c", listener.local_addr().unwrap());
        let script = script.to_vec();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut connections = Vec::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let does = script[number.min(script.len() - 1)];
                connections.push(AbortOnDrop(tokio::spawn(serve(stream, does, Arc::clone(&seen)))));
            }
        });
        Self { url, task, heads }
    }

    /// Whether it has read such a request.
    fn has_seen(&self, start: &str) -> bool {
        self.heads.lock().unwrap().iter().any(|head| head.starts_with(start))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(mut stream: TcpStream, does: Does, heads: Arc<Mutex<Vec<String>>>) {
    let say = match does {
        Does::Silent => return std::future::pending().await,
        Does::Forwards(to) => {
            let mut other = TcpStream::connect(to).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut other).await;
            return;
        }
        Does::Hangs | Does::Reads => "",
        Does::Says(text) | Does::Ends(text) => text,
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    heads.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    let _ = stream.write_all(say.as_bytes()).await;
    match does {
        Does::Says(_) => std::future::pending().await,
        Does::Reads => {
            let mut void = vec![0; 1 << 16];
            while stream.read(&mut void).await.is_ok_and(|n| n > 0) {}
            std::future::pending().await
        }
        _ => {}
    }
}

const SHORT: Duration = Duration::from_millis(20);

async fn publisher(peer: &Peer, deadlines: Deadlines) -> Publisher {
    let options = PublisherOptions { deadlines, ..PublisherOptions::default() };
    Publisher::open(trickle_http(), &peer.url, options).await.unwrap()
}

fn subscriber(peer: &Peer, max_failures: u32) -> Subscriber {
    subscriber_with(peer, max_failures, Deadlines::default())
}

fn subscriber_with(peer: &Peer, max_failures: u32, deadlines: Deadlines) -> Subscriber {
    let options = SubscriberOptions {
        start: at(0),
        max_failures,
        retry_pause: Duration::ZERO,
        ahead_pause: Duration::ZERO,
        deadlines,
        ..SubscriberOptions::default()
    };
    Subscriber::new(trickle_http(), &peer.url, options).unwrap()
}

fn address(server: &Server) -> SocketAddr {
    server.url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_request_that_died_while_it_waited_is_made_anew_without_loss() {
    let server = Server::with_channel().await;
    // All three requests that are made ahead die; those that are made anew live.
    let script = [Does::Hangs, Does::Hangs, Does::Hangs, Does::Forwards(address(&server))];
    let peer = Peer::start(&script).await;
    let mut publisher = publisher(&peer, Deadlines::default()).await;
    let mut segments = [publisher.next_segment().unwrap(), publisher.next_segment().unwrap()];
    for segment in &mut segments {
        until("the request has died", || {
            let dead = !segment.is_open();
            async move { dead }
        })
        .await;
        segment.write(bytes("Hello")).await.unwrap();
        segment.write(bytes("World")).await.unwrap();
    }
    for mut segment in segments {
        let seq = segment.finish().await.unwrap();
        server.get(&format!("c/{seq}")).await.assert(200, "HelloWorld");
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_is_a_deadline() {
    let peer = Peer::start(&[Does::Silent]).await;
    let deadlines = Deadlines { chunk: SHORT, ..Deadlines::default() };
    let mut publisher = publisher(&peer, deadlines).await;
    let mut segment = publisher.next_segment().unwrap();
    let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
    let error = loop {
        if let Err(error) = segment.write(chunk.clone()).await {
            break error;
        }
    };
    assert_eq!(error, ClientError::Deadline(Wait::Chunk));
    assert_eq!(error.fault(), Some(Fault::Network));
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_deadline() {
    let peer = Peer::start(&[Does::Reads]).await;
    let short = Deadlines { finish: SHORT, call: SHORT, ..Deadlines::default() };
    let mut publisher = publisher(&peer, short).await;
    let error = publisher.write(bytes("x")).await.unwrap_err();
    assert_eq!(error, ClientError::Deadline(Wait::Finish));
    assert_eq!(publisher.close().await, Err(ClientError::Deadline(Wait::Answer)));
}

#[tokio::test]
async fn a_refusal_before_the_body_ends_stops_the_body() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnope\n";
    let peer = Peer::start(&[Does::Says(refusal)]).await;
    let mut publisher = publisher(&peer, Deadlines::default()).await;
    let mut segment = publisher.next_segment().unwrap();
    let error = loop {
        match segment.write(bytes("x")).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    let expected =
        ClientError::Status { status: 403, message: "nope".to_owned(), retry_after: None };
    assert_eq!(error, expected);
    assert_eq!((error.fault(), error.then()), (Some(Fault::Us), Then::Stop));
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_then_told() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let options = SubscriberOptions { retry_pause: Duration::ZERO, ..Default::default() };
    let url = format!("http://{free}/c");
    let mut subscriber = Subscriber::new(trickle_http(), &url, options).unwrap();
    assert!(matches!(read(&mut subscriber).await, Err(ClientError::Connect(_))));
}

#[tokio::test]
async fn failures_that_pass_are_not_seen() {
    let server = Server::with_channel().await;
    server.post("c/0", "x").await.assert(200, "");
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let script = [
        Does::Hangs,
        Does::Ends(busy),
        Does::Ends("nonsense\r\n\r\n"),
        Does::Forwards(address(&server)),
    ];
    let peer = Peer::start(&script).await;
    assert_eq!(read(&mut subscriber(&peer, 5)).await.unwrap(), (0, "x".to_owned()));
    let peer = Peer::start(&script).await;
    let error = read(&mut subscriber(&peer, 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: 503, .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_without_a_number_is_no_answer() {
    for head in ["", "Lp-Trickle-Seq: -1\r\n", "Lp-Trickle-Seq: 9223372036854775807\r\n"] {
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n{head}\r\n");
        let peer = Peer::start(&[Does::Ends(answer.leak())]).await;
        assert_eq!(read(&mut subscriber(&peer, 2)).await, Err(ClientError::NoSeq));
    }
}

#[tokio::test]
async fn a_server_that_always_says_470_does_not_keep_us() {
    for latest in ["", "Lp-Trickle-Latest: 0\r\n", "Lp-Trickle-Latest: 99\r\n"] {
        let answer = format!(
            "HTTP/1.1 470 <none>\r\nContent-Length: 0\r\n{latest}Connection: close\r\n\r\n"
        );
        let peer = Peer::start(&[Does::Ends(answer.leak())]).await;
        let error = read(&mut subscriber(&peer, 5)).await.unwrap_err();
        assert!(matches!(error, ClientError::NoSegment { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_request_that_waits_in_silence_is_made_anew() {
    let server = Server::with_channel().await;
    server.post("c/0", "x").await.assert(200, "");
    let script = [Does::Silent, Does::Silent, Does::Forwards(address(&server))];
    let peer = Peer::start(&script).await;
    // However often: it is no failure.
    let deadlines = Deadlines { refresh: 10 * SHORT, ..Deadlines::default() };
    let mut subscriber = subscriber_with(&peer, 0, deadlines);
    assert_eq!(read(&mut subscriber).await.unwrap(), (0, "x".to_owned()));
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 0\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_segment_that_breaks_off_is_told_so() {
    let half = format!("{HEAD}5\r\nHello\r\n").leak();
    let peer = Peer::start(&[Does::Ends(half)]).await;
    let mut segment = subscriber(&peer, 0).next_segment().await.unwrap();
    assert_eq!(segment.chunk().await.unwrap().unwrap(), "Hello");
    let error = segment.chunk().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken(_)), "{error:?}");
    assert_eq!(error.then(), Then::Again);
}

#[tokio::test]
async fn a_segment_that_falls_silent_is_a_deadline() {
    let peer = Peer::start(&[Does::Says(HEAD)]).await;
    let deadlines = Deadlines { silence: SHORT, ..Deadlines::default() };
    let mut segment = subscriber_with(&peer, 0, deadlines).next_segment().await.unwrap();
    assert_eq!(segment.chunk().await, Err(ClientError::Deadline(Wait::Silence)));
}

#[tokio::test]
async fn a_segment_whose_end_is_not_confirmed_is_closed_for_its_readers() {
    let peer = Peer::start(&[Does::Reads]).await;
    // A busy machine gets to saying the DELETE within the call's.
    let deadlines = Deadlines { finish: SHORT, call: 100 * SHORT, ..Deadlines::default() };
    let mut publisher = publisher(&peer, deadlines).await;
    let written = publisher.write(bytes("x")).await;
    assert_eq!(written, Err(ClientError::Deadline(Wait::Finish)));
    // The call has its deadline too, and is on its way when that is over.
    until("the segment is closed", || async { peer.has_seen("DELETE /ai/trickle/c/") }).await;
}

#[test]
fn a_channel_is_at_a_url() {
    let refused = Subscriber::new(trickle_http(), "file:///c", SubscriberOptions::default());
    assert_eq!(refused.unwrap_err(), ClientError::Url("file:///c".to_owned()));
}
