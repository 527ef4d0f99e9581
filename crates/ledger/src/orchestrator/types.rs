//! What goes into the books and what comes out.

use penstock_domain::{Address, B256, Rational, Wei};
use penstock_payments::{TicketError, VerifiedPayment, Winner};
use std::time::Duration;
use thiserror::Error;
use uuid::Uuid;

/// The text cannot be a balance key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a balance key must be 1 to 192 printable ASCII characters")]
pub struct BadAccountKey;

/// Whose balance, and for what: a session id, a manifest id, or `{capability}_{model}`
/// (orchestrator-wire.md section 7).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    sender: Address,
    session: String,
}

impl AccountKey {
    /// A key whose text came from a peer, bounded.
    pub fn new(sender: Address, session: impl Into<String>) -> Result<Self, BadAccountKey> {
        let session = session.into();
        let printable = session.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if session.is_empty() || session.len() > 192 || !printable {
            return Err(BadAccountKey);
        }
        Ok(Self { sender, session })
    }

    /// Who pays.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// The balance key's text.
    pub fn session(&self) -> &str {
        &self.session
    }
}

/// One balance. All amounts in wei, exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub key: AccountKey,
    /// Sum of the expected values of its credited tickets, with what came from other accounts of its sender's and less
    /// what went to them ([`super::OrchestratorLedger::carry_over`]): it may fall.
    pub credited: Rational,
    /// Sum of its fees.
    pub debited: Rational,
    /// Number of credited tickets.
    pub tickets: u64,
    /// Wei per unit, pinned by its first payment.
    pub fixed_price: Option<Rational>,
    /// What the account's work cost at least when the price was pinned.
    pub pin_floor: Option<Rational>,
    /// The work that it was pinned for, as the orchestrator spells it.
    pub pin_work: Option<String>,
    /// Unix milliseconds of the last credit, debit or pinned price.
    pub updated_ms: i64,
    /// Of what was credited, that whose journal rows have gone.
    pub folded_credits: Rational,
    /// Of what was debited, that whose journal rows have gone.
    pub folded_debits: Rational,
}

impl Account {
    /// One without movements.
    pub fn new(key: AccountKey, now_ms: i64) -> Self {
        Self {
            key,
            credited: Rational::ZERO,
            debited: Rational::ZERO,
            tickets: 0,
            fixed_price: None,
            pin_floor: None,
            pin_work: None,
            updated_ms: now_ms,
            folded_credits: Rational::ZERO,
            folded_debits: Rational::ZERO,
        }
    }

    /// Credits − debits; may be negative, since debits never fail.
    pub fn balance(&self) -> Rational {
        &self.credited - &self.debited
    }

    /// The pinned price, if it holds. One below the floor was offered for other, cheaper work and
    /// does not: its tickets are credited, and work here costs what this orchestrator asks.
    pub fn pinned(&self) -> Option<&Rational> {
        let price = self.fixed_price.as_ref()?;
        self.pin_floor.as_ref().is_none_or(|floor| price >= floor).then_some(price)
    }
}

/// A payment whose signatures were checked, on its way into the books.
#[derive(Debug, Clone)]
pub struct PaymentReceipt {
    /// Where the credit goes.
    pub account: AccountKey,
    /// The payment, as `penstock_payments::verify_payment` left it.
    pub verified: VerifiedPayment,
    /// What this recipient asks today for the account's work, wei per unit.
    pub own_price: Rational,
    /// The lowest price that an offer for the account's work can carry today.
    pub pin_floor: Rational,
    /// The work, as the orchestrator spells it; `None` for terms of its own.
    pub work: Option<String>,
    /// The newest L1 block known.
    pub last_seen_block: u64,
    /// A price pinned by an account that nobody touched since then (Unix ms) is pinned anew.
    pub price_stale_before_ms: i64,
    /// The attempt to begin a session that it is for, if it is for one: then the account is this process's, by that
    /// attempt, until [`super::OrchestratorLedger::end_start`].
    pub for_start: Option<Uuid>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// One attempt to begin a session with what an account was paid, and the session, if it begins. A later attempt on the
/// same account is another one: what is said late of this one changes nothing of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The account.
    pub account: AccountKey,
    /// Unlike all others.
    pub attempt: Uuid,
}

/// What became of a payment. All of it is stored.
#[derive(Debug, Clone)]
pub struct PaymentTaken {
    /// Wei credited by this payment.
    pub credited: Rational,
    /// Tickets credited by this payment.
    pub credited_tickets: u64,
    /// Winners stored by this payment that were not stored before.
    pub new_winners: usize,
    /// The last ticket's error, for the sender.
    pub error: Option<TicketError>,
    /// The account afterwards; `None` when nothing was credited and none existed.
    pub account: Option<Account>,
    /// For a start: the account is there, and this attempt's from now on. If not, another session has it.
    pub is_in_hand: bool,
}

/// A fee to book.
#[derive(Debug, Clone)]
pub struct Debit {
    /// Whose balance.
    pub account: AccountKey,
    /// The job; the same id twice is booked once.
    pub job_id: String,
    /// Units of work.
    pub units: u64,
    /// Wei per unit, ≥ 0. The fee is units × price.
    pub price: Rational,
    /// Unix milliseconds at which the work began that this pays for.
    pub began_ms: i64,
    /// A price pinned by an account that nobody touched since then (Unix ms) is unpinned: this
    /// debit touches the account, and must not bring the old price back.
    pub price_stale_before_ms: i64,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// Whether the balance has to cover all of it, and what other jobs hold is not touched; otherwise the
    /// fee is booked in any case, if its hold is there or none is named.
    pub covered: bool,
    /// What the fee does to the job's hold.
    pub hold: Option<HoldSpent>,
}

/// What became of a fee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Booked {
    /// It is booked; the account afterwards.
    Now(Box<Account>),
    /// It was booked before, under the same job id. Nothing has changed.
    Before,
    /// What is there for it does not cover it. Nothing has changed.
    Short {
        /// Wei of the balance that the job may use: what it has set aside, or what nobody has.
        balance: Rational,
    },
}

/// Names what one job has set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub Uuid);

/// What a fee does to the hold of its job: in the same transaction, so that nobody sees the fee and what
/// was held for it at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldSpent {
    /// Whose.
    pub id: HoldId,
    /// Whether the job ends with this fee, and its hold with it. Otherwise the fee comes out of the hold.
    pub ends: bool,
    /// Should the hold be gone, because this process was taken for dead: wei that have to be there beside
    /// the holds of other jobs, as when the job began, ≥ 0. The fee alone is enough as well.
    pub least: Rational,
}

impl HoldSpent {
    /// What is left of the hold; `None`: it ends.
    pub fn left(&self, held: &Rational, fee: &Rational) -> Option<Rational> {
        (!self.ends).then(|| (held - fee).max(Rational::ZERO))
    }
}

/// What became of a wish for a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It is set aside.
    Aside,
    /// There is not enough: so much is there beside the holds of other jobs, or no account.
    Short(Option<Rational>),
}

/// A wish to set something aside for a job that begins.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// Random, the job's own.
    pub id: HoldId,
    /// Whose balance.
    pub account: AccountKey,
    /// What the job is expected to cost, wei, ≥ 0.
    pub amount: Rational,
    /// What has to be there beside the holds of the account's other jobs.
    pub least: Rational,
}

/// How long a process counts as alive without a word from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTime(pub Duration);

impl Default for LeaseTime {
    fn default() -> Self {
        Self(Duration::from_secs(15))
    }
}

/// Proof of the right to redeem: grows with each process that gets it. What comes with an old one
/// changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// Something that all processes on one ledger must have in common, as a one-way mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What it is; the setting that it comes from.
    pub name: &'static str,
    /// Does not lead back to it.
    pub mark: String,
}

impl Debit {
    /// Wei, exact.
    pub fn fee(&self) -> Rational {
        penstock_payments::fee(self.units, &self.price)
    }
}

/// Which invoices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceQuery {
    /// The balance key's text.
    pub session: String,
    /// One payer, or all that have such a balance.
    pub sender: Option<Address>,
    /// Most invoices, and most credits and most debits of each.
    pub limit: u32,
}

/// A balance and the journal behind it, read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// The sums.
    pub account: Account,
    /// Payments that credited something, newest first.
    pub credits: Vec<CreditLine>,
    /// Fees, newest first.
    pub debits: Vec<DebitLine>,
    /// Whether these are all there are: then they add up to the account's sums.
    pub is_whole: bool,
}

/// A payment in the journal, or what was carried over from or to another account of its sender's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditLine {
    /// The offer that its tickets are of; empty: it was carried over.
    pub recipient_rand_hash: String,
    /// Tickets; 0: it was carried over.
    pub tickets: u64,
    /// Wei: the expected values of the tickets, or what was carried over, which is below 0 where it went.
    pub amount: Rational,
    /// Unix ms.
    pub at_ms: i64,
}

impl CreditLine {
    /// So many wei came from another account, or, below 0, went to one.
    pub fn carried(amount: Rational, now_ms: i64) -> Self {
        Self { recipient_rand_hash: String::new(), tickets: 0, amount, at_ms: now_ms }
    }
}

/// A fee in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebitLine {
    /// The job.
    pub job_id: String,
    /// Units and wei per unit; `None` in books from before they were kept.
    pub work: Option<(u64, Rational)>,
    /// Wei.
    pub amount: Rational,
    /// Unix ms at which the work began, if that was kept.
    pub from_ms: Option<i64>,
    /// Unix ms at which it was booked.
    pub to_ms: i64,
}

/// Where a winner is on its way to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WinnerStatus {
    /// Waits for its offer to expire, or for a retry.
    Queued,
    /// Was, or is about to be, sent: after a crash the chain has to be asked.
    Redeeming,
    /// A separate redeemer has it, on its disk. It is that one's to send, and the chain's to settle.
    HandedOver,
    /// Paid.
    Redeemed,
    /// Will never be paid; the reason is stored.
    Failed,
}

impl WinnerStatus {
    /// As shown, and as stored but for [`Self::HandedOver`], which is a column beside "queued".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Redeeming => "redeeming",
            Self::HandedOver => "handed_over",
            Self::Redeemed => "redeemed",
            Self::Failed => "failed",
        }
    }

    /// What a row's text says.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Redeeming, Self::Redeemed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// How many winners a redeemer keeps waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Of all senders together.
    pub all: u32,
    /// Of one sender.
    pub sender: u32,
}

/// What became of a winner that was brought to a redeemer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It is stored.
    Now,
    /// It was stored before, whatever has become of it since. Nothing has changed.
    Before,
    /// So many wait already that it is not stored.
    Full,
}

/// A winner in the books.
#[derive(Debug, Clone)]
pub struct StoredWinner {
    /// The ticket and all that redemption needs.
    pub winner: Winner,
    /// The balance key of the payment that brought it.
    pub session: String,
    /// Where it is.
    pub status: WinnerStatus,
    /// How often it was tried: sent, or put off when it was its turn.
    pub attempts: u32,
    /// L1 block before which it is not tried again.
    pub retry_block: u64,
    /// The transaction that paid it, when known.
    pub tx_hash: Option<B256>,
    /// Why it failed or has to be tried again.
    pub reason: Option<String>,
}

/// Sums over everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Credited tickets.
    pub tickets: u64,
    /// Wei credited.
    pub credited: Rational,
    /// Wei debited.
    pub debited: Rational,
    /// Winners of any status.
    pub winners: u64,
    /// Winners that a separate redeemer has, and that are not known to be paid.
    pub handed_over: u64,
    /// Winners that were paid.
    pub redeemed: u64,
    /// Their face values.
    pub redeemed_face_value: Wei,
}

impl Totals {
    /// Credits − debits.
    pub fn balance(&self) -> Rational {
        &self.credited - &self.debited
    }
}
