//! An orchestrator's journals, from the file of one process or from the database of several, added up
//! by the same rules.

use std::collections::{BTreeMap, BTreeSet};

use penstock_domain::Rational;
use sqlx::{
    Connection as _, PgConnection, Row as _, SqliteConnection, postgres::PgRow, sqlite::SqliteRow,
};

use crate::books::{add, amount, count, rows, sum, text};

/// Sender and balance key.
type Account = (String, String);

/// Rows as they are stored.
#[derive(Debug, Default)]
pub struct Journals {
    /// Account, offer, tickets, worth.
    credits: Vec<(Account, String, u64, Rational)>,
    debits: Vec<(Account, Rational)>,
    /// Account, credited, debited, tickets.
    accounts: Vec<(Account, Rational, Rational, u64)>,
    /// Offer and nonce.
    winners: Vec<(String, u64)>,
    /// Offer and nonce.
    nonces: Vec<(String, u64)>,
}

/// What they come to.
#[derive(Debug)]
pub struct Totals {
    pub by_offer: BTreeMap<String, (u64, Rational)>,
    pub credited_wei: Rational,
    pub debited_wei: Rational,
    pub credited_tickets: u64,
    pub winners: u64,
    pub nonces: BTreeSet<(String, u64)>,
}

impl Journals {
    /// Of one process.
    pub async fn sqlite(ledger: &mut SqliteConnection) -> Self {
        let key = |row: &SqliteRow| (text(row, "sender"), text(row, "session"));
        let mut journals = Self::default();
        for row in rows(ledger, "SELECT * FROM credits").await {
            let offer = text(&row, "recipient_rand_hash");
            let (tickets, worth) = (count(&row, "tickets"), amount(&row, "amount"));
            journals.credits.push((key(&row), offer, tickets, worth));
        }
        for row in rows(ledger, "SELECT * FROM debits").await {
            journals.debits.push((key(&row), amount(&row, "amount")));
        }
        for row in rows(ledger, "SELECT * FROM accounts").await {
            let (credited, debited) = (amount(&row, "credited"), amount(&row, "debited"));
            journals.accounts.push((key(&row), credited, debited, count(&row, "tickets")));
        }
        for row in rows(ledger, "SELECT * FROM winners").await {
            let offer = text(&row, "recipient_rand_hash");
            journals.winners.push((offer, count(&row, "sender_nonce")));
        }
        for row in rows(ledger, "SELECT * FROM nonces").await {
            journals.nonces.push((text(&row, "recipient_rand_hash"), count(&row, "nonce")));
        }
        journals
    }

    /// Of several processes, as the database is at one moment.
    pub async fn postgres(url: &str) -> Self {
        let mut ledger = PgConnection::connect(url).await.expect("the shared ledger answers");
        let moment = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        sqlx::query(moment).execute(&mut ledger).await.unwrap();
        let mut journals = Self::default();
        for row in shared(&mut ledger, "SELECT * FROM credits").await {
            let (offer, tickets) = (row.get("recipient_rand_hash"), number(row.get("tickets")));
            journals.credits.push((account(&row), offer, tickets, wei(&row, "amount")));
        }
        for row in shared(&mut ledger, "SELECT * FROM debits").await {
            journals.debits.push((account(&row), wei(&row, "amount")));
        }
        for row in shared(&mut ledger, "SELECT * FROM accounts").await {
            let (credited, debited) = (wei(&row, "credited"), wei(&row, "debited"));
            let tickets = number(row.get("tickets"));
            journals.accounts.push((account(&row), credited, debited, tickets));
        }
        for row in shared(&mut ledger, "SELECT * FROM winners").await {
            let (offer, nonce) = (row.get("recipient_rand_hash"), number(row.get("sender_nonce")));
            journals.winners.push((offer, nonce));
        }
        for row in shared(&mut ledger, "SELECT * FROM nonce_sets").await {
            let offer: String = row.get("recipient_rand_hash");
            let nonces: Vec<i64> = row.get("nonces");
            let each = nonces.into_iter().map(|nonce| (offer.clone(), number(nonce)));
            journals.nonces.extend(each);
        }
        let _ = ledger.close().await;
        journals
    }

    /// Compares them with each other, and adds them up.
    pub fn add_up(self) -> Totals {
        let zero = Rational::from_int(0);
        let mut credits: BTreeMap<Account, (Rational, u64)> = BTreeMap::new();
        let (mut by_offer, mut carried) = (BTreeMap::new(), zero.clone());
        for (key, offer, tickets, worth) in self.credits {
            let account = credits.entry(key).or_insert((zero.clone(), 0));
            if offer.is_empty() {
                // From one account of a sender's to another.
                assert_eq!(tickets, 0, "tickets of no offer");
                carried = &carried + &worth;
            } else {
                add(&mut by_offer, offer, tickets, &worth);
            }
            account.0 = &account.0 + &worth;
            account.1 += tickets;
        }
        assert_eq!(carried, zero, "what went from one account came to another");
        let mut debits: BTreeMap<Account, Rational> = BTreeMap::new();
        for (key, fee) in self.debits {
            let account = debits.entry(key).or_insert(zero.clone());
            *account = &*account + &fee;
        }
        let mut known = BTreeSet::new();
        for (key, account_credited, account_debited, account_tickets) in self.accounts {
            let (credited, tickets) = credits.get(&key).cloned().unwrap_or((zero.clone(), 0));
            assert_eq!(account_credited, credited, "credits of {key:?}");
            assert_eq!(account_tickets, tickets, "tickets of {key:?}");
            let debited = debits.get(&key).unwrap_or(&zero);
            assert_eq!(&account_debited, debited, "debits of {key:?}");
            known.insert(key);
        }
        let strays = credits.keys().chain(debits.keys()).find(|key| !known.contains(key));
        assert_eq!(strays, None, "a journal's line without an account");
        let mut winning = BTreeSet::new();
        for ticket in self.winners {
            assert!(winning.insert(ticket), "a ticket won twice");
        }
        let mut nonces = BTreeSet::new();
        for (offer, nonce) in self.nonces {
            assert!(nonces.insert((offer.clone(), nonce)), "nonce {nonce} of {offer} came twice");
        }
        Totals {
            by_offer,
            credited_wei: sum(credits.values().map(|account| &account.0)),
            debited_wei: sum(debits.values()),
            credited_tickets: credits.values().map(|account| account.1).sum(),
            winners: winning.len() as u64,
            nonces,
        }
    }
}

async fn shared(ledger: &mut PgConnection, sql: &'static str) -> Vec<PgRow> {
    let rows = sqlx::query(sql).fetch_all(ledger).await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn account(row: &PgRow) -> Account {
    (row.get("sender"), row.get("session"))
}

fn wei(row: &PgRow, column: &str) -> Rational {
    let text: String = row.get(column);
    text.parse().unwrap_or_else(|_| panic!("{column}: not a number"))
}

fn number(stored: i64) -> u64 {
    u64::try_from(stored).expect("not negative")
}
