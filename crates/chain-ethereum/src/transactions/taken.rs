//! A number that is used, and no receipt of what was sent under it: whether that was done, or comes no more.

use super::{
    holder,
    sender::{Followed, Inner, Job},
};
use penstock_chain::ChainError;
use penstock_domain::B256;

impl Inner {
    /// Nobody has a receipt of any version, and the number is used. What the contract takes twice is not sent twice for
    /// that, since an endpoint may have told of the number and not of the transaction: whose it is has to be known.
    pub(super) async fn taken(
        &self,
        job: &mut Job<'_>,
        nonce: u64,
        hashes: &[B256],
    ) -> Result<Followed, ChainError> {
        // What is not noted carries no ether, and whoever sends it looks before whether it was done.
        if job.call.again || job.notes.is_none() {
            job.may_come = false;
            return Ok(Followed::Taken);
        }
        let account = self.account();
        let reason = match self.holder(nonce).await {
            Ok(Some(holder)) if hashes.contains(&holder.hash()) => {
                return self.without_receipt(job, nonce, holder.hash()).await;
            }
            Ok(Some(holder)) if holder.does(job.call) => {
                let tx = holder.hash();
                tracing::warn!(%account, nonce, %tx, "it was brought in by somebody else with this key");
                let mined = self.reader.mined(tx).await?;
                let gone =
                    || ChainError::Unavailable { reason: format!("{tx} has no receipt yet") };
                return mined.ok_or_else(gone).map(Followed::Mined);
            }
            Ok(Some(holder)) => {
                let tx = holder.hash();
                tracing::warn!(%account, nonce, %tx, "its number went to another transaction, for good");
                job.may_come = false;
                return Ok(Followed::Taken);
            }
            Ok(None) => "which is not final yet".to_owned(),
            Err(error) => format!("and which one is not known ({error})"),
        };
        if self.patience.lost_nonce == Some(nonce) {
            tracing::warn!(%account, nonce, "its number went to another transaction, as the operator says");
            job.note(None).await?;
            job.may_come = false;
            let reason = format!(
                "number {nonce} of {account} went to another transaction (--eth-lost-nonce)"
            );
            return Err(ChainError::Lost { reason });
        }
        Err(ChainError::Unavailable {
            reason: format!(
                "number {nonce} of {account} seems to have gone to another transaction than this one, {reason}: it is \
                 looked for again, and not sent again before that is clear; where it stays so, look at the account, and \
                 if that transaction is another one, start with --eth-lost-nonce {nonce}"
            ),
        })
    }

    /// It is in a final block, and whether it did what it was to do is not known.
    async fn without_receipt(
        &self,
        job: &mut Job<'_>,
        nonce: u64,
        tx: B256,
    ) -> Result<Followed, ChainError> {
        let account = self.account();
        let said = format!(
            "number {nonce} of {account} is {tx}, which is in a block, and no endpoint has its receipt"
        );
        if self.patience.lost_nonce != Some(nonce) {
            let reason = format!(
                "{said}: add one that has, or look at what came of it, and start with --eth-lost-nonce {nonce} to have \
                 it closed here"
            );
            return Err(ChainError::Unavailable { reason });
        }
        job.note(None).await?;
        job.may_come = false;
        let reason = format!(
            "{said}: look at what came of it before it is asked for once more (--eth-lost-nonce)"
        );
        Err(ChainError::Lost { reason })
    }

    /// Whose number it is, as of what is final.
    async fn holder(&self, nonce: u64) -> Result<Option<holder::Holder>, ChainError> {
        let last = self.reader.final_block(self.final_blocks).await?;
        holder::holder(&self.reader, self.account(), nonce, last).await
    }
}
