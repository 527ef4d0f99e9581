//! Limits, quotas and places.

use super::*;

fn limit(key: &str, burst: u32, cost: u32) -> Limit {
    Limit { key: key.into(), rule: Rule::Rate { per_ms: 1_000, burst }, cost }
}

fn quota(key: &str, most: u64, cost: u32) -> Limit {
    Limit { key: key.into(), rule: Rule::Quota { per_ms: 1_000, most }, cost }
}

fn allowed(left: &[u64]) -> Taken {
    Taken::Allowed { left: left.to_vec(), reset_ms: Vec::new() }
}

/// Without when it is there again, which has a test of its own.
async fn taken(s: &impl SessionStore, limits: &[Limit], now: UnixMs) -> Result<Taken, StoreError> {
    let mut taken = s.take(limits, now).await?;
    if let Taken::Allowed { reset_ms, .. } = &mut taken {
        reset_ms.clear();
    }
    Ok(taken)
}

async fn reset_of(s: &impl SessionStore, limits: &[Limit], ms: u64) -> Vec<u64> {
    match s.take(limits, at(ms)).await.unwrap() {
        Taken::Allowed { reset_ms, .. } => reset_ms,
        refused @ Taken::Limited { .. } => panic!("{refused:?}"),
    }
}

/// When all is there again, and what is given back.
pub async fn given_back(s: &impl SessionStore) {
    let both = |cost| [limit("a/x", 10, cost), quota("a/x", 10, cost)];
    assert_eq!(reset_of(s, &both(4), 0).await, [400, 1_000]);
    assert_eq!(reset_of(s, &both(4), 100).await, [700, 900]);
    assert_eq!(reset_of(s, &[quota("a/x", 10, 0)], 999).await, [1]);
    s.give(&[quota("a/x", 10, 4)], at(200)).await.unwrap();
    assert_eq!(taken(s, &both(0), at(200)).await.unwrap(), allowed(&[4, 6]), "of that alone");
    s.give(&both(4), at(200)).await.unwrap();
    assert_eq!(taken(s, &both(0), at(200)).await.unwrap(), allowed(&[8, 10]));
    // No more than there is, nothing of what nobody took, and no credit for what begins anew.
    s.give(&both(9), at(200)).await.unwrap();
    s.give(&[quota("b", 5, 1), limit("b", 5, 1), limit("c", 5, 6)], at(200)).await.unwrap();
    assert_eq!(taken(s, &both(0), at(200)).await.unwrap(), allowed(&[10, 10]));
    assert_eq!(taken(s, &[quota("b", 5, 5)], at(200)).await.unwrap(), allowed(&[0]));
    assert_eq!(taken(s, &both(10), at(5_000)).await.unwrap(), allowed(&[0, 0]));
    s.give(&[quota("a/x", 10, 3)], at(6_500)).await.unwrap();
    assert_eq!(taken(s, &[quota("a/x", 10, 3)], at(6_500)).await.unwrap(), allowed(&[7]));
}

fn limited(index: usize, retry_after_ms: u64) -> Taken {
    Taken::Limited { index, retry_after_ms }
}

pub async fn limits(s: &impl SessionStore) {
    assert_eq!(taken(s, &[], at(0)).await.unwrap(), allowed(&[]));
    // The burst at once, then one every tenth of the period, wherever the period began.
    let ten = |cost| [limit("a/jobs", 10, cost)];
    assert_eq!(taken(s, &ten(9), at(0)).await.unwrap(), allowed(&[1]));
    assert_eq!(taken(s, &ten(1), at(0)).await.unwrap(), allowed(&[0]));
    assert_eq!(taken(s, &ten(1), at(0)).await.unwrap(), limited(0, 100));
    assert_eq!(taken(s, &ten(1), at(99)).await.unwrap(), limited(0, 1));
    assert_eq!(taken(s, &ten(1), at(100)).await.unwrap(), allowed(&[0]));
    assert_eq!(taken(s, &ten(3), at(350)).await.unwrap(), limited(0, 50));
    assert_eq!(taken(s, &ten(0), at(350)).await.unwrap(), allowed(&[2]), "asking costs nothing");
    assert_eq!(taken(s, &ten(11), at(350)).await.unwrap(), limited(0, 1_000), "never fits");
    assert_eq!(taken(s, &ten(10), at(1_100)).await.unwrap(), allowed(&[0]), "all of it is back");
    // Nothing is taken unless all allow.
    let both = |at_a, at_b| [limit("b/x", 10, at_a), limit("b/y", 2, at_b)];
    assert_eq!(taken(s, &both(4, 2), at(0)).await.unwrap(), allowed(&[6, 0]));
    assert_eq!(taken(s, &both(4, 1), at(0)).await.unwrap(), limited(1, 500));
    assert_eq!(taken(s, &both(7, 1), at(0)).await.unwrap(), limited(0, 100));
    assert_eq!(taken(s, &both(6, 0), at(0)).await.unwrap(), allowed(&[0, 0]));
    // Also when they are of different owners.
    let apart = |at_a, at_b| [limit("c/x", 10, at_a), limit("everybody", 2, at_b)];
    assert_eq!(taken(s, &apart(4, 2), at(0)).await.unwrap(), allowed(&[6, 0]));
    assert_eq!(taken(s, &apart(4, 1), at(0)).await.unwrap(), limited(1, 500));
    assert_eq!(taken(s, &apart(6, 0), at(0)).await.unwrap(), allowed(&[0, 0]), "given back");
    // One key twice in a request counts twice.
    let twice = [limit("d/x", 3, 2), limit("d/x", 3, 2)];
    assert_eq!(taken(s, &twice, at(0)).await.unwrap(), limited(1, 334));
    assert_eq!(taken(s, &[limit("d/x", 3, 3)], at(0)).await.unwrap(), allowed(&[0]));
    // A replica whose clock is behind waits longer and gets nothing twice.
    assert_eq!(taken(s, &[limit("d/x", 3, 1)], at(0)).await.unwrap(), limited(0, 334));
    let behind = UnixMs(T0.0 - 200);
    assert_eq!(taken(s, &[limit("d/x", 3, 1)], behind).await.unwrap(), limited(0, 534));
    // Odd keys and absurd numbers.
    for key in ["", "{", "}/{x}", "a b\r\n/c", "é/x", &"x".repeat(2_000)] {
        assert_eq!(taken(s, &[limit(key, 1, 1)], at(0)).await.unwrap(), allowed(&[0]), "{key}");
        assert!(matches!(
            taken(s, &[limit(key, 1, 1)], at(0)).await.unwrap(),
            Taken::Limited { .. }
        ));
    }
    let rule = Rule::Rate { per_ms: u64::MAX, burst: u32::MAX };
    let absurd = Limit { key: "e".into(), rule, cost: u32::MAX };
    assert_eq!(taken(s, std::slice::from_ref(&absurd), at(0)).await.unwrap(), allowed(&[0]));
    let more = Limit { cost: 1, ..absurd };
    assert!(matches!(taken(s, &[more], at(0)).await.unwrap(), Taken::Limited { .. }));
}

pub async fn limits_are_exact_under_concurrency(s: Arc<impl SessionStore>) {
    let tasks = (0..64).map(|_| {
        let s = s.clone();
        async move {
            let both = [limit("x/a", 10, 1), limit("x/b", 64, 1)];
            matches!(taken(&*s, &both, at(0)).await.unwrap(), Taken::Allowed { .. })
        }
    });
    assert_eq!(join_all(tasks).await.into_iter().filter(|took| *took).count(), 10);
    assert_eq!(taken(&*s, &[limit("x/b", 64, 0)], at(0)).await.unwrap(), allowed(&[54]));
}

pub async fn quotas(s: &impl SessionStore) {
    let take =
        async |key, most, cost, ms| taken(s, &[quota(key, most, cost)], at(ms)).await.unwrap();
    assert_eq!(take("a", 0, 0, 0).await, allowed(&[0]));
    assert_eq!(take("a", 100, 60, 0).await, allowed(&[40]));
    assert_eq!(take("a", 100, 41, 10).await, limited(0, 990));
    assert_eq!(take("a", 100, 40, 20).await, allowed(&[0]));
    assert_eq!(take("a", 50, 0, 30).await, allowed(&[0]), "asking costs nothing");
    assert_eq!(take("a", u64::MAX, 7, 999).await, allowed(&[Rule::MOST - 107]));
    assert_eq!(take("b", 1, 1, 999).await, allowed(&[0]));
    // It begins anew where its first cost said, and not later.
    assert_eq!(take("a", 100, 5, 1_000).await, allowed(&[95]));
    assert_eq!(take("a", 100, 96, 1_001).await, limited(0, 999));
    // With a rate of the same name, in one step: nothing is taken unless both allow.
    let both = async |rate, sum, ms| {
        taken(s, &[limit("c/x", 10, rate), quota("c/x", 5, sum)], at(ms)).await.unwrap()
    };
    assert_eq!(both(4, 2, 0).await, allowed(&[6, 3]));
    assert_eq!(both(4, 4, 0).await, limited(1, 1_000));
    assert_eq!(both(7, 1, 0).await, limited(0, 100));
    assert_eq!(both(6, 3, 0).await, allowed(&[0, 0]));
    // The same of different owners, and twice in one request.
    let apart = [quota("d/x", 10, 4), quota("everybody's", 2, 1)];
    assert_eq!(taken(s, &apart, at(0)).await.unwrap(), allowed(&[6, 1]));
    assert_eq!(taken(s, &apart, at(0)).await.unwrap(), allowed(&[2, 0]));
    let apart = [quota("d/x", 10, 1), quota("everybody's", 2, 1)];
    assert_eq!(taken(s, &apart, at(0)).await.unwrap(), limited(1, 1_000));
    assert_eq!(take("d/x", 10, 2, 0).await, allowed(&[0]), "given back");
    let twice = [quota("e/x", 3, 2), quota("e/x", 3, 2)];
    assert_eq!(taken(s, &twice, at(0)).await.unwrap(), limited(1, 1_000));
    assert_eq!(take("e/x", 3, 3, 0).await, allowed(&[0]));
    let long = Rule::Quota { per_ms: u64::MAX, most: u64::MAX };
    let long = Limit { key: "f".into(), rule: long, cost: u32::MAX };
    let left = Rule::MOST - u64::from(u32::MAX);
    assert_eq!(taken(s, &[long], at(0)).await.unwrap(), allowed(&[left]));
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
