//! Rows to values. A value that does not read back is [`LedgerError::Corrupt`], never a default.

use crate::orchestrator::{Account, AccountKey, LedgerError, StoredWinner, WinnerStatus};
use penstock_domain::{Address, B256, U256, Wei, address_lower, parse_address, parse_b256};
use penstock_payments::{ExpirationParams, RecipientRand, Signature, Ticket, Winner};
use sqlx::{Row, sqlite::SqliteRow};
use std::str::FromStr;

/// The stored spelling of a sender.
pub fn address_text(address: Address) -> String {
    address_lower(&address)
}

/// The stored spelling of a hash.
pub fn hash_text(hash: B256) -> String {
    format!("{hash:#x}")
}

/// Block numbers and the like: SQLite's integers are signed, and 2^63 blocks will not come.
pub fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The same for the 256-bit block numbers of the wire.
pub fn block(n: U256) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// One account row.
pub fn account(row: &SqliteRow) -> Result<Account, LedgerError> {
    let sender = address(row, "sender")?;
    let session: String = row.try_get("session")?;
    let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
    Ok(Account {
        key,
        credited: parsed(row, "credited")?,
        debited: parsed(row, "debited")?,
        tickets: unsigned(row, "tickets")?,
        fixed_price: optional(row, "fixed_price")?,
        pin_floor: optional(row, "pin_floor")?,
        pin_work: row.try_get("pin_work")?,
        updated_ms: row.try_get("updated_ms")?,
    })
}

/// One winner row.
pub fn winner(row: &SqliteRow) -> Result<StoredWinner, LedgerError> {
    let status: String = row.try_get("status")?;
    let tx_hash: Option<String> = row.try_get("tx_hash")?;
    let sig: String = row.try_get("sig")?;
    let sig = hex::decode(sig).map_err(|_| corrupt("sig"))?;
    let winner = Winner {
        ticket: Ticket {
            recipient: address(row, "recipient")?,
            sender: address(row, "sender")?,
            face_value: parsed::<Wei>(row, "face_value")?,
            win_prob: parsed::<Wei>(row, "win_prob")?.0,
            sender_nonce: u32::try_from(row.try_get::<i64, _>("sender_nonce")?)
                .map_err(|_| corrupt("sender_nonce"))?,
            recipient_rand_hash: hash(row, "recipient_rand_hash")?,
            expiration_params: ExpirationParams {
                creation_round: unsigned(row, "creation_round")?,
                creation_round_block_hash: hash(row, "creation_round_block_hash")?,
            },
        },
        ticket_hash: hash(row, "ticket_hash")?,
        signature: Signature::from_slice(&sig).map_err(|_| corrupt("sig"))?,
        recipient_rand: RecipientRand::from_bytes(hash(row, "recipient_rand")?.0),
        params_expiration_block: U256::from(unsigned(row, "params_expiration_block")?),
    };
    if winner.ticket.hash() != winner.ticket_hash {
        return Err(corrupt("ticket"));
    }
    Ok(StoredWinner {
        winner,
        session: row.try_get("session")?,
        status: WinnerStatus::parse(&status).ok_or(corrupt("status"))?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?)
            .map_err(|_| corrupt("attempts"))?,
        retry_block: unsigned(row, "retry_block")?,
        tx_hash: tx_hash.map(|text| parse_b256(&text).ok_or(corrupt("tx_hash"))).transpose()?,
        reason: row.try_get("reason")?,
    })
}

/// An exact number stored as text.
pub fn parsed<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, LedgerError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| corrupt(column))
}

/// The same where there may be none.
pub fn optional<T: FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, LedgerError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| corrupt(column))).transpose()
}

/// A count.
pub fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| corrupt(column))
}

fn address(row: &SqliteRow, column: &'static str) -> Result<Address, LedgerError> {
    let text: String = row.try_get(column)?;
    parse_address(&text).ok_or(corrupt(column))
}

fn hash(row: &SqliteRow, column: &'static str) -> Result<B256, LedgerError> {
    let text: String = row.try_get(column)?;
    parse_b256(&text).ok_or(corrupt(column))
}

fn corrupt(what: &'static str) -> LedgerError {
    LedgerError::Corrupt { what }
}
