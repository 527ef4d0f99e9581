//! One suite for every backend: what the ports promise, tested once.
//!
//! A backend's tests call [`all`] (or the parts) with a function that makes a fresh, empty store. The
//! suite moves time by its arguments and never sleeps, so a backend must decide by `now` alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod limits;
mod records;
mod segments;

pub use limits::*;
pub use records::*;
pub use segments::*;

use crate::*;
use bytes::Bytes;
use penstock_domain::{Address, AuthId, B256, ManifestId, SegmentFormat, StreamId, VideoProfile};
use std::future::Future;
use std::sync::Arc;

const T0: UnixMs = UnixMs(1_700_000_000_000);

fn at(ms: u64) -> UnixMs {
    T0.plus_ms(ms)
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

fn owner(name: &str) -> OwnerId {
    OwnerId(name.into())
}

/// Everything; `make` gives an empty store each time.
pub async fn all<S: SessionStore, F: Future<Output = S>>(make: impl Fn() -> F) {
    streams(&make().await).await;
    one_stream_is_created_once(Arc::new(make().await)).await;
    leases(&make().await).await;
    leases_that_lapse(&make().await).await;
    one_holder_at_a_time(Arc::new(make().await)).await;
    credit(&make().await).await;
    credit_is_exact_under_concurrency(Arc::new(make().await)).await;
    reputation(&make().await).await;
    pools(&make().await).await;
    results(&make().await).await;
    windows(&make().await).await;
    claims_and_gaps(&make().await).await;
    docs(&make().await).await;
    one_doc_is_created_once(Arc::new(make().await)).await;
    limits(&make().await).await;
    limits_are_exact_under_concurrency(Arc::new(make().await)).await;
    quotas(&make().await).await;
    given_back(&make().await).await;
    slots(&make().await).await;
    make().await.ping().await.unwrap();
}

fn record() -> StreamRecord {
    StreamRecord {
        owner: None,
        created_at: T0,
        last_used_at: T0,
        format: SegmentFormat::MpegTs,
        profiles: VideoProfile::defaults(),
        source_format: None,
        source_width: 0,
        source_height: 0,
        orchestrator: None,
        segments: 0,
        source_bytes: 0,
        rendition_bytes: 7,
        pushed_as: Some("another".to_owned()),
    }
}

pub async fn streams(s: &impl SessionStore) {
    let (id, ttl) = (stream("a"), 1_000);
    assert_eq!(s.stream(&id, at(0)).await.unwrap(), None);
    assert_eq!(
        s.put_stream(&id, Some(Version(1)), &record(), ttl, at(0)).await.unwrap(),
        Cas::Conflict(None)
    );
    let Cas::Stored(v1) = s.put_stream(&id, None, &record(), ttl, at(0)).await.unwrap() else {
        panic!()
    };
    let read = s.stream(&id, at(999)).await.unwrap().unwrap();
    assert_eq!((read.version, &read.value), (v1, &record()));
    assert_eq!(
        s.put_stream(&id, None, &record(), ttl, at(1)).await.unwrap(),
        Cas::Conflict(Some(Versioned { version: v1, value: record() }))
    );
    let newer = StreamRecord { segments: 1, last_used_at: at(500), ..record() };
    let Cas::Stored(v2) = s.put_stream(&id, Some(v1), &newer, ttl, at(500)).await.unwrap() else {
        panic!()
    };
    assert!(v2 > v1);
    let Cas::Conflict(Some(current)) =
        s.put_stream(&id, Some(v1), &record(), ttl, at(501)).await.unwrap()
    else {
        panic!("a stale version must lose")
    };
    assert_eq!(current.value, newer);
    // The write at 500 extended its life; reading did not.
    assert!(s.stream(&id, at(1_499)).await.unwrap().is_some());
    assert_eq!(s.stream(&id, at(1_500)).await.unwrap(), None);
    let Cas::Stored(_) = s.put_stream(&id, None, &record(), ttl, at(1_500)).await.unwrap() else {
        panic!("an expired record is no conflict")
    };
    let later = StreamRecord { last_used_at: at(1_600), ..record() };
    s.put_stream(&stream("b"), None, &later, ttl, at(1_600)).await.unwrap();
    let recent = s.recent_streams(10, at(1_700)).await.unwrap();
    assert_eq!(recent.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(s.recent_streams(1, at(1_700)).await.unwrap().len(), 1);
    // Another record of the same name has other versions.
    let old = s.stream(&id, at(1_700)).await.unwrap().unwrap().version;
    assert!(s.remove_stream(&id, at(1_700)).await.unwrap());
    assert!(!s.remove_stream(&id, at(1_700)).await.unwrap());
    s.put_stream(&id, None, &record(), ttl, at(1_701)).await.unwrap();
    assert!(matches!(
        s.put_stream(&id, Some(old), &record(), ttl, at(1_702)).await.unwrap(),
        Cas::Conflict(Some(_))
    ));
}

pub async fn one_stream_is_created_once(s: Arc<impl SessionStore>) {
    let tasks = (0..32).map(|_| {
        let s = s.clone();
        async move {
            matches!(
                s.put_stream(&stream("x"), None, &record(), 1_000, at(0)).await.unwrap(),
                Cas::Stored(_)
            )
        }
    });
    let wins = join_all(tasks).await.into_iter().filter(|won| *won).count();
    assert_eq!(wins, 1);
}

fn session(scope: &str) -> SessionKey {
    SessionKey { scope: scope.into(), orchestrator: "https://o:8935".into() }
}

fn session_record(state: Option<&str>) -> SessionRecord {
    SessionRecord {
        info: vec![1, 2, 3],
        info_at: T0,
        manifest_id: ManifestId::new("0a1b2c3d").unwrap(),
        payment_state: state.map(str::to_owned),
        credential: None,
        purchase: None,
    }
}

fn granted(lease: Lease) -> Fence {
    match lease {
        Lease::Granted { fence, .. } => fence,
        Lease::Held { .. } => panic!("expected the lease"),
    }
}

pub async fn leases(s: &impl SessionStore) {
    let (key, ttl) = (session("stream:a"), 60_000);
    let a = granted(s.lease_session(&key, &owner("a"), 100, at(0)).await.unwrap());
    assert_eq!(
        s.lease_session(&key, &owner("b"), 100, at(99)).await.unwrap(),
        Lease::Held { until: at(100) }
    );
    assert_eq!(s.session(&key, at(1)).await.unwrap(), None, "a lease alone is no session");
    assert_eq!(
        s.save_session(&key, a, &session_record(Some("s1")), ttl, at(10)).await.unwrap(),
        Saved::Yes
    );
    // The holder extends its lease under the same fence.
    assert_eq!(granted(s.lease_session(&key, &owner("a"), 100, at(50)).await.unwrap()), a);
    assert_eq!(
        s.lease_session(&key, &owner("b"), 100, at(149)).await.unwrap(),
        Lease::Held { until: at(150) }
    );
    // It lapses; the next holder has a newer fence and the old one is fenced out.
    let b = granted(s.lease_session(&key, &owner("b"), 100, at(150)).await.unwrap());
    assert!(b > a);
    assert_eq!(
        s.save_session(&key, a, &session_record(Some("late")), ttl, at(151)).await.unwrap(),
        Saved::Fenced
    );
    assert_eq!(s.remove_session(&key, a, at(151)).await.unwrap(), Saved::Fenced);
    s.release_session(&key, &owner("a"), at(151)).await.unwrap();
    assert!(matches!(
        s.lease_session(&key, &owner("c"), 100, at(152)).await.unwrap(),
        Lease::Held { .. }
    ));
    assert_eq!(
        s.session(&key, at(152)).await.unwrap().unwrap().payment_state.as_deref(),
        Some("s1")
    );
    // Refreshing the info needs no lease, but the same manifest.
    let (manifest, other) =
        (ManifestId::new("0a1b2c3d").unwrap(), ManifestId::new("ffffffff").unwrap());
    assert!(s.refresh_session_info(&key, &manifest, &[9], at(160)).await.unwrap());
    assert!(!s.refresh_session_info(&key, &other, &[8], at(160)).await.unwrap());
    let read = s.session(&key, at(161)).await.unwrap().unwrap();
    assert_eq!(
        (read.info, read.info_at, read.payment_state.as_deref()),
        (vec![9], at(160), Some("s1"))
    );
    // Somebody else's name releases nothing.
    s.release_session(&key, &owner("a"), at(165)).await.unwrap();
    assert!(matches!(
        s.lease_session(&key, &owner("c"), 100, at(166)).await.unwrap(),
        Lease::Held { .. }
    ));
    // Released: free at once. Removed: gone, but the fence keeps rising.
    s.release_session(&key, &owner("b"), at(170)).await.unwrap();
    let c = granted(s.lease_session(&key, &owner("c"), 100, at(171)).await.unwrap());
    assert!(c > b);
    assert_eq!(s.remove_session(&key, c, at(172)).await.unwrap(), Saved::Yes);
    assert_eq!(s.session(&key, at(173)).await.unwrap(), None);
    // Long after everything expired a fence is still never given twice.
    let d = granted(s.lease_session(&key, &owner("d"), 100, at(10_000_000)).await.unwrap());
    assert!(d > c);
    // Sizes are bounded.
    let huge =
        SessionRecord { info: vec![0; SessionRecord::MAX_INFO_BYTES + 1], ..session_record(None) };
    assert!(matches!(
        s.save_session(&key, d, &huge, ttl, at(10_000_001)).await,
        Err(StoreError::TooLarge { .. })
    ));
}

/// A holder that is slow to renew has what it had, unless somebody else had it meanwhile.
pub async fn leases_that_lapse(s: &impl SessionStore) {
    let (key, ttl) = (session("stream:slow"), 60_000);
    let lease = async |name, ms| s.lease_session(&key, &owner(name), 100, at(ms)).await;
    let save = async |fence, ms| {
        s.save_session(&key, fence, &session_record(Some("s")), ttl, at(ms)).await.unwrap()
    };
    let a = granted(lease("a", 0).await.unwrap());
    // Nobody had it: what is about to be written is not refused for the renewal's own sake.
    assert_eq!(granted(lease("a", 5_000).await.unwrap()), a);
    assert_eq!(save(a, 5_001).await, Saved::Yes);
    assert_eq!(lease("b", 5_099).await.unwrap(), Lease::Held { until: at(5_100) });
    // Somebody did, and gave it back.
    let b = granted(lease("b", 5_100).await.unwrap());
    assert_eq!(save(b, 5_101).await, Saved::Yes);
    s.release_session(&key, &owner("b"), at(5_102)).await.unwrap();
    let again = granted(lease("a", 5_103).await.unwrap());
    assert!(again != a && again != b);
    assert_eq!(save(a, 5_104).await, Saved::Fenced);
    // One who gave it back begins anew.
    s.release_session(&key, &owner("a"), at(5_105)).await.unwrap();
    assert_ne!(granted(lease("a", 5_106).await.unwrap()), again);
}

pub async fn one_holder_at_a_time(s: Arc<impl SessionStore>) {
    let tasks = (0..32).map(|i| {
        let s = s.clone();
        async move {
            let lease =
                s.lease_session(&session("x"), &owner(&format!("o{i}")), 100, at(0)).await.unwrap();
            matches!(lease, Lease::Granted { .. })
        }
    });
    assert_eq!(join_all(tasks).await.into_iter().filter(|won| *won).count(), 1);
}

fn account(session: &str) -> CreditKey {
    CreditKey {
        auth_id: AuthId::new("client:subject").unwrap(),
        sender: Address::repeat_byte(7),
        orchestrator: "https://o:8935".into(),
        session: session.into(),
    }
}

fn hold(id: impl ToString) -> HoldId {
    HoldId(id.to_string())
}

pub async fn credit(s: &impl SessionStore) {
    let (key, ttl) = (account("31_m"), 60_000);
    assert_eq!(s.credit(&key, at(0)).await.unwrap(), 0);
    assert_eq!(
        s.reserve(&key, &hold(1), 10, 0, at(0)).await.unwrap(),
        Reserve::Short { have_units: 0 }
    );
    assert_eq!(
        s.reserve(&key, &hold(0), 0, 0, at(0)).await.unwrap(),
        Reserve::Granted { left_units: 0 }
    );
    assert_eq!(s.book_purchase(&key, "p1", 100, ttl, at(0)).await.unwrap(), 100);
    assert_eq!(s.book_purchase(&key, "p1", 100, ttl, at(1)).await.unwrap(), 100, "booked once");
    // The floor gates, the estimate is what is taken.
    assert_eq!(
        s.reserve(&key, &hold(1), 30, 101, at(2)).await.unwrap(),
        Reserve::Short { have_units: 100 }
    );
    assert_eq!(
        s.reserve(&key, &hold(1), 30, 100, at(2)).await.unwrap(),
        Reserve::Granted { left_units: 70 }
    );
    assert_eq!(
        s.reserve(&key, &hold(1), 30, 100, at(2)).await.unwrap(),
        Reserve::Granted { left_units: 70 }
    );
    assert_eq!(
        s.reserve(&key, &hold(2), 71, 0, at(3)).await.unwrap(),
        Reserve::Short { have_units: 70 }
    );
    // Less used than estimated comes back, once.
    assert_eq!(s.settle(&key, &hold(1), 10, at(4)).await.unwrap(), 90);
    assert_eq!(s.settle(&key, &hold(1), 10, at(5)).await.unwrap(), 90);
    assert_eq!(s.settle(&key, &hold("unknown"), 10, at(5)).await.unwrap(), 90);
    // More used than estimated makes it negative.
    assert!(matches!(
        s.reserve(&key, &hold(3), 90, 0, at(6)).await.unwrap(),
        Reserve::Granted { .. }
    ));
    assert_eq!(s.settle(&key, &hold(3), 120, at(7)).await.unwrap(), -30);
    assert_eq!(s.book_purchase(&key, "p2", 50, ttl, at(8)).await.unwrap(), 20);
    // Exactly what was estimated: the hold ends, nothing moves, and it cannot be settled any more.
    for n in [5, 6] {
        let granted = s.reserve(&key, &hold(n), 5, 0, at(8)).await.unwrap();
        assert!(matches!(granted, Reserve::Granted { .. }));
    }
    let ended = [hold(5), hold("unknown")];
    s.end_holds(&key, &ended, at(8)).await.unwrap();
    s.end_holds(&account("other"), &ended, at(8)).await.unwrap();
    s.end_holds(&key, &[], at(8)).await.unwrap();
    assert_eq!(s.settle(&key, &hold(5), 0, at(8)).await.unwrap(), 10);
    assert_eq!(s.settle(&key, &hold(6), 0, at(8)).await.unwrap(), 15);
    assert_eq!(
        s.reserve(&key, &hold(5), 15, 0, at(8)).await.unwrap(),
        Reserve::Granted { left_units: 0 }
    );
    s.end_holds(&key, &[hold(5)], at(8)).await.unwrap();
    s.book_purchase(&key, "p5", 20, ttl, at(8)).await.unwrap();
    assert_eq!(s.credit(&account("other"), at(8)).await.unwrap(), 0, "accounts are separate");
    // Forfeit: nothing left, and what was out does not come back.
    assert!(matches!(
        s.reserve(&key, &hold(4), 5, 0, at(9)).await.unwrap(),
        Reserve::Granted { .. }
    ));
    s.forfeit(&key, at(10)).await.unwrap();
    assert_eq!(s.settle(&key, &hold(4), 0, at(11)).await.unwrap(), 0);
    // Absurd numbers do not wrap.
    s.book_purchase(&key, "p3", u64::MAX, ttl, at(12)).await.unwrap();
    assert_eq!(s.book_purchase(&key, "p4", u64::MAX, ttl, at(12)).await.unwrap(), MAX_CREDIT_UNITS);
    assert_eq!(s.credit(&key, at(12 + ttl)).await.unwrap(), 0, "expired");
}

pub async fn credit_is_exact_under_concurrency(s: Arc<impl SessionStore>) {
    let key = account("x");
    s.book_purchase(&key, "p", 100, 60_000, at(0)).await.unwrap();
    let tasks = (0..64).map(|i| {
        let (s, key) = (s.clone(), key.clone());
        async move {
            matches!(
                s.reserve(&key, &hold(i), 10, 0, at(1)).await.unwrap(),
                Reserve::Granted { .. }
            )
        }
    });
    assert_eq!(join_all(tasks).await.into_iter().filter(|got| *got).count(), 10);
    assert_eq!(s.credit(&key, at(2)).await.unwrap(), 0);
}

pub async fn reputation(s: &impl SessionStore) {
    assert!(s.standings("video", at(0)).await.unwrap().is_empty());
    s.record_score("video", "o1", 0.5, 1_000, at(0)).await.unwrap();
    s.record_score("video", "o1", 0.25, 1_000, at(1)).await.unwrap();
    s.suspend("video", "o2", "500 Internal", at(500), at(1)).await.unwrap();
    s.suspend("video", "o2", "sooner", at(400), at(2)).await.unwrap();
    let all = s.standings("video", at(10)).await.unwrap();
    assert_eq!(
        all["o1"],
        Standing { latency_score: Some(0.25), suspended_until: None, suspended_because: None }
    );
    assert_eq!(
        (all["o2"].suspended_until, all["o2"].suspended_because.as_deref()),
        (Some(at(500)), Some("500 Internal"))
    );
    assert!(s.standings("other", at(10)).await.unwrap().is_empty());
    assert!(!s.standings("video", at(500)).await.unwrap().contains_key("o2"));
    assert!(s.standings("video", at(1_001)).await.unwrap().is_empty());
    s.suspend("video", "o3", "x", at(9_000), at(2_000)).await.unwrap();
    s.release_suspensions("video", at(2_001)).await.unwrap();
    assert!(s.standings("video", at(2_002)).await.unwrap().is_empty());
}

pub async fn pools(s: &impl SessionStore) {
    let key = PoolKey("ai:31_m".into());
    assert_eq!(s.pool(&key, at(0)).await.unwrap(), None);
    assert!(s.begin_pool_refresh(&key, &owner("a"), 100, at(0)).await.unwrap());
    assert!(!s.begin_pool_refresh(&key, &owner("b"), 100, at(99)).await.unwrap());
    assert!(
        s.begin_pool_refresh(&PoolKey("video".into()), &owner("b"), 100, at(99)).await.unwrap()
    );
    let entry = PoolEntry {
        asked_uri: "https://o:8935".into(),
        transcoder: "https://o:8935".into(),
        score: 1.0,
        latency_ms: 7,
        info: vec![1],
        last_seen: at(50),
    };
    let pool = Pool { refreshed_at: at(50), entries: vec![entry] };
    s.put_pool(&key, &pool, 1_000, at(50)).await.unwrap();
    s.end_pool_refresh(&key, &owner("b"), at(51)).await.unwrap();
    assert!(!s.begin_pool_refresh(&key, &owner("b"), 100, at(52)).await.unwrap(), "not b's to end");
    s.end_pool_refresh(&key, &owner("a"), at(53)).await.unwrap();
    assert!(s.begin_pool_refresh(&key, &owner("b"), 100, at(54)).await.unwrap());
    assert!(s.begin_pool_refresh(&key, &owner("c"), 100, at(154)).await.unwrap(), "lapsed");
    assert_eq!(s.pool(&key, at(1_049)).await.unwrap().as_ref(), Some(&pool));
    // Replaced at the very same time: it is another one all the same.
    let smaller = Pool { refreshed_at: at(50), entries: vec![] };
    s.put_pool(&key, &smaller, 1_000, at(50)).await.unwrap();
    assert_eq!(s.pool(&key, at(1_049)).await.unwrap(), Some(smaller));
    s.put_pool(&key, &pool, 1_000, at(50)).await.unwrap();
    assert_eq!(s.pool(&key, at(1_049)).await.unwrap(), Some(pool));
    assert_eq!(s.pool(&key, at(1_050)).await.unwrap(), None);
}

pub async fn results(s: &impl SessionStore) {
    let key = ResultKey { stream: stream("a"), seq: 3, hash: B256::repeat_byte(1) };
    let other = ResultKey { hash: B256::repeat_byte(2), ..key.clone() };
    let result = |k: &str| ResultRecord {
        renditions: vec![StoredRendition {
            name: "p".into(),
            format: SegmentFormat::MpegTs,
            key: SegmentKey(k.into()),
        }],
    };
    assert_eq!(s.begin_result(&key, &owner("a"), 100, at(0)).await.unwrap(), Begin::Ours);
    assert_eq!(
        s.begin_result(&key, &owner("b"), 100, at(1)).await.unwrap(),
        Begin::InProgress { until: at(100) }
    );
    assert_eq!(
        s.begin_result(&other, &owner("b"), 100, at(1)).await.unwrap(),
        Begin::Ours,
        "other bytes, other result"
    );
    s.abandon_result(&key, &owner("b"), at(2)).await.unwrap();
    assert!(matches!(
        s.begin_result(&key, &owner("b"), 100, at(2)).await.unwrap(),
        Begin::InProgress { .. }
    ));
    s.abandon_result(&key, &owner("a"), at(3)).await.unwrap();
    assert_eq!(s.begin_result(&key, &owner("b"), 100, at(3)).await.unwrap(), Begin::Ours);
    // b was slow, c took over, both finish: the first answer stays.
    assert_eq!(s.begin_result(&key, &owner("c"), 100, at(103)).await.unwrap(), Begin::Ours);
    assert_eq!(s.finish_result(&key, &result("c"), 1_000, at(110)).await.unwrap(), result("c"));
    assert_eq!(s.finish_result(&key, &result("b"), 1_000, at(111)).await.unwrap(), result("c"));
    assert_eq!(
        s.begin_result(&key, &owner("d"), 100, at(1_109)).await.unwrap(),
        Begin::Done(result("c"))
    );
    s.abandon_result(&key, &owner("c"), at(1_109)).await.unwrap();
    assert_eq!(
        s.begin_result(&key, &owner("d"), 100, at(1_109)).await.unwrap(),
        Begin::Done(result("c"))
    );
    assert_eq!(
        s.begin_result(&key, &owner("d"), 100, at(1_110)).await.unwrap(),
        Begin::Ours,
        "expired"
    );
}

pub async fn windows(s: &impl SessionStore) {
    let (id, rules) = (stream("a"), HlsRules::default());
    let entry = |seq| HlsEntry {
        seq,
        duration_ms: 2_000,
        at: T0,
        discontinuity: false,
        files: vec![("source".into(), SegmentKey(format!("a/{seq}")))],
    };
    let tracks =
        [HlsTrack { name: "source".into(), width: 0, height: 0, bandwidth: 1, codecs: None }];
    assert_eq!(s.window(&id, at(0)).await.unwrap(), None);
    for (seq, outcome) in [(0, HlsInsert::Taken), (1, HlsInsert::Taken), (1, HlsInsert::Duplicate)]
    {
        assert_eq!(
            s.publish(&id, &tracks, entry(seq), rules, 1_000, at(seq)).await.unwrap(),
            outcome
        );
    }
    let window = s.window(&id, at(1_000)).await.unwrap().unwrap();
    assert_eq!(window.entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(window.tracks, tracks);
    assert_eq!(s.window(&id, at(1_001)).await.unwrap(), None);

    // A number that has passed: a straggler while the stream is pushed, a restart after a silence,
    // and the backend keeps in mind from where the numbers count.
    let id = stream("restarted");
    let again = |seq| HlsEntry {
        files: vec![("source".into(), SegmentKey(format!("again/{seq}")))],
        ..entry(seq)
    };
    let (taken, duplicate, late) = (HlsInsert::Taken, HlsInsert::Duplicate, HlsInsert::TooLate);
    for (entry, when, outcome) in [
        (entry(5), 0, taken),
        (entry(6), 6_000, taken),
        (entry(3), 6_001, late),
        (again(5), 6_001, duplicate),
        (entry(5), 12_000, duplicate),
        (again(0), 12_000, taken),
        (again(1), 12_001, taken),
        (again(0), 12_002, duplicate),
    ] {
        let seq = entry.seq;
        let got = s.publish(&id, &tracks, entry, rules, 60_000, at(when)).await.unwrap();
        assert_eq!(got, outcome, "segment {seq} at {when}");
    }
    let window = s.window(&id, at(12_002)).await.unwrap().unwrap();
    let shown: Vec<_> = window.entries.iter().map(|e| (e.seq, e.discontinuity)).collect();
    assert_eq!(shown, [(5, false), (6, false), (0, true), (1, false)]);
}

/// Two segments are in work when the replica with the first dies. Who takes over when its claim lapses
/// still finds the segment's place; and one that hung for so long that it was passed over is a straggler.
pub async fn claims_and_gaps(s: &impl SessionStore) {
    let (rules, tracks) = (HlsRules::default(), []);
    let entry = |seq| HlsEntry {
        seq,
        duration_ms: 2_000,
        at: T0,
        discontinuity: false,
        files: vec![("source".into(), SegmentKey(format!("gap/{seq}")))],
    };
    for (name, taken_over, outcome, shown) in [
        (
            "taken-over",
            CLAIM_MS,
            HlsInsert::Taken,
            vec![(0, false), (1, false), (2, false), (3, false)],
        ),
        ("hung", 15_000, HlsInsert::TooLate, vec![(0, false), (2, true), (3, false)]),
    ] {
        let id = stream(name);
        let key = ResultKey { stream: id.clone(), seq: 1, hash: B256::repeat_byte(1) };
        let publish = |seq, ms| s.publish(&id, &tracks, entry(seq), rules, 60_000, at(ms));
        assert_eq!(publish(0, 0).await.unwrap(), HlsInsert::Taken);
        let begun = s.begin_result(&key, &owner("dies"), CLAIM_MS, at(0)).await.unwrap();
        assert_eq!(begun, Begin::Ours);
        assert_eq!(publish(2, 1).await.unwrap(), HlsInsert::Taken);
        let early = s.begin_result(&key, &owner("next"), CLAIM_MS, at(CLAIM_MS - 1)).await.unwrap();
        assert_eq!(early, Begin::InProgress { until: at(CLAIM_MS) });
        let next = s.begin_result(&key, &owner("next"), CLAIM_MS, at(taken_over)).await.unwrap();
        assert_eq!(next, Begin::Ours);
        // It takes a second to make it.
        let published = at(taken_over).plus_ms(1_000).since_ms(T0);
        assert_eq!(publish(1, published).await.unwrap(), outcome, "{name}");
        assert_eq!(publish(3, published + 1).await.unwrap(), HlsInsert::Taken);
        let window = s.window(&id, at(published + 1)).await.unwrap().unwrap();
        let entries: Vec<_> = window.entries.iter().map(|e| (e.seq, e.discontinuity)).collect();
        assert_eq!(entries, shown, "{name}");
    }
}

/// Runs futures together on the current task: enough to interleave backends that wait, and a
/// backend that does not wait is atomic anyway. Backends with threads add their own test.
async fn join_all<T>(tasks: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    use std::pin::Pin;
    use std::task::Poll;
    let mut running: Vec<(Pin<Box<_>>, Option<T>)> = tasks.map(|t| (Box::pin(t), None)).collect();
    std::future::poll_fn(move |cx| {
        for (task, done) in &mut running {
            if done.is_none()
                && let Poll::Ready(value) = task.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if running.iter().all(|(_, done)| done.is_some()) {
            Poll::Ready(running.iter_mut().filter_map(|(_, done)| done.take()).collect())
        } else {
            Poll::Pending
        }
    })
    .await
}
