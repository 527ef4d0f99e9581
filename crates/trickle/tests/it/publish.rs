//! Publishing (trickle.md section 3).

use crate::harness::{Post, Server, exactly, rest};
use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A publisher that was let go before its first byte: answered at once, on a connection that ends.
async fn assert_released(post: Post, seq: &str, closed: bool) {
    let answer = post.answer().await;
    answer.assert(200, "");
    assert_eq!((answer.seq(), answer.closed().is_some()), (Some(seq), closed));
    assert!(answer.closes_connection());
}

#[tokio::test]
async fn each_chunk_reaches_waiting_readers_before_the_body_ends() {
    let server = Server::with_channel().await;
    let post = server.open("c/0").await;
    server.get("c/next").await.assert(200, "0");
    let reader = server.wait_on("c/-1").await;
    post.write("Hello").await;
    let mut reader = reader.await.unwrap();
    exactly(&mut reader, "Hello").await;
    server.get("c/next").await.assert(200, "1");
    assert!(!post.is_answered());
    post.write("World").await;
    exactly(&mut reader, "World").await;
    let answer = post.finish().await;
    answer.assert(200, "");
    assert_eq!((answer.seq(), answer.closed()), (Some("0"), None));
    assert!(!answer.closes_connection());
    assert_eq!(rest(reader).await, "");
}

#[tokio::test]
async fn minus_one_publishes_what_comes_next() {
    let server = Server::with_channel().await;
    for seq in ["0", "1", "2"] {
        let answer = server.post("c/-1", "x").await;
        answer.assert(200, "");
        assert_eq!(answer.seq(), Some(seq));
    }
}

#[tokio::test]
async fn indexes_may_jump_and_next_follows_also_backwards() {
    let server = Server::with_channel().await;
    for (idx, next) in [("100", "101"), ("7", "8"), ("9223372036854775806", "9223372036854775807")]
    {
        server.post(&format!("c/{idx}"), "x").await.assert(200, "");
        server.get("c/next").await.assert(200, next);
    }
    server.post("c/-1", "x").await.assert_error(400, "Invalid idx");
    server.get("c/-1").await.assert_error(400, "Invalid idx");
}

/// TestTrickle_EmptySegment
#[tokio::test]
async fn an_empty_body_is_a_segment_of_nothing() {
    let server = Server::with_channel().await;
    let answer = server.post("c/0", "").await;
    answer.assert(200, "");
    assert_eq!((answer.seq(), answer.closed()), (Some("0"), None));
    assert!(answer.closes_connection());
    let read = server.get("c/0").await;
    read.assert(200, "");
    assert_eq!((read.seq(), read.latest(), read.closed()), (Some("0"), Some("1"), None));
    assert_eq!(read.header("Content-Type"), None);
}

#[tokio::test]
async fn a_waiting_publisher_is_released_by_the_close_of_its_segment() {
    let server = Server::with_channel().await;
    let post = server.open("c/3").await;
    server.delete("c/3").await.assert(200, "");
    assert_released(post, "3", false).await;
    server.get("c/next").await.assert(200, "4");
}

#[tokio::test]
async fn a_waiting_publisher_is_released_by_the_ring() {
    let server = Server::with_channel().await;
    for (waits, comes) in [("c/1", "c/6"), ("c/11", "c/1")] {
        let post = server.open(waits).await;
        server.post(comes, "x").await.assert(200, "");
        assert_released(post, waits.trim_start_matches("c/"), false).await;
    }
}

#[tokio::test]
async fn a_waiting_publisher_is_released_by_a_reset_of_a_later_one_only() {
    let server = Server::with_channel().await;
    let (before, after) = (server.open("c/1").await, server.open("c/3").await);
    server.post_with("c/2", &[("Lp-Trickle-Reset", "1")], "x").await.assert(200, "");
    assert_released(before, "1", false).await;
    assert!(!after.is_answered());
    after.write("x").await;
    after.finish().await.assert(200, "");
}

#[tokio::test]
async fn a_waiting_publisher_is_released_by_delete_sweep_and_stop_and_told() {
    let server = Server::with(|s| s.idle_timeout = std::time::Duration::ZERO).await;
    server.trickle.create("deleted", "").unwrap();
    let post = server.open("deleted/0").await;
    server.delete("deleted").await.assert(200, "");
    assert_released(post, "0", true).await;

    server.trickle.create("swept", "").unwrap();
    let post = server.open("swept/0").await;
    let stop = tokio_util::sync::CancellationToken::new();
    let sweeper = tokio::spawn({
        let (trickle, stop) = (server.trickle.clone(), stop.clone());
        async move { trickle.run(stop).await }
    });
    assert_released(post, "0", true).await;

    server.trickle.create("stopped", "").unwrap();
    let post = server.open("stopped/0").await;
    stop.cancel();
    sweeper.await.unwrap();
    assert_released(post, "0", true).await;
    assert_eq!(server.trickle.usage().channels, 0);
}

#[tokio::test]
async fn a_body_to_a_closed_segment_is_not_waited_for_and_lost() {
    let server = Server::with_channel().await;
    for idx in 0..2 {
        server.post(&format!("c/{idx}"), "kept").await.assert(200, "");
    }
    let post = server.begin("c/0", &[]);
    assert_released(post, "0", false).await;
    server.get("c/next").await.assert(200, "1");
    server.get("c/0").await.assert(200, "kept");
    // A body that is under way already neither hurts the answer.
    let large: &'static str = "lost".repeat(1 << 20).leak();
    let answer = server.post("c/0", large).await;
    answer.assert(200, "");
    assert_eq!(answer.seq(), Some("0"));
    server.get("c/0").await.assert(200, "kept");
}

/// TestTrickle_Reset
#[tokio::test]
async fn two_publishers_of_one_segment_append_to_each_other() {
    let server = Server::with_channel().await;
    let (first, second) = (server.open("c/0").await, server.open("c/0").await);
    first.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    second.write("GoodbyWorld").await;
    exactly(&mut reader, "GoodbyWorld").await;
    // Whoever ends first closes it for both.
    second.finish().await.assert(200, "");
    assert_eq!(rest(reader).await, "");
    server.get("c/0").await.assert(200, "HelloGoodbyWorld");
    first.finish().await.assert(200, "");
}

/// TestTrickle_PublisherReset
#[tokio::test]
async fn a_restarted_publisher_lets_readers_of_the_old_segment_go() {
    let server = Server::with_channel().await;
    let mut local = server.trickle.publisher("c", "text/plain");
    let mut old = local.next_segment().unwrap();
    old.append("Hello".into()).unwrap();
    let mut subscriber = server.trickle.subscriber("c");
    subscriber.set_position("0".parse().unwrap());
    let mut blocked = subscriber.read().unwrap();
    assert_eq!(blocked.chunk().await.unwrap().unwrap(), "Hello");
    let unblocked = tokio::spawn(async move { blocked.chunk().await });

    let reset = [("Lp-Trickle-Reset", "true")];
    let answer = server.post_with("c/-1", &reset, "after-reset").await;
    answer.assert(200, "");
    assert_eq!(answer.seq(), Some("1"));
    assert_eq!(unblocked.await.unwrap(), None);

    server.get("c/0").await.assert(200, "Hello");
    server.get("c/1").await.assert(200, "after-reset");
    old.append("late-bytes".into()).unwrap();
    old.finish();
}

#[tokio::test]
async fn an_empty_reset_header_is_none() {
    let server = Server::with_channel().await;
    let open = server.open("c/0").await;
    server.post_with("c/1", &[("Lp-Trickle-Reset", "")], "x").await.assert(200, "");
    assert!(!open.is_answered());
    open.write("y").await;
    open.finish().await.assert(200, "");
}

#[tokio::test]
async fn a_publisher_that_breaks_off_leaves_the_segment_open_for_another() {
    let server = Server::with_channel().await;
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    post.abort();
    server.publishers(0).await;
    server.post("c/0", "World").await.assert(200, "");
    exactly(&mut reader, "World").await;
    assert_eq!(rest(reader).await, "");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_500_and_leaves_the_segment_open() {
    let server = Server::with_channel().await;
    let address = server.url.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /ai/trickle/c/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}5\r\nHello\r\n").as_bytes()).await.unwrap();
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    stream.write_all(b"nonsense\r\n").await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(crate::harness::DEADLINE, read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nServer error\n"), "{answer}");
    server.publishers(0).await;
    server.post("c/0", "World").await.assert(200, "");
    assert_eq!(rest(reader).await, "World");
}

#[tokio::test]
async fn a_publisher_that_vanishes_before_its_first_byte_changes_nothing() {
    let server = Server::with_channel().await;
    let post = server.open("c/0").await;
    post.abort();
    server.publishers(0).await;
    server.get("c/next").await.assert(200, "0");
    server.post("c/0", "x").await.assert(200, "");
}

#[tokio::test]
async fn closing_a_segment_that_has_begun_does_not_stop_its_publisher() {
    let server = Server::with_channel().await;
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    server.delete("c/0").await.assert(200, "");
    assert_eq!(rest(reader).await, "");
    post.write("late").await;
    let answer = post.finish().await;
    answer.assert(200, "");
    assert_eq!(answer.seq(), Some("0"));
    server.get("c/0").await.assert(200, "Hellolate");
}

#[tokio::test]
async fn a_begun_publish_outlives_its_channel_and_is_answered() {
    let server = Server::with_channel().await;
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    server.send(Method::DELETE, "c", &[]).await.assert(200, "");
    assert_eq!(rest(reader).await, "");
    post.write("nobody hears").await;
    post.finish().await.assert(200, "");
    server.publishers(0).await;
    assert_eq!(server.trickle.usage().bytes, 0);
}

impl Server {
    /// A GET whose segment has begun.
    pub async fn wait_or_read(&self, path: &str) -> reqwest::Response {
        let response = self.http.get(format!("{}/{path}", self.url)).send();
        let response = tokio::time::timeout(crate::harness::DEADLINE, response);
        response.await.unwrap().unwrap()
    }
}
