//! The only door to the account's key.
//!
//! Every way to a signature takes a proof, by value, that the books have it: tickets take the
//! [`Reservation`], everything else an [`Audited`]. Both are made by a step that writes to the
//! ledger first, so that no signature exists which the audit does not know.

use super::{Signer, reserve::Reservation};
use crate::{auth::Caller, error::SignerError};
use penstock_domain::{Address, AuthId, B256, ManifestId};
use penstock_keys::{ByocJob, KeyError, SegmentCredential, TypedSigner};
use penstock_ledger::signer::{AuditEntry, AuditKind};
use penstock_payments::{EMPTY_DATA_HASH, Signature, Ticket, orchestrator_request_digest};

/// Account of what the process signs for itself.
const OWN: &str = "";

/// Something that is in the audit and may be signed once. Only [`Signer::audited`] and a reservation
/// make one.
#[derive(Debug)]
pub struct Audited<T>(T);

/// What can be signed outside of tickets.
pub(super) trait Signable {
    /// As what the audit records it.
    const KIND: AuditKind;
    /// What the key will be given.
    fn digest(&self) -> B256;
    /// Of what, for whoever reads the audit.
    fn reference(&self) -> String;
}

/// The account's own address: for GetOrchestrator requests. A constant.
pub(super) struct OwnAddress(pub Address);

impl Signable for OwnAddress {
    const KIND: AuditKind = AuditKind::OrchestratorInfo;
    fn digest(&self) -> B256 {
        orchestrator_request_digest(self.0)
    }
    fn reference(&self) -> String {
        self.0.to_string()
    }
}

/// A video segment's credential whose shape was checked.
pub(super) struct Segment<'a> {
    credential: SegmentCredential<'a, &'a str>,
    digest: B256,
    reference: String,
}

impl<'a> Segment<'a> {
    /// Refuses what could be a ticket, before anything is written.
    pub(super) fn new(
        credential: SegmentCredential<'a, &'a str>,
        reference: String,
    ) -> Result<Self, SignerError> {
        let digest = credential.digest().map_err(KeyError::from)?;
        Ok(Self { credential, digest, reference })
    }
}

impl Signable for Segment<'_> {
    const KIND: AuditKind = AuditKind::Segment;
    fn digest(&self) -> B256 {
        self.digest
    }
    fn reference(&self) -> String {
        self.reference.clone()
    }
}

/// A job for a brought capability.
pub(super) struct Job<'a> {
    pub(super) job: ByocJob<'a>,
    /// The client's job id and the capability.
    pub(super) reference: String,
}

impl Signable for Job<'_> {
    const KIND: AuditKind = AuditKind::Byoc;
    fn digest(&self) -> B256 {
        self.job.digest()
    }
    fn reference(&self) -> String {
        self.reference.clone()
    }
}

/// The credential of a segment without data, which goes with each payment.
pub(super) fn empty_segment(manifest_id: &ManifestId) -> SegmentCredential<'_, &'static str> {
    SegmentCredential {
        manifest_id: manifest_id.as_str().as_bytes(),
        sequence: 0,
        data_hash: EMPTY_DATA_HASH.as_slice(),
        rendition_names: &[],
    }
}

/// The record of a signature that is to be made.
pub(super) fn entry<T: Signable>(what: &T, account: &str, auth_id: Option<&AuthId>) -> AuditEntry {
    AuditEntry {
        kind: T::KIND,
        digest: what.digest(),
        account: account.to_owned(),
        auth_id: auth_id.cloned(),
        reference: what.reference(),
    }
}

impl Signer {
    /// Writes the record of one signature outside of payments. With the books away there is no
    /// proof, hence no signature.
    pub(super) async fn audited<T: Signable>(
        &self,
        what: T,
        caller: Option<&Caller>,
    ) -> Result<Audited<T>, SignerError> {
        let account = caller.map_or(OWN, |c| c.account.name());
        let entry = entry(&what, account, caller.and_then(|c| c.auth_id.as_ref()));
        self.ledger.record_signatures(vec![entry], self.now_ms()).await?;
        Ok(Audited(what))
    }
}

impl Signer {
    /// The record that a signature outside of payments came to nothing.
    pub(super) fn void<T: Signable>(&self, what: &T, caller: Option<&Caller>) -> AuditEntry {
        let account = caller.map_or(OWN, |c| c.account.name());
        let entry = entry(what, account, caller.and_then(|c| c.auth_id.as_ref()));
        AuditEntry { kind: AuditKind::Void, ..entry }
    }

    /// What the key said; writes `void` if it failed.
    pub(super) async fn or_void(
        &self,
        signed: Result<Signature, SignerError>,
        void: AuditEntry,
    ) -> Result<Signature, SignerError> {
        if signed.is_err()
            && let Err(error) = self.ledger.record_signatures(vec![void], self.now_ms()).await
        {
            tracing::warn!(%error, "the audit does not know that a signature failed");
        }
        signed
    }
}

/// How a payment comes to its credential.
pub(super) enum Credential<'a> {
    /// Made before: the signature of a manifest id never changes.
    Known(Signature),
    /// Recorded with the reservation.
    ToSign(Audited<SegmentCredential<'a, &'static str>>),
}

impl Reservation {
    /// The reservation has recorded the credential's signature, unless that was known.
    pub(super) fn credential(&self) -> Credential<'_> {
        match self.known_credential() {
            Some(signature) => Credential::Known(signature),
            None => Credential::ToSign(Audited(empty_segment(self.manifest_id()))),
        }
    }
}

/// The key behind its proofs.
pub struct KeyRoom(TypedSigner);

impl KeyRoom {
    /// Locks a key in.
    pub fn new(key: TypedSigner) -> Self {
        Self(key)
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// How often the key was used so far, whatever came of it.
    pub fn operations(&self) -> u64 {
        self.0.operations()
    }

    /// One signature for each reserved nonce, in order.
    pub(super) async fn sign_tickets(
        &self,
        reservation: &Reservation,
    ) -> Result<(Vec<Ticket>, Vec<Signature>), SignerError> {
        let tickets = reservation.tickets();
        let signatures = self.0.sign_tickets(&tickets).await;
        count("ticket", u64::try_from(tickets.len()).unwrap_or(u64::MAX));
        Ok((tickets, signatures?))
    }

    /// The credential of a payment.
    pub(super) async fn sign_empty_segment(
        &self,
        proof: Audited<SegmentCredential<'_, &'static str>>,
    ) -> Result<Signature, SignerError> {
        count("segment", 1);
        Ok(self.0.sign_segment(&proof.0).await?)
    }

    /// The credential of a video segment.
    pub(super) async fn sign_segment(
        &self,
        proof: Audited<Segment<'_>>,
    ) -> Result<Signature, SignerError> {
        count("segment", 1);
        Ok(self.0.sign_segment(&proof.0.credential).await?)
    }

    /// A job.
    pub(super) async fn sign_byoc_job(
        &self,
        proof: Audited<Job<'_>>,
    ) -> Result<Signature, SignerError> {
        count("byoc", 1);
        Ok(self.0.sign_byoc_job(&proof.0.job).await?)
    }

    /// The own address.
    pub(super) async fn sign_own_address(
        &self,
        _proof: Audited<OwnAddress>,
    ) -> Result<Signature, SignerError> {
        count("orchestrator_info", 1);
        Ok(self.0.sign_orchestrator_request().await?)
    }
}

fn count(kind: &'static str, operations: u64) {
    metrics::counter!("signer_key_operations_total", "kind" => kind).increment(operations);
}
