//! A transaction that waits for its block and should not come any more: its number goes to one that does nothing.

use super::{
    Call,
    notes::{Book, Note},
    sender::{Inner, Job, Offer, Waited},
};
use crate::rpc::wire::Mined;
use penstock_chain::ChainError;
use penstock_domain::{B256, Wei};

impl Inner {
    /// Takes the number away from those that are out, in so many tries. What came all the same is told; `None`: none of them
    /// comes any more.
    pub(super) async fn call_off(
        &self,
        nonce: u64,
        out: &[B256],
        tries: u32,
        last: &mut Option<Offer>,
    ) -> Result<Option<Mined>, ChainError> {
        let nothing = Call {
            to: self.account(),
            value: Wei::ZERO,
            data: Vec::new(),
            again: true,
            gas: None,
            least: Vec::new(),
        };
        let gas_limit = self.gas_limit(&nothing).await?;
        let mut job = Job {
            call: &nothing,
            notes: None,
            book: Book::default(),
            may_come: true,
            // What it does not know is of another process, and has taken the number already.
            yields: true,
        };
        let mut note = Note::of(&nothing, nonce, gas_limit);
        for _ in 0..tries {
            let is_out = self.offer(&mut job, &mut note, last).await?;
            if !is_out && out.is_empty() {
                return Ok(None);
            }
            let ours = note.hashes();
            match self.wait(nonce, &[out, &ours].concat()).await? {
                Waited::Mined(mined) if ours.contains(&mined.transaction_hash.0) => {
                    let tx = mined.transaction_hash.0;
                    tracing::info!(account = %self.account(), nonce, %tx, "a transaction is called off");
                    return Ok(None);
                }
                Waited::Mined(mined) => return Ok(Some(mined)),
                // Of somebody else with this key: both are gone.
                Waited::Taken => return Ok(None),
                Waited::Stuck if is_out => {}
                Waited::Stuck => break,
            }
        }
        Err(ChainError::Unavailable {
            reason: format!(
                "transaction {nonce} of {} could not be called off yet",
                self.account()
            ),
        })
    }
}
