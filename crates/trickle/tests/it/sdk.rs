//! The official Python SDK, unmodified: its publishers and subscribers at our server, against each
//! other and against ours.

use crate::harness::{DEADLINE, Server};
use bytes::Bytes;
use penstock_clients::{Reach, Trust};
use penstock_testkit::Sdk;
use penstock_trickle::client::{
    ClientError, Publisher, PublisherOptions, Subscriber, SubscriberOptions, http,
};
use serde_json::json;
use tokio::time::timeout;

/// A case of `tests/sdk/trickle.py` that runs.
fn sdk(case: &str, url: &str) -> Sdk {
    Sdk::start("trickle.py", [case, url])
}

fn trickle_http() -> reqwest::Client {
    http(Trust::System, Reach::Anywhere).unwrap()
}

#[tokio::test]
async fn the_sdk_makes_a_channel_uses_it_and_sees_its_end() {
    let server = Server::with(|s| s.autocreate = true).await;
    let channel = format!("{}/c", server.url);
    let seen = sdk("create", &channel).end().await;
    assert_eq!(seen, json!({ "seq": 0, "text": "only", "mime": "text/plain" }));
    assert!(!server.trickle.exists("c"));
}

#[tokio::test]
async fn the_sdk_is_told_that_there_is_no_channel() {
    let server = Server::start().await;
    let mut sdk = sdk("missing", &format!("{}/c", server.url));
    assert_eq!(sdk.hear().await, json!({ "create": "Trickle create failed: status=404" }));
    let publish = sdk.end().await;
    assert_eq!(publish["publish"], "Trickle publisher channel does not exist");
    assert!(publish["not_found"].as_u64() >= Some(1), "{publish}");
}

#[tokio::test]
async fn our_subscriber_reads_what_the_sdk_publishes_chunk_by_chunk() {
    let server = Server::with_channel().await;
    let channel = format!("{}/c", server.url);
    let options =
        SubscriberOptions { start: "-2".parse().unwrap(), ..SubscriberOptions::default() };
    let mut subscriber = Subscriber::new(trickle_http(), &channel, options).unwrap();
    let mut sdk = sdk("publish", &channel);
    for number in 0..12 {
        sdk.tell(&format!("first {number},")).await;
        let next = timeout(DEADLINE, subscriber.next_segment());
        let mut segment = next.await.unwrap().unwrap();
        assert_eq!((segment.seq().get(), segment.skipped()), (number, 0));
        let first = segment.chunk().await.unwrap().unwrap();
        assert_eq!(first, format!("first {number},"));
        sdk.tell("then the rest").await;
        assert_eq!(segment.bytes(1024).await.unwrap(), "then the rest");
    }
    let stats = sdk.end().await;
    assert_eq!(stats, json!({ "failed": 0, "exceptions": 0, "started": 12 }));
    let end = timeout(DEADLINE, subscriber.next_segment()).await.unwrap().unwrap_err();
    assert!(matches!(end, ClientError::EndOfStream | ClientError::NoChannel), "{end:?}");
    server.publishers(0).await;
}

#[tokio::test]
async fn the_sdk_reads_what_our_publisher_publishes() {
    let server = Server::with_channel().await;
    let channel = format!("{}/c", server.url);
    let mut sdk = sdk("subscribe", &channel);
    server.waiting(1).await;
    let options = PublisherOptions { mime: "text/plain".to_owned(), ..Default::default() };
    let mut publisher = Publisher::open(trickle_http(), &channel, options).await.unwrap();
    for number in 0..12 {
        let text = format!("segment {number}");
        publisher.write(Bytes::from(text.clone())).await.unwrap();
        assert_eq!(sdk.hear().await, json!({ "seq": number, "text": text }));
    }
    server.waiting(1).await;
    publisher.close().await.unwrap();
    assert_eq!(sdk.end().await, json!({ "failures": 0, "gaps": 0, "resets": 0 }));
}

#[tokio::test]
async fn the_sdks_json_channels_work() {
    let server = Server::start().await;
    for case in ["jsonl", "control"] {
        server.trickle.create(case, "application/json").unwrap();
        let sdk = sdk(case, &format!("{}/{case}", server.url));
        assert_eq!(sdk.end().await, json!({ "rest": [] }));
    }
}

#[tokio::test]
async fn the_sdks_media_goes_in_and_comes_out() {
    let server = Server::start().await;
    server.trickle.create("film", "video/mp2t").unwrap();
    let seen = sdk("media", &format!("{}/film", server.url)).end().await;
    assert_eq!((&seen["sizes"], &seen["errors"]), (&json!([[320, 180]]), &json!(0)), "{seen}");
    assert!(seen["frames"].as_u64() >= Some(50) && seen["segments"].as_u64() >= Some(3), "{seen}");
    assert!(!server.trickle.exists("film"), "the publisher closes its channel");
    server.subscribers(0).await;
    server.publishers(0).await;
    assert_eq!(server.trickle.usage().bytes, 0);
}
