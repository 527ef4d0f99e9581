//! One payment inside one transaction: what `plan::payment` says is what is stored.

use super::{accounts, starts, winners};
use crate::{
    orchestrator::{
        Account, AccountKey, CreditLine, LedgerError, PaymentReceipt, PaymentTaken,
        plan::{self, NewNonces},
        rows::{address_text, block, hash_text, signed},
    },
    sqlite::writer::{Tx, all},
};
use penstock_domain::B256;
use penstock_payments::NonceSet;
use rusqlite::params;

/// Takes the payment; the caller commits.
pub fn receive(
    tx: &Tx,
    receipt: &PaymentReceipt,
    process: &str,
) -> Result<PaymentTaken, LedgerError> {
    let before = accounts::find(tx, &receipt.account)?;
    let (seen, forgotten_through) = seen(tx, receipt.verified.nonce_key())?;
    let is_known = !seen.is_empty();
    let mut plan = plan::payment(receipt, before, seen, forgotten_through);
    if plan.is_bounded() {
        plan.keep_within(winners::waiting(tx, receipt.account.sender())?);
    }
    if let Some(new) = &plan.nonces {
        record(tx, new, is_known)?;
    }
    for winner in &plan.winners {
        penstock_failpoint::hit("orchestrator.before_winner_store");
        let session = receipt.account.session();
        plan.taken.new_winners += winners::keep(tx, winner, session, receipt.now_ms)?;
        penstock_failpoint::hit("orchestrator.after_winner_store");
    }
    if let (true, Some(account)) = (plan.credits, &plan.taken.account) {
        penstock_failpoint::hit("orchestrator.before_credit");
        credit(tx, receipt, &plan.taken, account)?;
    }
    // Tickets that were credited before do as well: the account is what was paid.
    if let (Some(attempt), Some(_)) = (receipt.for_start, &plan.taken.account) {
        let (key, now_ms) = (&receipt.account, receipt.now_ms);
        plan.taken.is_in_hand = starts::open(tx, key, process, attempt, now_ms)?;
    }
    Ok(plan.taken)
}

fn credit(
    tx: &Tx,
    receipt: &PaymentReceipt,
    taken: &PaymentTaken,
    account: &Account,
) -> Result<(), LedgerError> {
    accounts::store(tx, account, receipt.now_ms)?;
    let line = CreditLine {
        recipient_rand_hash: receipt.verified.nonce_key().map(hash_text).unwrap_or_default(),
        tickets: taken.credited_tickets,
        amount: taken.credited.clone(),
        at_ms: receipt.now_ms,
    };
    note(tx, &receipt.account, &line)
}

/// Adds a line to the journal.
pub fn note(tx: &Tx, key: &AccountKey, line: &CreditLine) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO credits (sender, session, recipient_rand_hash, tickets, amount, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        address_text(key.sender()),
        key.session(),
        line.recipient_rand_hash,
        signed(line.tickets),
        line.amount.to_string(),
        line.at_ms,
    ])?;
    Ok(())
}

/// The nonces seen of an offer, and the block through which all sets have gone.
fn seen(tx: &Tx, offer: Option<B256>) -> Result<(NonceSet, u64), LedgerError> {
    let mut horizon = tx.prepare_cached("SELECT forgotten_through FROM horizon WHERE id = 1")?;
    let forgotten: i64 = horizon.query_row([], |row| row.get(0))?;
    let nonces: Vec<u32> = match offer {
        Some(offer) => {
            let mut of_offer =
                tx.prepare_cached("SELECT nonce FROM nonces WHERE recipient_rand_hash = ?")?;
            all(&mut of_offer, [hash_text(offer)], |row| Ok::<_, LedgerError>(row.get(0)?))?
        }
        None => Vec::new(),
    };
    Ok((nonces.into_iter().collect(), u64::try_from(forgotten).unwrap_or(0)))
}

/// `is_known`: the offer has a set.
fn record(tx: &Tx, new: &NewNonces, is_known: bool) -> Result<(), LedgerError> {
    let offer = hash_text(new.offer);
    if !is_known {
        let mut open = tx.prepare_cached(
            "INSERT INTO nonce_sets (recipient_rand_hash, expiration_block) VALUES (?, ?) \
             ON CONFLICT (recipient_rand_hash) DO NOTHING",
        )?;
        open.execute(params![offer, block(new.expiration_block)])?;
    }
    let mut use_up =
        tx.prepare_cached("INSERT INTO nonces (recipient_rand_hash, nonce) VALUES (?, ?)")?;
    for nonce in &new.nonces {
        use_up.execute(params![offer, nonce])?;
    }
    Ok(())
}

/// Drops the nonce sets of expired offers and remembers how far.
pub fn forget(tx: &Tx, block: u64) -> Result<u64, LedgerError> {
    let block = signed(block);
    tx.execute(
        "UPDATE horizon SET forgotten_through = MAX(forgotten_through, COALESCE( \
         (SELECT MAX(expiration_block) FROM nonce_sets WHERE expiration_block <= ?), -1)) \
         WHERE id = 1",
        [block],
    )?;
    let gone = tx.execute("DELETE FROM nonce_sets WHERE expiration_block <= ?", [block])?;
    Ok(u64::try_from(gone).unwrap_or(u64::MAX))
}
