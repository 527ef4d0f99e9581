//! The only way to a signature: one function for each thing that Penstock signs.
//!
//! Every signature of the network is the same primitive over bytes, so a "credential" or a "ping"
//! of the right shape would be a valid ticket that no ledger ever saw (architecture.md rule 7).
//! Hence nothing here takes a digest or a message, and whatever is not a ticket may not have a
//! ticket's shape.

mod byoc;
mod transaction;

pub use byoc::{ByocJob, MAX_BYOC_JOB_BYTES};
pub use transaction::{EthereumTransaction, MAX_CALL_DATA_BYTES};

use crate::{DigestSigner, KeyError, Refusal, TypedDigest};
use core::fmt;
use penstock_domain::{Address, B256};
use penstock_payments::{
    Signature, Ticket, devnet_transaction_digest, node_digest, orchestrator_request_message,
    segment_preimage, transcode_result_digest,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Longest manifest id in a credential, in bytes.
pub const MAX_MANIFEST_ID_BYTES: usize = 64;
/// Most renditions in a credential.
pub const MAX_RENDITIONS: usize = 16;

/// Lengths of a packed ticket, without and with a creation round (payments.md section 3).
const TICKET_PREIMAGE_BYTES: [usize; 2] = [168, 232];
/// Length of a ticket hash, which the ticket path signs without hashing again.
const HASH_BYTES: usize = 32;

/// What segment credentials say, as received: checked by [`TypedSigner::sign_segment`].
#[derive(Debug, Clone, Copy)]
pub struct SegmentCredential<'a, N: AsRef<str>> {
    /// The job's manifest id.
    pub manifest_id: &'a [u8],
    /// Sequence number; its absolute value is signed.
    pub sequence: i64,
    /// Keccak-256 of the segment's data.
    pub data_hash: &'a [u8],
    /// Names of the renditions asked for, in order, as they are on the wire.
    pub rendition_names: &'a [N],
}

impl<N: AsRef<str>> SegmentCredential<'_, N> {
    /// What the curve will sign, if every part is allowed: for the audit record that is written
    /// first.
    pub fn digest(&self) -> Result<B256, Refusal> {
        let message = checked_segment(self)?;
        refuse_ticket_shapes(&message)?;
        Ok(node_digest(&message))
    }
}

/// A key that signs typed things. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct TypedSigner {
    key: Arc<dyn DigestSigner>,
    operations: Arc<AtomicU64>,
}

impl TypedSigner {
    /// Puts the types before a key.
    pub fn new(key: Arc<dyn DigestSigner>) -> Self {
        Self { key, operations: Arc::new(AtomicU64::new(0)) }
    }

    /// The key's account.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// How often the key was used so far. A refused request does not count, because it never
    /// reaches the key.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Signs a ticket that this account is to pay. The caller has it in its ledger by now.
    pub async fn sign_ticket(&self, ticket: &Ticket) -> Result<Signature, KeyError> {
        if ticket.sender != self.address() {
            return Err(Refusal::ForeignTicket.into());
        }
        self.sign(ticket.digest()).await
    }

    /// Signs a batch, in order; the first failure ends it.
    pub async fn sign_tickets(&self, tickets: &[Ticket]) -> Result<Vec<Signature>, KeyError> {
        let mut out = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            out.push(self.sign_ticket(ticket).await?);
        }
        Ok(out)
    }

    /// Signs the GetOrchestrator request of this key's own account; there is nothing to choose.
    pub async fn sign_orchestrator_request(&self) -> Result<Signature, KeyError> {
        let message = orchestrator_request_message(self.address());
        self.sign_node_message(message.as_bytes()).await
    }

    /// Signs segment credentials (orchestrator-wire.md section 6, remote-signer.md section 9).
    pub async fn sign_segment<N: AsRef<str> + Sync>(
        &self,
        credential: &SegmentCredential<'_, N>,
    ) -> Result<Signature, KeyError> {
        self.sign(credential.digest()?).await
    }

    /// Signs a job request for a capability that somebody brought along (byoc.md section 1.3).
    pub async fn sign_byoc_job(&self, job: &ByocJob<'_>) -> Result<Signature, KeyError> {
        self.sign(job.digest()).await
    }

    /// Answers a ping: 32-byte values only (orchestrator-wire.md section 10).
    pub async fn sign_ping(&self, value: &[u8]) -> Result<Signature, KeyError> {
        if value.len() != HASH_BYTES {
            return Err(Refusal::PingValue(value.len()).into());
        }
        self.sign(node_digest(value)).await
    }

    /// Signs transcoded results, given the Keccak-256 of each rendition in order. The message is a
    /// hash made here, of a multiple of 32 bytes, which no packed ticket is.
    pub async fn sign_transcode_result(
        &self,
        rendition_hashes: &[B256],
    ) -> Result<Signature, KeyError> {
        if rendition_hashes.is_empty() {
            return Err(Refusal::NoRenditions.into());
        }
        if rendition_hashes.len() > MAX_RENDITIONS {
            return Err(Refusal::TooManyRenditions(rendition_hashes.len()).into());
        }
        self.sign(transcode_result_digest(rendition_hashes)).await
    }

    /// Signs a transaction of the devnet. Its digest is kept apart from every other kind, so the
    /// payload needs no shape.
    pub async fn sign_devnet_transaction(&self, payload: &[u8]) -> Result<Signature, KeyError> {
        self.sign(devnet_transaction_digest(payload)).await
    }

    /// Signs a call of the network's contracts on Ethereum or a chain like it.
    pub async fn sign_ethereum_transaction(
        &self,
        transaction: &EthereumTransaction,
    ) -> Result<Signature, KeyError> {
        self.sign(transaction.digest_of(self.address())?).await
    }

    /// Signs `K(message)` unless the message could be something else's preimage.
    async fn sign_node_message(&self, message: &[u8]) -> Result<Signature, KeyError> {
        refuse_ticket_shapes(message)?;
        self.sign(node_digest(message)).await
    }

    async fn sign(&self, digest: B256) -> Result<Signature, KeyError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.key.sign_digest(TypedDigest::new(digest)).await
    }
}

impl fmt::Debug for TypedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedSigner").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// The credential's bytes, if every part is allowed.
fn checked_segment<N: AsRef<str>>(
    credential: &SegmentCredential<'_, N>,
) -> Result<Vec<u8>, Refusal> {
    let id = credential.manifest_id;
    let printable = id.iter().all(|byte| (0x21..=0x7e).contains(byte));
    if id.is_empty() || id.len() > MAX_MANIFEST_ID_BYTES || !printable {
        return Err(Refusal::ManifestId);
    }
    if credential.rendition_names.len() > MAX_RENDITIONS {
        return Err(Refusal::TooManyRenditions(credential.rendition_names.len()));
    }
    let data_hash = B256::try_from(credential.data_hash)
        .map_err(|_| Refusal::DataHash(credential.data_hash.len()))?;
    Ok(segment_preimage(id, credential.sequence, &data_hash, credential.rendition_names))
}

/// Refuses bytes that have the length of a packed ticket or of its hash.
fn refuse_ticket_shapes(message: &[u8]) -> Result<(), Refusal> {
    if TICKET_PREIMAGE_BYTES.contains(&message.len()) {
        return Err(Refusal::TicketShaped(message.len()));
    }
    if message.len() == HASH_BYTES {
        return Err(Refusal::RawHash);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
