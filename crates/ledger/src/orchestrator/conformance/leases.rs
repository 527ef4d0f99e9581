//! Processes that die, and one that comes second.

use super::*;

/// Shorter than any test, so that whoever does not renew is dead at once.
const NONE: LeaseTime = LeaseTime(Duration::ZERO);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_one_process() {
    let books = SqliteBooks::new().await;
    let ledger = books.open().await;
    let refused = super::super::open(&books.url(), LONG).await.err().unwrap();
    assert!(refused.to_string().contains("--ledger postgres://"), "{refused}");
    ledger.close().await;
    books.open().await.close().await;
    // A process that dies lets go without a word.
    drop(books.open().await);
    books.open().await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_held_is_free() {
    let books = PostgresBooks::new().await;
    let alive = books.open().await;
    alive.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    let other = books.open().await;
    assert_eq!(other.hold(&hold("a", &ev(), &ev())).await.unwrap(), Held::Aside);
    let short = alive.hold(&hold("a", &ev(), &ev())).await.unwrap();
    assert_eq!(short, Held::Short(Some(Rational::ZERO)), "another process's counts");
    // It dies: nobody renews its lease, which then lapses.
    drop(other);
    books.meddle("UPDATE processes SET lease_until = now() - interval '1 second'").await;
    assert_eq!(alive.hold(&hold("a", &ev(), &ev())).await.unwrap(), Held::Aside);
    alive.close().await;
}

/// A process that stood still finds its row gone, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_taken_for_dead_goes_on() {
    let books = PostgresBooks::new().await;
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1)])).await.unwrap();
    books.meddle("DELETE FROM processes").await;
    assert_eq!(ledger.hold(&hold("a", &ev(), &ev())).await.unwrap(), Held::Aside);
    let short = ledger.hold(&hold("a", &ev(), &ev())).await.unwrap();
    assert_eq!(short, Held::Short(Some(Rational::ZERO)));
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_redeems_until_it_dies() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    one.receive_payment(&receipt("a", 1, vec![winning(1), winning(2)])).await.unwrap();
    let due = two.winners_due(50, 10).await.unwrap();
    let [first, second] = [0, 1].map(|at: usize| due[at].winner.ticket_hash);
    let fence = one.redeemer().await.unwrap().unwrap();
    assert_eq!(two.redeemer().await.unwrap(), None);
    assert!(!two.begin_redemption(first, fence, 1).await.unwrap(), "another one's right");
    assert!(one.begin_redemption(first, fence, 1).await.unwrap());
    // It stands still for too long.
    books.meddle("UPDATE leases SET lease_until = now() - interval '1 second'").await;
    assert!(!one.begin_redemption(second, fence, 2).await.unwrap(), "its right has lapsed");
    let taken = two.redeemer().await.unwrap().unwrap();
    assert!(taken > fence);
    assert_eq!(one.redeemer().await.unwrap(), None);
    one.requeue(first, fence, "woke up", 99, 3).await.unwrap();
    assert_eq!(two.winners_with(WinnerStatus::Redeeming, 9).await.unwrap().len(), 1);
    two.close().await;
    // One that ends by itself is not waited for.
    assert!(one.redeemer().await.unwrap().unwrap() > taken);
    one.close().await;
}

/// Without the keeper's renewals, which the other tests have no use for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_as_long_as_it_is_said_to_be() {
    let books = PostgresBooks::new().await;
    let brief = super::super::open(books.0.url(), NONE).await.unwrap();
    let other = super::super::open(books.0.url(), NONE).await.unwrap();
    let first = brief.redeemer().await.unwrap().unwrap();
    assert!(other.redeemer().await.unwrap().unwrap() > first);
    brief.close().await;
    other.close().await;
}
