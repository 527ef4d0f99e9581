//! What must be true of the books at every moment, however they came to be so. Amounts are compared exactly,
//! to the wei and its fractions.

use crate::parties::{
    COUNTERS, FACE_VALUE_WEI, ORCHESTRATORS, OrchestratorProcess, PRICE, Parties, SignerProcess,
    TICKET_EV_WEI, recipient_of, uri_of,
};
use bytes::Bytes;
use penstock_domain::{Address, B256, Rational, Wei};
use penstock_ledger::{
    orchestrator::{InvoiceQuery, StoredWinner, WinnerStatus},
    signer::{OpenReservation, PaymentRow},
};
use penstock_payments::ticket_ev;
use penstock_store::{CreditKey, CreditStore as _, UnixMs};
use penstock_wire::{PaymentFields, header, json::LivePaymentAnswer};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Mutex, PoisonError},
};

/// Everything in a list.
const ALL: u32 = u32::MAX;
/// Most units of a job.
pub const MOST_UNITS: u64 = 3_000;

/// A law that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The history.
    pub seed: u64,
    /// After which step.
    pub step: usize,
    /// Which law, and the figures.
    pub law: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, step {}: {}", self.seed, self.step, self.law)
    }
}

impl std::error::Error for Broken {}

/// What was seen leaving the signer.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Answers by the name of the request.
    answers: HashMap<String, Bytes>,
    /// Signatures by offer and nonce.
    tickets: HashMap<(B256, u32), Vec<u8>>,
    /// What each orchestrator has acknowledged.
    taken: HashMap<usize, HashSet<(B256, u32)>>,
    /// The first law that an answer broke.
    broken: Option<String>,
}

impl Seen {
    fn with<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a request of this name was answered.
    pub fn is_known(&self, name: Option<&str>) -> bool {
        self.with(|noted| name.is_some_and(|name| noted.answers.contains_key(name)))
    }

    /// An answer leaves the signer.
    pub fn note(&self, name: String, answer: &Bytes) {
        self.with(|noted| {
            if let Err(law) = noted.note(name, answer) {
                noted.broken.get_or_insert(law);
            }
        });
    }

    /// An orchestrator has said that it took a payment: the value of that header.
    pub fn taken(&self, orchestrator: usize, payment: &str) {
        let Ok(message) = header::decode_payment(payment) else { return };
        let Ok(fields) = PaymentFields::try_from(&message) else { return };
        let Some(params) = fields.ticket_params else { return };
        let hash = params.recipient_rand_hash;
        let tickets = fields.tickets.iter().map(|ticket| (hash, ticket.sender_nonce));
        self.with(|noted| noted.taken.entry(orchestrator).or_default().extend(tickets));
    }

    /// Tickets seen, and answers.
    pub fn count(&self) -> (usize, usize) {
        self.with(|noted| (noted.tickets.len(), noted.answers.len()))
    }
}

impl Noted {
    fn note(&mut self, name: String, answer: &Bytes) -> Result<(), String> {
        if let Some(before) = self.answers.get(&name) {
            if before == answer {
                return Ok(());
            }
            return Err("a request that was repeated got other tickets".to_owned());
        }
        self.answers.insert(name, answer.clone());
        let fields = LivePaymentAnswer::parse(answer)
            .and_then(|answer| header::decode_payment(&answer.payment))
            .and_then(|message| PaymentFields::try_from(&message))
            .map_err(|e| format!("the signer's answer does not read back: {e}"))?;
        let params = fields.ticket_params.ok_or("a payment without ticket parameters")?;
        for ticket in fields.tickets {
            let place = (params.recipient_rand_hash, ticket.sender_nonce);
            if self.tickets.insert(place, ticket.sig).is_some() {
                return Err(format!("nonce {} of {} was handed out twice", place.1, place.0));
            }
        }
        Ok(())
    }
}

type Law = Result<(), String>;

fn must(holds: bool, law: impl FnOnce() -> String) -> Law {
    if holds { Ok(()) } else { Err(law()) }
}

fn away(error: impl fmt::Display) -> String {
    format!("the books cannot be read: {error}")
}

/// All laws. Everybody has to run.
pub async fn check(parties: &Parties) -> Law {
    if let Some(law) = parties.seen.with(|noted| noted.broken.clone()) {
        return Err(law);
    }
    let (_, Some(signer)) = parties.signer.now() else { return Err("no signer".to_owned()) };
    let issued = of_signer(parties, &signer).await?;
    let mut winners = BTreeMap::new();
    for number in 0..ORCHESTRATORS {
        let process = parties.orchestrators.get(number).and_then(|home| home.now().1);
        let process = process.ok_or("no orchestrator")?;
        let stand = of_orchestrator(parties, number, &process, &issued, &mut winners).await?;
        of_gateways(parties, number, &stand).await?;
    }
    of_chain(parties, &winners)
}

/// What the signer issued of an offer.
struct Issued {
    tickets: u64,
    ev_wei: Rational,
    recipient: Address,
}

/// How an orchestrator's books stand.
struct Stand {
    /// What each account has, by session.
    balances: BTreeMap<String, Rational>,
    /// Tickets that were issued for it, and are not credited there.
    missing: u64,
}

async fn of_signer(
    parties: &Parties,
    process: &SignerProcess,
) -> Result<BTreeMap<B256, Issued>, String> {
    let ledger = &process.signer.ledger;
    let payments = ledger.payments(ALL).await.map_err(away)?;
    let open = ledger.open_reservations(None, ALL).await.map_err(away)?;
    no_nonce_twice(&payments, &open)?;
    let mut issued: BTreeMap<B256, Issued> = BTreeMap::new();
    let mut charged = Wei::ZERO;
    let mut sums: HashMap<_, (u64, Rational, Rational)> = HashMap::new();
    for payment in &payments {
        let tickets = payment.num_tickets;
        let ev_wei = ticket_ev(payment.face_value, payment.win_prob);
        let worth = ev_wei.times(tickets.into());
        must(payment.ticket_ev_wei == ev_wei, || "a payment has another worth".to_owned())?;
        must(worth.ceil_u256().map(Wei) == Some(payment.charged_wei), || {
            format!("charged {} for tickets worth {worth}", payment.charged_wei)
        })?;
        charged = charged.checked_add(payment.charged_wei).ok_or("overflow")?;
        let hash = payment.recipient_rand_hash;
        let recipient = payment.orchestrator;
        let none = || Issued { tickets: 0, ev_wei: ev_wei.clone(), recipient };
        let of_offer = issued.entry(hash).or_insert_with(none);
        must(of_offer.ev_wei == ev_wei, || "an offer with two worths".to_owned())?;
        of_offer.tickets += u64::from(tickets);
        let (count, worths, fees) = sums.entry(payment.state_id.clone()).or_default();
        *count += 1;
        *worths += &worth;
        *fees += &payment.fee_wei;
    }
    for session in ledger.sessions(ALL).await.map_err(away)? {
        let (count, worths, fees) = sums.remove(&session.state_id).unwrap_or_default();
        must(session.sequence + 1 == count, || "a session with a payment too few".to_owned())?;
        let is_exact = session.ticket_ev_total_wei == worths
            && session.fee_total_wei == fees
            && session.balance_wei == &worths - &fees;
        must(is_exact && !session.balance_wei.is_negative(), || {
            format!("session {}: {worths} − {fees} is {}", session.state_id, session.balance_wei)
        })?;
    }
    must(sums.is_empty(), || "payments without a session".to_owned())?;
    counters_hold_what_is_charged(process, charged, &open).await?;
    // Nothing left the signer that is not in its books.
    let ranges: HashSet<(B256, u32)> =
        payments.iter().flat_map(|p| nonces(p).map(|n| (p.recipient_rand_hash, n))).collect();
    parties.seen.with(|noted| {
        let unknown = noted.tickets.keys().filter(|place| !ranges.contains(place)).min();
        must(unknown.is_none(), || format!("a ticket that no books know of: {unknown:?}"))
    })?;
    Ok(issued)
}

fn nonces(payment: &PaymentRow) -> impl Iterator<Item = u32> + use<> {
    payment.first_nonce..=payment.last_nonce
}

fn no_nonce_twice(payments: &[PaymentRow], open: &[OpenReservation]) -> Law {
    let paid = payments.iter().map(|p| (p.recipient_rand_hash, p.first_nonce, p.last_nonce));
    let held = open.iter().map(|r| r.nonces);
    let held = held.map(|nonces| (nonces.recipient_rand_hash, nonces.first, nonces.last));
    let mut all: Vec<_> = paid.chain(held).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        if let [(hash, _, last), (next, first, _)] = pair {
            must(hash != next || last < first, || format!("nonce {first} of {hash} twice"))?;
        }
    }
    Ok(())
}

async fn counters_hold_what_is_charged(
    process: &SignerProcess,
    charged: Wei,
    open: &[OpenReservation],
) -> Law {
    let counters = process.signer.ledger.counters_after("", ALL).await.map_err(away)?;
    let sum = |amounts: &mut dyn Iterator<Item = Wei>| {
        let mut sum = Wei::ZERO;
        for wei in amounts {
            sum = sum.checked_add(wei).ok_or("overflow")?;
        }
        Ok::<_, String>(sum)
    };
    let held = sum(&mut counters.iter().map(|(_, held)| *held))?;
    let reserved = open.iter().flat_map(|r| r.counters.iter().map(|_| r.amount_wei));
    let paid = std::iter::repeat_n(charged, COUNTERS);
    let expected = sum(&mut reserved.chain(paid))?;
    must(held == expected, || format!("counters hold {held}, {expected} is charged"))
}

async fn of_orchestrator(
    parties: &Parties,
    number: usize,
    process: &OrchestratorProcess,
    issued: &BTreeMap<B256, Issued>,
    winners: &mut BTreeMap<B256, StoredWinner>,
) -> Result<Stand, String> {
    let ledger = &process.ledger;
    let (mut balances, mut credited) = (BTreeMap::new(), BTreeMap::<B256, u64>::new());
    let mut tickets = 0;
    let (price, per) = PRICE;
    let price = Rational::new(price.into(), per.into()).ok_or("the price")?;
    for account in ledger.accounts(ALL).await.map_err(away)? {
        let session = account.key.session().to_owned();
        let query = InvoiceQuery {
            session: session.clone(),
            sender: Some(account.key.sender()),
            limit: ALL,
        };
        let invoices = ledger.invoices(&query).await.map_err(away)?;
        let invoice = invoices.first().ok_or("an account without an invoice")?;
        let mut credits = account.folded_credits.clone();
        for line in &invoice.credits {
            let hash: B256 = line.recipient_rand_hash.parse().map_err(away)?;
            let offer = issued.get(&hash);
            let offer = offer.ok_or("credit for tickets that the signer never issued")?;
            must(line.amount == offer.ev_wei.times(line.tickets), || {
                format!("{} tickets are credited with {}", line.tickets, line.amount)
            })?;
            *credited.entry(hash).or_default() += line.tickets;
            credits += &line.amount;
        }
        let mut debits = account.folded_debits.clone();
        for line in &invoice.debits {
            debits += &line.amount;
        }
        must(credits == account.credited && debits == account.debited, || {
            format!("account {session}: its lines are not its sums")
        })?;
        // A job begins with one ticket's worth, and may cost more: nobody else begins meanwhile.
        let float = price.times(MOST_UNITS);
        must(&account.balance() + &float >= Rational::ZERO, || {
            format!("account {session}: {} is below the float", account.balance())
        })?;
        tickets += account.tickets;
        balances.insert(session, account.balance());
    }
    for (hash, tickets) in credited {
        let most = issued.get(&hash).map_or(0, |offer| offer.tickets);
        must(tickets <= most, || {
            format!("{tickets} tickets of {hash} are credited, {most} were issued")
        })?;
    }
    let own = issued.values().filter(|offer| offer.recipient == recipient_of(number));
    let missing = own.map(|offer| offer.tickets).sum::<u64>().checked_sub(tickets);
    let missing = missing.ok_or("more tickets are credited than were issued")?;
    let taken = parties.seen.with(|noted| noted.taken.get(&number).map_or(0, HashSet::len));
    must(taken as u64 <= tickets, || {
        format!("{taken} tickets were acknowledged by {number}, {tickets} are in its books")
    })?;
    for winner in ledger.winners(ALL).await.map_err(away)? {
        let ticket = &winner.winner.ticket;
        let place = (ticket.recipient_rand_hash, ticket.sender_nonce);
        let is_issued = parties.seen.with(|noted| noted.tickets.contains_key(&place));
        must(is_issued, || format!("a winner that was never issued: {place:?}"))?;
        must(ticket.face_value <= Wei::from_u64(FACE_VALUE_WEI), || "face value".to_owned())?;
        let twice = winners.insert(winner.winner.ticket_hash, winner);
        must(twice.is_none(), || "a winner in the books twice".to_owned())?;
    }
    Ok(Stand { balances, missing })
}

/// What the replicas believe to have is there. What a payment's tickets were worth beyond its fee counts for the
/// next one, at the signer, also if the orchestrator refused them: less than a ticket's worth of each payment
/// that was refused is believed in wrongly, and the orchestrator says so in the end ("Insufficient balance").
async fn of_gateways(parties: &Parties, number: usize, stand: &Stand) -> Law {
    let (store, now) = (parties.store(), UnixMs(0));
    let now = penstock_failpoint::simulated::now_ns()
        .map_or(now, |ns| UnixMs(ns.div_euclid(1_000_000).unsigned_abs()));
    let session = crate::history::account();
    let mut units = 0_i64;
    for auth_id in crate::history::callers() {
        let key = CreditKey {
            auth_id,
            sender: parties.sender,
            orchestrator: uri_of(number),
            session: session.clone(),
        };
        let has = store.credit(&key, now).await.map_err(away)?;
        must(has >= 0, || format!("a replica owes {has} units"))?;
        units += has;
    }
    let (price, per) = PRICE;
    let price = Rational::new(price.into(), per.into()).ok_or("the price")?;
    let believed = price.times(units.unsigned_abs());
    let balance = stand.balances.get(&session).cloned().unwrap_or(Rational::ZERO);
    let float = Rational::from(TICKET_EV_WEI + 1).times(stand.missing);
    must(believed <= &balance + &float, || {
        format!(
            "replicas believe in {units} units ({believed} wei) at {number}, which has {balance}"
        )
    })
}

fn of_chain(parties: &Parties, winners: &BTreeMap<B256, StoredWinner>) -> Law {
    let paid = parties.chain.paid();
    let mut once = HashSet::new();
    let mut sum = Wei::ZERO;
    for redemption in &paid {
        let hash = redemption.ticket_hash;
        must(once.insert(hash), || format!("ticket {hash} was paid twice"))?;
        let winner =
            winners.get(&hash).ok_or_else(|| format!("{hash} was paid, and nobody won"))?;
        must(winner.winner.ticket.face_value == redemption.face_value, || "face".to_owned())?;
        must(redemption.paid() <= redemption.face_value, || "paid too much".to_owned())?;
        sum = sum.checked_add(redemption.paid()).ok_or("overflow")?;
    }
    for (hash, winner) in winners {
        let is_paid = winner.status != WinnerStatus::Redeemed || once.contains(hash);
        must(is_paid, || format!("{hash} is in the books as paid, and the chain did not"))?;
    }
    let (totals, earned) = parties.chain.look(|state| {
        let earned = (0..ORCHESTRATORS).map(|number| state.account(recipient_of(number)).earned);
        (state.totals(), earned.collect::<Vec<_>>())
    });
    let add = |a: Wei, b: &Wei| a.checked_add(*b).ok_or("overflow");
    let earned = earned.iter().try_fold(Wei::ZERO, add)?;
    must(sum == totals.paid_wei && sum == earned, || {
        format!("redemptions paid {sum}, the contract {}, earned {earned}", totals.paid_wei)
    })?;
    let parts = [totals.deposits_wei, totals.reserves_wei, totals.paid_wei, totals.withdrawn_wei];
    let there = parts.iter().try_fold(Wei::ZERO, add)?;
    must(there == totals.funded_wei, || format!("{} funded, {there} there", totals.funded_wei))
}

/// What is true at the end, when nothing has gone wrong for a while and every offer is over: nobody waits
/// for anything.
pub async fn check_end(parties: &Parties) -> Law {
    check(parties).await?;
    let (_, Some(signer)) = parties.signer.now() else { return Err("no signer".to_owned()) };
    let open = signer.signer.ledger.open_reservations(None, ALL).await.map_err(away)?;
    must(open.is_empty(), || format!("{} reservations never end", open.len()))?;
    let paid: HashSet<_> = parties.chain.paid().iter().map(|r| r.ticket_hash).collect();
    for home in &parties.orchestrators {
        let (_, Some(process)) = home.now() else { return Err("no orchestrator".to_owned()) };
        for winner in process.ledger.winners(ALL).await.map_err(away)? {
            let is_settled = match winner.status {
                WinnerStatus::Redeemed => true,
                WinnerStatus::Failed => !paid.contains(&winner.winner.ticket_hash),
                // Refused by the contract or not worth it: with a reason, and it is not paid.
                WinnerStatus::Queued => {
                    winner.reason.is_some() && !paid.contains(&winner.winner.ticket_hash)
                }
                WinnerStatus::Redeeming | WinnerStatus::HandedOver => false,
            };
            must(is_settled, || {
                let (status, why) = (winner.status, &winner.reason);
                format!("a winner ends as {status:?} ({why:?}): {}", winner.winner.ticket_hash)
            })?;
        }
    }
    Ok(())
}
