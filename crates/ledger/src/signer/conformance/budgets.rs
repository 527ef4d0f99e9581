//! Counters: caps hold, and what comes to nothing is given back.

use super::*;

pub async fn a_cap_holds_and_a_refusal_takes_nothing(books: &impl Books) {
    let ledger = books.open("one").await;
    let cap = [charge("a", Some(100))];
    hold(&ledger, charged(ask(1, 0, 1, 2), &cap)).await;
    let refused = ledger.reserve(charged(ask(2, 0, 1, 1), &cap)).await.unwrap();
    let (cap_wei, charged_wei) = (Wei::from_u64(100), Wei::from_u64(70));
    assert_eq!(refused, Reserved::OverCap { counter: counter("a"), cap_wei, charged_wei });
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(70));
    // To the cap, not beyond.
    let mut exact = charged(ask(3, 0, 1, 1), &cap);
    exact.amount_wei = Wei::from_u64(30);
    assert_eq!(hold(&ledger, exact).await.nonces.first, 3, "a refusal took a nonce");
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(100));
    assert_eq!(spent(&ledger, "b").await, Wei::ZERO, "never used");
    let tickets = records(&ledger).await;
    let tickets = tickets.iter().filter(|r| r.entry.kind == AuditKind::Ticket).count();
    assert_eq!(tickets, 3, "a refused request is no signature");
    ledger.close().await;
    let ledger = books.open("one").await;
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(100), "after a restart");
    ledger.close().await;
}

pub async fn every_counter_of_a_request_is_charged_or_none(books: &impl Books) {
    let ledger = books.open("one").await;
    let three = [charge("a", Some(1_000)), charge("b", Some(30)), charge("c", None)];
    let Reserved::OverCap { counter: key, .. } =
        ledger.reserve(charged(ask(1, 0, 1, 1), &three)).await.unwrap()
    else {
        panic!("over b's cap");
    };
    assert_eq!(key, counter("b"));
    for name in ["a", "b", "c"] {
        assert_eq!(spent(&ledger, name).await, Wei::ZERO, "{name}");
    }
    let three = [charge("a", Some(1_000)), charge("b", Some(35)), charge("c", None)];
    hold(&ledger, charged(ask(1, 0, 1, 1), &three)).await;
    let keys = [counter("c"), counter("b"), counter("never"), counter("a")];
    let each = Wei::from_u64(35);
    assert_eq!(ledger.counters(&keys).await.unwrap(), [each, each, Wei::ZERO, each]);
    let twice = [charge("a", None), charge("a", None)];
    let refused = ledger.reserve(charged(ask(2, 0, 1, 1), &twice)).await;
    assert!(matches!(refused, Err(LedgerError::Misuse(_))));
    ledger.close().await;
}

pub async fn what_comes_to_nothing_is_given_back(books: &impl Books) {
    let ledger = books.open("one").await;
    let charges = [charge("a", None), charge("b", None)];
    let failed = hold(&ledger, charged(ask(1, 0, 1, 2), &charges)).await;
    let kept = hold(&ledger, charged(ask(2, 0, 1, 1), &charges)).await;
    assert!(ledger.release(failed.id, 5).await.unwrap());
    assert!(!ledger.release(failed.id, 6).await.unwrap(), "only once");
    assert!(!ledger.release(ReservationId(rand::random()), 6).await.unwrap());
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(35));
    assert_eq!(ledger.commit(payment(1, 0, failed)).await.unwrap(), Committed::Expired);
    assert_eq!(hold(&ledger, ask(3, 0, 1, 1)).await.nonces.first, 4, "nonces stay taken");
    ledger.commit(payment(2, 0, kept)).await.unwrap();
    assert!(!ledger.release(kept.id, 7).await.unwrap(), "a payment is not given back");
    assert_eq!(spent(&ledger, "b").await, Wei::from_u64(35));
    let voids: Vec<_> =
        records(&ledger).await.into_iter().filter(|r| r.entry.kind == AuditKind::Void).collect();
    assert_eq!(voids.len(), 1);
    assert_eq!(voids[0].entry.reference, format!("{}/0/1-2", id(1)));
    assert_eq!((voids[0].at_ms, voids[0].entry.account.as_str()), (5, "gateway"));
    ledger.close().await;
}

pub async fn a_payment_that_came_second_is_given_back(books: &impl Books) {
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 1).await;
    let charges = [charge("a", None), charge("b", None)];
    let first = hold(&ledger, charged(ask(1, 1, 1, 1), &charges)).await;
    let second = hold(&ledger, charged(ask(1, 1, 1, 3), &charges)).await;
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(140));
    // In one batch or in two, the one that is first wins.
    let both =
        tokio::join!(ledger.commit(payment(1, 1, first)), ledger.commit(payment(1, 1, second)));
    let won = match (both.0.unwrap(), both.1.unwrap()) {
        (Committed::Stored(_), Committed::Superseded(stored)) => (35, stored),
        (Committed::Superseded(stored), Committed::Stored(_)) => (105, stored),
        other => panic!("{other:?}"),
    };
    for name in ["a", "b"] {
        assert_eq!(spent(&ledger, name).await, Wei::from_u64(won.0), "{name}");
    }
    assert_eq!(ledger.payment(&id(1), 1).await.unwrap(), Some(won.1));
    assert_eq!(ledger.payments(1).await.unwrap()[0].charged_wei, Wei::from_u64(won.0));
    assert_eq!(ledger.expire_reservations(i64::MAX, 100).await.unwrap(), 0, "nothing is open");
    ledger.close().await;
}

pub async fn expired_reservations_are_not_stored(books: &impl Books) {
    let ledger = books.open("one").await;
    let charges = [charge("a", None)];
    let mut held = Vec::new();
    for (n, expires_at_ms) in [(1, 10), (2, 20), (3, 30)] {
        let mut request = charged(ask(n, 0, 1, 1), &charges);
        request.expires_at_ms = expires_at_ms;
        held.push(hold(&ledger, request).await);
    }
    ledger.close().await;
    // Another process than the one that died finds them.
    let ledger = books.open("two").await;
    assert_eq!(ledger.expire_reservations(9, 100).await.unwrap(), 0);
    assert_eq!(ledger.expire_reservations(20, 1).await.unwrap(), 1, "no more than asked for");
    assert_eq!(ledger.expire_reservations(20, 100).await.unwrap(), 1);
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(35));
    for (n, reservation) in held.iter().enumerate() {
        let outcome = ledger.commit(payment(n as u32 + 1, 0, *reservation)).await.unwrap();
        assert_eq!(outcome == Committed::Expired, n < 2, "{n}: {outcome:?}");
    }
    assert_eq!(ledger.session(&id(1)).await.unwrap(), None);
    assert_eq!(ledger.summary().await.unwrap().payments, 1);
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(35));
    assert_eq!(verified(&ledger).await.voids, 2);
    ledger.close().await;
}

pub async fn a_charge_is_what_was_reserved(books: &impl Books) {
    let ledger = books.open("one").await;
    let held = hold(&ledger, charged(ask(1, 0, 1, 2), &[charge("a", None)])).await;
    for wrong in [0, 69, 71] {
        let mut other = payment(1, 0, held);
        other.charged_wei = Wei::from_u64(wrong);
        assert!(matches!(ledger.commit(other).await, Err(LedgerError::Misuse(_))), "{wrong}");
    }
    let mut foreign = payment(1, 0, held);
    foreign.binding.account = "someone else".into();
    assert!(matches!(ledger.commit(foreign).await, Err(LedgerError::Misuse(_))));
    assert!(matches!(ledger.commit(payment(1, 0, held)).await, Ok(Committed::Stored(_))));
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(70));
    ledger.close().await;
}

pub async fn amounts_may_be_as_large_as_money_gets(books: &impl Books) {
    let ledger = books.open("one").await;
    let mut all = charged(ask(1, 0, 1, 1), &[charge("a", None)]);
    all.amount_wei = Wei(U256::MAX);
    let held = hold(&ledger, all.clone()).await;
    assert_eq!(spent(&ledger, "a").await, Wei(U256::MAX));
    let mut more = charged(ask(2, 0, 1, 1), &[charge("a", None)]);
    more.amount_wei = Wei::from_u64(1);
    let refused = ledger.reserve(more).await.unwrap();
    assert!(matches!(refused, Reserved::OverCap { .. }), "a sum never wraps: {refused:?}");
    let mut huge = payment(1, 0, held);
    (huge.charged_wei, huge.face_value) = (Wei(U256::MAX), Wei(U256::MAX));
    huge.win_prob = U256::MAX - U256::from(1);
    huge.ticket_ev_wei = ticket_ev(huge.face_value, huge.win_prob);
    (huge.units, huge.fee_wei) = (i64::MAX as u64, Rational::from(i64::MAX as u64));
    ledger.commit(huge.clone()).await.unwrap();
    let row = ledger.payments(1).await.unwrap().remove(0);
    assert_eq!((row.charged_wei, row.face_value), (huge.charged_wei, huge.face_value));
    assert_eq!((row.win_prob, row.units), (huge.win_prob, huge.units));
    assert_eq!((row.ticket_ev_wei, row.fee_wei), (huge.ticket_ev_wei.clone(), huge.fee_wei));
    assert_eq!(ledger.summary().await.unwrap().ticket_ev_total_wei, huge.ticket_ev_wei);
    ledger.close().await;
}
