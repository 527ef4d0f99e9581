//! The subscriber against our server.

use super::{at, bytes, channel, publisher, read, subscriber, trickle_http};
use crate::harness::Server;
use penstock_trickle::{
    Position,
    client::{ClientError, Subscriber, SubscriberOptions},
};

/// TestTrickle_SetSubStart
#[tokio::test]
async fn it_begins_where_it_is_told() {
    let server = Server::with_channel().await;
    let all = {
        let mut beginning = subscriber(&server, Position::Next);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..5 {
                seen.push(read(&mut beginning).await.unwrap().1);
            }
            seen
        })
    };
    server.waiting(1).await;
    let mut publisher = publisher(&server).await;
    let texts = ["zeroth", "first", "second", "third", "fourth"];
    for text in &texts[..2] {
        publisher.write(bytes(text)).await.unwrap();
    }
    let mut current = subscriber(&server, Position::Current);
    assert_eq!(read(&mut current).await.unwrap(), (1, "first".to_owned()));
    let next = {
        let mut next = subscriber(&server, Position::Next);
        tokio::spawn(async move { read(&mut next).await.unwrap() })
    };
    // One ahead each: of the first, of the second; and the third's own.
    server.waiting(3).await;
    for text in &texts[2..] {
        publisher.write(bytes(text)).await.unwrap();
    }
    assert_eq!(next.await.unwrap(), (2, "second".to_owned()));
    assert_eq!(all.await.unwrap(), texts);
    // The publisher's request for 5 has taken the place of 0.
    server.publishers(1).await;
    let mut one = subscriber(&server, at(1));
    for (number, text) in (1..).zip(&texts[1..]) {
        assert_eq!(read(&mut one).await.unwrap(), (number, (*text).to_owned()));
    }
}

/// TestTrickle_SetSeq
#[tokio::test]
async fn its_position_may_be_set_forwards_and_backwards() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    let texts = ["first", "second", "third", "fourth"];
    for text in texts {
        publisher.write(bytes(text)).await.unwrap();
    }
    let mut subscriber = subscriber(&server, Position::Next);
    for from in (0..4).chain((0..4).rev()) {
        subscriber.set_position(at(from));
        for (number, text) in (0..).zip(texts).skip(from as usize) {
            assert_eq!(read(&mut subscriber).await.unwrap(), (number, text.to_owned()));
        }
    }
}

#[tokio::test]
async fn one_that_fell_behind_goes_on_where_the_server_is() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    publisher.write(bytes("zeroth")).await.unwrap();
    let mut slow = subscriber(&server, at(0));
    let options = SubscriberOptions { start: at(0), resync: false, ..Default::default() };
    let mut strict = Subscriber::new(trickle_http(), &channel(&server), options).unwrap();
    for _ in 0..9 {
        publisher.write(bytes("missed")).await.unwrap();
    }
    let error = read(&mut strict).await.unwrap_err();
    let expected = ClientError::NoSegment { asked: "0".to_owned(), latest: Some(10) };
    assert_eq!(error, expected);
    let reading = tokio::spawn(async move {
        let segment = slow.next_segment().await.unwrap();
        (segment.seq().get(), segment.skipped())
    });
    server.waiting(1).await;
    publisher.write(bytes("live")).await.unwrap();
    assert_eq!(reading.await.unwrap(), (10, 0), "nothing was read before, so nothing was missed");
}

#[tokio::test]
async fn what_was_missed_in_between_is_counted() {
    let server = Server::with_channel().await;
    server.post("c/0", "zeroth").await.assert(200, "");
    let mut reader = subscriber(&server, at(0));
    assert_eq!(read(&mut reader).await.unwrap().0, 0);
    server.waiting(1).await;
    // The request for 1 waits while the publisher jumps, and ends with nothing; 8 is there already
    // when it is next.
    server.post("c/8", "next").await.assert(200, "");
    server.post("c/7", "jumped").await.assert(200, "");
    server.delete("c/1").await.assert(200, "");
    assert_eq!(read(&mut reader).await.unwrap(), (1, String::new()));
    let segment = reader.next_segment().await.unwrap();
    assert_eq!((segment.seq().get(), segment.skipped()), (8, 6));
}

/// TestTrickle_Close, the reading half
#[tokio::test]
async fn the_end_of_a_channel_is_the_end() {
    let server = Server::with_channel().await;
    let mut publisher = publisher(&server).await;
    publisher.write(bytes("only")).await.unwrap();
    let mut reader = subscriber(&server, at(0));
    assert_eq!(read(&mut reader).await.unwrap(), (0, "only".to_owned()));
    server.waiting(1).await;
    publisher.close().await.unwrap();
    assert_eq!(read(&mut reader).await, Err(ClientError::EndOfStream));
    assert_eq!(read(&mut reader).await, Err(ClientError::NoChannel));
}

/// TestTrickle_CancelSub
#[tokio::test]
async fn a_wait_may_be_dropped_and_nothing_is_lost() {
    let server = Server::with_channel().await;
    let mut reader = subscriber(&server, Position::Next);
    tokio::select! {
        biased;
        got = reader.next_segment() => panic!("{got:?}"),
        () = server.waiting(1) => {}
    }
    server.post("c/0", "x").await.assert(200, "");
    assert_eq!(read(&mut reader).await.unwrap(), (0, "x".to_owned()));
    drop(reader);
    server.subscribers(0).await;
}

#[tokio::test]
async fn a_segment_longer_than_wanted_is_refused() {
    let server = Server::with_channel().await;
    server.post("c/0", "0123456789").await.assert(200, "");
    let mut reader = subscriber(&server, at(0));
    let mut segment = reader.next_segment().await.unwrap();
    assert_eq!(segment.mime(), Some("text/plain"));
    assert_eq!(segment.latest(), Some(1));
    assert_eq!(segment.bytes(9).await, Err(ClientError::TooLong { max_bytes: 9 }));
    reader.set_position(at(0));
    assert_eq!(reader.next_segment().await.unwrap().bytes(10).await.unwrap(), "0123456789");
}
