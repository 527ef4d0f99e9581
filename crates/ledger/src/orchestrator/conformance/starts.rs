//! What was paid for sessions that nobody has begun, that have ended, or that a dead process had.

use super::*;

const OTHER: Address = Address::repeat_byte(8);

fn attempt(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A payment for the `n`th attempt.
fn for_start(session: &str, nonce: u32, n: u128) -> PaymentReceipt {
    PaymentReceipt { for_start: Some(attempt(n)), ..receipt(session, 1, vec![signed(nonce)]) }
}

/// The `n`th attempt is over, or its session.
async fn end(ledger: &Ledger, session: &str, n: u128) {
    let start = Start { account: key(session), attempt: attempt(n) };
    ledger.end_start(&start).await.unwrap();
}

/// The account that the `n`th attempt begins with.
async fn adopt(ledger: &Ledger, sender: Address, n: u128) -> Option<AccountKey> {
    ledger.adopt_start(sender, attempt(n), i64::MIN).await.unwrap()
}

async fn balance(ledger: &Ledger, session: &str) -> Rational {
    ledger.account(&key(session)).await.unwrap().unwrap().balance()
}

pub async fn what_was_paid_for_a_start_is_there_for_the_next(books: &impl Books) {
    let ledger = books.open().await;
    assert_eq!(adopt(&ledger, SENDER, 1).await, None);
    ledger.receive_payment(&for_start("a", 1, 1)).await.unwrap();
    assert_eq!(adopt(&ledger, SENDER, 2).await, None, "it is being started");
    // Nobody began it. It is said twice, as after a crash just between.
    end(&ledger, "a", 1).await;
    end(&ledger, "a", 1).await;
    assert_eq!(adopt(&ledger, OTHER, 2).await, None, "another sender's");
    assert_eq!(adopt(&ledger, SENDER, 2).await, Some(key("a")));
    assert_eq!(adopt(&ledger, SENDER, 3).await, None, "one start at a time");
    // The next payment adds to it, and the first one's tickets do not count again.
    ledger.receive_payment(&for_start("a", 1, 2)).await.unwrap();
    ledger.receive_payment(&for_start("a", 2, 2)).await.unwrap();
    assert_eq!(balance(&ledger, "a").await, times(2, &ev()));
    // Nobody heard of it.
    end(&ledger, "a", 2).await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, Some(key("a")));
    // Now somebody has: it is charged and paid, and in use until it ends.
    ledger.debit(&fee_of("a", "the first", ev())).await.unwrap();
    ledger.receive_payment(&receipt("a", 1, vec![signed(9)])).await.unwrap();
    assert_eq!(adopt(&ledger, SENDER, 4).await, None);

    // A process that dies in the middle leaves both to the next one, each once: the session and the start.
    ledger
        .receive_payment(&PaymentReceipt { now_ms: 2_000, ..for_start("b", 3, 5) })
        .await
        .unwrap();
    ledger.close().await;
    let ledger = books.open().await;
    assert_eq!(adopt(&ledger, SENDER, 4).await, Some(key("a")));
    assert_eq!(balance(&ledger, "a").await, times(2, &ev()));
    assert_eq!(adopt(&ledger, SENDER, 6).await, Some(key("b")));
    assert_eq!(adopt(&ledger, SENDER, 7).await, None);
    assert_eq!(balance(&ledger, "b").await, ev());

    // A session that has ended leaves what is left of it, and no more than that.
    ledger.debit(&fee_of("a", "the second", ev())).await.unwrap();
    end(&ledger, "a", 4).await;
    assert_eq!(adopt(&ledger, SENDER, 7).await, Some(key("a")));
    assert_eq!(balance(&ledger, "a").await, ev());
    ledger.close().await;
}

/// Dust of one session does not hide what is left of another; and what is paid for a session is its price.
pub async fn the_most_that_is_left_is_next_and_at_its_own_price(books: &impl Books) {
    let ledger = books.open().await;
    let paid = |session: &str, n: u8, price: i64, nonces: std::ops::Range<u32>| PaymentReceipt {
        for_start: Some(attempt(u128::from(n))),
        ..receipt_for(
            session,
            offer(n, 50, 7, &Rational::from_int(price.into())),
            Rational::from_int(price.into()),
            nonces.map(signed).collect(),
        )
    };
    for (n, session) in (1..).zip(["a", "b", "c"]) {
        let tickets = if session == "b" { 0..3 } else { 0..1 };
        ledger.receive_payment(&paid(session, n, 3, tickets)).await.unwrap();
        end(&ledger, session, u128::from(n)).await;
    }
    assert_eq!(adopt(&ledger, SENDER, 4).await, Some(key("b")), "three tickets");
    let pinned = async |session: &str| {
        ledger.account(&key(session)).await.unwrap().unwrap().pinned().cloned()
    };
    assert_eq!(pinned("b").await, Some(Rational::from_int(3)));
    ledger.receive_payment(&paid("b", 4, 1, 0..1)).await.unwrap();
    assert_eq!(pinned("b").await, Some(Rational::from_int(1)), "what it was offered now");
    // A payment for the session itself keeps what it began at.
    let more = PaymentReceipt { for_start: None, ..paid("b", 5, 2, 0..1) };
    assert_eq!(ledger.receive_payment(&more).await.unwrap().credited_tickets, 1);
    assert_eq!(pinned("b").await, Some(Rational::from_int(1)));

    // In other hands, whoever paid for it before: a process that was silent meanwhile, say.
    let late = PaymentReceipt { for_start: Some(attempt(2)), ..paid("b", 6, 2, 0..1) };
    assert_eq!(ledger.receive_payment(&late).await.unwrap().credited_tickets, 1);
    end(&ledger, "b", 2).await;
    assert_eq!(adopt(&ledger, SENDER, 7).await.map(|key| key.session().len()), Some(1));
    assert!(
        !matches!(adopt(&ledger, SENDER, 8).await, Some(it) if it == key("b")),
        "it is the fourth's"
    );
    ledger.close().await;
}

/// With nothing left it is not there, unless somebody pays on; and it does not stay for ever.
pub async fn what_is_spent_is_not_there_for_the_next(books: &impl Books) {
    let ledger = books.open().await;
    // More than are looked at in one go.
    for nonce in 1..=20 {
        let (session, n) = (format!("s{nonce:02}"), u128::from(nonce));
        ledger.receive_payment(&for_start(&session, nonce, n)).await.unwrap();
        ledger.debit(&fee_of(&session, &session, ev())).await.unwrap();
        end(&ledger, &session, n).await;
    }
    end(&ledger, "nobody's", 21).await;
    let twice = ledger.receive_payment(&for_start("twice", 3, 22)).await.unwrap();
    assert_eq!(twice.credited_tickets, 0);
    end(&ledger, "twice", 22).await;
    assert_eq!(adopt(&ledger, SENDER, 23).await, None);
    // A payment that was on its way when the session ended.
    ledger.receive_payment(&receipt("s19", 1, vec![signed(30)])).await.unwrap();
    assert_eq!(adopt(&ledger, SENDER, 24).await, Some(key("s19")));
    assert_eq!(balance(&ledger, "s19").await, ev());
    // A while later those that are spent are forgotten, some at a time; what is in use is not.
    for n in 25..27 {
        assert_eq!(ledger.adopt_start(SENDER, attempt(n), i64::MAX).await.unwrap(), None);
    }
    ledger.receive_payment(&receipt("s01", 1, vec![signed(31)])).await.unwrap();
    ledger.receive_payment(&receipt("s20", 1, vec![signed(32)])).await.unwrap();
    assert_eq!(adopt(&ledger, SENDER, 27).await, None);
    end(&ledger, "s19", 24).await;
    assert_eq!(adopt(&ledger, SENDER, 27).await, Some(key("s19")));
    ledger.close().await;
}

/// Whoever is not told that his word was written says it again, whatever has happened meanwhile.
pub async fn what_is_said_late_of_a_start_changes_nothing(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&for_start("a", 1, 1)).await.unwrap();
    end(&ledger, "a", 1).await;
    assert_eq!(adopt(&ledger, SENDER, 2).await, Some(key("a")));
    // While it is being started by a later attempt.
    end(&ledger, "a", 1).await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, None, "it is the second one's");
    // The same, once that has paid.
    ledger.receive_payment(&for_start("a", 2, 2)).await.unwrap();
    end(&ledger, "a", 1).await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, None);
    assert_eq!(balance(&ledger, "a").await, times(2, &ev()));
    ledger.close().await;

    // Nor is it for one process to say what became of another's.
    let ledger = books.open().await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, Some(key("a")));
    ledger.close().await;
    let ledger = books.open().await;
    assert_eq!(adopt(&ledger, SENDER, 4).await, Some(key("a")));
    end(&ledger, "a", 3).await;
    assert_eq!(adopt(&ledger, SENDER, 5).await, None);
    ledger.close().await;
}

/// What comes to this account of what is left.
async fn carry(ledger: &Ledger, to: &str) -> Rational {
    ledger.carry_over(&key(to), i64::MIN, 1_000).await.unwrap()
}

/// The journal of this account adds up to it, and its lines of what was carried over are these.
async fn carried(ledger: &Ledger, session: &str, amounts: &[Rational]) {
    let query = InvoiceQuery { session: session.into(), sender: Some(SENDER), limit: 100 };
    let invoice = ledger.invoices(&query).await.unwrap().remove(0);
    assert!(invoice.is_whole);
    let lines = invoice.credits.iter();
    let sum = lines.clone().fold(Rational::ZERO, |sum, line| &sum + &line.amount);
    assert_eq!(sum, invoice.account.credited, "{session}");
    let moved = lines.filter(|line| line.tickets == 0 && line.recipient_rand_hash.is_empty());
    let moved: Vec<_> = moved.map(|line| line.amount.clone()).collect();
    assert_eq!(moved, amounts, "{session}");
}

/// Two are left with something, one of them at another price; the third is paid.
pub async fn what_is_left_is_carried_over_once_and_no_price_is(books: &impl Books) {
    let ledger = books.open().await;
    let dear = Rational::from_int(40);
    let paid = PaymentReceipt {
        for_start: Some(attempt(1)),
        ..receipt_for("a", offer(1, 50, 7, &dear), dear.clone(), (0..3).map(signed).collect())
    };
    ledger.receive_payment(&paid).await.unwrap();
    let fee = Rational::new(5, 3).unwrap();
    ledger.debit(&fee_of("a", "a fee", fee.clone())).await.unwrap();
    let left = &times(3, &ev()) - &fee;
    ledger.receive_payment(&for_start("b", 11, 2)).await.unwrap();
    ledger.receive_payment(&for_start("c", 12, 3)).await.unwrap();
    let all = ledger.totals().await.unwrap();
    assert_eq!(carry(&ledger, "c").await, Rational::ZERO, "both are in use");
    end(&ledger, "a", 1).await;
    assert_eq!(carry(&ledger, "nobody's").await, Rational::ZERO);
    let others = AccountKey::new(OTHER, "c").unwrap();
    let theirs = ledger.carry_over(&others, i64::MIN, 1_000).await.unwrap();
    assert_eq!((theirs, balance(&ledger, "a").await), (Rational::ZERO, left.clone()));

    assert_eq!(carry(&ledger, "c").await, left);
    assert_eq!(carry(&ledger, "c").await, Rational::ZERO, "once");
    assert_eq!(balance(&ledger, "a").await, Rational::ZERO);
    assert_eq!(balance(&ledger, "c").await, &ev() + &left);
    end(&ledger, "b", 2).await;
    assert_eq!(carry(&ledger, "c").await, ev());
    carried(&ledger, "a", &[-left.clone()]).await;
    carried(&ledger, "b", &[-ev()]).await;
    let account = ledger.account(&key("c")).await.unwrap().unwrap();
    assert_eq!((account.balance(), account.tickets), (&times(2, &ev()) + &left, 1));
    assert_eq!(account.pinned(), Some(&Rational::new(3, 2).unwrap()), "its own price");
    let first = ledger.account(&key("a")).await.unwrap().unwrap();
    assert_eq!((first.pinned(), first.tickets, &first.debited), (Some(&dear), 3, &fee));
    assert_eq!(ledger.totals().await.unwrap(), all, "nothing came or went");

    // What was on its way to one that is empty now is not lost.
    ledger.receive_payment(&receipt("a", 1, vec![signed(13)])).await.unwrap();
    assert_eq!(carry(&ledger, "c").await, ev());
    // A process that dies leaves all of it, however it came.
    ledger.close().await;
    let ledger = books.open().await;
    ledger.receive_payment(&for_start("d", 14, 4)).await.unwrap();
    assert_eq!(carry(&ledger, "d").await, &times(3, &ev()) + &left);
    assert_eq!(balance(&ledger, "d").await, &times(4, &ev()) + &left);
    ledger.close().await;
}

pub async fn what_a_job_holds_is_not_carried_over(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&for_start("a", 1, 1)).await.unwrap();
    ledger.receive_payment(&for_start("b", 2, 2)).await.unwrap();
    let held = Rational::from_int(2);
    let job = hold("a", &held, &held);
    assert_eq!(ledger.hold(&job).await.unwrap(), Held::Aside);
    end(&ledger, "a", 1).await;
    assert_eq!(carry(&ledger, "b").await, &ev() - &held);
    assert_eq!(balance(&ledger, "a").await, held);
    // It is the job's, to the end.
    let spent = HoldSpent { id: job.id, ends: true, least: held.clone() };
    let fee = Debit { hold: Some(spent), ..fee_of("a", "the job", Rational::ONE) };
    assert!(matches!(ledger.debit(&fee).await.unwrap(), Booked::Now(_)));
    assert_eq!(carry(&ledger, "b").await, Rational::ONE, "what it did not cost");
    ledger.close().await;
}

/// A name is one attempt's at a time, and whoever pays for another under it is told.
pub async fn an_account_is_in_one_attempts_hands(books: &impl Books) {
    let ledger = books.open().await;
    let pays = async |nonce: u32, n: u128| {
        let taken = ledger.receive_payment(&for_start("a", nonce, n)).await.unwrap();
        (taken.credited_tickets, taken.is_in_hand)
    };
    assert_eq!(pays(1, 1).await, (1, true));
    assert_eq!(pays(2, 1).await, (1, true));
    assert_eq!(pays(3, 2).await, (1, false), "it is the first one's");
    end(&ledger, "a", 2).await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, None);
    end(&ledger, "a", 1).await;
    assert_eq!(pays(3, 4).await, (0, true), "paid before");
    assert_eq!(adopt(&ledger, SENDER, 5).await, None);
    let own = ledger.receive_payment(&receipt("a", 1, vec![signed(4)])).await.unwrap();
    assert!(!own.is_in_hand, "for no start");
    end(&ledger, "a", 4).await;
    assert_eq!(adopt(&ledger, SENDER, 5).await, Some(key("a")));
    assert_eq!(pays(5, 6).await, (1, false));
    // Without an account there is nothing to have.
    let none = ledger.receive_payment(&for_start("b", 1, 7)).await.unwrap();
    assert!(none.account.is_none() && !none.is_in_hand);
    ledger.close().await;
    // What a process had that is dead is whoever's comes next.
    let ledger = books.open().await;
    let next = ledger.receive_payment(&for_start("a", 6, 8)).await.unwrap();
    assert_eq!((next.credited_tickets, next.is_in_hand), (1, true));
    assert_eq!(adopt(&ledger, SENDER, 9).await, None);
    assert_eq!(balance(&ledger, "a").await, times(6, &ev()));
    ledger.close().await;
}

/// Reservations of one sender at two processes at once: what is left comes to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_carry_each_wei_over_once() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    for round in 0..4_u32 {
        let n = |of: u32| u128::from(round * 100 + of);
        for old in 0..6 {
            let session = format!("r{round}-{old}");
            let nonce = round * 100 + old;
            one.receive_payment(&for_start(&session, nonce, n(old))).await.unwrap();
            end(&one, &session, n(old)).await;
        }
        let (mine, theirs) = (format!("m{round}"), format!("t{round}"));
        one.receive_payment(&for_start(&mine, round * 100 + 50, n(50))).await.unwrap();
        two.receive_payment(&for_start(&theirs, round * 100 + 51, n(51))).await.unwrap();
        let (a, b, c) = tokio::join!(carry(&one, &mine), carry(&two, &theirs), carry(&one, &mine));
        // One that another had under its lock just then was passed over, not lost.
        let rest = carry(&two, &theirs).await;
        let came = &(&(&a + &b) + &c) + &rest;
        assert_eq!(came, times(6, &ev()), "{round}");
        let both = &balance(&one, &mine).await + &balance(&two, &theirs).await;
        assert_eq!(both, times(8, &ev()), "{round}");
    }
    // A process that was taken for dead finds its account empty, and not below that.
    one.receive_payment(&for_start("silent", 900, 900)).await.unwrap();
    books.meddle("UPDATE processes SET lease_until = now() - interval '1 second'").await;
    two.receive_payment(&for_start("next", 901, 901)).await.unwrap();
    assert!(carry(&two, "next").await >= ev());
    let fee = Debit { covered: true, ..fee_of("silent", "late", ev()) };
    assert_eq!(one.debit(&fee).await.unwrap(), Booked::Short { balance: Rational::ZERO });
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_processes_goes_on_with_a_start() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    for nonce in 1..=8 {
        let n = u128::from(nonce);
        one.receive_payment(&for_start(&format!("s{nonce}"), nonce, n)).await.unwrap();
        end(&one, &format!("s{nonce}"), n).await;
    }
    let all = async |ledger: &Ledger| {
        let mut mine = Vec::new();
        for n in 10..18 {
            mine.extend(adopt(ledger, SENDER, n).await);
        }
        mine
    };
    let (mut mine, theirs) = tokio::join!(all(&one), all(&two));
    mine.extend(theirs);
    mine.sort_unstable();
    mine.dedup();
    // One that the other had under its lock just then was passed over, not lost.
    mine.extend(all(&one).await);
    assert_eq!(mine.len(), 8, "each once: {mine:?}");
    assert_eq!(all(&two).await, []);
    // The first one dies, with one in its hands.
    one.receive_payment(&for_start("s9", 9, 20)).await.unwrap();
    end(&one, "s9", 20).await;
    assert_eq!(all(&one).await.len(), 1);
    drop(one);
    books.meddle("UPDATE processes SET lease_until = now() - interval '1 second'").await;
    assert!(!all(&two).await.is_empty());
    two.close().await;
}

/// A session in a process of which nothing is heard is another one's as well when it comes back: both are the same
/// sender's, charge the one balance, each of them once, and never more than is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_only_silent_shares_what_is_left() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    let covered = |job: &str| Debit { covered: true, ..fee_of("a", job, ev()) };
    one.receive_payment(&PaymentReceipt {
        for_start: Some(attempt(1)),
        ..receipt("a", 1, vec![signed(1), signed(2), signed(3)])
    })
    .await
    .unwrap();
    assert!(matches!(one.debit(&covered("one/1")).await.unwrap(), Booked::Now(_)));
    assert_eq!(adopt(&two, SENDER, 2).await, None, "it is alive");
    books.meddle("UPDATE processes SET lease_until = now() - interval '1 second'").await;
    assert_eq!(adopt(&two, SENDER, 2).await, Some(key("a")));
    // It is back.
    assert!(matches!(one.debit(&covered("one/2")).await.unwrap(), Booked::Now(_)));
    assert!(matches!(two.debit(&covered("two/1")).await.unwrap(), Booked::Now(_)));
    assert_eq!(two.debit(&covered("two/1")).await.unwrap(), Booked::Before);
    let short = Booked::Short { balance: Rational::ZERO };
    assert_eq!(one.debit(&covered("one/3")).await.unwrap(), short);
    assert_eq!(two.debit(&covered("two/2")).await.unwrap(), short);
    // The one's end is not the other's, whatever is paid late for either.
    end(&one, "a", 1).await;
    one.receive_payment(&receipt("a", 1, vec![signed(4)])).await.unwrap();
    assert_eq!(adopt(&two, SENDER, 3).await, None);
    assert!(matches!(two.debit(&covered("two/2")).await.unwrap(), Booked::Now(_)));
    one.close().await;
    two.close().await;
}
