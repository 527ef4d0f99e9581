//! The books, read from the ledgers and compared with each other: what must hold at every moment, after
//! every crash, to the wei.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use penstock::dev::Role;
use penstock_domain::Rational;
use sqlx::{
    Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::{journals::Journals, network::Network};

/// What both books say, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// Σ tickets × EV that the signer stored.
    pub signed_ev_wei: Rational,
    /// Tickets that the signer stored.
    pub signed_tickets: u64,
    /// Σ fees that the signer booked.
    pub fees_wei: Rational,
    /// Σ credits of the orchestrator.
    pub credited_wei: Rational,
    /// Tickets that the orchestrator credited.
    pub credited_tickets: u64,
    /// Σ debits of the orchestrator.
    pub debited_wei: Rational,
    /// Winning tickets that the orchestrator stored.
    pub winners: u64,
    /// Tickets and their worth by offer (recipientRandHash), as the signer stored them.
    pub signed_by_offer: BTreeMap<String, (u64, Rational)>,
    /// The same, as the orchestrator credited them.
    pub credited_by_offer: BTreeMap<String, (u64, Rational)>,
    /// Offer and nonce of every ticket that the orchestrator took, as long as the offer is good.
    pub accepted: BTreeSet<(String, u64)>,
    /// Rows of each table, for "nothing changed"; of files only.
    pub rows: BTreeMap<String, i64>,
}

/// A ledger opened for reading, beside the process that owns it, as it is at this moment: a
/// transaction of ours holds the moment while work goes on.
async fn open(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let opened = SqliteConnection::connect_with(&options).await;
    let mut ledger = opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    sqlx::query("BEGIN").execute(&mut ledger).await.unwrap();
    ledger
}

pub async fn rows(ledger: &mut SqliteConnection, sql: &'static str) -> Vec<SqliteRow> {
    let rows = sqlx::query(sql).fetch_all(ledger).await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn text(row: &SqliteRow, column: &str) -> String {
    row.get::<String, _>(column)
}

pub fn amount(row: &SqliteRow, column: &str) -> Rational {
    text(row, column).parse().unwrap_or_else(|_| panic!("{column}: not a number"))
}

pub fn count(row: &SqliteRow, column: &str) -> u64 {
    u64::try_from(row.get::<i64, _>(column)).expect("not negative")
}

pub fn sum<'a>(amounts: impl IntoIterator<Item = &'a Rational>) -> Rational {
    amounts.into_iter().fold(Rational::from_int(0), |total, amount| &total + amount)
}

fn times(n: u64, amount: &Rational) -> Rational {
    &Rational::from(n) * amount
}

pub fn add(
    offers: &mut BTreeMap<String, (u64, Rational)>,
    hash: String,
    tickets: u64,
    worth_wei: &Rational,
) {
    let offer = offers.entry(hash).or_insert((0, Rational::from_int(0)));
    offer.0 += tickets;
    offer.1 = &offer.1 + worth_wei;
}

impl Books {
    /// Reads both ledgers and checks everything that holds at any moment.
    pub async fn read(network: &Network) -> Self {
        // The orchestrator first: what it has credited was signed before.
        let mut tables = BTreeMap::new();
        let journals = match network.shared_ledger() {
            Some(url) => Journals::postgres(url).await,
            None => {
                let mut ledger = open(&network.ledger(Role::Orchestrator)).await;
                tables.extend(table_sizes(&mut ledger, "orchestrator").await);
                Journals::sqlite(&mut ledger).await
            }
        };
        let theirs = journals.add_up();
        let mut signer = open(&network.ledger(Role::Signer)).await;
        let ours = Signer::read(&mut signer).await;

        for (hash, nonce) in &theirs.nonces {
            let range = ours.paid.get(hash).and_then(|r| r.range(..=*nonce).next_back());
            assert!(
                range.is_some_and(|(_, last)| nonce <= last),
                "the orchestrator saw nonce {nonce} of {hash}, which the signer has not stored",
            );
        }
        assert!(
            theirs.credited_wei <= ours.ev_wei,
            "credited {} of {} signed",
            theirs.credited_wei,
            ours.ev_wei
        );
        tables.extend(table_sizes(&mut signer, "signer").await);
        Self {
            signed_ev_wei: ours.ev_wei,
            signed_tickets: ours.tickets,
            fees_wei: ours.fees_wei,
            credited_wei: theirs.credited_wei,
            credited_tickets: theirs.credited_tickets,
            debited_wei: theirs.debited_wei,
            winners: theirs.winners,
            signed_by_offer: ours.by_offer,
            credited_by_offer: theirs.by_offer,
            accepted: theirs.nonces,
            rows: tables,
        }
    }

    /// Where nothing crashed, everything signed was credited.
    pub fn assert_settled(&self) {
        assert_eq!(self.signed_ev_wei, self.credited_wei, "signed and credited differ");
        assert_eq!(self.signed_tickets, self.credited_tickets, "tickets differ");
        assert_eq!(self.signed_by_offer, self.credited_by_offer, "tickets of an offer differ");
        assert!(self.debited_wei <= self.credited_wei, "work was done on credit");
        assert!(self.signed_ev_wei >= self.fees_wei, "fees that no ticket covers");
    }
}

struct Signer {
    by_offer: BTreeMap<String, (u64, Rational)>,
    ev_wei: Rational,
    fees_wei: Rational,
    tickets: u64,
    /// Per hash: first nonce → last nonce of each payment stored.
    paid: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl Signer {
    async fn read(ledger: &mut SqliteConnection) -> Self {
        let mut paid: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        let ranges = "SELECT recipient_rand_hash, first_nonce, last_nonce FROM payments \
                      UNION ALL \
                      SELECT recipient_rand_hash, first_nonce, last_nonce FROM reservations \
                      ORDER BY recipient_rand_hash, first_nonce";
        let mut highest: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows(ledger, ranges).await {
            let (first, last) = (count(&row, "first_nonce"), count(&row, "last_nonce"));
            let before = highest.entry(text(&row, "recipient_rand_hash")).or_default();
            assert!(first > *before, "nonce {first} was handed out twice");
            *before = last;
        }
        let mut handed_out = 0;
        for row in rows(ledger, "SELECT * FROM nonces").await {
            let (hash, last) = (text(&row, "recipient_rand_hash"), count(&row, "last_nonce"));
            assert!(highest.remove(&hash) <= Some(last), "{hash}: nonces beyond its row");
            handed_out += last;
        }
        assert!(highest.is_empty(), "nonces without a row: {highest:?}");
        let audited = "SELECT count(*) AS n FROM audit WHERE kind = 'ticket'";
        let audited = count(&rows(ledger, audited).await[0], "n");
        assert_eq!(audited, handed_out, "the audit has one record for each nonce handed out");

        let payments = rows(ledger, "SELECT * FROM payments ORDER BY state_id, sequence").await;
        let mut per_session: BTreeMap<String, (Rational, Rational, u64, u64)> = BTreeMap::new();
        let mut by_offer = BTreeMap::new();
        for row in &payments {
            let worth = times(count(row, "num_tickets"), &amount(row, "ticket_ev"));
            add(&mut by_offer, text(row, "recipient_rand_hash"), count(row, "num_tickets"), &worth);
            paid.entry(text(row, "recipient_rand_hash"))
                .or_default()
                .insert(count(row, "first_nonce"), count(row, "last_nonce"));
            let tickets = count(row, "num_tickets");
            let session = per_session.entry(text(row, "state_id")).or_insert((
                Rational::from_int(0),
                Rational::from_int(0),
                0,
                0,
            ));
            assert_eq!(count(row, "sequence"), session.3, "a payment is missing in its session");
            session.0 = &session.0 + &times(tickets, &amount(row, "ticket_ev"));
            session.1 = &session.1 + &amount(row, "fee");
            session.2 += tickets;
            session.3 += 1;
            assert_eq!(amount(row, "balance"), &session.0 - &session.1, "balance of a payment");
        }
        for row in rows(ledger, "SELECT * FROM sessions").await {
            let id = text(&row, "state_id");
            let (ev, fee, tickets, payments) = &per_session[&id];
            assert_eq!(&amount(&row, "ticket_ev_total"), ev, "{id}");
            assert_eq!(&amount(&row, "fee_total"), fee, "{id}");
            assert_eq!(amount(&row, "balance"), ev - fee, "{id}");
            assert_eq!(
                (count(&row, "tickets"), count(&row, "sequence") + 1),
                (*tickets, *payments)
            );
        }
        Self {
            by_offer,
            ev_wei: sum(per_session.values().map(|session| &session.0)),
            fees_wei: sum(per_session.values().map(|session| &session.1)),
            tickets: per_session.values().map(|session| session.2).sum(),
            paid,
        }
    }
}

async fn table_sizes(ledger: &mut SqliteConnection, owner: &str) -> BTreeMap<String, i64> {
    let mut sizes = BTreeMap::new();
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    for row in rows(ledger, names).await {
        let table = text(&row, "name");
        // The audit's chains grow by themselves; what counts is what was allowed to be signed.
        let rows = match table.as_str() {
            "audit_chains" | "audit_anchored" => continue,
            "audit" => "audit WHERE kind NOT IN ('anchor', 'open', 'close')",
            table => table,
        };
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) AS n FROM {rows}"));
        let size: i64 = sqlx::query(sql).fetch_one(&mut *ledger).await.unwrap().get("n");
        sizes.insert(format!("{owner}.{table}"), size);
    }
    sizes
}
