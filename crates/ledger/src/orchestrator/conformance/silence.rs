//! A PostgreSQL that is away: silent, or with its connections cut.

use super::*;
use crate::postgres::line::Line;
use penstock_testkit::until::{until, until_some};
use sqlx::Executor as _;

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

/// Operators who read invoices, many at once and slowly: whoever pays does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_invoices_delay_no_payment() {
    let books = PostgresBooks::new().await;
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    // Nobody reads this table until the transaction ends.
    let mut slow = books.connect().await;
    slow.execute("BEGIN; LOCK TABLE debits IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let ledger = Arc::clone(&ledger);
        readers.spawn(async move {
            let query = InvoiceQuery { session: "a".into(), sender: None, limit: 9 };
            ledger.invoices(&query).await.is_ok()
        });
    }
    let waiting = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND datname = current_database()";
    until("invoices are being read", || async { !books.column(waiting).await.is_empty() }).await;
    for nonce in 2..12 {
        let paid = receipt("a", 1, vec![signed(nonce)]);
        assert_eq!(ledger.receive_payment(&paid).await.unwrap().credited_tickets, 1);
        assert!(ledger.account(&key("a")).await.unwrap().is_some());
        let wish = hold("a", &Rational::ONE, &Rational::ONE);
        assert_eq!(ledger.hold(&wish).await.unwrap(), Held::Aside);
    }
    let waiting = books.column(waiting).await.len();
    assert!((1..=2).contains(&waiting), "{waiting} readers");
    slow.execute("ROLLBACK").await.unwrap();
    // Those that waited too long for a connection are told so.
    assert!(readers.join_all().await.into_iter().filter(|read| *read).count() >= waiting);
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
