//! The publisher against our server.

use super::{at, bytes, channel, publisher, read, subscriber, trickle_http};
use crate::harness::{Server, exactly, rest};
use penstock_trickle::{
    Position, Seq,
    client::{ClientError, Publisher, PublisherOptions, Start, Then},
};

#[tokio::test]
async fn it_keeps_one_request_ahead() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    server.publishers(1).await;
    let mut first = publisher.next_segment().unwrap();
    server.publishers(2).await;
    first.write(bytes("Hello")).await.unwrap();
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    first.write(bytes("World")).await.unwrap();
    assert_eq!(first.finish().await.unwrap(), Seq::ZERO);
    assert_eq!(rest(reader).await, "World");
    for (number, text) in ["one", "two", "three"].into_iter().enumerate() {
        let seq = publisher.write(bytes(text)).await.unwrap();
        assert_eq!(seq.get(), number as u64 + 1);
        server.get(&format!("c/{seq}")).await.assert(200, text);
    }
    publisher.close().await.unwrap();
    server.publishers(0).await;
    assert!(!server.trickle.exists("c"));
}

#[tokio::test]
async fn a_restarted_one_joins_and_lets_the_old_readers_go() {
    let server = Server::with_channel().await;
    let hanging = server.open("c/4").await;
    hanging.write("half").await;
    let mut reader = server.wait_or_read("c/4").await;
    exactly(&mut reader, "half").await;
    hanging.abort();
    let options = PublisherOptions { start: Start::Join, ..PublisherOptions::default() };
    let url = channel(&server);
    let mut publisher = Publisher::open(trickle_http(), &url, options).await.unwrap();
    assert_eq!(publisher.next_seq().unwrap().get(), 5);
    assert_eq!(publisher.write(bytes("whole")).await.unwrap().get(), 5);
    assert_eq!(rest(reader).await, "");
}

#[tokio::test]
async fn it_makes_channels_where_it_may() {
    let server = Server::with(|s| s.autocreate = true).await;
    let options = PublisherOptions { mime: "a/b".to_owned(), ..PublisherOptions::default() };
    Publisher::create(trickle_http(), &channel(&server), &options).await.unwrap();
    server.post("c/0", "x").await.assert(200, "");
    assert_eq!(server.get("c/0").await.header("content-type"), Some("a/b"));
    let closed = Server::start().await;
    let refused = Publisher::create(trickle_http(), &channel(&closed), &options).await;
    assert_eq!(refused, Err(ClientError::NoChannel));
}

/// TestTrickle_Close, the writing half
#[tokio::test]
async fn it_learns_that_there_is_no_channel_and_that_it_was_closed() {
    let server = Server::start().await;
    let mut early = publisher(&server).await;
    assert_eq!(early.write(bytes("first post")).await, Err(ClientError::NoChannel));
    // The request for segment 1 was made before the channel, and is not made anew.
    server.trickle.create("c", "text/plain").unwrap();
    let second = early.write(bytes("second post")).await;
    assert!(matches!(second, Err(ClientError::NoChannel) | Ok(_)), "{second:?}");
    drop(early);
    server.publishers(0).await;

    let mut publisher = publisher(&server).await;
    publisher.write(bytes("first")).await.unwrap();
    server.publishers(1).await;
    server.trickle.close("c").unwrap();
    let ended = publisher.write(bytes("invalid")).await.unwrap_err();
    assert_eq!((ended.fault(), ended.then()), (None, Then::Stop));
    // Closing what is closed is no failure.
    publisher.close().await.unwrap();
}

#[tokio::test]
async fn an_abandoned_segment_keeps_nobody_waiting() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    let mut segment = publisher.next_segment().unwrap();
    segment.write(bytes("half")).await.unwrap();
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "half").await;
    assert!(segment.is_sent());
    segment.abandon().await.unwrap();
    assert_eq!(rest(reader).await, "");
    // One that never began is abandoned as well.
    let unbegun = publisher.next_segment().unwrap();
    assert!(!unbegun.is_sent());
    unbegun.abandon().await.unwrap();
    assert_eq!(publisher.write(bytes("next")).await.unwrap().get(), 2);
}

#[tokio::test]
async fn a_segment_closed_before_it_began_is_skipped() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    let mut segment = publisher.next_segment().unwrap();
    server.publishers(2).await;
    server.delete("c/0").await.assert(200, "");
    server.publishers(1).await;
    let error = loop {
        // The answer is on its way; until it is here, bytes are taken.
        match segment.write(bytes("x")).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!((&error, error.then()), (&ClientError::SegmentClosed, Then::NextSegment));
    assert_eq!(publisher.write(bytes("next")).await.unwrap().get(), 1);
}

#[tokio::test]
async fn an_empty_segment_is_a_segment() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    let mut subscriber = subscriber(&server, at(0));
    let mut segment = publisher.next_segment().unwrap();
    assert_eq!(segment.finish().await.unwrap(), Seq::ZERO);
    assert_eq!(read(&mut subscriber).await.unwrap(), (0, String::new()));
    assert_eq!(server.get("c/next").await.body, "1");
}

#[tokio::test]
async fn numbers_end() {
    let server = Server::with_channel().await;
    let options = PublisherOptions { start: Start::At(Seq::MAX), ..PublisherOptions::default() };
    let url = channel(&server);
    let mut publisher = Publisher::open(trickle_http(), &url, options).await.unwrap();
    assert_eq!(publisher.write(bytes("last")).await.unwrap(), Seq::MAX);
    assert_eq!(publisher.write(bytes("more")).await, Err(ClientError::NoNumberLeft));
    let mut reader = subscriber(&server, Position::Current);
    assert_eq!(read(&mut reader).await.unwrap(), (Seq::MAX.get(), "last".to_owned()));
    let none = read(&mut reader).await.unwrap_err();
    assert!(matches!(none, ClientError::Status { status: 400, .. }), "{none:?}");
}
