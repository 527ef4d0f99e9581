//! Several processes on the same books, at the same time, for the same thing.

use super::*;
use tokio::task::JoinSet;

async fn three(books: &PostgresBooks) -> [Ledger; 3] {
    [books.open().await, books.open().await, books.open().await]
}

/// Runs `count` tasks, taking turns between the ledgers, and returns what came of them.
async fn race<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    ledgers: &[Ledger; 3],
    count: u32,
    task: impl Fn(Ledger, u32) -> F,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for n in 0..count {
        tasks.spawn(task(Arc::clone(&ledgers[n as usize % 3]), n));
    }
    tasks.join_all().await
}

/// Asks until the database is there for it.
async fn until_there<T, F: Future<Output = Result<T, LedgerError>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Err(LedgerError::Unavailable(_)) => tokio::task::yield_now().await,
            answer => return answer.unwrap(),
        }
    }
}

async fn close(ledgers: [Ledger; 3]) {
    for ledger in ledgers {
        ledger.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_nonce_is_accepted_once_and_a_winner_stored_once() {
    let books = PostgresBooks::new().await;
    let ledgers = three(&books).await;
    for round in 1..4_u8 {
        // All processes get all tickets, to accounts of different names, some of which are new.
        let outcomes = race(&ledgers, 18, |ledger, n| async move {
            let tickets = (0..10).map(|n| if n % 5 == 0 { winning(n) } else { signed(n) });
            let paid = receipt(&format!("s{}", n % 4), round, tickets.collect());
            ledger.receive_payment(&paid).await.unwrap()
        })
        .await;
        let tickets: u64 = outcomes.iter().map(|taken| taken.credited_tickets).sum();
        let winners: usize = outcomes.iter().map(|taken| taken.new_winners).sum();
        assert_eq!((tickets, winners), (10, 2), "whoever came first");
        let totals = ledgers[0].totals().await.unwrap();
        assert_eq!(totals.credited, times(10 * i128::from(round), &ev()));
        assert_eq!(totals.winners, 2 * u64::from(round));
    }
    close(ledgers).await;
}

/// Nonces are forgotten while the same tickets come again and again: an offer is either known with
/// its nonces, or past.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forgetting_lets_no_ticket_in_twice() {
    let books = PostgresBooks::new().await;
    let ledgers = three(&books).await;
    let outcomes = race(&ledgers, 60, |ledger, n| async move {
        if n % 10 == 9 {
            until_there(|| ledger.forget_nonces(50 + u64::from(n / 20))).await;
            return 0;
        }
        let price = Rational::ONE;
        let expiry = 50 + u64::from(n % 3);
        let number = u8::try_from(n % 3).unwrap();
        let paid = receipt_for(
            &format!("s{}", n % 2),
            offer(number, expiry, 7, &price),
            price,
            vec![signed(1)],
        );
        ledger.receive_payment(&paid).await.unwrap().credited_tickets
    })
    .await;
    let tickets: u64 = outcomes.iter().sum();
    assert!(tickets <= 3, "{tickets} of three tickets");
    assert_eq!(ledgers[1].totals().await.unwrap().tickets, tickets);
    close(ledgers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_price_is_pinned_for_all() {
    let books = PostgresBooks::new().await;
    let ledgers = three(&books).await;
    let outcomes = race(&ledgers, 12, |ledger, n| async move {
        let price = Rational::from_int(2 + i128::from(n));
        let number = u8::try_from(n).unwrap();
        let offer = offer(number, 50, 7, &price);
        let paid = receipt_for("a", offer, price, vec![signed(1)]);
        ledger.receive_payment(&paid).await.unwrap().account.unwrap().fixed_price.unwrap()
    })
    .await;
    assert!(outcomes.iter().all(|price| *price == outcomes[0]), "{outcomes:?}");
    close(ledgers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_is_booked_once() {
    let books = PostgresBooks::new().await;
    let ledgers = three(&books).await;
    let outcomes = race(&ledgers, 30, |ledger, n| async move {
        ledger.debit(&fee_of("a", &format!("j{}", n % 5), Rational::ONE)).await.unwrap()
    })
    .await;
    let now = outcomes.iter().filter(|booked| matches!(booked, Booked::Now(_))).count();
    assert_eq!(now, 5);
    assert_eq!(ledgers[2].totals().await.unwrap().debited, Rational::from_int(5));
    close(ledgers).await;
}

/// Payments, holds and fees of all processes at once, on a few accounts, while processes are taken for dead
/// and come back: nothing is lost, nothing is spent twice, and no balance goes below zero when all fees were
/// held before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn balances_are_exact_and_covered() {
    let books = PostgresBooks::new().await;
    let ledgers = three(&books).await;
    let racing = race(&ledgers, 90, |ledger, n| async move {
        let session = format!("s{}", n % 3);
        let (mut credited, mut debited) = (Rational::ZERO, Rational::ZERO);
        let paid = receipt(&session, 1, vec![signed(n)]);
        credited += &until_there(|| ledger.receive_payment(&paid)).await.credited;
        let fee = Rational::new(17, 3).unwrap();
        let wish = hold(&session, &fee, &fee);
        // Who is taken for dead again and again is told that the books are away, and asks again.
        if until_there(|| ledger.hold(&wish)).await == Held::Aside {
            if n % 7 == 0 {
                ledger.let_go(wish.id);
            } else {
                let hold = spent(&wish, true);
                let debit = Debit { hold, ..fee_of(&session, &format!("j{n}"), fee.clone()) };
                match until_there(|| ledger.debit(&debit)).await {
                    Booked::Now(account) => {
                        assert!(!account.balance().is_negative(), "{account:?}");
                        debited += &fee;
                    }
                    Booked::Short { .. } => ledger.let_go(wish.id),
                    // By this task itself, whose first answer was lost.
                    Booked::Before => debited += &fee,
                }
            }
        }
        if n % 11 == 0 {
            until_there(|| ledger.fold(2_000, 5)).await;
        }
        (credited, debited)
    });
    let dying = async {
        for _ in 0..20 {
            use sqlx::Executor as _;
            // One after the other: of two that are in each other's way one gives up, after a second.
            let one = "DELETE FROM processes WHERE id = (SELECT id FROM processes LIMIT 1)";
            let _ = books.connect().await.execute(one).await;
        }
    };
    let (outcomes, ()) = tokio::join!(racing, dying);
    let mut sum = (Rational::ZERO, Rational::ZERO);
    for (credited, debited) in &outcomes {
        sum.0 += credited;
        sum.1 += debited;
    }
    let totals = ledgers[0].totals().await.unwrap();
    assert_eq!((totals.credited, totals.debited), sum);
    assert_eq!(totals.tickets, 90);
    close(ledgers).await;
}
