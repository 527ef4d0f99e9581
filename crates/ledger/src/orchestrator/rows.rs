//! Rows of either database to values. A value that does not read back is [`LedgerError::Corrupt`], never a default.

use crate::orchestrator::{
    Account, AccountKey, CreditLine, DebitLine, Invoice, LedgerError, StoredWinner, WinnerStatus,
    redemption,
};
use penstock_domain::{
    Address, B256, Rational, U256, Wei, address_lower, parse_address, parse_b256,
};
use penstock_payments::{ExpirationParams, RecipientRand, Signature, Ticket, Winner};
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use std::str::FromStr;

/// A row, whichever database it is from.
pub trait Fields {
    fn text(&self, column: &'static str) -> Result<String, LedgerError>;
    fn maybe_text(&self, column: &'static str) -> Result<Option<String>, LedgerError>;
    fn int(&self, column: &'static str) -> Result<i64, LedgerError>;
    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, LedgerError>;
}

macro_rules! fields {
    ($($row:ty),*) => {$(
        impl Fields for $row {
            fn text(&self, column: &'static str) -> Result<String, LedgerError> {
                Ok(self.try_get(column)?)
            }

            fn maybe_text(&self, column: &'static str) -> Result<Option<String>, LedgerError> {
                Ok(self.try_get(column)?)
            }

            fn int(&self, column: &'static str) -> Result<i64, LedgerError> {
                Ok(self.try_get(column)?)
            }

            fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, LedgerError> {
                Ok(self.try_get(column)?)
            }
        }
    )*};
}

fields!(SqliteRow, PgRow);

impl Fields for rusqlite::Row<'_> {
    fn text(&self, column: &'static str) -> Result<String, LedgerError> {
        self.get(column).map_err(|_| corrupt(column))
    }

    fn maybe_text(&self, column: &'static str) -> Result<Option<String>, LedgerError> {
        self.get(column).map_err(|_| corrupt(column))
    }

    fn int(&self, column: &'static str) -> Result<i64, LedgerError> {
        self.get(column).map_err(|_| corrupt(column))
    }

    fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, LedgerError> {
        self.get(column).map_err(|_| corrupt(column))
    }
}

/// What [`account`] reads.
macro_rules! account_columns {
    () => {
        "sender, session, credited, debited, tickets, fixed_price, pin_floor, pin_work, updated_ms, \
         folded_credits, folded_debits"
    };
}
pub(in crate::orchestrator) use account_columns;

/// Winners that wait, in the order of `penstock_payments::in_order_of_policy`: the oldest round first, in it each sender's
/// largest, then each one's next. Values are decimals without zeros in front, so that the longer is the larger.
macro_rules! in_turn {
    ($waiting:literal, $limit:literal) => {
        concat!(
            "SELECT winners.* FROM (SELECT id, creation_round AS round, face_value AS face, ROW_NUMBER() OVER \
               (PARTITION BY sender, creation_round ORDER BY LENGTH(face_value) DESC, face_value DESC, id) AS turn \
             FROM winners WHERE status = 'queued' AND handed_over_ms IS NULL AND ",
            $waiting,
            " ORDER BY round, turn, LENGTH(face_value) DESC, face_value DESC, id LIMIT ",
            $limit,
            ") AS waiting JOIN winners ON winners.id = waiting.id \
             ORDER BY waiting.round, waiting.turn, LENGTH(waiting.face) DESC, waiting.face DESC, winners.id"
        )
    };
}
pub(in crate::orchestrator) use in_turn;

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
pub fn account(row: &impl Fields) -> Result<Account, LedgerError> {
    let sender = address(row, "sender")?;
    let session = row.text("session")?;
    let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
    Ok(Account {
        key,
        credited: parsed(row, "credited")?,
        debited: parsed(row, "debited")?,
        tickets: unsigned(row, "tickets")?,
        fixed_price: optional(row, "fixed_price")?,
        pin_floor: optional(row, "pin_floor")?,
        pin_work: row.maybe_text("pin_work")?,
        updated_ms: row.int("updated_ms")?,
        folded_credits: parsed(row, "folded_credits")?,
        folded_debits: parsed(row, "folded_debits")?,
    })
}

/// One winner row.
pub fn winner(row: &impl Fields) -> Result<StoredWinner, LedgerError> {
    let status = winner_status(row)?;
    let tx_hash = row.maybe_text("tx_hash")?;
    let sig = row.text("sig")?;
    let sig = hex::decode(sig).map_err(|_| corrupt("sig"))?;
    let winner = Winner {
        ticket: Ticket {
            recipient: address(row, "recipient")?,
            sender: address(row, "sender")?,
            face_value: parsed::<Wei>(row, "face_value")?,
            win_prob: parsed::<Wei>(row, "win_prob")?.0,
            sender_nonce: u32::try_from(row.int("sender_nonce")?)
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
        session: row.text("session")?,
        status,
        attempts: u32::try_from(row.int("attempts")?).map_err(|_| corrupt("attempts"))?,
        retry_block: unsigned(row, "retry_block")?,
        tx_hash: tx_hash.map(|text| parse_b256(&text).ok_or(corrupt("tx_hash"))).transpose()?,
        reason: row.maybe_text("reason")?,
    })
}

/// Where a winner row is.
pub fn winner_status(row: &impl Fields) -> Result<WinnerStatus, LedgerError> {
    redemption::status(&row.text("status")?, row.maybe_int("handed_over_ms")?)
        .ok_or(corrupt("status"))
}

/// An exact number stored as text.
pub fn parsed<T: FromStr>(row: &impl Fields, column: &'static str) -> Result<T, LedgerError> {
    let text = row.text(column)?;
    text.parse().map_err(|_| corrupt(column))
}

/// The same where there may be none.
pub fn optional<T: FromStr>(
    row: &impl Fields,
    column: &'static str,
) -> Result<Option<T>, LedgerError> {
    let text = row.maybe_text(column)?;
    text.map(|text| text.parse().map_err(|_| corrupt(column))).transpose()
}

/// A count.
pub fn unsigned(row: &impl Fields, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(row.int(column)?).map_err(|_| corrupt(column))
}

/// An account of the chain.
pub fn address(row: &impl Fields, column: &'static str) -> Result<Address, LedgerError> {
    let text = row.text(column)?;
    parse_address(&text).ok_or(corrupt(column))
}

fn hash(row: &impl Fields, column: &'static str) -> Result<B256, LedgerError> {
    let text = row.text(column)?;
    parse_b256(&text).ok_or(corrupt(column))
}

/// A value that does not read back.
pub fn corrupt(what: &'static str) -> LedgerError {
    LedgerError::Corrupt { what }
}

/// A payment in the journal.
pub fn credit_line(row: &impl Fields) -> Result<CreditLine, LedgerError> {
    Ok(CreditLine {
        recipient_rand_hash: row.text("recipient_rand_hash")?,
        tickets: unsigned(row, "tickets")?,
        amount: parsed(row, "amount")?,
        at_ms: row.int("created_ms")?,
    })
}

/// A fee in the journal.
pub fn debit_line(row: &impl Fields) -> Result<DebitLine, LedgerError> {
    let units = row.maybe_int("units")?;
    let price: Option<Rational> = optional(row, "price")?;
    Ok(DebitLine {
        job_id: row.text("job_id")?,
        work: units.map(i64::unsigned_abs).zip(price),
        amount: parsed(row, "amount")?,
        from_ms: row.maybe_int("began_ms")?,
        to_ms: row.int("created_ms")?,
    })
}

/// An account with its newest lines, of which one more than is shown was read.
pub fn invoice<R: Fields>(
    account: Account,
    credits: &[R],
    debits: &[R],
    limit: u32,
) -> Result<Invoice, LedgerError> {
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let folded = !account.folded_credits.is_zero() || !account.folded_debits.is_zero();
    let is_whole = credits.len() <= shown && debits.len() <= shown && !folded;
    let credits = credits.iter().take(shown).map(credit_line).collect::<Result<_, _>>()?;
    let debits = debits.iter().take(shown).map(debit_line).collect::<Result<_, _>>()?;
    Ok(Invoice { account, credits, debits, is_whole })
}
