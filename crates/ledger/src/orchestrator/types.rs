//! What goes into the books and what comes out.

use penstock_domain::{Address, B256, Rational, U256, Wei};
use thiserror::Error;

/// Distinct nonces accepted for one recipientRandHash (payments.md section 10 row 8).
pub const MAX_NONCES_PER_OFFER: u32 = 600;

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
    /// Sum of the expected values of its credited tickets.
    pub credited: Rational,
    /// Sum of its fees.
    pub debited: Rational,
    /// Number of credited tickets.
    pub tickets: u64,
    /// Wei per unit, pinned by its first payment.
    pub fixed_price: Option<Rational>,
    /// Unix milliseconds of the last credit, debit or pinned price.
    pub updated_ms: i64,
}

impl Account {
    /// Credits − debits; may be negative, since debits never fail.
    pub fn balance(&self) -> Rational {
        &self.credited - &self.debited
    }
}

/// A payment whose cryptography was checked (payments.md section 10 rows 1 to 6).
#[derive(Debug, Clone)]
pub struct PaymentReceipt {
    /// Where the credit goes.
    pub account: AccountKey,
    /// Which offer it uses.
    pub recipient_rand_hash: B256,
    /// The offer's last block, as the wire had it.
    pub params_expiration_block: u64,
    /// The newest L1 block known.
    pub last_seen_block: u64,
    /// The offer's price in wei per unit, pinned for the session if none is pinned yet.
    pub price: Rational,
    /// A price pinned by an account that nobody touched since then (Unix ms) is pinned anew.
    pub price_stale_before_ms: i64,
    /// Expected value of each ticket.
    pub ticket_ev: Rational,
    /// In the order of the message.
    pub tickets: Vec<CheckedTicket>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// One ticket of a payment.
#[derive(Debug, Clone)]
pub enum CheckedTicket {
    /// The signature is not the sender's: remembered as an error, leaves no trace.
    BadSignature {
        /// For the error text.
        nonce: u32,
    },
    /// Properly signed.
    Signed {
        /// The sender's nonce.
        nonce: u32,
        /// Present when the ticket won; kept whatever becomes of the credit.
        winner: Option<Box<WinningTicket>>,
    },
}

/// Everything that redeeming a ticket needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WinningTicket {
    /// Its identity on chain.
    pub ticket_hash: B256,
    /// Who pays.
    pub sender: Address,
    /// Who is paid.
    pub recipient: Address,
    /// How much.
    pub face_value: Wei,
    /// Out of 2^256 − 1.
    pub win_prob: U256,
    /// The sender's nonce.
    pub sender_nonce: u32,
    /// Commitment to `recipient_rand`.
    pub recipient_rand_hash: B256,
    /// Round of the ticket.
    pub creation_round: i64,
    /// L1 block hash of that round.
    pub creation_round_block_hash: B256,
    /// 65 bytes, by the sender over the ticket hash.
    pub sig: Vec<u8>,
    /// What redemption reveals; therefore only after the offer expired.
    pub recipient_rand: U256,
    /// The offer's last block.
    pub params_expiration_block: u64,
}

/// What became of one ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketOutcome {
    /// Its expected value was credited.
    Credited,
    /// Nothing wrong with it, but an earlier ticket of the payment was refused.
    Withheld,
    /// Refused, row 5.
    BadSignature {
        /// Which.
        nonce: u32,
    },
    /// Refused, row 7.
    NonceSeen {
        /// Which.
        nonce: u32,
    },
    /// Refused, row 8.
    TooManyNonces {
        /// Which.
        nonce: u32,
    },
    /// Refused, row 9.
    Expired,
}

/// What became of a payment.
#[derive(Debug, Clone)]
pub struct PaymentOutcome {
    /// One per ticket, in order.
    pub tickets: Vec<TicketOutcome>,
    /// Wei credited by this payment.
    pub credited: Rational,
    /// Winners stored by this payment that were not stored before.
    pub new_winners: usize,
    /// The account afterwards; `None` when nothing was credited and none existed.
    pub account: Option<Account>,
}

/// A fee to book.
#[derive(Debug, Clone)]
pub struct Debit {
    /// Whose balance.
    pub account: AccountKey,
    /// The job; the same id twice is booked once.
    pub job_id: String,
    /// Wei, ≥ 0.
    pub fee: Rational,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Where a winner is on its way to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WinnerStatus {
    /// Waits for its offer to expire, or for a retry.
    Queued,
    /// Was, or is about to be, sent: after a crash the chain has to be asked.
    Redeeming,
    /// Paid.
    Redeemed,
    /// Will never be paid; the reason is stored.
    Failed,
}

impl WinnerStatus {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Redeeming => "redeeming",
            Self::Redeemed => "redeemed",
            Self::Failed => "failed",
        }
    }

    /// The inverse of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Redeeming, Self::Redeemed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A stored winner.
#[derive(Debug, Clone)]
pub struct Winner {
    /// The ticket.
    pub ticket: WinningTicket,
    /// The balance key of the payment that brought it.
    pub session: String,
    /// Where it is.
    pub status: WinnerStatus,
    /// How often it was sent.
    pub attempts: u32,
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
