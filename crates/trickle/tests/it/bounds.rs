//! Every bound, from outside: typed, answered, and nothing is held beyond it.

use crate::harness::{Server, exactly};
use http::Method;
use std::time::Duration;

const KIB: u64 = 1 << 10;

fn text(bytes: usize) -> &'static str {
    "x".repeat(bytes).leak()
}

#[tokio::test]
async fn a_segment_that_is_too_large_is_413_and_ends_its_readers() {
    let server = Server::with(|s| s.limits.segment_bytes = 64 * KIB).await;
    server.trickle.create("c", "text/plain").unwrap();
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    post.write(text(80 << 10)).await;
    let refused = post.answer().await;
    refused.assert_error(413, "the segment is larger than the limit of 65536 bytes");
    assert!(refused.closes_connection());
    assert!(crate::harness::rest(reader).await.len() < 80 << 10);
    assert!(server.trickle.usage().bytes <= 64 * KIB);
    server.post("c/1", "a smaller one").await.assert(200, "");
}

#[tokio::test]
async fn a_chunked_body_of_single_bytes_costs_what_the_bound_says() {
    let server = Server::with(|s| s.limits.segment_bytes = 64 * KIB).await;
    server.trickle.create("c", "text/plain").unwrap();
    let mut post = server.trickle.publisher("c", "").next_segment().unwrap();
    let mut written = 0;
    let refused = loop {
        match post.append("x".into()) {
            Ok(()) => written += 1,
            Err(refusal) => break refusal,
        }
        assert!(server.trickle.usage().bytes <= 64 * KIB);
    };
    assert_eq!(refused.status(), 413);
    assert!(written >= 1000, "{written}");
}

#[tokio::test]
async fn a_full_server_is_503_and_recovers() {
    let server = Server::with(|s| s.limits.total_bytes = 256 * KIB).await;
    let mut refused = 0;
    for name in 0..8 {
        server.trickle.create(&name.to_string(), "text/plain").unwrap();
        let answer = server.post(&format!("{name}/0"), text(60 << 10)).await;
        if answer.status == 503 {
            answer.assert_error(503, "the server holds too many bytes");
            assert_eq!(answer.header("Retry-After"), Some("1"));
            refused += 1;
        }
    }
    assert!((4..8).contains(&refused), "{refused}");
    assert!(server.trickle.usage().bytes <= 256 * KIB);
    for name in 0..8 {
        server.delete(&name.to_string()).await.assert(200, "");
    }
    assert_eq!(server.trickle.usage().bytes, 0);
}

#[tokio::test]
async fn too_many_channels_readers_and_writers_are_503() {
    let server = Server::with(|s| {
        s.autocreate = true;
        s.limits.channels = 1;
        s.limits.subscribers_per_channel = 1;
        s.limits.publishers_per_channel = 2;
    })
    .await;
    server.post("c", "").await.assert(200, "");
    server.post("d", "").await.assert_error(503, "too many channels");
    server.post("d/0", "x").await.assert_error(503, "too many channels");
    let waiting = server.wait_on("c/0").await;
    server.get("c/0").await.assert_error(503, "too many subscribers");
    let posts = [server.open("c/0").await, server.open("c/1").await];
    server.post("c/2", "x").await.assert_error(503, "too many publishers");
    let [zero, one] = posts;
    zero.finish().await.assert(200, "");
    one.finish().await.assert(200, "");
    assert_eq!(waiting.await.unwrap().status(), 200);
    server.subscribers(0).await;
    server.post("c/2", "x").await.assert(200, "");
    server.get("c/2").await.assert(200, "x");
}

#[tokio::test]
async fn too_many_requests_are_503() {
    let server = Server::with(|s| s.limits.requests = 1).await;
    server.trickle.create("c", "text/plain").unwrap();
    let waiting = server.wait_on("c/0").await;
    server.get("c/0").await.assert_error(503, "too many requests");
    server.post("c/0", "x").await.assert_error(503, "too many requests");
    waiting.abort();
    server.subscribers(0).await;
    server.post("c/0", "x").await.assert(200, "");
}

#[tokio::test]
async fn one_group_s_readers_take_neither_others_places_nor_those_of_writers() {
    let server = Server::with(|s| {
        s.limits.requests = 8;
        s.limits.publisher_room = 2;
        s.limits.subscribers_per_group = 4;
    })
    .await;
    let greedy = server.trickle.group();
    for name in ["a", "b"] {
        server.trickle.create_in(&greedy, name, "text/plain").unwrap();
    }
    server.trickle.create("c", "text/plain").unwrap();
    let mut waiting = Vec::new();
    for at in ["a/0", "b/0", "a/0", "b/0"] {
        waiting.push(server.wait_on(at).await);
    }
    // Both of its channels are full, others' are not.
    server.get("a/0").await.assert_error(503, "too many subscribers");
    server.get("b/0").await.assert_error(503, "too many subscribers");
    for _ in 0..2 {
        waiting.push(server.wait_on("c/0").await);
    }
    server.get("c/0").await.assert_error(503, "too many requests");
    let posts = [server.open("c/0").await, server.open("a/0").await];
    server.post("b/0", "x").await.assert_error(503, "too many requests");
    for post in posts {
        post.write("x").await;
        post.finish().await.assert(200, "");
    }
    server.publishers(0).await;
    server.post("b/0", "x").await.assert(200, "");
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn names_and_types_are_bounded() {
    let server = Server::with(|s| s.autocreate = true).await;
    let long = "n".repeat(257);
    server.post(&long, "").await.assert_error(400, "a channel's name has 1 to 256 bytes");
    server
        .post(&format!("{long}/0"), "x")
        .await
        .assert(400, "a channel's name has 1 to 256 bytes\n");
    let mime = [("Expect-Content", long.as_str())];
    let refused = server.send(Method::POST, "c", &mime).await;
    refused.assert_error(400, "not a media type of at most 256 bytes");
    assert_eq!(server.trickle.usage().channels, 0);
}

#[tokio::test]
async fn a_publisher_does_not_go_on_forever_after_its_segment_was_closed() {
    let server = Server::with(|s| s.limits.publisher_grace = Duration::ZERO).await;
    server.trickle.create("c", "text/plain").unwrap();
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    server.delete("c").await.assert(200, "");
    let answer = post.answer().await;
    answer.assert(200, "");
    assert_eq!(answer.seq(), Some("0"));
    assert!(answer.closes_connection());
    server.publishers(0).await;
}

#[tokio::test]
async fn a_reader_that_stalls_loses_its_segment_and_is_told_by_a_broken_answer() {
    let server = Server::with(|s| {
        s.limits.reader_grace = Duration::ZERO;
        s.sweep_interval = Duration::from_millis(1);
    })
    .await;
    server.trickle.create("c", "text/plain").unwrap();
    // More than sockets and their buffers hold.
    let large = text(24 << 20);
    server.post("c/0", large).await.assert(200, "");
    let mut stalled = server.wait_or_read("c/0").await;
    let first = stalled.chunk().await.unwrap().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let sweeper = tokio::spawn({
        let (trickle, stop) = (server.trickle.clone(), stop.clone());
        async move { trickle.run(stop).await }
    });
    let held = server.trickle.usage().bytes;
    server.post("c/5", "the ring goes on").await.assert(200, "");
    let trickle = server.trickle.clone();
    penstock_testkit::until("the segment is given up", || {
        let free = trickle.usage().bytes < held / 2;
        async move { free }
    })
    .await;
    let mut read = first.len();
    let broken = loop {
        match stalled.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken && read < large.len(), "{read}");
    server.subscribers(0).await;
    stop.cancel();
    sweeper.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_takes_nothing_gives_its_place_to_others() {
    let server = Server::with(|s| {
        s.limits.reader_stall = Duration::ZERO;
        s.limits.subscribers_per_channel = 1;
        s.sweep_interval = Duration::from_millis(1);
    })
    .await;
    server.trickle.create("c", "text/plain").unwrap();
    // More than sockets and their buffers hold, and the segment stays in its channel.
    let large = text(24 << 20);
    server.post("c/0", large).await.assert(200, "");
    let mut stalled = server.wait_or_read("c/0").await;
    let first = stalled.chunk().await.unwrap().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let sweeper = tokio::spawn({
        let (trickle, stop) = (server.trickle.clone(), stop.clone());
        async move { trickle.run(stop).await }
    });
    server.subscribers(0).await;
    // Who waits for a segment takes nothing either, and that is no fault of his.
    let waiting = server.wait_on("c/1").await;
    let mut read = first.len();
    let broken = loop {
        match stalled.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken && read < large.len(), "{read}");
    assert!(!waiting.is_finished());
    server.subscribers(1).await;
    waiting.abort();
    stop.cancel();
    sweeper.await.unwrap();
}
