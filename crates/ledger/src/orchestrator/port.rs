//! What the orchestrator needs from its books.

use super::{
    Account, AccountKey, Booked, Debit, Fence, Held, HoldId, HoldRequest, Invoice, InvoiceQuery,
    LedgerError, Mark, PaymentReceipt, PaymentTaken, QueueLimits, Queued, Start, StoredWinner,
    Totals, TrainingJobs, WinnerStatus,
};
use async_trait::async_trait;
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Rational, Wei};
use penstock_payments::Winner;
use uuid::Uuid;

/// The orchestrator's ledger. Every method is one transaction, durable when it returns `Ok`.
#[async_trait]
pub trait OrchestratorLedger: TrainingJobs + Send + Sync + 'static {
    /// Takes a payment: nonces, winners, pinned price and credit, all or nothing. What happens is
    /// `VerifiedPayment::settle`'s to say (payments.md sections 10 and 11); it runs inside the
    /// transaction that read the nonces, so two copies of a payment cannot both be credited.
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Result<PaymentTaken, LedgerError>;

    /// One balance.
    async fn account(&self, key: &AccountKey) -> Result<Option<Account>, LedgerError>;

    /// An account of this sender's that was paid for a session (`for_start`) which nobody runs, with something left on it: this
    /// process's start from now on, by this `attempt`, and nobody else's until that ends or this process is dead.
    /// Accounts with nothing left that nobody touched since `spent_before_ms` (Unix ms) are forgotten meanwhile: a
    /// late payment to a session that has just ended is there for the next.
    async fn adopt_start(
        &self,
        sender: Address,
        attempt: Uuid,
        spent_before_ms: i64,
    ) -> Result<Option<AccountKey>, LedgerError>;

    /// A start is over: nobody has begun it, nobody heard of it, or its session has ended. The sender's next session
    /// begins with what is left. Said again, or when the account is in the hands of another attempt, it has no
    /// effect. No money moves by it. Where nothing is left it is forgotten after a while, as [`Self::adopt_start`] says: what
    /// is paid late is there for the next.
    async fn end_start(&self, start: &Start) -> Result<(), LedgerError>;

    /// Brings what is left on accounts that [`Self::adopt_start`] would find to another account of their sender's, `to`,
    /// which was paid just now: exactly, each wei once, and nothing that a job has set aside. Credits move; no price and
    /// no fee does, so that what is left is spent at the price of `to`. At most 16 accounts at once, those
    /// with the most; the rest is there for the next one. Those that are empty then are forgotten as [`Self::adopt_start`]
    /// says. Returns the wei that came. Where there is no such account as `to` nothing moves.
    async fn carry_over(
        &self,
        to: &AccountKey,
        spent_before_ms: i64,
        now_ms: i64,
    ) -> Result<Rational, LedgerError>;

    /// Books a fee, once per job id.
    async fn debit(&self, debit: &Debit) -> Result<Booked, LedgerError>;

    /// Sets something aside for a job, or another amount for one that has a hold already, if there is
    /// an account with enough beside what the other jobs under way of all processes hold. If not, all
    /// stays as it was. What a process holds lapses when it dies.
    async fn hold(&self, ask: &HoldRequest) -> Result<Held, LedgerError>;

    /// Gives back what was set aside: at once for this process, for others soon. Of no effect if it is
    /// gone already.
    fn let_go(&self, hold: HoldId);

    /// The right to redeem, for at most one process at a time; the one that has it renews it so.
    /// `None`: another one has it.
    async fn redeemer(&self) -> Result<Option<Fence>, LedgerError>;

    /// Remembers marks that are not known yet, and names those that are known to be others. With
    /// `replace` the given ones take their places.
    async fn claim(&self, marks: &[Mark], replace: bool) -> Result<Vec<&'static str>, LedgerError>;

    /// Takes journal rows from before `before_ms` away, at most `limit` of each kind, and keeps their
    /// sums with the accounts. Job ids of debits that went are forgotten. Returns how many went.
    async fn fold(&self, before_ms: i64, limit: u32) -> Result<u64, LedgerError>;

    /// Drops the nonce sets of offers that expired at or before `block`, and refuses tickets of offers
    /// that expire no later than the last of them from now on. Returns how many. Offers that nobody has paid on yet
    /// stay as good as they are, however high `block` is said to be.
    async fn forget_nonces(&self, block: u64) -> Result<u64, LedgerError>;

    /// Queued winners whose offer expired and whose wait is over at `block`, in the order of
    /// [`penstock_payments::in_order_of_policy`].
    async fn winners_due(&self, block: u64, limit: u32) -> Result<Vec<StoredWinner>, LedgerError>;

    /// Winners with a status, oldest first: with `Redeeming`, what a crash left open.
    async fn winners_with(
        &self,
        status: WinnerStatus,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError>;

    /// Stores the intent to send, before sending. `false` if the winner was not queued, or another
    /// process redeems now.
    async fn begin_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        now_ms: i64,
    ) -> Result<bool, LedgerError>;

    /// The chain has paid, which is true whoever finds out. `tx_hash` is `None` when only the fact is known; `block` is
    /// the chain's own block that it is in, 0 when that is not known, or `None` where no block is ever taken back.
    /// `short`: what is to be said of one that was paid less than it promised; it is its reason from then on.
    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        block: Option<u64>,
        short: Option<&str>,
        now_ms: i64,
    ) -> Result<(), LedgerError>;

    /// Redemptions in blocks up to `block` that are not known to be final, the oldest block first.
    async fn unsettled_redemptions(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError>;

    /// What a later look at an unsettled redemption showed: a final one is not looked at again, one in another block is
    /// looked at later, and one that is gone waits to be redeemed, or handed over, once more. `short`: what is to be said
    /// of one that stands and was paid less than it promised; it is its reason from then on. Of no effect if another
    /// process redeems now, or the redemption is settled already; whether it had one is the answer.
    async fn settle_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        standing: Standing,
        short: Option<&str>,
        now_ms: i64,
    ) -> Result<bool, LedgerError>;

    /// Was not sent, or the chain did not take it: try again at `retry_block`. One that was not begun and is put off to a
    /// later block than it waited for was tried in vain: it counts as an attempt, as [`Self::begin_redemption`] does, so
    /// that it waits longer each time. Of no effect if another process redeems now.
    async fn requeue(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        retry_block: u64,
        now_ms: i64,
    ) -> Result<(), LedgerError>;

    /// Will never be paid. Of no effect if another process redeems now.
    async fn mark_failed(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        now_ms: i64,
    ) -> Result<(), LedgerError>;

    /// Winners that are still to be handed over to a separate redeemer and whose wait is over at `block`,
    /// in the same order, whether their offer has expired or not.
    async fn winners_to_hand_over(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError>;

    /// A separate redeemer has the winner on its disk, which is true whoever heard it. Of no effect
    /// unless it is queued.
    async fn mark_handed_over(&self, ticket: B256, now_ms: i64) -> Result<(), LedgerError>;

    /// Winners that were handed over, are not known to be paid, and are of a round before `round`;
    /// oldest round first.
    async fn handed_over_before(
        &self,
        round: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError>;

    /// Winners that were handed over before `before_ms` and are not known to be paid are here again, to be
    /// handed over once more or redeemed; how many. A redeemer may have lost its disk, or have lied.
    async fn take_back_winners(&self, before_ms: i64, now_ms: i64) -> Result<u64, LedgerError>;

    /// A redeemer stores what an orchestrator brings it: once, however often it is brought. When this
    /// says [`Queued::Now`] or [`Queued::Before`], it may be acknowledged. Those that come at one moment
    /// to several processes may exceed the limits by their number.
    async fn queue_winner(
        &self,
        winner: &Winner,
        limits: QueueLimits,
        now_ms: i64,
    ) -> Result<Queued, LedgerError>;

    /// Sum of the face values of a sender's winners from `round` on that are not known to be paid,
    /// wherever they wait.
    async fn open_face_value(&self, sender: Address, round: u64) -> Result<Wei, LedgerError>;

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

    /// Gives up what this process holds, and ends all connections; later calls fail.
    async fn close(&self);
}
