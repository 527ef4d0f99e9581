//! Media bytes.

use super::*;

fn key(n: usize) -> SegmentKey {
    SegmentKey(format!("s/source/{n}.ts"))
}

fn segment(len: usize) -> StoredSegment {
    StoredSegment { data: Bytes::from(vec![7; len]), format: SegmentFormat::MpegTs }
}

/// What every segment store promises.
pub async fn segments(store: &impl SegmentStore) {
    store.ping().await.unwrap();
    assert_eq!(store.get(&key(0), at(0)).await.unwrap(), None);
    store.put(&key(0), segment(10), 100, at(0)).await.unwrap();
    assert_eq!(store.get(&key(0), at(99)).await.unwrap(), Some(segment(10)));
    assert_eq!(store.get(&key(0), at(100)).await.unwrap(), None, "it is over");
    assert!(!store.remove(&key(0), at(100)).await.unwrap());
    store.put(&key(0), segment(20), 100, at(100)).await.unwrap();
    store.put(&key(0), segment(30), 200, at(101)).await.unwrap();
    assert_eq!(store.get(&key(0), at(250)).await.unwrap(), Some(segment(30)), "replaced");
    // What it was replaced by outlives what was there before, also when others are written.
    store.put(&key(1), segment(1), 100, at(260)).await.unwrap();
    assert_eq!(store.get(&key(0), at(261)).await.unwrap(), Some(segment(30)));
    assert!(store.remove(&key(0), at(262)).await.unwrap());
    assert!(!store.remove(&key(0), at(262)).await.unwrap());
    assert_eq!(store.get(&key(0), at(262)).await.unwrap(), None);
    // The format stays; nothing at all is a file as well; all bytes come back.
    let all: Vec<u8> = (0..=255).cycle().take(700).collect();
    for (n, data) in [Bytes::new(), all.into()].into_iter().enumerate() {
        let mp4 = StoredSegment { data, format: SegmentFormat::Mp4 };
        store.put(&key(n), mp4.clone(), 100, at(300)).await.unwrap();
        assert_eq!(store.get(&key(n), at(301)).await.unwrap(), Some(mp4));
    }
    // Names are anything and each is another's neighbour, not its twin.
    let odd = [
        "a",
        "A",
        "a/",
        "/a",
        "a//b",
        "a/b",
        "./a",
        "../a",
        "../../etc/passwd",
        "..",
        ".",
        "",
        "a b",
        "a%20b",
        "a\\b",
        "é",
        "a?b#c",
        "a\r\nb",
        "{a}",
        "*",
        "~1",
        "con",
    ];
    let long = ["x".repeat(500), format!("{}/y", "x".repeat(500)), "x/".repeat(300)];
    let names: Vec<&str> = odd.into_iter().chain(long.iter().map(String::as_str)).collect();
    for name in &names {
        let data = Bytes::copy_from_slice(name.as_bytes());
        let file = StoredSegment { data, format: SegmentFormat::MpegTs };
        store.put(&SegmentKey((*name).to_owned()), file, 1_000, at(400)).await.unwrap();
    }
    for name in &names {
        let found = store.get(&SegmentKey((*name).to_owned()), at(401)).await.unwrap();
        assert_eq!(found.unwrap().data, name.as_bytes(), "{name:?}");
        assert!(store.remove(&SegmentKey((*name).to_owned()), at(402)).await.unwrap());
    }
}

/// A store that bounds each file refuses a larger one.
pub async fn a_segment_is_bounded(store: &impl SegmentStore, max_bytes: usize) {
    store.put(&key(0), segment(max_bytes), 100, at(0)).await.unwrap();
    assert_eq!(store.get(&key(0), at(1)).await.unwrap(), Some(segment(max_bytes)));
    let refused = store.put(&key(1), segment(max_bytes + 1), 100, at(0)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

/// A store that bounds all of them drops what is over first; it holds two of four of `half` bytes.
pub async fn segments_are_bounded(store: &impl SegmentStore, half: usize) {
    for n in 0..4 {
        store.put(&key(n), segment(half), 100 + n as u64, at(0)).await.unwrap();
    }
    assert_eq!(store.get(&key(1), at(1)).await.unwrap(), None, "the first to be over made room");
    assert!(store.get(&key(2), at(1)).await.unwrap().is_some());
    assert!(store.get(&key(3), at(1)).await.unwrap().is_some());
    // What is replaced makes room, too.
    store.put(&key(3), segment(half), 200, at(2)).await.unwrap();
    assert!(store.get(&key(2), at(3)).await.unwrap().is_some());
}
