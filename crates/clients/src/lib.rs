//! Calling orchestrators, signers and redeemers.
//!
//! Every client here has explicit time limits, reads bounded answers, follows no redirect, and
//! fails with a [`CallError`] that says whose fault it is, what to do next, and whether the
//! tickets that went along may have been credited.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod call;
mod channel;
mod classify;
mod error;
mod eth_usd;
mod http;
mod lists;
mod names;
mod orchestrator;
mod pins;
mod reach;
mod redeemer;
mod signer;
pub mod simulated;
mod trust;

pub use channel::channel;
pub use classify::{BYOC_REFUSALS, FINAL_JOB_ERRORS, Verdict};
pub use error::{
    CallError, CallErrorKind, Fault, Next, Operation, Paid, STATUS_NO_TICKETS,
    STATUS_PRICE_EXCEEDED, STATUS_REFRESH_SESSION,
};
pub use eth_usd::{EthUsd, EthUsdSettings, Feed, PriceSource, usd};
pub use http::{HttpOptions, http};
pub use lists::{ListClient, ListedOrchestrator};
pub use names::{Lookup, Names};
pub use orchestrator::{
    AiAnswer, AiBody, AiLimits, AiStream, ByocJob, OfferRequest, Offered, OrchestratorClient,
    OrchestratorOptions, PaidHeaders, Rendition, SegmentAnswer, SegmentBody, SegmentTimeouts,
    StreamLimits,
};
pub use pins::{Pin, Pins, Sighting};
pub use reach::{Reach, is_public};
pub use redeemer::{RedeemerClient, RedeemerOptions};
pub use reqwest::{Body, multipart};
pub use signer::{LivePayment, PaymentContext, SignerClient, SignerOptions};
pub use trust::{BuildError, Identity, Trust};
