//! Totals and usage.

use super::*;

const DAY: i64 = 86_400_000;

pub async fn usage_is_exact(books: &impl Books) {
    let ledger = books.open("one").await;
    // (state, account, subject, day, tickets)
    let paid = [
        (1, "a", Some("x:1"), 0, 1),
        (2, "a", Some("x:1"), 0, 3),
        (3, "a", None, 0, 2),
        (4, "a", Some("x:1"), 1, 4),
        (5, "b", Some("x:1"), 0, 5),
        (6, "b", Some("x:1"), 2, 6),
    ];
    for (state, account, subject, day, count) in paid {
        let auth_id = subject.map(|s| AuthId::new(s).unwrap());
        let mut asked = ask(state, 0, 1, count);
        (asked.account, asked.auth_id) = (account.into(), auth_id.clone());
        let held = hold(&ledger, asked).await;
        let mut payment = payment(state, 0, held);
        (payment.binding.account, payment.binding.auth_id) = (account.into(), auth_id);
        payment.now_ns = (day * DAY + 1) * 1_000_000;
        payment.fee_wei = Rational::new(state.into(), 7).unwrap();
        ledger.commit(payment).await.unwrap();
    }
    let query = |from, to, account: Option<&str>| UsageQuery {
        from_ms: from,
        to_ms: to,
        account: account.map(str::to_owned),
    };
    let all = ledger.usage_at_once(query(0, 10 * DAY, None)).await.unwrap();
    let lines: Vec<_> = all
        .iter()
        .map(|u| {
            let subject = u.auth_id.as_ref().map_or("", |id| id.as_str());
            let fee = u.fee_wei.to_string();
            (u.account.as_str(), subject, u.day.to_string(), u.payments, u.tickets, fee)
        })
        .collect();
    let line = |account, subject, day: &str, payments, tickets, fee: &str| {
        (account, subject, day.to_owned(), payments, tickets, fee.to_owned())
    };
    let expected = [
        line("a", "", "1970-01-01", 1, 2, "3/7"),
        line("a", "x:1", "1970-01-01", 2, 4, "3/7"),
        line("a", "x:1", "1970-01-02", 1, 4, "4/7"),
        line("b", "x:1", "1970-01-01", 1, 5, "5/7"),
        line("b", "x:1", "1970-01-03", 1, 6, "6/7"),
    ];
    assert_eq!(lines, expected);
    for usage in &all {
        assert_eq!(usage.charged_wei, Wei::from_u64(usage.tickets * EV));
        assert_eq!(usage.ticket_ev_wei, Rational::from(usage.tickets * EV));
    }
    let some = ledger.usage_at_once(query(0, DAY, Some("b"))).await.unwrap();
    assert_eq!(some, [all[3].clone()]);
    let until = ledger.usage_at_once(query(DAY, DAY + 1, None)).await.unwrap();
    assert_eq!(until, [], "`to` is not included");
    let from = ledger.usage_at_once(query(DAY + 1, DAY + 2, None)).await.unwrap();
    assert_eq!(from, [all[2].clone()], "`from` is");
    // Whoever has enough is not read for any more.
    let (lines, mut read) = tokio::sync::mpsc::channel(1);
    let reading = tokio::spawn({
        let (ledger, query) = (Arc::clone(&ledger), query(0, 10 * DAY, None));
        async move { ledger.usage(query, lines).await }
    });
    assert_eq!(read.recv().await.unwrap(), all[0]);
    drop(read);
    reading.await.unwrap().unwrap();
    let all_summary = ledger.summary().await.unwrap();
    assert_eq!(all_summary.fee_total_wei, "21/7".parse().unwrap());
    ledger.close().await;
}

/// Prices over ever new denominators: the sums are exact, and stay readable.
pub async fn totals_do_not_grow_with_payments(books: &impl Books) {
    let ledger = books.open("one").await;
    let primes = [2, 3, 5, 7, 11, 13, 1_000_003, 1_000_033, i64::MAX];
    let mut fees = Rational::ZERO;
    for (state, pixels) in (0..).zip(primes) {
        for sequence in 0..2 {
            let held = hold(&ledger, ask(state, sequence, 1, 1)).await;
            let mut payment = payment(state, sequence, held);
            let price = PriceInfo::new(1, pixels).unwrap();
            if let Some(new) = payment.new_session.as_mut() {
                new.initial_price = price;
            }
            payment.fee_wei = Rational::from(3_u64) * price.rational();
            fees += &payment.fee_wei;
            ledger.commit(payment).await.unwrap();
        }
    }
    let total = ledger.summary().await.unwrap();
    assert_eq!((total.payments, total.tickets), (18, 18));
    assert_eq!(total.fee_total_wei, fees);
    assert_eq!(total.balance_total_wei, &Rational::from(18 * EV) - &fees);
    ledger.close().await;
}

pub async fn everything_is_read_back_in_pages(books: &impl Books) {
    let ledger = books.open("one").await;
    assert_eq!(ledger.charged_after(0, 10).await.unwrap(), []);
    for sequence in 0..5 {
        let mut ask = ask(1, sequence, 1, 2);
        ask.charges = vec![charge(&format!("acc{}", sequence % 3), None)];
        let held = hold(&ledger, ask).await;
        ledger.commit(payment(1, sequence, held)).await.unwrap();
    }
    let mut open = Vec::new();
    for state in 2..=4 {
        let mut ask = ask(state, 0, 1, 1);
        ask.charges = vec![charge("acc0", None)];
        open.push((ask.id, hold(&ledger, ask).await.nonces));
    }
    // Payments by their places: what is there, and nothing for what is not.
    let places = [(id(1), 4), (id(2), 0), (id(1), 0), (id(1), 5), (id(9), 1)];
    let mut found = ledger.payments_at(&places).await.unwrap();
    found.sort_by_key(|payment| payment.sequence);
    let mut expected = Vec::new();
    for sequence in [0, 4] {
        expected.push(ledger.payment(&id(1), sequence).await.unwrap().unwrap());
    }
    assert_eq!(found, expected);
    assert_eq!(ledger.payments_at(&[]).await.unwrap(), []);
    // Charges in the order of the books.
    let (mut after, mut charged) = (0, Vec::new());
    loop {
        let page = ledger.charged_after(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2 && last.n > after);
        after = last.n;
        charged.extend(page.into_iter().map(|payment| payment.charged_wei));
    }
    let rows = ledger.payments(10).await.unwrap();
    let stored: Vec<Wei> = rows.iter().rev().map(|row| row.charged_wei).collect();
    assert_eq!((charged.len(), charged), (5, stored));
    let stored = ledger.stored_after(after - 1, 9).await.unwrap();
    assert_eq!(stored, [(after, ledger.payment(&id(1), 4).await.unwrap().unwrap())]);
    // Counters, each once, in one order.
    let (mut after, mut counters) = (String::new(), Vec::new());
    loop {
        let page = ledger.counters_after(&after, 2).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = last.as_str().to_owned();
        counters.extend(page);
    }
    let keys: Vec<CounterKey> = counters.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, ["acc0", "acc1", "acc2"].map(counter));
    let sums: Vec<Wei> = counters.into_iter().map(|(_, charged)| charged).collect();
    assert_eq!(sums, ledger.counters(&keys).await.unwrap());
    // Reservations that wait.
    open.sort_by_key(|(id, _)| *id);
    let (mut after, mut waiting) = (None, Vec::new());
    loop {
        let page = ledger.open_reservations(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        waiting.extend(page);
    }
    assert!(waiting.iter().all(|held| held.counters == [counter("acc0")]));
    assert!(waiting.iter().all(|held| held.amount_wei == Wei::from_u64(EV)));
    assert_eq!(waiting.iter().map(|held| (held.id, held.nonces)).collect::<Vec<_>>(), open);
    ledger.close().await;
}

pub async fn sums_over_endless_prices_are_bounded_and_say_so(books: &impl Books) {
    let ledger = books.open("one").await;
    let mut fees = Rational::ZERO;
    // Odd numbers near 2^63, most of them without a common factor.
    for state in 0..120 {
        let held = hold(&ledger, ask(state, 0, 1, 1)).await;
        let mut payment = payment(state, 0, held);
        let price = PriceInfo::new(1, i64::MAX - 2 * i64::from(state)).unwrap();
        if let Some(new) = payment.new_session.as_mut() {
            new.initial_price = price;
        }
        payment.fee_wei = price.rational();
        fees += &payment.fee_wei;
        ledger.commit(payment).await.unwrap();
    }
    let total = ledger.summary().await.unwrap();
    let rounding = Rational::from(total.fee_rounding_wei);
    assert!(total.fee_rounding_wei > 0 && total.fee_total_wei > fees);
    assert!(total.fee_total_wei < &fees + &rounding);
    assert!(total.fee_total_wei.denominator_be().len() <= 256);
    assert_eq!(total.balance_total_wei, &total.ticket_ev_total_wei - &total.fee_total_wei);
    let all = UsageQuery { from_ms: 0, to_ms: i64::MAX, account: None };
    let usage = ledger.usage_at_once(all).await.unwrap();
    assert_eq!((usage.len(), usage[0].payments), (1, 120));
    assert!(usage[0].fee_rounding_wei > 0 && usage[0].fee_wei > fees);
    ledger.close().await;
}
