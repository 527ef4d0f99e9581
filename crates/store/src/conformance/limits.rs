//! Limits, quotas and places.

use super::*;

fn limit(key: &str, burst: u32, cost: u32) -> Limit {
    Limit { key: key.into(), per_ms: 1_000, burst, cost }
}

fn allowed(left: &[u32]) -> Taken {
    Taken::Allowed { left: left.to_vec() }
}

fn limited(index: usize, retry_after_ms: u64) -> Taken {
    Taken::Limited { index, retry_after_ms }
}

pub async fn limits(s: &impl SessionStore) {
    assert_eq!(s.take(&[], at(0)).await.unwrap(), allowed(&[]));
    // The burst at once, then one every tenth of the period, wherever the period began.
    let ten = |cost| [limit("a/jobs", 10, cost)];
    assert_eq!(s.take(&ten(9), at(0)).await.unwrap(), allowed(&[1]));
    assert_eq!(s.take(&ten(1), at(0)).await.unwrap(), allowed(&[0]));
    assert_eq!(s.take(&ten(1), at(0)).await.unwrap(), limited(0, 100));
    assert_eq!(s.take(&ten(1), at(99)).await.unwrap(), limited(0, 1));
    assert_eq!(s.take(&ten(1), at(100)).await.unwrap(), allowed(&[0]));
    assert_eq!(s.take(&ten(3), at(350)).await.unwrap(), limited(0, 50));
    assert_eq!(s.take(&ten(0), at(350)).await.unwrap(), allowed(&[2]), "asking costs nothing");
    assert_eq!(s.take(&ten(11), at(350)).await.unwrap(), limited(0, 1_000), "never fits");
    assert_eq!(s.take(&ten(10), at(1_100)).await.unwrap(), allowed(&[0]), "all of it is back");
    // Nothing is taken unless all allow.
    let both = |at_a, at_b| [limit("b/x", 10, at_a), limit("b/y", 2, at_b)];
    assert_eq!(s.take(&both(4, 2), at(0)).await.unwrap(), allowed(&[6, 0]));
    assert_eq!(s.take(&both(4, 1), at(0)).await.unwrap(), limited(1, 500));
    assert_eq!(s.take(&both(7, 1), at(0)).await.unwrap(), limited(0, 100));
    assert_eq!(s.take(&both(6, 0), at(0)).await.unwrap(), allowed(&[0, 0]));
    // Also when they are of different owners.
    let apart = |at_a, at_b| [limit("c/x", 10, at_a), limit("everybody", 2, at_b)];
    assert_eq!(s.take(&apart(4, 2), at(0)).await.unwrap(), allowed(&[6, 0]));
    assert_eq!(s.take(&apart(4, 1), at(0)).await.unwrap(), limited(1, 500));
    assert_eq!(s.take(&apart(6, 0), at(0)).await.unwrap(), allowed(&[0, 0]), "given back");
    // One key twice in a request counts twice.
    let twice = [limit("d/x", 3, 2), limit("d/x", 3, 2)];
    assert_eq!(s.take(&twice, at(0)).await.unwrap(), limited(1, 334));
    assert_eq!(s.take(&[limit("d/x", 3, 3)], at(0)).await.unwrap(), allowed(&[0]));
    // A replica whose clock is behind waits longer and gets nothing twice.
    assert_eq!(s.take(&[limit("d/x", 3, 1)], at(0)).await.unwrap(), limited(0, 334));
    let behind = UnixMs(T0.0 - 200);
    assert_eq!(s.take(&[limit("d/x", 3, 1)], behind).await.unwrap(), limited(0, 534));
    // Odd keys and absurd numbers.
    for key in ["", "{", "}/{x}", "a b\r\n/c", "é/x", &"x".repeat(2_000)] {
        assert_eq!(s.take(&[limit(key, 1, 1)], at(0)).await.unwrap(), allowed(&[0]), "{key}");
        assert!(matches!(s.take(&[limit(key, 1, 1)], at(0)).await.unwrap(), Taken::Limited { .. }));
    }
    let absurd = Limit { key: "e".into(), per_ms: u64::MAX, burst: u32::MAX, cost: u32::MAX };
    assert_eq!(s.take(std::slice::from_ref(&absurd), at(0)).await.unwrap(), allowed(&[0]));
    let more = Limit { cost: 1, ..absurd };
    assert!(matches!(s.take(&[more], at(0)).await.unwrap(), Taken::Limited { .. }));
}

pub async fn limits_are_exact_under_concurrency(s: Arc<impl SessionStore>) {
    let tasks = (0..64).map(|_| {
        let s = s.clone();
        async move {
            let both = [limit("x/a", 10, 1), limit("x/b", 64, 1)];
            matches!(s.take(&both, at(0)).await.unwrap(), Taken::Allowed { .. })
        }
    });
    assert_eq!(join_all(tasks).await.into_iter().filter(|took| *took).count(), 10);
    assert_eq!(s.take(&[limit("x/b", 64, 0)], at(0)).await.unwrap(), allowed(&[54]));
}

pub async fn quotas(s: &impl SessionStore) {
    let (added, ttl) = (|total| QuotaTaken::Added { total }, 1_000);
    let over = |total, ms| QuotaTaken::Over { total, resets_at: at(ms) };
    assert_eq!(s.quota_add("a", 0, Some(0), ttl, at(0)).await.unwrap(), added(0));
    assert_eq!(s.quota_add("a", 60, Some(100), ttl, at(0)).await.unwrap(), added(60));
    assert_eq!(s.quota_add("a", 41, Some(100), ttl, at(10)).await.unwrap(), over(60, 1_000));
    assert_eq!(s.quota_add("a", 40, Some(100), ttl, at(20)).await.unwrap(), added(100));
    assert_eq!(s.quota_add("a", 0, Some(50), ttl, at(30)).await.unwrap(), added(100));
    assert_eq!(s.quota_add("a", 7, None, ttl, at(999)).await.unwrap(), added(107));
    assert_eq!(s.quota_add("b", 1, Some(1), ttl, at(999)).await.unwrap(), added(1));
    // It begins anew where its first addition said, and not later.
    assert_eq!(s.quota_add("a", 5, Some(100), ttl, at(1_000)).await.unwrap(), added(5));
    let most = QuotaTaken::MAX_TOTAL;
    assert_eq!(s.quota_add("c", u64::MAX, None, ttl, at(0)).await.unwrap(), over(0, 1_000));
    assert_eq!(s.quota_add("c", most - 1, None, ttl, at(0)).await.unwrap(), added(most - 1));
    assert_eq!(s.quota_add("c", 2, None, ttl, at(0)).await.unwrap(), over(most - 1, 1_000));
    assert_eq!(s.quota_add("c", 1, Some(most), ttl, at(0)).await.unwrap(), added(most));
}

pub async fn slots(s: &impl SessionStore) {
    let (a, b, c) = (owner("a"), owner("b"), owner("c"));
    assert!(!s.take_slot("k", &a, 0, 100, at(0)).await.unwrap());
    assert!(s.take_slot("k", &a, 2, 100, at(0)).await.unwrap());
    assert!(s.take_slot("k", &b, 2, 100, at(0)).await.unwrap());
    assert!(!s.take_slot("k", &c, 2, 100, at(1)).await.unwrap());
    assert!(s.take_slot("other", &c, 2, 100, at(1)).await.unwrap());
    assert!(s.take_slot("k", &a, 2, 100, at(50)).await.unwrap(), "it stays");
    s.free_slot("k", &c, at(51)).await.unwrap();
    assert!(!s.take_slot("k", &c, 2, 100, at(51)).await.unwrap(), "that was not c's to free");
    s.free_slot("k", &a, at(52)).await.unwrap();
    assert!(s.take_slot("k", &c, 2, 100, at(53)).await.unwrap());
    assert!(!s.take_slot("k", &a, 2, 100, at(99)).await.unwrap());
    assert!(s.take_slot("k", &a, 2, 100, at(100)).await.unwrap(), "b died");
}
