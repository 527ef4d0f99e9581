//! How an attempt to redeem ends: the same in both databases.

use super::{
    Fence, LedgerError, Totals, WinnerStatus,
    rows::{hash_text, signed},
};
use penstock_chain::Standing;
use penstock_domain::{B256, Wei};

/// Longest reason kept: reasons may quote a chain's answer.
pub const MAX_REASON: usize = 500;

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// Paid: a fact, whoever found out. `short`: what is to be said of one that was paid less than it promised.
    Redeemed { tx_hash: Option<B256>, block: Option<u64>, short: Option<&'a str> },
    /// To be tried again.
    Again { reason: &'a str, retry_block: u64, fence: Fence },
    /// Never to be paid.
    Failed { reason: &'a str, fence: Fence },
}

/// What is stored of it.
#[derive(Debug)]
pub struct EndRow {
    pub status: WinnerStatus,
    pub tx_hash: Option<String>,
    pub reason: Option<String>,
    pub retry_block: Option<i64>,
    pub unsettled_block: Option<i64>,
    /// Whose right it has to be; none for a fact.
    pub fence: Option<i64>,
}

impl End<'_> {
    /// The columns.
    pub fn row(&self) -> EndRow {
        let short = |text: &str| Some(text.chars().take(MAX_REASON).collect::<String>());
        let none = EndRow {
            status: WinnerStatus::Redeemed,
            tx_hash: None,
            reason: None,
            retry_block: None,
            unsettled_block: None,
            fence: None,
        };
        match self {
            Self::Redeemed { tx_hash, block, short: said } => EndRow {
                tx_hash: tx_hash.map(hash_text),
                reason: said.and_then(short),
                unsettled_block: block.map(signed),
                ..none
            },
            Self::Again { reason, retry_block, fence } => EndRow {
                status: WinnerStatus::Queued,
                reason: short(reason),
                retry_block: Some(signed(*retry_block)),
                fence: Some(fence.0),
                ..none
            },
            Self::Failed { reason, fence } => EndRow {
                status: WinnerStatus::Failed,
                reason: short(reason),
                fence: Some(fence.0),
                ..none
            },
        }
    }
}

/// What is kept of a winner whose redemption is gone.
pub const GONE: &str = "the block that it was redeemed in was taken back";

/// How a status is stored: its text, and where that says two things, whether the winner was handed over.
pub fn stored(status: WinnerStatus) -> (&'static str, Option<bool>) {
    match status {
        WinnerStatus::Queued => (WinnerStatus::Queued.as_str(), Some(false)),
        WinnerStatus::HandedOver => (WinnerStatus::Queued.as_str(), Some(true)),
        other => (other.as_str(), None),
    }
}

/// The inverse.
pub fn status(text: &str, handed_over_ms: Option<i64>) -> Option<WinnerStatus> {
    match (WinnerStatus::parse(text)?, handed_over_ms) {
        (WinnerStatus::Queued, Some(_)) => Some(WinnerStatus::HandedOver),
        (status, _) => Some(status),
    }
}

/// The columns that a later look at a redemption leaves.
pub fn look(standing: Standing, short: Option<&str>) -> EndRow {
    let (tx_hash, block) = match standing {
        Standing::Final { tx_hash } => (tx_hash, None),
        Standing::InBlock { tx_hash, block } => (tx_hash, Some(block)),
        Standing::Gone => {
            let gone = End::Redeemed { tx_hash: None, block: None, short: None }.row();
            let reason = Some(GONE.to_owned());
            return EndRow { status: WinnerStatus::Queued, reason, ..gone };
        }
    };
    End::Redeemed { tx_hash, block, short }.row()
}

impl Totals {
    /// One more winner.
    pub fn add_winner(
        &mut self,
        status: WinnerStatus,
        face_value: impl FnOnce() -> Result<Wei, LedgerError>,
    ) -> Result<(), LedgerError> {
        self.winners = self.winners.saturating_add(1);
        match status {
            WinnerStatus::Redeemed => {
                self.redeemed = self.redeemed.saturating_add(1);
                self.redeemed_face_value = add(self.redeemed_face_value, face_value()?)?;
            }
            WinnerStatus::HandedOver => self.handed_over = self.handed_over.saturating_add(1),
            _ => {}
        }
        Ok(())
    }
}

/// A sum of face values.
pub fn add(a: Wei, b: Wei) -> Result<Wei, LedgerError> {
    a.checked_add(b).ok_or(LedgerError::Corrupt { what: "sum of face values" })
}
