//! The table of channels: making, closing, idleness, changes.

use super::*;
use crate::{Limits, LocalRead, wire::Position};
use bytes::Bytes;
use std::time::Duration;

fn server(change: impl FnOnce(&mut Settings)) -> TrickleServer {
    let mut settings = Settings::default();
    change(&mut settings);
    TrickleServer::new(settings).unwrap()
}

#[test]
fn channels_are_bounded_in_number_name_and_type() {
    let server = server(|s| s.limits = Limits { channels: 2, name_bytes: 4, ..Limits::default() });
    assert_eq!(server.create("a", "text/plain"), Ok(true));
    assert_eq!(server.create("a", "other/type"), Ok(false));
    assert_eq!(server.create("four", ""), Ok(true));
    assert_eq!(server.create("b", ""), Err(Refusal::TooManyChannels));
    assert_eq!(server.create("fives", ""), Err(Refusal::Name { max_bytes: 4 }));
    assert_eq!(server.create("", ""), Err(Refusal::Name { max_bytes: 4 }));
    assert!(matches!(server.create("c", "a\nb"), Err(Refusal::Mime { .. })));
    assert!(matches!(server.create("c", &"x".repeat(257)), Err(Refusal::Mime { .. })));
    server.close("four").unwrap();
    assert_eq!(server.close("four"), Err(Refusal::NothingToDelete));
    assert_eq!(server.create("b", ""), Ok(true));
}

#[test]
fn all_memory_comes_back_when_channels_close() {
    let server = server(|_| {});
    let mut publishers: Vec<_> =
        (0..100).map(|n| server.publisher(&format!("c{n}"), "text/plain")).collect();
    for publisher in &mut publishers {
        publisher.create().unwrap();
        for _ in 0..7 {
            publisher.write(Bytes::from_static(b"payload")).unwrap();
        }
    }
    let mut subscriber = server.subscriber("c0");
    subscriber.set_position(Position::Current);
    let reader = subscriber.read().unwrap();
    assert!(server.usage().bytes > 100 * 5 * 1024);
    publishers.into_iter().for_each(|p| p.close().unwrap());
    let usage = server.usage();
    assert_eq!((usage.channels, usage.publishers), (0, 0));
    assert!((1..2048).contains(&usage.bytes), "only what is still read: {usage:?}");
    drop(reader);
    assert_eq!(server.usage().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn idle_channels_are_closed_and_internal_ones_stay() {
    let server = server(|s| s.idle_timeout = Duration::from_secs(300));
    for name in ["idle", "busy", "_internal"] {
        server.create(name, "text/plain").unwrap();
    }
    server.get_or_create("_stranger", None, Maker::Peer).unwrap();
    let watches = ["idle", "busy"].map(|name| server.watch(name).unwrap());
    let mut busy = server.publisher("busy", "");
    let mut waiting = server.subscriber("idle");
    let mut waiting = waiting.read().unwrap();
    let shutdown = CancellationToken::new();
    let sweeper = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.run(shutdown).await }
    });
    tokio::time::sleep(Duration::from_secs(200)).await;
    busy.write(Bytes::from_static(b"x")).unwrap();
    // The reader's wait ends with the sweep.
    assert_eq!(waiting.drain().await, Ok(0));
    assert!(!server.exists("idle") && !server.exists("_stranger"));
    assert!(server.exists("busy") && server.exists("_internal"));
    assert_eq!(watches.each_ref().map(|watch| watch.was_idle()), [true, false]);
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert!(!server.exists("busy"));
    assert!(server.exists("_internal"));
    shutdown.cancel();
    sweeper.await.unwrap();
    assert_eq!(server.usage().channels, 0);
    assert_eq!(server.create("new", ""), Err(Refusal::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_keeps_a_segment_for_its_grace_only() {
    let server = server(|s| s.limits.reader_grace = Duration::from_secs(30));
    let mut publisher = server.publisher("c", "");
    publisher.create().unwrap();
    publisher.write(Bytes::from_static(b"first")).unwrap();
    let mut subscriber = server.subscriber("c");
    subscriber.set_position(Position::Current);
    let mut slow = subscriber.read().unwrap();
    // Four and the one that waits for its first byte.
    for _ in 0..4 {
        publisher.write(Bytes::from_static(b"next")).unwrap();
    }
    server.sweep(Instant::now());
    let mut quick = subscriber.read().unwrap();
    let held = server.usage().bytes;
    tokio::time::sleep(Duration::from_secs(31)).await;
    server.sweep(Instant::now());
    assert!(server.usage().bytes < held);
    assert_eq!(slow.chunk().await, Some(Err(crate::Gone)));
    assert_eq!(quick.chunk().await.unwrap().unwrap(), "next", "in the ring nothing is given up");
}

#[test]
fn the_changefeed_tells_in_order_beginning_with_itself() {
    let server = server(|s| s.changefeed = true);
    server.create("a", "").unwrap();
    server.close("a").unwrap();
    assert!(server.is_reserved("_changes"));
    assert_eq!(event(&server, 0), r#"{"added":["_changes"]}"#);
    assert_eq!(event(&server, 1), r#"{"added":["a"]}"#);
    assert_eq!(event(&server, 2), r#"{"removed":["a"]}"#);
}

fn event(server: &TrickleServer, number: u64) -> String {
    use futures::FutureExt as _;
    let mut subscriber = server.subscriber("_changes");
    subscriber.set_position(crate::Seq::new(number).unwrap().into());
    let mut segment = subscriber.read().unwrap();
    let chunk = segment.chunk().now_or_never().flatten().unwrap().unwrap();
    String::from_utf8(chunk.to_vec()).unwrap()
}

#[test]
fn local_publishers_overwrite_nothing() {
    let server = server(|_| {});
    let mut missing = server.publisher("missing", "text/plain");
    assert_eq!(missing.write(Bytes::from_static(b"x")), Err(Refusal::NoChannel));
    assert!(!server.exists("missing"));
    server.create("c", "").unwrap();
    let (mut one, mut other) = (server.publisher("c", ""), server.publisher("c", ""));
    one.write(Bytes::from_static(b"x")).unwrap();
    assert_eq!(other.write(Bytes::from_static(b"x")), Err(Refusal::Taken));
    // Nothing was begun by a write of nothing.
    let next = server.get("c").unwrap().standing().next_write;
    one.write(Bytes::new()).unwrap();
    assert_eq!(server.get("c").unwrap().standing().next_write, next);
}

#[test]
fn local_subscribers_are_told_what_is_wrong() {
    let server = server(|_| {});
    let mut subscriber = server.subscriber("c");
    assert_eq!(subscriber.read().unwrap_err(), LocalRead::NoChannel);
    server.create("c", "text/plain").unwrap();
    subscriber.set_position(crate::Seq::new(3).unwrap().into());
    assert_eq!(subscriber.read().unwrap_err(), LocalRead::NoSegment { latest: 0 });
    subscriber.set_position(Position::Next);
    let segment = subscriber.read().unwrap();
    assert_eq!((segment.seq().get(), segment.latest(), segment.mime()), (0, 0, Some("text/plain")));
}

#[tokio::test]
async fn two_thousand_channels_with_readers_hold_what_five_segments_are() {
    let server = server(|_| {});
    let names: Vec<String> = (0..2000).map(|n| format!("c{n}")).collect();
    let mut publishers = Vec::new();
    let mut readers = Vec::new();
    for name in &names {
        let publisher = server.publisher(name, "video/mp2t");
        publisher.create().unwrap();
        publishers.push(publisher);
        readers.extend((0..3).map(|_| server.subscriber(name)));
    }
    let payload = Bytes::from(vec![7u8; 3000]);
    let mut most = 0;
    for _ in 0..20 {
        let waiting: Vec<_> = readers.iter_mut().map(|r| r.read().unwrap()).collect();
        for publisher in &mut publishers {
            publisher.write(payload.clone()).unwrap();
        }
        for mut reader in waiting {
            assert_eq!(reader.drain().await, Ok(3000));
        }
        most = most.max(server.usage().bytes);
    }
    // Four written segments of one page and one that waits.
    assert!(most <= 2000 * 4 * (4096 + 64 + 8 * 32), "{most}");
    names.iter().for_each(|name| server.close(name).unwrap());
    assert_eq!(server.usage().bytes, 0);
}

#[tokio::test]
async fn a_watch_sees_bytes_and_the_end_of_its_own_channel() {
    let server = server(|_| {});
    assert!(server.watch("c").is_none());
    let mut publisher = server.publisher("c", "");
    publisher.create().unwrap();
    let watch = server.watch("c").unwrap();
    let mut open = publisher.next_segment().unwrap();
    assert_eq!(watch.received_at(), None);
    let before = tokio::time::Instant::now();
    open.append(Bytes::from_static(b"first")).unwrap();
    let first = watch.received_at().unwrap();
    assert!(before <= first && first <= tokio::time::Instant::now());
    assert_eq!((watch.received_bytes(), watch.is_closed()), (5, false));
    assert_eq!(watch.segments_begun(), 1);
    server.close("c").unwrap();
    watch.closed().await;
    server.create("c", "").unwrap();
    assert!(!watch.was_idle() && watch.received_at() == Some(first));
    assert!(watch.is_closed() && !server.watch("c").unwrap().is_closed());
}
