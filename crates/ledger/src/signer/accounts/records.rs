//! The records: plain values, no SQL.

use penstock_domain::AuthId;

/// Most records of a kind: replicas hold all of them in memory.
pub const MAX_RECORDS: u64 = 200_000;

/// What the ledger keeps about a record. All zero in one that is yet to be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// 1 when created, one more with each write.
    pub version: u64,
    /// Number of its last change, unique over all records.
    pub changed: u64,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
}

/// A named policy that accounts inherit from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRecord {
    /// Its name.
    pub name: String,
    /// JSON.
    pub policy: String,
    /// No longer to be used; a new one may take the name.
    pub deleted: bool,
    /// The ledger's part.
    pub stamp: Stamp,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its name.
    pub name: String,
    /// The tier that it inherits from.
    pub tier: Option<String>,
    /// JSON: the rules that differ from the tier's.
    pub policy: String,
    /// The operator's words.
    pub note: String,
    /// Let in no more.
    pub blocked: bool,
    /// The ledger's part.
    pub stamp: Stamp,
}

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A bearer key of ours.
    ApiKey,
    /// A client certificate.
    Certificate,
}

/// What proves that a caller is an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRecord {
    /// Its public name; of an API key the visible prefix.
    pub id: String,
    /// Whose.
    pub account: String,
    /// What it is.
    pub kind: CredentialKind,
    /// SHA-256 of the key's text, or of the certificate's DER form.
    pub hash: [u8; 32],
    /// The operator's words.
    pub note: String,
    /// Taken back.
    pub revoked: bool,
    /// From then on it does not count; Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// The ledger's part.
    pub stamp: Stamp,
}

/// Rules for one subject of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectRecord {
    /// The account that names the subject.
    pub account: String,
    /// The subject.
    pub auth_id: AuthId,
    /// JSON.
    pub policy: String,
    /// Nothing is signed for it.
    pub blocked: bool,
    /// The account's own rules hold again.
    pub deleted: bool,
    /// The ledger's part.
    pub stamp: Stamp,
}

/// Any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the types")]
pub enum Record {
    Tier(TierRecord),
    Account(AccountRecord),
    Credential(CredentialRecord),
    Subject(SubjectRecord),
}

impl Record {
    /// The ledger's part.
    pub fn stamp(&self) -> &Stamp {
        match self {
            Self::Tier(r) => &r.stamp,
            Self::Account(r) => &r.stamp,
            Self::Credential(r) => &r.stamp,
            Self::Subject(r) => &r.stamp,
        }
    }

    /// The ledger's part, for the ledger.
    pub(super) fn stamp_mut(&mut self) -> &mut Stamp {
        match self {
            Self::Tier(r) => &mut r.stamp,
            Self::Account(r) => &mut r.stamp,
            Self::Credential(r) => &mut r.stamp,
            Self::Subject(r) => &mut r.stamp,
        }
    }
}

/// What is there before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing with this name.
    Absent,
    /// This version of it.
    Version(u64),
}

/// One record to write. A credential's account, kind and hash stay as they were created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// As it shall be; its stamp is not read.
    pub record: Record,
    /// What it replaces.
    pub expect: Expect,
}

/// Records in the order of their changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The records.
    pub records: Vec<Record>,
    /// Whether more were there when this was read.
    pub more: bool,
}

/// What became of an [`super::AccountLedger::apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All were written; as they are now, in the order given.
    Done(Vec<Record>),
    /// None was written, because of this one (by its place in the list).
    Refused(usize, Refusal),
}

/// Why a record was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is there already, in this version.
    Exists(u64),
    /// It is not there.
    Absent,
    /// It has another version by now.
    Version(u64),
    /// The tier that an account names, or the account of a credential or subject, is not there.
    NoParent,
    /// The tier that is to go still has accounts.
    InUse,
    /// Another credential has this hash.
    HashTaken,
    /// There are [`MAX_RECORDS`] of its kind.
    Full,
}
