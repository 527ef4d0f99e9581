//! What became of the versions under one number: one is in a block, the number is another's, or nothing shows.

use super::sender::Inner;
use crate::{reader::height, rpc::wire::Mined};
use penstock_chain::ChainError;
use penstock_domain::B256;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Looks for a receipt of ours after another endpoint says that the number is taken: it may not have heard of the block.
const LOOKS_FOR_OURS: u32 = 5;

/// What came of waiting for a receipt.
pub(super) enum Waited {
    Mined(Mined),
    /// The number went to a transaction that is none of ours.
    Taken,
    /// Nothing for as long as a transaction is given.
    Stuck,
}

/// What a look shows.
pub(super) enum Seen {
    /// In a block with enough blocks after it.
    Deep(Mined),
    InBlock,
    /// The number is used, and none of ours is known to any endpoint yet.
    NumberTaken,
    Nothing,
}

impl Inner {
    /// Until one of ours is in a block and that block is deep enough, or the number is another's, or the time is up.
    pub(super) async fn wait(&self, nonce: u64, hashes: &[B256]) -> Result<Waited, ChainError> {
        let patience = self.patience.before_replacement;
        let (mut until, mut looks_for_ours) = (Instant::now() + patience, LOOKS_FOR_OURS);
        loop {
            match self.look(nonce, hashes).await {
                Ok(Seen::Deep(mined)) => return Ok(Waited::Mined(mined)),
                // A block may be taken back, and then the transaction has its time again.
                Ok(Seen::InBlock) => until = Instant::now() + patience,
                Ok(Seen::NumberTaken) if looks_for_ours == 0 => return Ok(Waited::Taken),
                Ok(Seen::NumberTaken) => looks_for_ours -= 1,
                Ok(Seen::Nothing) => {}
                // An endpoint that is away for a moment changes nothing for a transaction that is out.
                Err(error) if error.is_retryable() && Instant::now() < until => {
                    tracing::debug!(%error, "no look at a transaction");
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= until {
                return Ok(Waited::Stuck);
            }
            sleep(self.patience.poll).await;
        }
    }

    /// How things stand at this moment.
    pub(super) async fn look(&self, nonce: u64, hashes: &[B256]) -> Result<Seen, ChainError> {
        // Also what was replaced may have made it while its replacement was on the way.
        if let Some(mined) = self.any_mined(hashes).await? {
            return self.depth(mined).await;
        }
        if self.count(json!("latest")).await? <= nonce {
            return Ok(Seen::Nothing);
        }
        // Nobody but the first endpoint was asked so far, and it may know the number and not the receipt yet.
        for hash in hashes.iter().rev() {
            if let Some(mined) = self.reader.mined_anywhere(*hash).await {
                return self.depth(mined).await;
            }
        }
        Ok(Seen::NumberTaken)
    }

    async fn depth(&self, mined: Mined) -> Result<Seen, ChainError> {
        let deep = self.patience.confirmations <= 1 || {
            let (head, block) = (self.reader.head().await?.number, mined.block_number);
            let above = height(head)?.saturating_sub(height(block)?);
            above.saturating_add(1) >= self.patience.confirmations
        };
        Ok(if deep { Seen::Deep(mined) } else { Seen::InBlock })
    }

    async fn any_mined(&self, hashes: &[B256]) -> Result<Option<Mined>, ChainError> {
        for hash in hashes.iter().rev() {
            if let Some(mined) = self.reader.mined(*hash).await? {
                return Ok(Some(mined));
            }
        }
        Ok(None)
    }
}
