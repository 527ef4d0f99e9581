//! Totals of payments that are older than the totals.

use super::{Answer, commit_batch::add_to_totals};
use crate::{
    signer::{
        LedgerError,
        decode::{self, Fields},
        plan::add_totals,
    },
    sqlite::{
        OpenError,
        writer::{Tx, Writer},
    },
};
use penstock_domain::Rational;
use std::collections::BTreeMap;

/// Adds up all payments once, when there are some and no totals. All in one transaction: a crash
/// leaves no half sum behind.
pub async fn totals(writer: &Writer, replica: &str) -> Result<(), OpenError> {
    let begun = writer.begin();
    let replica = replica.to_owned();
    let filled = writer.thread().spawn(async move { fill(begun.await?, &replica) }).await;
    let filled = filled.unwrap_or(Err(LedgerError::Closed));
    filled.map_err(|error| match error {
        LedgerError::Unavailable(error) => {
            OpenError::Database(sqlx::Error::Protocol(error.to_string()))
        }
        other => OpenError::Books(other.to_string()),
    })
}

fn fill(tx: Tx, replica: &str) -> Answer<()> {
    let needed: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM payments) AND NOT EXISTS (SELECT 1 FROM totals)",
        [],
        |row| row.get(0),
    )?;
    if !needed {
        return Ok(());
    }
    let mut totals = BTreeMap::new();
    let mut payments = tx.prepare(
        "SELECT p.num_tickets, p.ticket_ev, p.fee, s.initial_pixels_per_unit \
         FROM payments p JOIN sessions s ON s.state_id = p.state_id",
    )?;
    let mut rows = payments.query([])?;
    while let Some(row) = rows.next()? {
        let tickets: u32 = decode::unsigned(row, "num_tickets")?;
        let ev: Rational = decode::parse(row, "ticket_ev")?;
        let credit = Rational::from_int(tickets.into()) * ev;
        let fee = decode::parse(row, "fee")?;
        let pixels = row.int("initial_pixels_per_unit")?;
        add_totals(&mut totals, tickets, &credit, &fee, pixels)?;
    }
    drop(rows);
    drop(payments);
    add_to_totals(&tx, replica, &totals)?;
    tx.commit()?;
    tracing::info!("the ledger's totals were added up");
    Ok(())
}
