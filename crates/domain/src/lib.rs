//! The vocabulary of Penstock: identifiers, exact amounts, prices, capabilities, video profiles.
//!
//! No I/O, no async, no HTTP, no clock. Everything may depend on this crate, so it depends on
//! nothing of ours. Constructors validate; a value that exists is a value that is allowed.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod amount;
mod capability;
mod currency;
mod hex_text;
mod ids;
mod node_capabilities;
mod price;
mod profile;
mod rational;
mod version;
mod video_job;

pub use alloy_primitives::{Address, B256, U256, keccak256};
pub use amount::{Wei, be_bytes, u256_from_be};
pub use capability::{Capability, CapabilitySet, model_capability_key};
pub use currency::{BadPriceText, CurrencyPrice};
pub use hex_text::{address_lower, parse_address, parse_b256};
pub use ids::{AuthId, BadId, ManifestId, PmSessionId, SessionId, StateId, StreamId};
pub use node_capabilities::{Capabilities, Incompatible, ModelConstraint, Models};
pub use price::{BadPrice, PriceInfo};
pub use profile::{
    BadProfile, ChromaFormat, EncoderProfile, Gop, SegmentFormat, VideoCodec, VideoProfile,
};
pub use rational::{BadNumber, Rational};
pub use version::{Version, version_at_least};
pub use video_job::{PixelFormat, StorageKind, VideoJob};
