//! Two replicas on the same books, at the same time, for the same thing.

use super::*;
use core::future::Future;
use tokio::task::JoinSet;

async fn two(books: &impl Books) -> [Ledger; 2] {
    [books.open("one").await, books.open("two").await]
}

/// Runs `count` tasks, alternating between the ledgers, and returns what came of them.
async fn race<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    ledgers: &[Ledger; 2],
    count: u32,
    task: impl Fn(Ledger, u32) -> F,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let ledger = Arc::clone(&ledgers[n as usize % 2]);
        tasks.spawn(task(ledger, n));
    }
    tasks.join_all().await
}

async fn close(ledgers: [Ledger; 2]) {
    for ledger in ledgers {
        ledger.close().await;
    }
}

pub async fn one_hash(books: &impl Books) {
    let ledgers = two(books).await;
    let held = race(&ledgers, 120, |ledger, n| async move {
        hold(&ledger, ask(n, 0, (n % 3) as u8, 1 + n % 4)).await
    })
    .await;
    let mut seen = HashSet::new();
    for range in held.iter().map(|h| h.nonces) {
        for nonce in range.first..=range.last {
            assert!(seen.insert((range.recipient_rand_hash, nonce)), "nonce {nonce} twice");
        }
    }
    assert_eq!(seen.len(), 300);
    let report = verified(&ledgers[0]).await;
    assert_eq!((report.signatures, report.faults), (300, vec![]));
    close(ledgers).await;
}

pub async fn one_session(books: &impl Books) {
    let ledgers = two(books).await;
    pay(&ledgers[0], 1, 0, 1, 1).await;
    for sequence in 1..4 {
        // All reserve, then all commit: exactly one is stored, all others get its answer.
        let outcomes = race(&ledgers, 12, move |ledger, n| async move {
            let asked = charged(ask(1, sequence, 1, 1 + n % 2), &[charge("a", None)]);
            match ledger.reserve(asked).await.unwrap() {
                Reserved::Nonces(held) => ledger.commit(payment(1, sequence, held)).await.unwrap(),
                Reserved::Answered(stored) => Committed::Superseded(stored),
                other => panic!("{other:?}"),
            }
        })
        .await;
        let stored = outcomes.iter().filter(|o| matches!(o, Committed::Stored(_))).count();
        assert_eq!(stored, 1, "{outcomes:?}");
        let answer = ledgers[1].payment(&id(1), sequence).await.unwrap().unwrap();
        for outcome in outcomes {
            match outcome {
                Committed::Stored(_) => {}
                other => assert_eq!(other, Committed::Superseded(answer.clone())),
            }
        }
    }
    let paid = ledgers[0].payments(3).await.unwrap();
    let charged: u64 = paid.iter().map(|p| EV * u64::from(p.num_tickets)).sum();
    assert_eq!(spent(&ledgers[0], "a").await, Wei::from_u64(charged));
    close(ledgers).await;
}

pub async fn one_cap(books: &impl Books) {
    let ledgers = two(books).await;
    let outcomes = race(&ledgers, 60, |ledger, n| async move {
        // Room for ten tickets, asked one, two and three at a time.
        let charges = [charge("capped", Some(10 * EV)), charge(&format!("own{n}"), None)];
        ledger.reserve(charged(ask(n, 0, 1, 1 + n % 3), &charges)).await.unwrap()
    })
    .await;
    let mut taken = 0;
    for outcome in &outcomes {
        match outcome {
            Reserved::Nonces(held) => taken += u64::from(held.nonces.count()),
            Reserved::OverCap { counter: key, charged_wei, .. } => {
                assert_eq!(*key, counter("capped"));
                assert!(*charged_wei > Wei::from_u64(7 * EV), "refused with room for three");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((8..=10).contains(&taken), "{taken} tickets");
    assert_eq!(spent(&ledgers[1], "capped").await, Wei::from_u64(taken * EV));
    let next = hold(&ledgers[0], ask(99, 0, 1, 1)).await.nonces.first;
    assert_eq!(u64::from(next), taken + 1, "refusals took no nonces");
    close(ledgers).await;
}

pub async fn one_idempotency_key(books: &impl Books) {
    let ledgers = two(books).await;
    for round in 0..3_u32 {
        let outcomes = race(&ledgers, 10, move |ledger, n| async move {
            let state = round * 100 + n;
            let held = hold(&ledger, charged(ask(state, 0, 1, 1), &[charge("a", None)])).await;
            let mut keyed = payment(state, 0, held);
            keyed.new_session.as_mut().unwrap().idempotency_key = Some(format!("key {round}"));
            ledger.commit(keyed).await.unwrap()
        })
        .await;
        let stored = outcomes.iter().filter(|o| matches!(o, Committed::Stored(_))).count();
        assert_eq!(stored, 1, "{outcomes:?}");
        let key = format!("key {round}");
        let first = ledgers[0].first_payment("gateway", &key).await.unwrap().unwrap();
        for outcome in outcomes {
            if let Committed::Superseded(other) = outcome {
                assert_eq!(other, first);
            }
        }
    }
    assert_eq!(ledgers[0].sessions(100).await.unwrap().len(), 3);
    assert_eq!(spent(&ledgers[0], "a").await, Wei::from_u64(3 * EV));
    close(ledgers).await;
}

/// Two replicas draw the same random id for two new sessions: one of them is refused, neither is
/// told the other's answer.
pub async fn one_state_id(books: &impl Books) {
    let ledgers = two(books).await;
    let one = hold(&ledgers[0], ask(1, 0, 1, 1)).await;
    let other = hold(&ledgers[1], ask(1, 0, 2, 1)).await;
    let both = tokio::join!(
        ledgers[0].commit(payment(1, 0, one)),
        ledgers[1].commit(payment(1, 0, other))
    );
    let (good, bad) = match both {
        (Ok(good), bad) => (good, bad),
        (bad, Ok(good)) => (good, bad),
        both => panic!("{both:?}"),
    };
    assert!(matches!(good, Committed::Stored(_)));
    assert!(matches!(bad, Err(LedgerError::Misuse(_))), "{bad:?}");
    assert_eq!(ledgers[0].reserve(ask(1, 0, 3, 1)).await.unwrap(), Reserved::StateIdTaken);
    assert_eq!(ledgers[0].summary().await.unwrap().payments, 1);
    close(ledgers).await;
}

pub async fn many_payments_of_two_replicas_add_up(books: &impl Books) {
    let ledgers = two(books).await;
    let outcomes = race(&ledgers, 24, |ledger, state| async move {
        for sequence in 0..5 {
            let charges = [charge("all", None), charge(&format!("of{}", state % 3), None)];
            let asked = charged(ask(state, sequence, (state % 5) as u8, 2), &charges);
            let held = hold(&ledger, asked).await;
            if (state + sequence as u32).is_multiple_of(7) {
                assert!(ledger.release(held.id, 9).await.unwrap());
                return sequence;
            }
            let stored = ledger.commit(payment(state, sequence, held)).await.unwrap();
            assert!(matches!(stored, Committed::Stored(_)));
        }
        5
    })
    .await;
    let payments: u64 = outcomes.iter().sum();
    let summary = ledgers[0].summary().await.unwrap();
    assert_eq!((summary.payments, summary.tickets), (payments, payments * 2));
    assert_eq!(summary.ticket_ev_total_wei, Rational::from(payments * 2 * EV));
    assert_eq!(spent(&ledgers[1], "all").await, Wei::from_u64(payments * 2 * EV));
    let mut parts = 0;
    for n in 0..3 {
        parts += spent(&ledgers[0], &format!("of{n}")).await.0.to::<u64>();
    }
    assert_eq!(parts, payments * 2 * EV);
    let report = verified(&ledgers[0]).await;
    assert_eq!((report.chains, report.faults), (2, vec![]));
    assert_eq!(report.signatures, 2 * (payments + report.voids));
    close(ledgers).await;
}
