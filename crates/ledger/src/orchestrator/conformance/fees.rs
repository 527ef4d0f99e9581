//! Fees: booked once, and within what other jobs have set aside.

use super::*;

pub async fn a_job_is_debited_once(books: &impl Books) {
    let ledger = books.open().await;
    let fee = Debit {
        account: key("a"),
        job_id: "job".into(),
        units: 5,
        price: Rational::new(1, 2).unwrap(),
        began_ms: 2,
        price_stale_before_ms: 0,
        now_ms: 5,
        covered: false,
        hold: None,
    };
    let account = booked(ledger.debit(&fee).await.unwrap());
    assert_eq!(account.balance().to_string(), "-5/2");
    ledger.close().await;
    let ledger = books.open().await;
    assert_eq!(ledger.debit(&fee).await.unwrap(), Booked::Before);
    assert_eq!(ledger.totals().await.unwrap().debited.to_string(), "5/2");
}

pub async fn a_fee_that_must_be_covered_is_or_is_not_booked(books: &impl Books) {
    let ledger = books.open().await;
    let covered = |job_id: &str, fee: Rational| Debit { covered: true, ..fee_of("a", job_id, fee) };
    let none = ledger.debit(&covered("1", ev())).await.unwrap();
    assert_eq!(none, Booked::Short { balance: Rational::ZERO });
    assert!(ledger.accounts(9).await.unwrap().is_empty(), "nothing was booked");
    ledger.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
    let short = ledger.debit(&covered("1", times(3, &ev()))).await.unwrap();
    assert_eq!(short, Booked::Short { balance: times(2, &ev()) });
    // The job id is still free.
    booked(ledger.debit(&covered("1", times(2, &ev()))).await.unwrap());
    assert_eq!(ledger.debit(&covered("1", ev())).await.unwrap(), Booked::Before);
    assert_eq!(ledger.totals().await.unwrap().balance(), Rational::ZERO);
    ledger.close().await;
}

pub async fn what_jobs_hold_is_not_there_for_others(books: &impl Books) {
    let ledger = books.open().await;
    let (one, two) = (Rational::ONE, times(2, &ev()));
    let none = ledger.hold(&hold("a", &one, &Rational::ZERO)).await.unwrap();
    assert_eq!(none, Held::Short(None), "no account");
    ledger.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
    let first = hold("a", &ev(), &two);
    assert_eq!(ledger.hold(&first).await.unwrap(), Held::Aside);
    let short = ledger.hold(&hold("a", &ev(), &two)).await.unwrap();
    assert_eq!(short, Held::Short(Some(ev())), "half of it is held");
    let second = hold("a", &ev(), &ev());
    assert_eq!(ledger.hold(&second).await.unwrap(), Held::Aside);
    let short = ledger.hold(&hold("a", &one, &one)).await.unwrap();
    assert_eq!(short, Held::Short(Some(Rational::ZERO)), "all of it is held");
    // A job's own hold is not in its way; what is refused leaves it as it was.
    let more = HoldRequest { amount: two.clone(), least: two.clone(), ..second.clone() };
    assert_eq!(ledger.hold(&more).await.unwrap(), Held::Short(Some(ev())));
    assert_eq!(ledger.hold(&hold("a", &one, &one)).await.unwrap(), short);
    let less = HoldRequest { amount: &ev() - &one, least: one.clone(), ..second.clone() };
    assert_eq!(ledger.hold(&less).await.unwrap(), Held::Aside);
    assert_eq!(
        ledger.hold(&HoldRequest { least: two, ..less.clone() }).await.unwrap(),
        Held::Short(Some(ev()))
    );
    assert_eq!(ledger.hold(&second).await.unwrap(), Held::Aside);
    // A hold that is let go is there again at once.
    ledger.let_go(second.id);
    let third = hold("a", &ev(), &ev());
    assert_eq!(ledger.hold(&third).await.unwrap(), Held::Aside);
    // A part of the job is paid, and its hold shrinks by it; then it ends for less than it held.
    let part = Debit { hold: spent(&first, false), ..fee_of("a", "job/0", one.clone()) };
    booked(ledger.debit(&part).await.unwrap());
    assert_eq!(ledger.hold(&hold("a", &one, &one)).await.unwrap(), short);
    let fee = &ev() - &Rational::from_int(2);
    let ends = Debit { hold: spent(&first, true), ..fee_of("a", "job/1", fee) };
    booked(ledger.debit(&ends).await.unwrap());
    assert_eq!(ledger.hold(&hold("a", &one, &one)).await.unwrap(), Held::Aside);
    assert_eq!(ledger.hold(&hold("a", &one, &one)).await.unwrap(), short);
    ledger.close().await;
    // With the process its jobs have ended.
    let ledger = books.open().await;
    let all = hold("a", &one, &(&ev() + &one));
    assert_eq!(ledger.hold(&all).await.unwrap(), Held::Aside);
    ledger.close().await;
}

pub async fn a_covered_fee_leaves_others_what_they_hold(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1), signed(2), signed(3)])).await.unwrap();
    let (first, second) = (hold("a", &ev(), &ev()), hold("a", &ev(), &ev()));
    assert_eq!(ledger.hold(&first).await.unwrap(), Held::Aside);
    assert_eq!(ledger.hold(&second).await.unwrap(), Held::Aside);
    let covered = |job_id: &str, fee: &Rational| Debit {
        covered: true,
        hold: spent(&first, false),
        ..fee_of("a", job_id, fee.clone())
    };
    let short = ledger.debit(&covered("1", &times(3, &ev()))).await.unwrap();
    assert_eq!(short, Booked::Short { balance: times(2, &ev()) }, "a third of it is another's");
    booked(ledger.debit(&covered("1", &times(2, &ev()))).await.unwrap());
    let short = ledger.debit(&covered("2", &Rational::ONE)).await.unwrap();
    assert_eq!(short, Booked::Short { balance: Rational::ZERO });
    let ends = Debit { hold: spent(&second, true), ..fee_of("a", "3", ev()) };
    assert_eq!(booked(ledger.debit(&ends).await.unwrap()).balance(), Rational::ZERO);
    ledger.close().await;
}

pub async fn a_fee_whose_hold_is_gone_needs_it_anew(books: &impl Books) {
    let ledger = books.open().await;
    ledger.receive_payment(&receipt("a", 1, vec![signed(1), signed(2)])).await.unwrap();
    let (first, all) = (hold("a", &ev(), &ev()), times(2, &ev()));
    assert_eq!(ledger.hold(&first).await.unwrap(), Held::Aside);
    ledger.let_go(first.id);
    let second = hold("a", &all, &all);
    assert_eq!(ledger.hold(&second).await.unwrap(), Held::Aside);
    let ends = Debit { hold: spent(&first, true), ..fee_of("a", "first", ev()) };
    let nothing = Booked::Short { balance: Rational::ZERO };
    assert_eq!(ledger.debit(&ends).await.unwrap(), nothing, "others have begun on it");
    let covered = Debit { covered: true, ..ends.clone() };
    assert_eq!(ledger.debit(&covered).await.unwrap(), nothing);
    // What the job needed to begin is there again: it costs what it costs.
    let other = Debit { hold: spent(&second, true), ..fee_of("a", "second", ev()) };
    booked(ledger.debit(&other).await.unwrap());
    let dear = Debit { price: &ev() + &Rational::ONE, ..ends };
    let short = ledger.debit(&Debit { covered: true, ..dear.clone() }).await.unwrap();
    assert_eq!(short, Booked::Short { balance: ev() });
    assert_eq!(booked(ledger.debit(&dear).await.unwrap()).balance(), Rational::from_int(-1));
    ledger.close().await;
}
