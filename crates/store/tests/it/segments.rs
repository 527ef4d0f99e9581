//! Every segment store under its suite.

use crate::redis::options;
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use penstock_store::{
    DiskSegments, MemorySegments, RedisSegments, RedisStore, S3Options, S3Segments, SegmentKey,
    SegmentStore, StoreError, StoredSegment, UnixMs, conformance,
};
use penstock_testkit::{redis::RedisServer, s3::S3Server};

#[tokio::test]
async fn memory_conforms() {
    conformance::segments(&MemorySegments::new(10_000)).await;
    conformance::a_segment_is_bounded(&MemorySegments::new(1_000), 1_000).await;
    conformance::segments_are_bounded(&MemorySegments::new(1_000), 500).await;
}

#[tokio::test]
async fn disk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, bytes| {
        let path = folder.path().join(name);
        async move { DiskSegments::open(&path, bytes, UnixMs(0)).await.unwrap() }
    };
    conformance::segments(&open("a", 100_000).await).await;
    conformance::a_segment_is_bounded(&open("b", 1_041).await, 1_000).await;
    conformance::segments_are_bounded(&open("c", 1_082).await, 500).await;
}

#[tokio::test]
async fn redis_conforms() {
    let server = RedisServer::start().await;
    let store = RedisStore::open(options(&server.url())).await;
    conformance::segments(&store.segments(100_000).await).await;
    conformance::a_segment_is_bounded(&store.segments(1_000).await, 1_000).await;
    let own = RedisSegments::open(options(&server.url()), 1_000).await;
    conformance::a_segment_is_bounded(&own, 1_000).await;
    for key in server.cli(&["keys", "*"]).lines() {
        assert_ne!(server.cli(&["pttl", key]), "-1", "{key} has no TTL");
    }
}

fn s3(server: &S3Server, prefix: &str) -> S3Segments {
    penstock_http_kit::tls::install_crypto_provider();
    let url = format!("s3://{}/{prefix}", S3Server::BUCKET);
    S3Segments::new(&S3Options {
        endpoint: Some(server.url()),
        region: Some("us-east-1".to_owned()),
        keys: Some(("id".to_owned(), "secret".to_owned())),
        ..S3Options::parse(&url).unwrap()
    })
    .unwrap()
}

#[tokio::test]
async fn s3_conforms_and_clears_away() {
    let mut server = S3Server::start().await;
    let store = s3(&server, "live/v1");
    conformance::segments(&store).await;
    let file = |text: &'static str| StoredSegment {
        data: Bytes::from_static(text.as_bytes()),
        format: SegmentFormat::Mp4,
    };
    // Two replicas: what one wrote anew the other does not delete when its own is over.
    let (a, b) = (s3(&server, "two"), s3(&server, "two"));
    let key = |name: &str| SegmentKey(name.to_owned());
    a.put(&key("mine"), file("a"), 100, UnixMs(0)).await.unwrap();
    a.put(&key("ours"), file("a"), 100, UnixMs(0)).await.unwrap();
    b.put(&key("ours"), file("b"), 1_000, UnixMs(50)).await.unwrap();
    assert!(server.names().contains("two/mine"));
    a.put(&key("next"), file("a"), 1_000, UnixMs(100)).await.unwrap();
    assert!(!server.names().contains("two/mine"), "it was over");
    assert_eq!(b.get(&key("ours"), UnixMs(101)).await.unwrap(), Some(file("b")));
    server.kill9();
    assert!(matches!(a.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(a.get(&key("x"), UnixMs(0)).await, Err(StoreError::Unavailable(_))));
}

#[test]
fn urls_of_buckets() {
    let parsed = S3Options::parse("s3://b.c-d/a/b/").unwrap();
    assert_eq!((parsed.bucket.as_str(), parsed.prefix.as_str()), ("b.c-d", "a/b"));
    for bad in ["s3://", "s3:///x", "https://b", "s3://b ucket", "s3://u:p@b", "s3://b/ü"] {
        assert!(S3Options::parse(bad).is_err(), "{bad}");
    }
}
