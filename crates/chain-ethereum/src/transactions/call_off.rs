//! A transaction that waits for its block and should not come any more: its number goes to one that does nothing.

use super::{
    Call, holder,
    notes::{Book, Note},
    offers::Offer,
    sender::{Followed, Inner, Job},
    waiting::Waited,
};
use crate::rpc::wire::Mined;
use penstock_chain::ChainError;
use penstock_domain::{Address, B256, Wei};
use serde_json::json;

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

    /// What is out would bring too little, or nobody says what it would bring.
    pub(super) async fn too_little(
        &self,
        job: &mut Job<'_>,
        note: &Note,
        last: &mut Option<Offer>,
        error: ChainError,
    ) -> Result<Followed, ChainError> {
        let unclear = |reason: String| ChainError::Unavailable { reason };
        if !matches!(error, ChainError::Underpaid { .. }) {
            return Err(unclear(error.to_string()));
        }
        match self.call_off(note.nonce, &note.hashes(), self.tries(), last).await {
            Ok(Some(mined)) => Ok(Followed::Mined(mined)),
            Ok(None) => {
                job.may_come = false;
                Err(error)
            }
            Err(other) => Err(unclear(format!("{error}; {other}"))),
        }
    }

    /// Takes the number away from a redemption of a ticket of this sender's that waits for a block.
    pub(super) async fn call_off_what_waits(
        &self,
        of: Address,
        last: &mut Option<Offer>,
    ) -> Result<(), ChainError> {
        if last.is_none() {
            *last = self.left_waiting().await?;
        }
        let Some(nonce) = last.as_ref().filter(|it| it.senders.contains(&of)).map(|it| it.nonce)
        else {
            return Ok(());
        };
        if self.count(json!("latest")).await? <= nonce {
            // Whoever asks has others waiting, and comes again.
            self.call_off(nonce, &[], 1, last).await?;
        }
        *last = None;
        Ok(())
    }

    /// A redemption that an earlier life sent, as far as an endpoint shows what waits.
    async fn left_waiting(&self) -> Result<Option<Offer>, ChainError> {
        let (mined, waiting) =
            tokio::try_join!(self.count(json!("latest")), self.count(json!("pending")))?;
        if waiting <= mined {
            return Ok(None);
        }
        let found = holder::waiting(&self.reader, self.account(), mined).await?;
        Ok(found.map(|(fees, senders)| Offer { nonce: mined, fees, senders }))
    }
}
