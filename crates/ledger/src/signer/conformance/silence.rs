//! A PostgreSQL that says nothing any more, as when its host dies: no error, no end of connection.

use super::*;
use crate::postgres::line::Line;
use crate::signer::accounts::{self, Expect, Put, Record, Stamp, TierRecord};
use std::time::Duration;

/// Long enough for a busy machine to answer, short enough to wait for.
const LIMITS: Limits = Limits { answer: Duration::from_secs(3), report: Duration::from_secs(3) };

fn is_away<T: std::fmt::Debug>(answer: Result<T, LedgerError>) {
    assert!(matches!(answer, Err(LedgerError::Unavailable(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_goes_silent_is_away_and_may_come_back() {
    let books = PostgresBooks::new().await;
    let (line, url) = Line::to(books.0.url()).await;
    let ledger = super::super::open_within(&url, "one", LIMITS).await.unwrap();
    pay(&ledger, 1, 0, 1, 1).await;
    let held = hold(&ledger, ask(1, 1, 1, 1)).await;

    line.cut();
    let id = id(1);
    let (reserved, committed, session, stored, summary) = tokio::join!(
        ledger.reserve(ask(2, 0, 1, 1)),
        ledger.commit(payment(1, 1, held)),
        ledger.session(&id),
        ledger.payment(&id, 0),
        ledger.summary(),
    );
    is_away(reserved);
    is_away(committed);
    is_away(session);
    is_away(stored);
    is_away(summary);
    let (anchored, taken, ping) =
        tokio::join!(ledger.anchor(2), ledger.take_events(1, 2, 1), ledger.ping());
    is_away(anchored);
    is_away(taken);
    is_away(ping);

    // Back, for new connections only: none of those from before is used, whoever asks.
    line.mend();
    let stored = ledger.commit(payment(1, 1, held)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    pay(&ledger, 2, 0, 1, 1).await;
    assert_eq!(ledger.summary().await.unwrap().payments, 3);
    assert_eq!(verified(&ledger).await.faults, []);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_do_not_wait_for_a_silent_postgres() {
    let books = PostgresBooks::new().await;
    let (line, url) = Line::to(books.0.url()).await;
    let ledger = accounts::open_within(&url, LIMITS).await.unwrap();
    let tier = |name: &str| Put {
        record: Record::Tier(TierRecord {
            name: name.into(),
            policy: "{}".into(),
            deleted: false,
            stamp: Stamp::default(),
        }),
        expect: Expect::Absent,
    };
    ledger.apply(vec![tier("one")], 1).await.unwrap();
    line.cut();
    let (changes, applied) =
        tokio::join!(ledger.changes(0, 10), ledger.apply(vec![tier("two")], 2));
    is_away(changes);
    is_away(applied);
    line.mend();
    ledger.apply(vec![tier("two")], 3).await.unwrap();
    assert_eq!(ledger.changes(0, 10).await.unwrap().records.len(), 2);
    ledger.close().await;
}
