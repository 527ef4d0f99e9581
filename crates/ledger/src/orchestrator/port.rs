//! What the orchestrator needs from its books.

use super::{
    Account, AccountKey, Debit, Invoice, InvoiceQuery, LedgerError, PaymentReceipt, PaymentTaken,
    StoredWinner, Totals, WinnerStatus,
};
use async_trait::async_trait;
use penstock_domain::{Address, B256, Wei};

/// The orchestrator's ledger. Every method is one transaction, durable when it returns `Ok`.
#[async_trait]
pub trait OrchestratorLedger: Send + Sync + 'static {
    /// Takes a payment: nonces, winners, pinned price and credit, all or nothing. What happens is
    /// `VerifiedPayment::settle`'s to say (payments.md sections 10 and 11); it runs inside the
    /// transaction that read the nonces, so two copies of a payment cannot both be credited.
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Result<PaymentTaken, LedgerError>;

    /// One balance.
    async fn account(&self, key: &AccountKey) -> Result<Option<Account>, LedgerError>;

    /// Books a fee, once per job id. Never fails for lack of balance. Returns the account, or
    /// `None` if the job was booked before.
    async fn debit(&self, debit: &Debit) -> Result<Option<Account>, LedgerError>;

    /// Drops the nonce sets of offers that expired at or before `block`, and refuses their
    /// tickets from now on. Returns how many.
    async fn forget_nonces(&self, block: u64) -> Result<u64, LedgerError>;

    /// Queued winners whose offer expired and whose wait is over at `block`, oldest first.
    async fn winners_due(&self, block: u64, limit: u32) -> Result<Vec<StoredWinner>, LedgerError>;

    /// Winners with a status, oldest first: with `Redeeming`, what a crash left open.
    async fn winners_with(
        &self,
        status: WinnerStatus,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError>;

    /// Stores the intent to send, before sending. `false` if the winner was not queued.
    async fn begin_redemption(&self, ticket: B256, now_ms: i64) -> Result<bool, LedgerError>;

    /// The chain has paid. `tx_hash` is `None` when only the fact is known.
    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        now_ms: i64,
    ) -> Result<(), LedgerError>;

    /// Was not sent, or the chain did not take it: try again at `retry_block`.
    async fn requeue(
        &self,
        ticket: B256,
        reason: &str,
        retry_block: u64,
        now_ms: i64,
    ) -> Result<(), LedgerError>;

    /// Will never be paid.
    async fn mark_failed(&self, ticket: B256, reason: &str, now_ms: i64)
    -> Result<(), LedgerError>;

    /// Sum of the face values of a sender's redemptions in flight (payments.md section 13).
    async fn pending_face_value(&self, sender: Address) -> Result<Wei, LedgerError>;

    /// Balances, last touched first.
    async fn accounts(&self, limit: u32) -> Result<Vec<Account>, LedgerError>;

    /// The balances of a key with the journal behind them, by sender; each read at one moment.
    async fn invoices(&self, query: &InvoiceQuery) -> Result<Vec<Invoice>, LedgerError>;

    /// Winners, newest first.
    async fn winners(&self, limit: u32) -> Result<Vec<StoredWinner>, LedgerError>;

    /// Sums over everything.
    async fn totals(&self) -> Result<Totals, LedgerError>;

    /// Whether the store answers, for readiness.
    async fn ping(&self) -> Result<(), LedgerError>;
}
