//! What the ledger says, read at one moment.

use crate::orchestrator_chaos::held::Account;
use penstock_domain::Rational;
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};
use std::collections::BTreeMap;

/// A connection.
pub async fn connect(ledger: &str) -> PgConnection {
    PgConnection::connect(ledger).await.expect("the ledger answers")
}

/// A line of the journal of charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Its name.
    pub job: String,
    /// What was counted.
    pub units: u64,
    /// Wei.
    pub fee: Rational,
    /// Unix ms at which the work began that it is for.
    pub began_ms: Option<i64>,
}

/// The ledger's rows, at one moment.
#[derive(Default)]
pub struct Books {
    /// Credited, debited, tickets.
    pub accounts: BTreeMap<Account, (Rational, Rational, u64)>,
    /// Each charge.
    pub debits: BTreeMap<Account, Vec<Charge>>,
    /// Worth of the lines of payments, and of what came from or went to another account.
    pub credits: BTreeMap<Account, Rational>,
    /// Of that, what came from another account of the sender's; below zero: what went to one.
    pub carried: BTreeMap<Account, Rational>,
    /// Tickets credited, by offer.
    pub offers: BTreeMap<String, u64>,
    /// Nonces of the offers that are still remembered.
    pub nonces: BTreeMap<String, Vec<i64>>,
    /// Hash and status.
    pub winners: Vec<(String, String)>,
}

impl Books {
    /// All of it.
    pub async fn read(url: &str) -> Self {
        let mut ledger = connect(url).await;
        let moment = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        sqlx::query(moment).execute(&mut ledger).await.expect("a moment");
        let mut books = Self::default();
        for row in rows(&mut ledger, "SELECT * FROM accounts").await {
            let sums = (wei(&row, "credited"), wei(&row, "debited"), number(row.get("tickets")));
            books.accounts.insert(account(&row), sums);
        }
        for row in rows(&mut ledger, "SELECT * FROM debits").await {
            let charge = Charge {
                job: row.get("job_id"),
                units: number(row.get("units")),
                fee: wei(&row, "amount"),
                began_ms: row.get("began_ms"),
            };
            books.debits.entry(account(&row)).or_default().push(charge);
        }
        for row in rows(&mut ledger, "SELECT * FROM credits").await {
            let sum = books.credits.entry(account(&row)).or_default();
            *sum = &*sum + &wei(&row, "amount");
            let offer: String = row.get("recipient_rand_hash");
            // What was carried over from one account to another is of none.
            if offer.is_empty() {
                let carried = books.carried.entry(account(&row)).or_default();
                *carried = &*carried + &wei(&row, "amount");
            } else {
                *books.offers.entry(offer).or_default() += number(row.get("tickets"));
            }
        }
        for row in rows(&mut ledger, "SELECT * FROM nonce_sets").await {
            books.nonces.insert(row.get("recipient_rand_hash"), row.get("nonces"));
        }
        for row in rows(&mut ledger, "SELECT ticket_hash, status FROM winners").await {
            books.winners.push((row.get("ticket_hash"), row.get("status")));
        }
        let _ = ledger.close().await;
        books
    }
}

async fn rows(ledger: &mut PgConnection, sql: &'static str) -> Vec<PgRow> {
    let rows = sqlx::query(sql).fetch_all(ledger).await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn account(row: &PgRow) -> Account {
    let sender: String = row.get("sender");
    (sender.parse().expect("an address"), row.get("session"))
}

fn wei(row: &PgRow, column: &str) -> Rational {
    let text: String = row.get(column);
    text.parse().unwrap_or_else(|_| panic!("{column}: not a number"))
}

fn number(stored: i64) -> u64 {
    u64::try_from(stored).expect("not negative")
}
