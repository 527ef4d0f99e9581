//! What can go wrong when a key is asked for a signature.

use thiserror::Error;

/// No signature was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The request is not one that this key signs. The asker's fault, final, and it cost no key
    /// operation.
    #[error("refused to sign: {0}")]
    Refused(#[from] Refusal),
    /// The key's home (file, token, vault, cloud) did not answer. Ours; a retry may help.
    #[error("key unavailable: {0}")]
    Unavailable(String),
    /// The key's home will not sign with this key as things are set up: no permission, no such key,
    /// a wrong PIN. The operator's fault; a retry does not help.
    #[error("key not usable: {0}")]
    Denied(String),
    /// The key's home answered with something else than a signature by this key over this digest.
    /// A retry may help; nothing of the answer was used.
    #[error("bad answer from the key's home: {0}")]
    BadAnswer(&'static str),
    /// A key of another curve. The operator's fault, final.
    #[error("not a secp256k1 key")]
    WrongCurve,
    /// The bytes are not a private key of the curve. The operator's fault, final.
    #[error("not a secp256k1 private key")]
    InvalidKey,
}

impl KeyError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::BadAnswer(_))
    }
}

/// Why a request is not one to sign (architecture.md rule 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A ticket that somebody else is to pay.
    #[error("ticket sender is not this key's account")]
    ForeignTicket,
    /// The bytes behind the digest have the length of a packed ticket, and outside the ticket path
    /// that could be one.
    #[error(
        "a preimage of {0} bytes could be a ticket (one space more would make it another length)"
    )]
    TicketShaped(usize),
    /// A raw 32-byte message, which is what a ticket hash looks like.
    #[error("a raw 32-byte message could be a ticket hash")]
    RawHash,
    /// Manifest id longer than 64 characters, empty, or not printable ASCII.
    #[error("manifest id must be 1 to 64 printable ASCII characters without spaces")]
    ManifestId,
    /// More renditions than a segment may have.
    #[error("{0} renditions, at most 16")]
    TooManyRenditions(usize),
    /// A segment's data hash is not a hash.
    #[error("data hash of {0} bytes, not 32")]
    DataHash(usize),
    /// Ping signs 32-byte values only, or it would sign packed tickets.
    #[error("ping value of {0} bytes, not 32")]
    PingValue(usize),
    /// A job request whose texts are not JSON objects, which is what keeps them apart from everything
    /// else that is signed.
    #[error("request must be the text of a JSON object, and parameters too unless empty")]
    JobNotJson,
    /// A job request longer than any orchestrator would take.
    #[error("request and parameters of {0} bytes, at most 786432")]
    JobTooLarge(usize),
    /// A transaction that calls nothing that this key signs for: a transfer, a new contract, another function.
    #[error("a transaction that is none of the calls that Penstock makes")]
    UnknownCall,
    /// A transaction that takes ether along to where none is to go.
    #[error("a transaction takes ether along, and its call funds nothing")]
    EtherAlong,
    /// Call data longer than any node takes.
    #[error("call data of {0} bytes, at most 122880")]
    CallTooLarge(usize),
    /// Transcode results of nothing.
    #[error("no renditions to sign for")]
    NoRenditions,
}
