//! Databases that fail, answers that are lost, callers that ask twice.

use super::*;

pub async fn a_failed_write_is_said_and_changes_nothing(books: &impl Books) {
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 1).await;
    let before = ledger.summary().await.unwrap();
    // The table is taken away under the running service: every later write must fail as
    // "not available", and nothing half-done may stay behind.
    books.meddle("ALTER TABLE payments RENAME TO away").await;
    let held = hold(&ledger, ask(2, 0, 1, 1)).await;
    let refused = ledger.commit(payment(2, 0, held)).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    books.meddle("ALTER TABLE away RENAME TO payments").await;
    assert_eq!(ledger.summary().await.unwrap(), before);
    assert_eq!(ledger.session(&id(2)).await.unwrap(), None, "the session was rolled back too");
    // The reservation is still there: the same payment can be stored now.
    let stored = ledger.commit(payment(2, 0, held)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    ledger.close().await;
}

/// An answer that was lost after the commit: whoever asks again gets the same one.
pub async fn a_repeated_commit_gets_its_own_answer(books: &impl Books) {
    let ledger = books.open("one").await;
    for sequence in 0..2 {
        let held = hold(&ledger, charged(ask(1, sequence, 1, 2), &[charge("a", None)])).await;
        let stored = ledger.commit(payment(1, sequence, held)).await.unwrap();
        assert!(matches!(stored, Committed::Stored(_)));
        for _ in 0..2 {
            assert_eq!(ledger.commit(payment(1, sequence, held)).await.unwrap(), stored);
        }
        // Twice in one batch.
        let both = tokio::join!(
            ledger.commit(payment(1, sequence, held)),
            ledger.commit(payment(1, sequence, held))
        );
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (stored.clone(), stored));
    }
    assert_eq!(ledger.summary().await.unwrap().payments, 2);
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(140));
    ledger.close().await;
}

pub async fn a_reservation_name_used_twice_fails_alone(books: &impl Books) {
    let ledger = books.open("one").await;
    let first = ask(1, 0, 1, 1);
    let mut again = ask(2, 0, 1, 1);
    again.id = first.id;
    hold(&ledger, first).await;
    let twin = ask(4, 0, 1, 1);
    let mut twins_twin = ask(5, 0, 1, 1);
    twins_twin.id = twin.id;
    let (refused, good, a, b) = tokio::join!(
        ledger.reserve(again),
        ledger.reserve(ask(3, 0, 1, 1)),
        ledger.reserve(twin),
        ledger.reserve(twins_twin)
    );
    assert!(matches!(refused, Err(LedgerError::Misuse(_))), "{refused:?}");
    assert!(matches!(good, Ok(Reserved::Nonces(_))), "{good:?}");
    assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1, "{a:?} {b:?}");
    ledger.close().await;
}

#[tokio::test]
async fn postgres_connections_that_are_killed_are_replaced() {
    let books = PostgresBooks::new().await;
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 1).await;
    let mut sequence = 1;
    for _ in 0..5 {
        books.0.kill_connections().await;
        // A read survives it by itself.
        assert_eq!(ledger.session(&id(1)).await.unwrap().unwrap().sequence, sequence - 1);
        // A write says that it may or may not have happened; asking again settles it. Dead
        // connections of the pool are met one by one.
        let mut tries = 0;
        let held = loop {
            tries += 1;
            assert!(tries < 10, "the ledger does not come back");
            match ledger.reserve(ask(1, sequence, 1, 1)).await {
                Ok(Reserved::Nonces(held)) => break held,
                Err(LedgerError::Unavailable(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        books.0.kill_connections().await;
        let stored = loop {
            tries += 1;
            assert!(tries < 20, "the ledger does not come back");
            match ledger.commit(payment(1, sequence, held)).await {
                Ok(stored) => break stored,
                Err(LedgerError::Unavailable(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(stored, Committed::Stored(_)));
        sequence += 1;
    }
    let report = verified(&ledger).await;
    assert_eq!(report.faults, []);
    assert_eq!(ledger.summary().await.unwrap().payments, sequence);
    ledger.close().await;
}

/// Connections die at random moments, before, in and after the commit; clients ask again until they
/// are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_answers_lost_after_a_commit_are_found_again() {
    let books = Arc::new(PostgresBooks::new().await);
    let ledger = books.open("one").await;
    let mut clients = tokio::task::JoinSet::new();
    for state in 0..8_u32 {
        let ledger = Arc::clone(&ledger);
        clients.spawn(async move {
            let charges = [charge("a", None)];
            let mut failures = 0_u32;
            for sequence in 0..12 {
                let held = loop {
                    match ledger.reserve(charged(ask(state, sequence, 1, 1), &charges)).await {
                        Ok(Reserved::Nonces(held)) => break held,
                        Err(LedgerError::Unavailable(_)) => failures += 1,
                        other => panic!("{other:?}"),
                    }
                    assert!(failures < 5_000, "the ledger does not come back");
                };
                loop {
                    match ledger.commit(payment(state, sequence, held)).await {
                        Ok(Committed::Stored(_)) => break,
                        Err(LedgerError::Unavailable(_)) => failures += 1,
                        other => panic!("{other:?}"),
                    }
                    assert!(failures < 5_000, "the ledger does not come back");
                }
            }
            failures
        });
    }
    let killer = tokio::spawn({
        let books = Arc::clone(&books);
        async move {
            let mut killed = 0;
            loop {
                killed += books.0.kill_connections().await;
                assert!(killed < u64::MAX);
            }
        }
    });
    let mut failures = 0;
    // The killer gives way once half of the clients are through, so that the rest can finish.
    for _ in 0..8 {
        tokio::select! {
            done = clients.join_next() => failures += done.unwrap().unwrap(),
            () = async {
                while ledger.summary().await.map_or(0, |s| s.payments) < 24 {
                    tokio::task::yield_now().await;
                }
                killer.abort();
                std::future::pending::<()>().await;
            } => {}
        }
    }
    killer.abort();
    assert!(failures > 0, "no connection died in use");
    assert_eq!(ledger.summary().await.unwrap().payments, 96);
    // Reservations whose answer was lost are open; everything else is exactly the payments.
    ledger.expire_reservations(i64::MAX, 100_000).await.unwrap();
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(96 * EV));
    let report = verified(&ledger).await;
    assert_eq!(report.faults, []);
    assert_eq!(report.signatures, 96 + report.voids);
    ledger.close().await;
}
