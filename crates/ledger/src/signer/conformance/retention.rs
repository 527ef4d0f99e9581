//! What is old goes, and what it is needed for stays.

use super::*;

const DAY: i64 = 86_400_000;

/// A session of payments on these days, one ticket each, of the counter `counter`.
async fn session(ledger: &Ledger, state: u32, days: impl IntoIterator<Item = i64>) {
    for (sequence, day) in (0..).zip(days) {
        let asked = charged(ask(state, sequence, 1, 1), &[charge("a", None)]);
        let held = hold(ledger, asked).await;
        let mut payment = payment(state, sequence, held);
        payment.now_ns = (day * DAY + i64::from(state)) * 1_000_000;
        let name = format!("{state}/{sequence}");
        let id = uuid::Uuid::new_v4();
        payment.event = Some(NewEvent { id, payload: name.into_bytes() });
        if let Some(new) = &mut payment.new_session {
            new.idempotency_key = Some(format!("key {state}"));
        }
        assert!(matches!(ledger.commit(payment).await.unwrap(), Committed::Stored(_)));
    }
}

/// Digest of each ticket: here, of the whole answer.
fn read(answer: &[u8]) -> Option<Vec<B256>> {
    (!answer.starts_with(b"answer 3")).then(|| vec![B256::left_padding_from(&answer[..8])])
}

async fn everything(ledger: &Ledger) -> Vec<Usage> {
    let all = UsageQuery { from_ms: 0, to_ms: i64::MAX, account: None };
    ledger.usage_at_once(all).await.unwrap()
}

pub async fn answers_shrink_and_payments_stay(books: &impl Books) {
    let ledger = books.open("one").await;
    session(&ledger, 1, [1, 2, 3, 4]).await;
    session(&ledger, 3, [1]).await;
    let (rows, usage) = (ledger.payments(9).await.unwrap(), everything(&ledger).await);
    let whole = ledger.payment(&id(1), 3).await.unwrap().unwrap();
    assert_eq!(digests_left(&whole.answer), None);
    // In steps, oldest first; then there is nothing more.
    for expected in [2, 2, 0] {
        assert_eq!(ledger.shrink_answers(4 * DAY, 2, read).await.unwrap(), expected);
    }
    assert_eq!(ledger.shrink_answers(3 * DAY, 2, read).await.unwrap(), 0);
    for sequence in 0..3 {
        let stored = ledger.payment(&id(1), sequence).await.unwrap().unwrap();
        assert_eq!(digests_left(&stored.answer), Some(vec![B256::left_padding_from(b"answer 1")]));
        assert_eq!((&stored.binding, stored.units), (&whole.binding, whole.units));
    }
    assert_eq!(ledger.payment(&id(1), 3).await.unwrap().unwrap(), whole, "not old enough");
    let unread = ledger.payment(&id(3), 0).await.unwrap().unwrap();
    assert_eq!(digests_left(&unread.answer), None, "what cannot be read stays");
    assert_eq!(ledger.payments(9).await.unwrap(), rows);
    assert_eq!(everything(&ledger).await, usage);
    // It goes on where it was, also after a restart.
    ledger.close().await;
    let ledger = books.open("one").await;
    assert_eq!(ledger.shrink_answers(9 * DAY, 9, read).await.unwrap(), 1);
    ledger.close().await;
}

pub async fn old_payments_become_lines_and_nothing_is_lost_of_the_sums(books: &impl Books) {
    let ledger = books.open("one").await;
    session(&ledger, 1, [1, 1, 2, 3]).await;
    session(&ledger, 2, [2, 2]).await;
    session(&ledger, 3, [5]).await;
    let (usage, summary) = (everything(&ledger).await, ledger.summary().await.unwrap());
    assert_eq!(ledger.pruned().await.unwrap(), Pruned::default());
    for (limit, expected) in [(2, 2), (2, 2), (9, 1), (9, 0)] {
        assert_eq!(ledger.prune_payments(3 * DAY, limit).await.unwrap(), expected);
        assert_eq!(everything(&ledger).await, usage);
        assert_eq!(ledger.summary().await.unwrap(), summary);
    }
    let pruned = Pruned { before_ms: 3 * DAY, payments: 5, tickets: 5 };
    assert_eq!(ledger.pruned().await.unwrap(), pruned);
    assert_eq!(ledger.payments(9).await.unwrap().len(), 2);
    assert_eq!(ledger.session(&id(2)).await.unwrap(), None, "its last payment went");
    assert!(ledger.session(&id(1)).await.unwrap().is_some());
    // Lines of later steps add to those of earlier ones.
    let lines = ledger.pruned_after(0, 9).await.unwrap();
    let said: Vec<_> = lines.iter().map(|l| (l.day_ms / DAY, l.charged_wei)).collect();
    assert_eq!(said, [(1, Wei::from_u64(2 * EV)), (2, Wei::from_u64(3 * EV))]);
    assert_eq!(ledger.pruned_after(lines[0].n, 9).await.unwrap(), lines[1..]);
    assert_eq!(ledger.prune_payments(9 * DAY, 9).await.unwrap(), 2);
    assert_eq!((everything(&ledger).await, ledger.summary().await.unwrap()), (usage, summary));
    assert_eq!(ledger.sessions(9).await.unwrap(), []);
    // Of some days or one account only, as before.
    let some = |from_ms, to_ms, account: &str| UsageQuery {
        from_ms,
        to_ms,
        account: Some(account.to_owned()),
    };
    let day = ledger.usage_at_once(some(2 * DAY, 3 * DAY, "gateway")).await.unwrap();
    assert_eq!((day.len(), day[0].payments), (1, 3));
    assert_eq!(ledger.usage_at_once(some(0, i64::MAX, "b")).await.unwrap(), []);
    ledger.close().await;
}

pub async fn what_safety_needs_stays(books: &impl Books) {
    let ledger = books.open("one").await;
    session(&ledger, 1, [1, 1]).await;
    let open = hold(&ledger, charged(ask(2, 0, 1, 3), &[charge("a", None)])).await;
    let (before, events) = (records(&ledger).await, ledger.backlog().await.unwrap().events);
    assert_eq!(ledger.prune_payments(9 * DAY, 9).await.unwrap(), 2);
    assert_eq!(ledger.shrink_answers(9 * DAY, 9, read).await.unwrap(), 0);
    ledger.close().await;
    let ledger = books.open("two").await;
    // The hash goes on behind what it ever gave out.
    assert_eq!(hold(&ledger, ask(4, 0, 1, 1)).await.nonces.first, open.nonces.last + 1);
    assert_eq!(ledger.fence().await.unwrap(), 1);
    // Events wait, each once.
    assert_eq!((ledger.backlog().await.unwrap().events, events), (2, 2));
    // The open reservation is committed as if nothing had been.
    let stored = ledger.commit(payment(2, 0, open)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    // Not a record is missing.
    let now = records(&ledger).await;
    assert_eq!(now[..before.len() - 1], before[..before.len() - 1]);
    assert_eq!(verified(&ledger).await.faults, []);
    ledger.close().await;
}

pub async fn a_session_that_lives_outlives_its_old_payments(books: &impl Books) {
    let ledger = books.open("one").await;
    session(&ledger, 1, [1, 1, 7]).await;
    assert_eq!(ledger.prune_payments(5 * DAY, 9).await.unwrap(), 2);
    // It goes on, and its newest payment is still repeated.
    assert!(ledger.payment(&id(1), 2).await.unwrap().is_some());
    let balance = pay(&ledger, 1, 3, 2, 1).await;
    let expected = Rational::from(4 * EV) - Rational::from(4_u64) * "6000/7".parse().unwrap();
    assert_eq!(balance, expected);
    // A state of a payment that went is no state; its tickets are not made again.
    assert_eq!(ledger.payment(&id(1), 0).await.unwrap(), None);
    let again = ledger.reserve(ask(1, 1, 1, 1)).await.unwrap();
    assert_eq!(again, Reserved::UnknownState);
    // Its key opens another session: there is no first answer to repeat.
    assert_eq!(ledger.first_payment("gateway", "key 1").await.unwrap(), None);
    let held = hold(&ledger, ask(8, 0, 1, 1)).await;
    let mut other = payment(8, 0, held);
    other.new_session.as_mut().unwrap().idempotency_key = Some("key 1".to_owned());
    assert!(matches!(ledger.commit(other).await.unwrap(), Committed::Stored(_)));
    // A session that is used while nothing of it is left (5 s after the epoch) stays.
    let held = hold(&ledger, ask(9, 0, 1, 1)).await;
    ledger.commit(payment(9, 0, held)).await.unwrap();
    let waiting = hold(&ledger, ask(9, 1, 1, 1)).await;
    ledger.prune_payments(DAY, 9).await.unwrap();
    assert!(matches!(ledger.commit(payment(9, 1, waiting)).await, Ok(Committed::Stored(_))));
    // One that has gone takes no payment that was begun before.
    let (late, state) = (hold(&ledger, ask(10, 0, 1, 1)).await, id(10));
    let mut late = payment(10, 0, late);
    late.sequence = 1;
    late.new_session = None;
    assert!(ledger.commit(late).await.is_err());
    assert_eq!(ledger.session(&state).await.unwrap(), None);
    ledger.close().await;
}

pub async fn one_replica_at_a_time(books: &impl Books) {
    let (one, two) = (books.open("one").await, books.open("two").await);
    session(&one, 1, (0..60).map(|n| n / 10)).await;
    let usage = everything(&one).await;
    let prune = |ledger: Ledger| async move {
        let mut pruned = 0;
        for _ in 0..40 {
            pruned += ledger.prune_payments(5 * DAY, 3).await.unwrap();
            ledger.shrink_answers(5 * DAY, 3, read).await.unwrap();
        }
        pruned
    };
    let (a, b) = tokio::join!(prune(Arc::clone(&one)), prune(Arc::clone(&two)));
    // Whoever finds the other one at it does nothing; each payment went once.
    while one.prune_payments(5 * DAY, 3).await.unwrap() > 0 {}
    let pruned = one.pruned().await.unwrap();
    assert!(a + b <= 50 && pruned.payments == 50, "{a} {b} {pruned:?}");
    assert_eq!(everything(&two).await, usage);
    one.close().await;
    two.close().await;
}

pub async fn counters_of_the_past_go(books: &impl Books) {
    let ledger = books.open("one").await;
    let keys = [
        CounterKey::account_day("a", Day::of_ms(0)),
        CounterKey::account_day("a", Day::of_ms(40 * DAY)),
        CounterKey::account_month("a", Month::of_ms(0)),
        CounterKey::account_month("a", Month::of_ms(40 * DAY)),
        CounterKey::global_hour(Hour::of_ms(40 * DAY - 1)),
        CounterKey::global_hour(Hour::of_ms(40 * DAY)),
    ];
    let charges = keys.clone().map(|counter| Charge { counter, cap_wei: None });
    let held = hold(&ledger, charged(ask(1, 0, 1, 1), &charges)).await;
    ledger.commit(payment(1, 0, held)).await.unwrap();
    assert_eq!(ledger.prune_counters(40 * DAY).await.unwrap(), 0, "before the payments");
    assert_eq!(ledger.prune_payments(40 * DAY, 9).await.unwrap(), 1);
    assert_eq!(ledger.prune_counters(0).await.unwrap(), 0);
    assert_eq!(ledger.prune_counters(40 * DAY).await.unwrap(), 3);
    let left = ledger.counters(&keys).await.unwrap();
    let there: Vec<bool> = left.iter().map(|wei| *wei == Wei::from_u64(EV)).collect();
    assert_eq!(there, [false, true, false, true, false, true]);
    assert_eq!(ledger.prune_counters(40 * DAY).await.unwrap(), 0);
    ledger.close().await;
}
