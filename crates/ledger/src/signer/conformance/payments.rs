//! Nonces, sessions, payments: what one ledger does for one caller after another.

use super::*;

pub async fn nonces_grow_per_hash_and_never_come_back(books: &impl Books) {
    let ledger = books.open("one").await;
    let a = hold(&ledger, ask(1, 0, 1, 3)).await;
    let b = hold(&ledger, ask(2, 0, 1, 2)).await;
    let other = hold(&ledger, ask(3, 0, 2, 1)).await;
    assert_eq!((a.nonces.first, a.nonces.last, b.nonces.first, b.nonces.last), (1, 3, 4, 5));
    assert_eq!((other.nonces.first, other.nonces.last), (1, 1), "each hash counts for itself");
    ledger.close().await;
    // Reserved and never stored: skipped after a restart, not handed out again.
    let ledger = books.open("one").await;
    let c = hold(&ledger, ask(1, 0, 1, 1)).await;
    assert_eq!((c.nonces.first, c.nonces.last), (6, 6));
    ledger.close().await;
}

pub async fn a_hash_runs_out(books: &impl Books) {
    let ledger = books.open("one").await;
    assert_eq!(hold(&ledger, ask(1, 0, 1, 599)).await.nonces.last, 599);
    assert_eq!(ledger.reserve(ask(2, 0, 1, 2)).await.unwrap(), Reserved::Exhausted);
    assert_eq!(hold(&ledger, ask(2, 0, 1, 1)).await.nonces.first, 600, "a refusal takes nothing");
    assert_eq!(ledger.reserve(ask(3, 0, 1, 1)).await.unwrap(), Reserved::Exhausted);
    assert!(matches!(
        ledger.reserve(ask(3, 0, 2, MAX_TICKETS + 1)).await,
        Err(LedgerError::Misuse(_))
    ));
    assert!(matches!(ledger.reserve(ask(4, 0, 3, 0)).await, Err(LedgerError::Misuse(_))));
    ledger.close().await;
}

pub async fn a_fence_uses_up_every_known_hash(books: &impl Books) {
    let ledger = books.open("one").await;
    hold(&ledger, ask(1, 0, 1, 1)).await;
    hold(&ledger, ask(2, 0, 2, 1)).await;
    assert_eq!(ledger.fence().await.unwrap(), 2);
    for h in [1, 2] {
        let mut endless = ask(3, 0, h, 1);
        endless.max_nonce = u32::MAX;
        assert_eq!(ledger.reserve(endless).await.unwrap(), Reserved::Exhausted);
    }
    assert_eq!(hold(&ledger, ask(3, 0, 3, 1)).await.nonces.first, 1, "a new hash is not fenced");
    ledger.close().await;
}

pub async fn concurrent_reservations_are_disjoint(books: &impl Books) {
    let ledger = books.open("one").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move { hold(&ledger, ask(n, 0, 1, 2)).await });
    }
    let mut seen = HashSet::new();
    while let Some(range) = tasks.join_next().await {
        let range = range.unwrap();
        assert_eq!(range.nonces.last, range.nonces.first + 1);
        for nonce in range.nonces.first..=range.nonces.last {
            assert!(seen.insert(nonce), "nonce {nonce} twice");
        }
    }
    assert_eq!(seen.len(), 200);
    ledger.close().await;
}

pub async fn a_payment_is_stored_once(books: &impl Books) {
    let ledger = books.open("one").await;
    let balance = pay(&ledger, 1, 0, 1, 25).await;
    assert_eq!(balance, "125/7".parse().unwrap(), "25 × 35 − 6000/7");
    // Two signers hold nonces for the same place; the first commit wins, the second gets its answer.
    let first = hold(&ledger, ask(1, 1, 1, 1)).await;
    let second = hold(&ledger, ask(1, 1, 1, 1)).await;
    let stored = ledger.commit(payment(1, 1, first)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    let Committed::Superseded(winner) = ledger.commit(payment(1, 1, second)).await.unwrap() else {
        panic!("a place was given twice");
    };
    assert_eq!(winner.answer, payment(1, 1, first).answer);
    // Asking again does not even reserve.
    let before = hold(&ledger, ask(9, 0, 1, 1)).await.nonces.last;
    let Reserved::Answered(again) = ledger.reserve(ask(1, 1, 1, 5)).await.unwrap() else {
        panic!("reserved for an answered request");
    };
    assert_eq!(again, winner);
    assert_eq!(hold(&ledger, ask(9, 0, 1, 1)).await.nonces.first, before + 1);
    assert_eq!(ledger.payment(&id(1), 1).await.unwrap(), Some(winner));
    assert_eq!(ledger.payment(&id(1), 2).await.unwrap(), None);
    assert_eq!(ledger.summary().await.unwrap().payments, 2);
    ledger.close().await;
}

pub async fn states_that_do_not_fit_get_nothing(books: &impl Books) {
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 1).await;
    assert_eq!(ledger.reserve(ask(1, 0, 1, 1)).await.unwrap(), Reserved::StateIdTaken);
    assert_eq!(ledger.reserve(ask(1, 2, 1, 1)).await.unwrap(), Reserved::UnknownState, "ahead");
    assert_eq!(
        ledger.reserve(ask(2, 1, 1, 1)).await.unwrap(),
        Reserved::UnknownState,
        "never seen"
    );
    assert!(matches!(
        ledger.reserve(ask(1, u64::MAX, 1, 1)).await.unwrap(),
        Reserved::UnknownState
    ));
    assert_eq!(hold(&ledger, ask(1, 1, 1, 1)).await.nonces.first, 2, "refusals took no nonce");
    ledger.close().await;
}

fn with(reservation: Reservation, nonces: NonceRange) -> Reservation {
    Reservation { nonces, ..reservation }
}

pub async fn only_reserved_nonces_are_stored(books: &impl Books) {
    let ledger = books.open("one").await;
    let range = hold(&ledger, ask(1, 0, 1, 2)).await;
    for stolen in [
        payment(2, 0, range),
        payment(1, 0, with(range, NonceRange { last: range.nonces.last + 1, ..range.nonces })),
        payment(1, 0, with(range, NonceRange { recipient_rand_hash: hash(2), ..range.nonces })),
        payment(1, 0, with(range, NonceRange { first: 2, last: 1, ..range.nonces })),
        payment(1, 1, range),
    ] {
        assert!(matches!(ledger.commit(stolen).await, Err(LedgerError::Misuse(_))));
    }
    let mut no_session = payment(1, 0, range);
    no_session.new_session = None;
    assert!(matches!(ledger.commit(no_session).await, Err(LedgerError::Misuse(_))));
    assert_eq!(ledger.summary().await.unwrap(), Summary::default(), "refusals changed nothing");
    ledger.commit(payment(1, 0, range)).await.unwrap();
    // The same reservation cannot serve a second place.
    let mut twice = payment(1, 1, range);
    twice.answer = vec![1];
    assert_eq!(ledger.commit(twice).await.unwrap(), Committed::Expired);
    ledger.close().await;
}

pub async fn bindings_cannot_drift(books: &impl Books) {
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 1).await;
    let range = hold(&ledger, ask(1, 1, 1, 1)).await;
    let mut other = payment(1, 1, range);
    other.binding.account = "someone else".into();
    assert!(matches!(ledger.commit(other).await, Err(LedgerError::Misuse(_))));
    let mut other = payment(1, 1, range);
    other.binding.orchestrator = Address::ZERO;
    assert!(matches!(ledger.commit(other).await, Err(LedgerError::Misuse(_))));
    let mut renamed = payment(1, 1, range);
    renamed.binding.manifest.id = ManifestId::new("m2").unwrap();
    renamed.binding.auth_id = None;
    ledger.commit(renamed.clone()).await.unwrap();
    let session = ledger.session(&id(1)).await.unwrap().unwrap();
    assert_eq!(session.binding, renamed.binding);
    assert_eq!(ledger.payment(&id(1), 0).await.unwrap().unwrap().binding, binding());
    assert_eq!(ledger.session(&id(2)).await.unwrap(), None);
    ledger.close().await;
}

pub async fn an_idempotency_key_opens_one_session(books: &impl Books) {
    let ledger = books.open("one").await;
    let keyed = |state: u32, range| {
        let mut p = payment(state, 0, range);
        p.new_session.as_mut().unwrap().idempotency_key = Some("key".into());
        p
    };
    assert_eq!(ledger.first_payment("gateway", "key").await.unwrap(), None);
    let a = hold(&ledger, ask(1, 0, 1, 1)).await;
    let b = hold(&ledger, ask(2, 0, 1, 1)).await;
    ledger.commit(keyed(1, a)).await.unwrap();
    let Committed::Superseded(first) = ledger.commit(keyed(2, b)).await.unwrap() else {
        panic!("one key opened two sessions");
    };
    assert_eq!(first.state_id, id(1));
    assert_eq!(ledger.first_payment("gateway", "key").await.unwrap(), Some(first));
    assert_eq!(ledger.first_payment("other", "key").await.unwrap(), None);
    assert_eq!(ledger.summary().await.unwrap().payments, 1);
    let mut ask_other = ask(3, 0, 1, 1);
    ask_other.account = "other".into();
    let c = hold(&ledger, ask_other).await;
    let mut other = keyed(3, c);
    other.binding.account = "other".into();
    assert!(matches!(ledger.commit(other).await.unwrap(), Committed::Stored(_)));
    ledger.close().await;
}

pub async fn lists_and_totals_survive_a_restart(books: &impl Books) {
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 25).await;
    pay(&ledger, 2, 0, 2, 1).await;
    pay(&ledger, 1, 1, 3, 24).await;
    let before = (
        ledger.payments(10).await.unwrap(),
        ledger.sessions(10).await.unwrap(),
        ledger.summary().await.unwrap(),
        ledger.payment(&id(1), 0).await.unwrap(),
    );
    ledger.close().await;
    assert!(matches!(ledger.reserve(ask(1, 2, 1, 1)).await, Err(LedgerError::Closed)));
    assert!(ledger.ping().await.is_err());
    let ledger = books.open("one").await;
    ledger.ping().await.unwrap();
    let after = (
        ledger.payments(10).await.unwrap(),
        ledger.sessions(10).await.unwrap(),
        ledger.summary().await.unwrap(),
        ledger.payment(&id(1), 0).await.unwrap(),
    );
    assert_eq!(before, after);
    let (payments, sessions, total, _) = after;
    let order: Vec<_> = payments.iter().map(|p| (p.state_id.clone(), p.sequence)).collect();
    assert_eq!(order, [(id(1), 1), (id(2), 0), (id(1), 0)], "newest first");
    assert_eq!(ledger.payments(1).await.unwrap().len(), 1);
    assert_eq!(payments[0].num_tickets, 24);
    assert_eq!(payments[0].win_prob, U256::MAX);
    assert_eq!(payments[0].recipient_rand_hash, hash(3));
    assert_eq!(sessions[0].state_id, id(2));
    assert_eq!(sessions[1].balance_wei, payments[0].balance_wei);
    assert_eq!(total.tickets, 50);
    assert_eq!(&total.ticket_ev_total_wei - &total.fee_total_wei, total.balance_total_wei);
    ledger.close().await;
}

/// A text that PostgreSQL cannot keep must not take others in its batch down with it.
pub async fn unstorable_text_is_refused_alone(books: &impl Books) {
    let ledger = books.open("one").await;
    let mut bad = ask(1, 0, 1, 1);
    bad.account = "a\0b".into();
    let good = ask(2, 0, 1, 1);
    let (bad, good) = tokio::join!(ledger.reserve(bad), ledger.reserve(good));
    assert!(matches!(bad, Err(LedgerError::Misuse(_))), "{bad:?}");
    let Reserved::Nonces(held) = good.unwrap() else { panic!("refused with the other") };
    let mut with_nul = payment(2, 0, held);
    with_nul.binding.app = "\0".into();
    assert!(matches!(ledger.commit(with_nul).await, Err(LedgerError::Misuse(_))));
    assert!(matches!(ledger.commit(payment(2, 0, held)).await, Ok(Committed::Stored(_))));
    ledger.close().await;
}
