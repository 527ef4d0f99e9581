//! What travels between nodes: protobuf messages, JSON shapes and header codecs, all with size
//! limits, and the checked conversions into domain types.
//!
//! No I/O and no decisions. Bytes from a peer become a checked value here, at the door, or a
//! [`WireError`]; past the door nothing is absent that the protocol requires. Facts:
//! `shared/protocol/orchestrator-wire.md` and `remote-signer.md`.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod ai;
mod bytes;
pub mod capabilities;
mod error;
pub mod hardware;
pub mod header;
pub mod json;
pub mod limits;
pub mod live_worker;
pub mod net;
mod offer;
pub mod price;
pub mod profile;
pub mod redeemer;
mod segment;
pub mod storage;
mod ticket;
mod token;
pub mod worker_upload;

pub use error::WireError;
pub use offer::{OrchestratorOffer, PaidTerms, checked_url};
pub use price::CapabilityPrice;
pub use segment::{Clip, SegmentCredential, SegmentRefusal, SegmentSpec};
pub use storage::{Bucket, BucketKind};
pub use ticket::{ExpirationFields, PaymentFields, SenderFields, TicketParamsFields};
pub use token::AuthToken;
