//! The books after the storm: what clients hold is compared with the ledger and with the chain, to the
//! wei.

pub mod books;
mod byoc;
mod jobs;
pub mod live_runner;

pub use byoc::Brought;
pub use live_runner::{Runners, Seen};

use super::{
    held::Held,
    payer::{Sent, Taken, calls, pay_at},
    tally::Tally,
    trio::{BROUGHT_WEI, PRICE_WEI, RUNNER_WEI, Trio},
};
use books::{Books, Charge, connect};
use penstock_chain::Chain as _;
use penstock_domain::{Rational, address_lower};
use penstock_testkit::{until_ok, until_some};
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Display},
    time::Duration,
};

/// Longer than any offer lives.
const MORE_THAN_AN_OFFER: u64 = 45;
/// Between two blocks while the last winners are redeemed.
const BLOCK: Duration = Duration::from_millis(100);

/// What the books say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tickets that clients know to be taken.
    pub tickets: u64,
    /// The same according to the ledger.
    pub ledger_tickets: u64,
    /// Offers that they were of.
    pub offers: u64,
    /// Nonces that are in the ledger more than once, or credited more often than they were signed.
    pub nonces_twice: u64,
    /// Accounts.
    pub accounts: u64,
    /// Worth of the tickets according to the clients, exact wei.
    pub credited_wei: String,
    /// The same according to the ledger.
    pub ledger_credited_wei: String,
    /// Charges of jobs in the ledger, exact wei.
    pub ledger_debited_wei: String,
    /// Jobs that were answered, each charged once.
    pub jobs_answered: u64,
    /// Jobs without an answer.
    pub jobs_unanswered: u64,
    /// Of them: done and charged.
    pub jobs_unanswered_charged: u64,
    /// Jobs of brought capabilities.
    pub brought: Brought,
    /// Sessions of live runners.
    pub live_runner: Runners,
    /// Winners according to the clients.
    pub winners: u64,
    /// In the ledger.
    pub ledger_winners: u64,
    /// Paid by the chain.
    pub redemptions: u64,
    /// Times that a ticket was sent to the chain.
    pub redemptions_sent: u64,
    /// Payments that were sent to each process once more at the end, and refused by each.
    pub replays: u64,
    /// Milliseconds until nothing was set aside any more.
    pub holds_gone_ms: u64,
}

/// Compares everything; what does not agree is noted in `tally`.
pub async fn judge(
    trio: &Trio,
    ledger: &str,
    held: &Held,
    taken: &[Taken],
    tally: &Tally,
) -> Counts {
    let mut counts = Counts {
        tickets: held.tickets,
        offers: held.offers.len() as u64,
        credited_wei: held.credited().to_string(),
        winners: held.winners.len() as u64,
        ..Counts::default()
    };
    replay(trio, taken, tally, &mut counts).await;
    counts.holds_gone_ms = holds_gone(ledger).await;
    redeemed(trio, ledger).await;
    let books = Books::read(ledger).await;
    let seen = Seen { tally, uncharged_ms: trio.uncharged_ms() };
    accounts(&books, held, &seen, &mut counts);
    if counts.live_runner.undisturbed == 0 && tally.violations().is_empty() {
        let what =
            "no session of a live runner was left alone: whether its time is charged is not known";
        tally.violation(what.to_owned());
    }
    offers(&books, held, tally, &mut counts);
    winners(trio, &books, held, tally, &mut counts).await;
    all_say_the_same(trio, tally).await;
    for line in trio.logged("panicked") {
        tally.violation(format!("a panic: {line:.300}"));
    }
    counts
}

fn equal<T: PartialEq + Display>(tally: &Tally, what: impl Display, one: &T, other: &T) {
    if one != other {
        tally.violation(format!("{what}: {one} and {other}"));
    }
}

fn same<T: Ord + Debug>(tally: &Tally, what: &str, one: &BTreeSet<T>, other: &BTreeSet<T>) {
    for (more, less, whose) in [(one, other, "first"), (other, one, "second")] {
        let extra: Vec<&T> = more.difference(less).take(3).collect();
        if !extra.is_empty() {
            let many = more.difference(less).count();
            tally.violation(format!("{what}: {many} only in the {whose}, as {extra:?}"));
        }
    }
}

/// The last payments of each client, once more, at each process.
async fn replay(trio: &Trio, taken: &[Taken], tally: &Tally, counts: &mut Counts) {
    let block = trio.chain.client.rounds().await.expect("the chain").last_seen_l1_block;
    let calls = calls();
    for payment in taken.iter().filter(|payment| payment.ends_at > block) {
        for url in &trio.urls {
            let sent = until_some("a replay is answered", || async {
                let sent = pay_at(&calls, url, &payment.headers).await.0;
                (sent != Sent::Unanswered).then_some(sent)
            })
            .await;
            if sent != Sent::Seen {
                tally.violation(format!("a replay at the end was answered {sent:?}"));
            }
        }
        counts.replays += 1;
    }
    if counts.replays == 0 {
        tally.violation("no payment was left to be sent again at the end".to_owned());
    }
}

/// Waits until nothing is set aside: every job is over, and the dead are buried.
async fn holds_gone(ledger: &str) -> u64 {
    let began = std::time::Instant::now();
    until_ok("nothing is set aside any more", || async move {
        let mut books = connect(ledger).await;
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM holds");
        let count = count.fetch_one(&mut books).await.map_err(|error| error.to_string())?;
        let _ = books.close().await;
        if count == 0 { Ok(()) } else { Err(format!("{count} holds")) }
    })
    .await;
    crate::gateway_chaos::ms(began.elapsed())
}

/// Ends every offer, and waits until no winner is on its way any more.
async fn redeemed(trio: &Trio, ledger: &str) {
    trio.chain.mine_blocks(MORE_THAN_AN_OFFER).await;
    // However many there are: as long as they become fewer.
    let mut left = i64::MAX;
    while left > 0 {
        left = until_ok("more winners are settled", || async move {
            let mut books = connect(ledger).await;
            let count = sqlx::query_scalar::<_, i64>(
                "SELECT count(*) FROM winners WHERE status IN ('queued', 'redeeming')",
            );
            let count = count.fetch_one(&mut books).await.map_err(|error| error.to_string())?;
            let _ = books.close().await;
            if count < left {
                return Ok(count);
            }
            // One that failed waits for blocks.
            tokio::time::sleep(BLOCK).await;
            trio.chain.mine_blocks(1).await;
            Err(format!("{count} winners wait"))
        })
        .await;
        tokio::time::sleep(BLOCK).await;
        trio.chain.mine_blocks(1).await;
    }
}

/// Every account: credits, charges, and that what was done in it was charged as its kind of work is.
fn accounts(books: &Books, held: &Held, seen: &Seen<'_>, counts: &mut Counts) {
    let tally = seen.tally;
    let ours = held.accounts.keys().cloned().collect();
    same(tally, "accounts of clients and ledger", &ours, &books.accounts.keys().cloned().collect());
    let (mut credited, mut debited) = (Rational::ZERO, Rational::ZERO);
    // What goes from one account comes to another of the same sender.
    let mut senders = BTreeMap::new();
    for (key, (in_account, out_of_account, tickets)) in &books.accounts {
        let name = format!("{} {}", address_lower(&key.0), key.1);
        let Some(ours) = held.accounts.get(key) else { continue };
        let carried = books.carried.get(key).cloned().unwrap_or_default();
        let paid = &ours.credited + &carried;
        equal(tally, format!("{name}: paid and credited"), &paid, in_account);
        let sum = senders.entry(key.0).or_insert(Rational::ZERO);
        *sum = &*sum + &carried;
        equal(tally, format!("{name}: tickets"), &ours.tickets, tickets);
        let lines = books.credits.get(key).cloned().unwrap_or_default();
        equal(tally, format!("{name}: credited and its lines"), in_account, &lines);
        let charges = books.debits.get(key).map(Vec::as_slice).unwrap_or_default();
        let (price_wei, found) = match (held.brought.get(key), held.stints.get(key)) {
            (Some(jobs), _) => (BROUGHT_WEI, byoc::judge(charges, jobs, &mut counts.brought)),
            (_, Some(stints)) => {
                (RUNNER_WEI, live_runner::judge(charges, stints, seen, &mut counts.live_runner))
            }
            (None, None) => (PRICE_WEI, jobs::judge(charges, ours, counts)),
        };
        found.into_iter().for_each(|what| tally.violation(format!("{name}: {what}")));
        let mut sum = Rational::ZERO;
        for Charge { units, fee, .. } in charges {
            let price = Rational::from(price_wei).times(*units);
            equal(tally, format!("{name}: a fee for {units} units"), fee, &price);
            sum = &sum + fee;
        }
        equal(tally, format!("{name}: debited and its lines"), out_of_account, &sum);
        if out_of_account > in_account {
            tally.violation(format!("{name}: {out_of_account} wei of {in_account} were spent"));
        }
        credited = &credited + in_account;
        debited = &debited + out_of_account;
        counts.ledger_tickets += tickets;
    }
    for (sender, sum) in &senders {
        equal(tally, format!("carried over between accounts of {sender}"), sum, &Rational::ZERO);
    }
    counts.accounts = books.accounts.len() as u64;
    counts.ledger_credited_wei = credited.to_string();
    counts.ledger_debited_wei = debited.to_string();
    equal(tally, "tickets of clients and ledger", &held.tickets, &counts.ledger_tickets);
    equal(tally, "worth at clients and ledger", &held.credited(), &credited);
}

/// Every offer: as many tickets credited as were signed, each nonce of it once.
fn offers(books: &Books, held: &Held, tally: &Tally, counts: &mut Counts) {
    let names = held.offers.keys().map(ToString::to_string).collect();
    same(tally, "offers of clients and ledger", &names, &books.offers.keys().cloned().collect());
    for (offer, tickets) in &held.offers {
        let credited = books.offers.get(&offer.to_string()).copied().unwrap_or(0);
        equal(tally, format!("tickets of offer {offer}"), tickets, &credited);
        counts.nonces_twice += credited.saturating_sub(*tickets);
    }
    for (offer, nonces) in &books.nonces {
        let different: BTreeSet<i64> = nonces.iter().copied().collect();
        counts.nonces_twice += (nonces.len() - different.len()) as u64;
        let credited = books.offers.get(offer).copied().unwrap_or(0);
        equal(tally, format!("nonces of offer {offer}"), &(nonces.len() as u64), &credited);
    }
    equal(tally, "nonces taken twice", &counts.nonces_twice, &0);
}

/// Every ticket that won, and no other, is in the ledger and was paid by the chain, once.
async fn winners(trio: &Trio, books: &Books, held: &Held, tally: &Tally, counts: &mut Counts) {
    let ours: BTreeSet<String> = held.winners.iter().map(ToString::to_string).collect();
    let theirs = books.winners.iter().map(|(hash, _)| hash.clone()).collect();
    same(tally, "winners of clients and ledger", &ours, &theirs);
    counts.ledger_winners = books.winners.len() as u64;
    equal(tally, "winners and different ones", &books.winners.len(), &theirs.len());
    for (hash, status) in books.winners.iter().filter(|(_, status)| status != "redeemed") {
        tally.violation(format!("winner {hash} is {status}"));
    }
    let chain = &trio.chain.client;
    for hash in &held.winners {
        let paid = chain.redemption_of(*hash).await.expect("the chain answers");
        if paid.is_none_or(|paid| paid.recipient != trio.recipient.address) {
            tally.violation(format!("the chain has not paid {hash}"));
        }
    }
    counts.redemptions = chain.status().await.expect("the chain answers").redemptions;
    equal(tally, "winners and redemptions", &counts.winners, &counts.redemptions);
    counts.redemptions_sent = trio.chain.redemptions_sent();
}

/// Each process shows the whole ledger.
async fn all_say_the_same(trio: &Trio, tally: &Tally) {
    let mut said = Vec::new();
    for number in 0..trio.processes.len() {
        said.push(trio.admin(number, "/v1/summary").await.expect("a summary").to_string());
    }
    for other in &said {
        equal(tally, "summaries of two processes", &said[0], other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator_chaos::held::{Account, BroughtJob, Stint};
    use penstock_domain::{Address, B256};

    const OFFER: B256 = B256::repeat_byte(7);

    fn key() -> Account {
        (Address::repeat_byte(1), "s".to_owned())
    }

    /// One account with three tickets, one job that was answered and one that was not.
    fn held() -> Held {
        let mut held = Held::default();
        held.paid(&key(), OFFER, &Rational::from(100_u64), &[None, None, None]);
        for units in [10, 11] {
            held.asked(&key(), units);
        }
        held.answered(&key(), 10);
        held
    }

    /// What the ledger says of it, with charges for these jobs.
    fn books(jobs: &[u64]) -> Books {
        let fee = |units: u64| Rational::from(PRICE_WEI).times(units);
        let debited = jobs.iter().fold(Rational::ZERO, |sum, units| &sum + &fee(*units));
        let charge = |units: &u64| Charge {
            job: "a job".to_owned(),
            units: *units,
            fee: fee(*units),
            began_ms: None,
        };
        let lines = jobs.iter().map(charge).collect();
        Books {
            accounts: [(key(), (Rational::from(300_u64), debited, 3))].into(),
            debits: [(key(), lines)].into(),
            credits: [(key(), Rational::from(300_u64))].into(),
            carried: BTreeMap::new(),
            offers: [(OFFER.to_string(), 3)].into(),
            nonces: [(OFFER.to_string(), vec![1, 2, 3])].into(),
            winners: Vec::new(),
        }
    }

    fn seen(tally: &Tally) -> Seen<'_> {
        Seen { tally, uncharged_ms: Vec::new() }
    }

    /// What is said against books.
    fn found(books: &Books) -> String {
        let (tally, held, mut counts) = (Tally::new(1, 1), held(), Counts::default());
        accounts(books, &held, &seen(&tally), &mut counts);
        offers(books, &held, &tally, &mut counts);
        tally.violations().join("; ")
    }

    #[test]
    fn books_that_agree_are_agreed_to() {
        assert_eq!(found(&books(&[10])), "");
        assert_eq!(found(&books(&[10, 11])), "", "done, though nobody heard of it");
    }

    #[test]
    fn every_kind_of_wrong_books_is_found() {
        assert!(found(&books(&[])).contains("answered for nothing"));
        assert!(found(&books(&[10, 10])).contains("charged twice"));
        assert!(found(&books(&[10, 12])).contains("nobody asked"));
        assert!(found(&books(&[10, 11, 90])).contains("were spent"));
        let mut twice = books(&[10]);
        twice.offers.insert(OFFER.to_string(), 4);
        assert!(found(&twice).contains("tickets of offer"));
        let mut again = books(&[10]);
        again.nonces.insert(OFFER.to_string(), vec![1, 2, 2]);
        assert!(found(&again).contains("nonces taken twice"));
        let mut lost = books(&[10]);
        lost.accounts.insert(key(), (Rational::from(200_u64), Rational::ZERO, 2));
        let said = found(&lost);
        assert!(said.contains("paid and credited") && said.contains("debited and its lines"));
        let mut made = books(&[10]);
        let (in_account, more) = (Rational::from(301_u64), Rational::ONE);
        made.accounts.insert(key(), (in_account.clone(), made.accounts[&key()].1.clone(), 3));
        made.credits.insert(key(), in_account);
        made.carried.insert(key(), more);
        assert!(found(&made).contains("carried over between accounts"));
        let mut stray = books(&[10]);
        let other = (Address::repeat_byte(2), "s".to_owned());
        stray.accounts.insert(other, (Rational::ZERO, Rational::ZERO, 0));
        assert!(found(&stray).contains("accounts of clients and ledger"));
    }
    /// An account is of one kind of work, and is judged as that.
    #[test]
    fn each_kind_of_account_has_its_own_price_and_laws() {
        let judged = |held: &Held| {
            let (tally, mut counts) = (Tally::new(1, 1), Counts::default());
            accounts(&books(&[10]), held, &seen(&tally), &mut counts);
            tally.violations().join("; ")
        };
        let mut brought = held();
        let job = BroughtJob { from_ms: 0, to_ms: Some(1), work_ms: 0 };
        brought.brought.insert(key(), vec![job]);
        let said = judged(&brought);
        assert!(
            said.contains("a fee for 10 units") && said.contains("answered for nothing"),
            "{said}"
        );
        let mut session = held();
        session.stints.insert(key(), Vec::<Stint>::new());
        let said = judged(&session);
        assert!(
            said.contains("a fee for 10 units") && said.contains("10 s were charged"),
            "{said}"
        );
    }
}
