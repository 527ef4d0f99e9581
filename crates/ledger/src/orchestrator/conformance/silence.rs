//! A PostgreSQL that is away: silent, or with its connections cut.

use super::*;
use crate::postgres::line::Line;
use penstock_testkit::until::until_some;

/// Long enough for a busy machine to answer, short enough to wait for.
const LIMITS: Limits = Limits { answer: Duration::from_secs(3), report: Duration::from_secs(3) };

fn is_away<T: std::fmt::Debug>(answer: Result<T, LedgerError>) {
    assert!(matches!(answer, Err(LedgerError::Unavailable(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_goes_silent_is_away_and_may_come_back() {
    let books = PostgresBooks::new().await;
    let (line, url) = Line::to(books.0.url()).await;
    let ledger = super::super::open_within(&url, LONG, LIMITS).await.unwrap();
    ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();

    line.cut();
    let key = key("a");
    let paid = receipt("a", 1, vec![signed(2)]);
    let fee = fee_of("a", "job", Rational::ONE);
    let wish = hold("a", &Rational::ONE, &Rational::ONE);
    let (taken, booked, held, account, totals, ping) = tokio::join!(
        ledger.receive_payment(&paid),
        ledger.debit(&fee),
        ledger.hold(&wish),
        ledger.account(&key),
        ledger.totals(),
        ledger.ping(),
    );
    is_away(taken);
    is_away(booked);
    is_away(held);
    is_away(account);
    is_away(totals);
    is_away(ping);

    // Back, by itself, with nothing half-written; the same again has its effect once.
    line.mend();
    let taken = ledger.receive_payment(&paid).await.unwrap();
    assert_eq!(taken.credited_tickets, 1);
    assert_eq!(ledger.receive_payment(&paid).await.unwrap().error, seen(2));
    assert!(ledger.debit(&fee).await.unwrap() != Booked::Before);
    assert_eq!(ledger.debit(&fee).await.unwrap(), Booked::Before);
    let totals = ledger.totals().await.unwrap();
    assert_eq!(totals.balance(), &times(2, &ev()) - &Rational::ONE);
    ledger.ping().await.unwrap();
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_are_replaced() {
    let books = PostgresBooks::new().await;
    let ledger = books.open().await;
    for nonce in 0..3 {
        // One that dies half-way is said to be away; the same again has its effect once.
        let paid = receipt("a", 1, vec![signed(nonce)]);
        until_some("a payment is taken", || async { ledger.receive_payment(&paid).await.ok() })
            .await;
        assert!(books.0.kill_connections().await > 0);
    }
    let totals = until_some("totals are read", || async { ledger.totals().await.ok() }).await;
    assert_eq!(totals.tickets, 3);
    ledger.close().await;
}

/// A table is taken away under the running service: what needs it fails whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_is_said_and_changes_nothing() {
    let books = PostgresBooks::new().await;
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    books.meddle("ALTER TABLE credits RENAME TO away").await;
    let paid = receipt("a", 1, vec![winning(2)]);
    is_away(ledger.receive_payment(&paid).await);
    books.meddle("ALTER TABLE away RENAME TO credits").await;
    assert_eq!(ledger.totals().await.unwrap().winners, 0, "the winner was rolled back too");
    assert_eq!(ledger.receive_payment(&paid).await.unwrap().credited_tickets, 1);
    ledger.close().await;
}
