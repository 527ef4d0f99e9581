//! Every backend under the suite that all of them pass; memory also under real threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod links;
mod records;
mod redis;
mod segments;
mod sentinels;

use penstock_domain::{Address, AuthId};
use penstock_store::{
    CreditKey, CreditStore, HoldId, MemoryLimits, MemorySegments, MemoryStore, Reserve, SegmentKey,
    SegmentStore, StoreError, UnixMs, conformance,
};
use std::sync::Arc;

#[tokio::test]
async fn memory_session_store_conforms() {
    conformance::all(|| async { MemoryStore::default() }).await;
}

fn account(n: usize) -> CreditKey {
    CreditKey {
        auth_id: AuthId::new("a").unwrap(),
        sender: Address::ZERO,
        orchestrator: format!("https://o{n}"),
        session: "s".into(),
    }
}

/// Reservations from many threads never sum to more than was bought.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn credit_under_threads() {
    let store = Arc::new(MemoryStore::default());
    let now = UnixMs(1);
    store.book_purchase(&account(0), "p", 1_000, 60_000, now).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..400 {
        let store = store.clone();
        tasks.spawn(async move {
            let hold = HoldId(i.to_string());
            match store.reserve(&account(0), &hold, 7, 0, now).await.unwrap() {
                Reserve::Granted { .. } => {
                    tokio::task::yield_now().await;
                    store.settle(&account(0), &hold, 3, now).await.unwrap();
                    3
                }
                Reserve::Short { .. } => 0,
            }
        });
    }
    let used: i64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(store.credit(&account(0), now).await.unwrap(), 1_000 - used);
}

#[tokio::test]
async fn memory_is_bounded() {
    let store =
        MemoryStore::new(MemoryLimits { accounts: 2, per_account: 2, ..MemoryLimits::default() });
    let now = UnixMs(1);
    for n in 0..2 {
        store.book_purchase(&account(n), "p", 10, 1_000, now).await.unwrap();
    }
    assert!(matches!(
        store.book_purchase(&account(2), "p", 10, 1_000, now).await,
        Err(StoreError::Full(_))
    ));
    for n in 0..2 {
        store.reserve(&account(0), &HoldId(n.to_string()), 1, 0, now).await.unwrap();
    }
    assert!(matches!(
        store.reserve(&account(0), &HoldId("x".into()), 1, 0, now).await,
        Err(StoreError::Full(_))
    ));
    assert_eq!(store.credit(&account(0), now).await.unwrap(), 8, "a refusal changes nothing");
    store.book_purchase(&account(2), "p", 10, 1_000, UnixMs(1_001)).await.unwrap();

    let segments = MemorySegments::new(100);
    for n in 0..1_000u64 {
        let segment = penstock_store::StoredSegment {
            data: vec![0; 30].into(),
            format: penstock_domain::SegmentFormat::Mp4,
        };
        segments.put(&SegmentKey(n.to_string()), segment, 1_000 + n, now).await.unwrap();
    }
    let mut left = 0;
    for n in 0..1_000u64 {
        left += usize::from(segments.get(&SegmentKey(n.to_string()), now).await.unwrap().is_some());
    }
    assert_eq!(left, 3);
}
