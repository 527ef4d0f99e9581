//! Databases that fail, answers that are lost, callers that ask twice.

use super::*;
use penstock_testkit::until::DEADLINE;
use std::time::Instant;
use tokio::time::timeout;

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
    // The database answers questions, but whoever asks whether we are ready is told.
    let ping = ledger.ping().await;
    assert!(matches!(ping, Err(LedgerError::Unavailable(_))), "{ping:?}");
    books.meddle("ALTER TABLE away RENAME TO payments").await;
    assert_eq!(ledger.summary().await.unwrap(), before);
    assert_eq!(ledger.session(&id(2)).await.unwrap(), None, "the session was rolled back too");
    // The reservation is still there: the same payment can be stored now.
    let stored = ledger.commit(payment(2, 0, held)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    ledger.ping().await.unwrap();
    ledger.close().await;
}

/// As when a write that was given up is carried out after all.
pub async fn a_head_that_moved_is_read_again(books: &impl Books) {
    let ledger = books.open("one").await;
    pay(&ledger, 1, 0, 1, 1).await;
    books.meddle("UPDATE audit_chains SET seq = seq + 1").await;
    pay(&ledger, 2, 0, 1, 1).await;
    pay(&ledger, 2, 1, 1, 1).await;
    assert_eq!(ledger.summary().await.unwrap().payments, 3);
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

/// What a process remembers of a session may be old: another one has paid since.
pub async fn old_memories_decide_nothing(books: &impl Books) {
    let (one, two) = (books.open("one").await, books.open("two").await);
    // Both remember the session: the first as it is after this, the second as it was before.
    let held = hold(&two, ask(1, 0, 1, 1)).await;
    let early = two.commit(payment(1, 0, held)).await.unwrap();
    assert!(matches!(early, Committed::Stored(_)));
    let held = hold(&one, ask(1, 1, 1, 1)).await;
    // Asked for while its place was free.
    let late = hold(&two, charged(ask(1, 1, 1, 1), &[charge("late", None)])).await;
    let stored = one.commit(payment(1, 1, held)).await.unwrap();
    // The answer was lost, and the other one is asked.
    assert_eq!(two.commit(payment(1, 1, held)).await.unwrap(), stored);
    // Its own payment comes second, and its charge is given back.
    let second = two.commit(payment(1, 1, late)).await.unwrap();
    let answer = payment(1, 1, held).answer;
    assert!(matches!(&second, Committed::Superseded(first) if first.answer == answer));
    assert_eq!(spent(&two, "late").await, Wei::ZERO);
    // A reservation that somebody else took back is gone, whatever is remembered.
    let held = hold(&two, ask(1, 2, 1, 1)).await;
    assert_eq!(one.expire_reservations(1_000, 10).await.unwrap(), 1);
    assert_eq!(two.commit(payment(1, 2, held)).await.unwrap(), Committed::Expired);
    let (third, fourth) = (pay(&two, 1, 2, 1, 1).await, pay(&one, 1, 3, 1, 1).await);
    let new = payment(1, 3, held);
    assert_eq!(&(&third + &Rational::from(EV)) - &new.fee_wei, fourth);
    assert_eq!(one.summary().await.unwrap().payments, 4);
    one.close().await;
    two.close().await;
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

/// A connection that dies before the commit is sent has written nothing: the caller never notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_connection_lost_before_the_commit_is_no_failure() {
    use sqlx::{Connection, Executor};
    let books = PostgresBooks::new().await;
    let ledger = books.open("one").await;
    let request = |state| charged(ask(state, 0, 1, 1), &[charge("a", None)]);
    hold(&ledger, request(1)).await;
    // The counter is locked, so that the next reservation waits in the midst of its transaction.
    let mut other = sqlx::PgConnection::connect(books.0.url()).await.unwrap();
    other.execute("BEGIN; UPDATE counters SET charged = charged").await.unwrap();
    let waiting = tokio::spawn({
        let (ledger, request) = (Arc::clone(&ledger), request(2));
        async move { ledger.reserve(request).await }
    });
    let count = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut other).await.unwrap() == 0 {
        assert!(!waiting.is_finished() && began.elapsed() < DEADLINE, "nobody waits for the lock");
        tokio::task::yield_now().await;
    }
    books.0.kill_connections().await;
    let reserved = waiting.await.unwrap();
    assert!(matches!(reserved, Ok(Reserved::Nonces(_))), "{reserved:?}");
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(2 * EV));
    ledger.close().await;
}

/// Connections die under load, before, in and after the commit; clients ask again until they are
/// told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_answers_lost_after_a_commit_are_found_again() {
    const PAYMENTS: u64 = 60;
    const CLIENTS: u32 = 6;
    let books = PostgresBooks::new().await;
    let ledger = books.open("one").await;
    let mut clients = tokio::task::JoinSet::new();
    for state in 0..CLIENTS {
        let ledger = Arc::clone(&ledger);
        clients.spawn(async move {
            for sequence in 0..PAYMENTS {
                pay_until_told(&ledger, state, sequence).await;
            }
        });
    }
    // One cut for each payment that came through, until everybody is done or one has failed.
    let cuts = async {
        loop {
            let before = ledger.summary().await.map_or(0, |summary| summary.payments);
            books.0.kill_connections().await;
            while ledger.summary().await.map_or(0, |summary| summary.payments) == before {
                tokio::task::yield_now().await;
            }
        }
    };
    let paid = async {
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
    };
    let both = async {
        tokio::select! {
            () = cuts => {}
            () = paid => {}
        }
    };
    timeout(DEADLINE, both).await.expect("the clients are told in the end");
    let paid = PAYMENTS * u64::from(CLIENTS);
    assert_eq!(ledger.summary().await.unwrap().payments, paid);
    // Reservations whose answer was lost are open; everything else is exactly the payments.
    ledger.expire_reservations(i64::MAX, 100_000).await.unwrap();
    assert_eq!(spent(&ledger, "a").await, Wei::from_u64(paid * EV));
    let report = verified(&ledger).await;
    assert_eq!(report.faults, []);
    assert_eq!(report.signatures, paid + report.voids);
    ledger.close().await;
}

async fn pay_until_told(ledger: &Ledger, state: u32, sequence: u64) {
    let held = loop {
        match ledger
            .reserve(charged(ask(state, sequence, state as u8, 1), &[charge("a", None)]))
            .await
        {
            Ok(Reserved::Nonces(held)) => break held,
            Err(LedgerError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    loop {
        match ledger.commit(payment(state, sequence, held)).await {
            Ok(Committed::Stored(_)) => return,
            Err(LedgerError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
