//! One payment inside one transaction: nonces, then winners, then price and credit.

use super::{
    accounts,
    rows::{address_text, hash_text, signed},
    winners,
};
use crate::orchestrator::{
    Account, CheckedTicket, LedgerError, MAX_NONCES_PER_OFFER, PaymentOutcome, PaymentReceipt,
    TicketOutcome,
};
use penstock_domain::Rational;
use sqlx::{Row, SqliteConnection};

/// Takes the payment; the caller commits.
pub async fn receive(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
) -> Result<PaymentOutcome, LedgerError> {
    let forgotten: i64 = sqlx::query_scalar("SELECT forgotten_through FROM horizon WHERE id = 1")
        .fetch_one(&mut *db)
        .await?;
    let expired = receipt.params_expiration_block <= receipt.last_seen_block
        || signed(receipt.params_expiration_block) <= forgotten;
    let mut nonces = NonceSet::open(db, receipt).await?;
    let mut outcome = PaymentOutcome {
        tickets: Vec::with_capacity(receipt.tickets.len()),
        credited: Rational::ZERO,
        new_winners: 0,
        account: None,
    };
    let (mut refused, mut credited_tickets) = (false, 0u64);
    for ticket in &receipt.tickets {
        let result = match ticket {
            CheckedTicket::BadSignature { nonce } => TicketOutcome::BadSignature { nonce: *nonce },
            CheckedTicket::Signed { nonce, winner } => {
                if let Some(winner) = winner {
                    penstock_failpoint::hit("orchestrator.before_winner_store");
                    outcome.new_winners +=
                        winners::keep(db, winner, receipt.account.session(), receipt.now_ms)
                            .await?;
                    penstock_failpoint::hit("orchestrator.after_winner_store");
                }
                match nonces.take(db, *nonce).await? {
                    Some(refusal) => refusal,
                    None if expired => TicketOutcome::Expired,
                    None if refused => TicketOutcome::Withheld,
                    None => TicketOutcome::Credited,
                }
            }
        };
        match result {
            TicketOutcome::Credited => {
                outcome.credited += &receipt.ticket_ev;
                credited_tickets += 1;
            }
            TicketOutcome::Withheld => {}
            _ => refused = true,
        }
        outcome.tickets.push(result);
    }
    nonces.store(db).await?;
    outcome.account = if credited_tickets == 0 {
        // A payment without a good ticket creates no account and pins no price.
        accounts::find(&mut *db, &receipt.account).await?
    } else {
        penstock_failpoint::hit("orchestrator.before_credit");
        Some(credit(db, receipt, &outcome.credited, credited_tickets).await?)
    };
    Ok(outcome)
}

async fn credit(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
    amount: &Rational,
    tickets: u64,
) -> Result<Account, LedgerError> {
    let mut account = accounts::open_with_price(
        db,
        &receipt.account,
        &receipt.price,
        receipt.price_stale_before_ms,
        receipt.now_ms,
    )
    .await?;
    account.credited += amount;
    account.tickets += tickets;
    account.updated_ms = receipt.now_ms;
    accounts::store(db, &account, receipt.now_ms).await?;
    sqlx::query(
        "INSERT INTO credits (sender, session, recipient_rand_hash, tickets, amount, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(address_text(receipt.account.sender()))
    .bind(receipt.account.session())
    .bind(hash_text(receipt.recipient_rand_hash))
    .bind(signed(tickets))
    .bind(amount.to_string())
    .bind(receipt.now_ms)
    .execute(db)
    .await?;
    Ok(account)
}

/// Drops the nonce sets of expired offers and remembers how far.
pub async fn forget(db: &mut SqliteConnection, block: u64) -> Result<u64, LedgerError> {
    let block = signed(block);
    sqlx::query("UPDATE horizon SET forgotten_through = MAX(forgotten_through, ?) WHERE id = 1")
        .bind(block)
        .execute(&mut *db)
        .await?;
    Ok(sqlx::query("DELETE FROM nonce_sets WHERE expiration_block <= ?")
        .bind(block)
        .execute(db)
        .await?
        .rows_affected())
}

/// The nonces seen for one offer. The set's row is written once per payment.
struct NonceSet {
    offer: String,
    expiration_block: i64,
    seen: i64,
    changed: bool,
    stored: bool,
}

impl NonceSet {
    async fn open(
        db: &mut SqliteConnection,
        receipt: &PaymentReceipt,
    ) -> Result<Self, LedgerError> {
        let offer = hash_text(receipt.recipient_rand_hash);
        let row = sqlx::query("SELECT seen FROM nonce_sets WHERE recipient_rand_hash = ?")
            .bind(&offer)
            .fetch_optional(db)
            .await?;
        let stored = row.is_some();
        let seen = row.map(|r| r.try_get::<i64, _>("seen")).transpose()?.unwrap_or(0);
        let expiration_block = signed(receipt.params_expiration_block);
        Ok(Self { offer, expiration_block, seen, changed: false, stored })
    }

    /// Records a nonce, or says why not.
    async fn take(
        &mut self,
        db: &mut SqliteConnection,
        nonce: u32,
    ) -> Result<Option<TicketOutcome>, LedgerError> {
        let seen = sqlx::query_scalar::<_, i64>(
            "SELECT 1 FROM nonces WHERE recipient_rand_hash = ? AND nonce = ?",
        )
        .bind(&self.offer)
        .bind(nonce)
        .fetch_optional(&mut *db)
        .await?;
        if seen.is_some() {
            return Ok(Some(TicketOutcome::NonceSeen { nonce }));
        }
        if self.seen >= i64::from(MAX_NONCES_PER_OFFER) {
            return Ok(Some(TicketOutcome::TooManyNonces { nonce }));
        }
        if !self.stored {
            // The parent row first: nonces refer to it.
            self.store_row(&mut *db).await?;
        }
        sqlx::query("INSERT INTO nonces (recipient_rand_hash, nonce) VALUES (?, ?)")
            .bind(&self.offer)
            .bind(nonce)
            .execute(db)
            .await?;
        self.seen += 1;
        self.changed = true;
        Ok(None)
    }

    async fn store(&mut self, db: &mut SqliteConnection) -> Result<(), LedgerError> {
        if self.changed { self.store_row(db).await } else { Ok(()) }
    }

    async fn store_row(&mut self, db: &mut SqliteConnection) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO nonce_sets (recipient_rand_hash, expiration_block, seen) \
             VALUES (?, ?, ?) ON CONFLICT (recipient_rand_hash) DO UPDATE SET seen = excluded.seen",
        )
        .bind(&self.offer)
        .bind(self.expiration_block)
        .bind(self.seen)
        .execute(db)
        .await?;
        self.stored = true;
        Ok(())
    }
}
