//! Totals of payments that are older than the totals.

use super::commit_batch::{read_totals, set_totals};
use crate::{
    signer::{
        LedgerError,
        decode::{self, Fields},
        plan::add_totals,
    },
    sqlite::{OpenError, Sqlite},
};
use futures::TryStreamExt;
use penstock_domain::Rational;
use std::collections::BTreeMap;

/// Adds up all payments once, when there are some and no totals. All in one transaction: a crash
/// leaves no half sum behind.
pub async fn totals(db: &Sqlite, writer: &str) -> Result<(), OpenError> {
    fill(db, writer).await.map_err(|error| match error {
        LedgerError::Unavailable(error) => {
            OpenError::Database(sqlx::Error::Protocol(error.to_string()))
        }
        other => OpenError::Books(other.to_string()),
    })
}

async fn fill(db: &Sqlite, writer: &str) -> Result<(), LedgerError> {
    let mut tx = db.writer().begin_with("BEGIN IMMEDIATE").await?;
    let needed: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM payments) AND NOT EXISTS (SELECT 1 FROM totals)",
    )
    .fetch_one(&mut *tx)
    .await?;
    if !needed {
        return Ok(());
    }
    let mut totals = BTreeMap::new();
    let mut rows = sqlx::query(
        "SELECT p.num_tickets, p.ticket_ev, p.fee, s.initial_pixels_per_unit \
         FROM payments p JOIN sessions s ON s.state_id = p.state_id",
    )
    .fetch(&mut *tx);
    while let Some(row) = rows.try_next().await? {
        let tickets: u32 = decode::unsigned(&row, "num_tickets")?;
        let ev: Rational = decode::parse(&row, "ticket_ev")?;
        let credit = Rational::from_int(tickets.into()) * ev;
        let fee = decode::parse(&row, "fee")?;
        let pixels = row.int("initial_pixels_per_unit")?;
        add_totals(&mut totals, tickets, &credit, &fee, pixels)?;
    }
    drop(rows);
    let before = read_totals(&mut tx, writer, totals.keys()).await?;
    set_totals(&mut tx, writer, &totals, &before).await?;
    tx.commit().await?;
    tracing::info!("the ledger's totals were added up");
    Ok(())
}
