//! Processes that are taken for dead and are not: what they had set aside is lost, and no balance goes below
//! zero by it.

use super::*;
use penstock_testkit::until::until;

/// They have no row any more, as after a silence longer than their lease.
const DEATH: &str = "DELETE FROM processes";
/// Nobody has heard for too long of those that hold something, and they are still there.
const SILENCE: &str = "UPDATE processes SET lease_until = now() - interval '1 second' \
     WHERE id IN (SELECT process FROM holds)";

async fn rows(books: &PostgresBooks) -> usize {
    books.column("SELECT amount FROM holds").await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_begun_on_is_not_charged_to_it() {
    for death in [DEATH, SILENCE] {
        let books = PostgresBooks::new().await;
        let (one, two) = (books.open().await, books.open().await);
        one.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
        let (first, all) = (hold("a", &ev(), &ev()), times(2, &ev()));
        assert_eq!(one.hold(&first).await.unwrap(), Held::Aside);
        books.meddle(death).await;
        let second = hold("a", &all, &all);
        assert_eq!(two.hold(&second).await.unwrap(), Held::Aside, "{death}");
        let lost = Debit { hold: spent(&first, true), ..fee_of("a", "first", ev()) };
        let nothing = Booked::Short { balance: Rational::ZERO };
        assert_eq!(one.debit(&lost).await.unwrap(), nothing, "{death}");
        let kept = Debit { hold: spent(&second, true), ..fee_of("a", "second", all) };
        assert_eq!(booked(two.debit(&kept).await.unwrap()).balance(), Rational::ZERO);
        one.close().await;
        two.close().await;
    }
}

/// A process that comes back before anybody needed its room has lost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_process_keeps_what_nobody_wants() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    one.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
    assert_eq!(one.hold(&hold("a", &ev(), &ev())).await.unwrap(), Held::Aside);
    books.meddle(SILENCE).await;
    assert_eq!(two.hold(&hold("a", &ev(), &ev())).await.unwrap(), Held::Aside);
    books.meddle("UPDATE processes SET lease_until = now() + interval '1 hour'").await;
    let short = two.hold(&hold("a", &ev(), &ev())).await.unwrap();
    assert_eq!(short, Held::Short(Some(Rational::ZERO)), "both count");
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_is_set_aside_anew() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    one.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
    one.receive_payment(&receipt("b", 2, vec![signed(1)])).await.unwrap();
    let first = hold("a", &ev(), &ev());
    assert_eq!(one.hold(&first).await.unwrap(), Held::Aside);
    // A part of it is spent.
    let part = Debit { hold: spent(&first, false), ..fee_of("a", "part", Rational::ONE) };
    booked(one.debit(&part).await.unwrap());
    books.meddle(DEATH).await;
    assert_eq!(rows(&books).await, 0);
    // Whatever makes it notice.
    assert_eq!(one.hold(&hold("b", &ev(), &ev())).await.unwrap(), Held::Aside);
    until("the hold is there again", || async { rows(&books).await == 2 }).await;
    let short = two.hold(&hold("a", &times(2, &ev()), &times(2, &ev()))).await.unwrap();
    assert_eq!(short, Held::Short(Some(ev())));
    one.close().await;
    two.close().await;
}

/// Jobs that end while what they held is being set aside anew leave nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_of_jobs_that_have_ended() {
    let books = PostgresBooks::new().await;
    let ledger = books.open().await;
    let tickets = (0..40).map(signed).collect();
    ledger.receive_payment(&receipt("a", 1, tickets)).await.unwrap();
    for round in 0..5 {
        let wishes: Vec<_> = (0..8).map(|_| hold("a", &Rational::ONE, &Rational::ONE)).collect();
        for wish in &wishes {
            assert_eq!(ledger.hold(wish).await.unwrap(), Held::Aside);
        }
        books.meddle(DEATH).await;
        let last = hold("a", &Rational::ONE, &Rational::ONE);
        assert_eq!(ledger.hold(&last).await.unwrap(), Held::Aside);
        ledger.let_go(last.id);
        for (n, wish) in wishes.iter().enumerate() {
            if n % 2 == 0 {
                ledger.let_go(wish.id);
                continue;
            }
            let job = format!("{round}/{n}");
            let ends = Debit { hold: spent(wish, true), ..fee_of("a", &job, Rational::ONE) };
            booked(ledger.debit(&ends).await.unwrap());
        }
        until("nothing is held", || async { rows(&books).await == 0 }).await;
    }
    ledger.close().await;
}

/// A job of one of two processes.
#[derive(Debug, Clone)]
enum Step {
    Pay { tickets: u8 },
    Begin { at: bool, amount: u8 },
    More { job: u8, amount: u8 },
    Spend { job: u8, fee: u8, covered: bool, ends: bool },
    LetGo { job: u8 },
    Die { silent: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let (job, some) = (0..6u8, 1..12u8);
    prop_oneof![
        2 => (1..4u8).prop_map(|tickets| Step::Pay { tickets }),
        4 => (any::<bool>(), some.clone()).prop_map(|(at, amount)| Step::Begin { at, amount }),
        2 => (job.clone(), some.clone()).prop_map(|(job, amount)| Step::More { job, amount }),
        6 => (job.clone(), some, any::<bool>(), any::<bool>())
            .prop_map(|(job, fee, covered, ends)| Step::Spend { job, fee, covered, ends }),
        1 => job.prop_map(|job| Step::LetGo { job }),
        3 => any::<bool>().prop_map(|silent| Step::Die { silent }),
    ]
}

struct Job {
    at: bool,
    wish: HoldRequest,
}

/// What jobs set aside covers their fees: then no balance is below zero at any time, whoever is taken for
/// dead, and the fees that were booked are what the balance lacks.
async fn run(ledgers: [&Ledger; 2], die: impl AsyncFn(bool), steps: Vec<Step>) {
    let at = |at: bool| ledgers[usize::from(at)];
    let (mut jobs, mut paid, mut charged) = (Vec::<Job>::new(), 0_u32, Rational::ZERO);
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Pay { tickets } => {
                let new = (0..u32::from(tickets)).map(|n| signed(paid + n)).collect();
                paid += u32::from(tickets);
                at(false).receive_payment(&receipt("a", 1, new)).await.unwrap();
            }
            Step::Begin { at: place, amount } => {
                let amount = Rational::from_int(amount.into());
                let wish = hold("a", &amount, &amount);
                if at(place).hold(&wish).await.unwrap() == Held::Aside {
                    jobs.push(Job { at: place, wish });
                }
            }
            Step::More { job, amount } => {
                let Some(job) = jobs.get_mut(usize::from(job)) else { continue };
                let amount = Rational::from_int(amount.into());
                let more =
                    HoldRequest { amount: amount.clone(), least: amount, ..job.wish.clone() };
                if at(job.at).hold(&more).await.unwrap() == Held::Aside {
                    job.wish = more;
                }
            }
            Step::Spend { job: index, fee, covered, ends } => {
                let Some(job) = jobs.get_mut(usize::from(index)) else { continue };
                // A fee that need not be covered is within what the job holds.
                let fee = Rational::from_int(fee.into());
                let fee = if covered { fee } else { fee.min(job.wish.amount.clone()) };
                let debit = Debit {
                    covered,
                    hold: spent(&job.wish, ends),
                    ..fee_of("a", &format!("j{n}"), fee.clone())
                };
                if let Booked::Now(account) = at(job.at).debit(&debit).await.unwrap() {
                    charged += &fee;
                    job.wish.amount = (&job.wish.amount - &fee).max(Rational::ZERO);
                    job.wish.least = job.wish.amount.clone();
                    assert!(!account.balance().is_negative(), "{account:?}");
                    if ends {
                        jobs.remove(usize::from(index));
                    }
                }
            }
            Step::LetGo { job } => {
                if usize::from(job) < jobs.len() {
                    let job = jobs.remove(usize::from(job));
                    at(job.at).let_go(job.wish.id);
                }
            }
            Step::Die { silent } => die(silent).await,
        }
        let totals = at(true).totals().await.unwrap();
        assert_eq!(totals.debited, charged);
        assert!(!totals.balance().is_negative(), "{totals:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn no_balance_goes_below_zero(steps in prop::collection::vec(step(), 1..60)) {
        block_on(async {
            let books = SqliteBooks::new().await;
            let ledger = books.open().await;
            // A file has one process, which nobody takes for dead.
            run([&ledger, &ledger], async |_| {}, steps).await;
            ledger.close().await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn no_balance_goes_below_zero_by_processes_that_were_taken_for_dead(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        block_on(async {
            let books = PostgresBooks::new().await;
            let (one, two) = (books.open().await, books.open().await);
            let die = async |silent| books.meddle(if silent { SILENCE } else { DEATH }).await;
            run([&one, &two], die, steps).await;
            one.close().await;
            two.close().await;
        });
    }
}
