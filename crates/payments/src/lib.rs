//! Probabilistic micropayments: everything about tickets and credit that can be computed.
//!
//! Pure by design: no I/O, no async, no clock, no randomness of its own; time, chain facts and
//! random numbers are arguments. It hashes, recovers and verifies, and cannot sign.
//! Section numbers in the docs are those of `payments.md` and its neighbours.
//!
//! | side | start at |
//! | --- | --- |
//! | sender | [`check_batch`], [`stage_update`], [`SenderSession`], [`build_batch`] |
//! | recipient | [`make_offer`], [`verify_payment`], [`VerifiedPayment::settle`] |
//! | redemption | [`next_to_redeem`], [`check_redemption`] |
//! | signatures | [`Signature`], `*_digest` |
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod auth_token;
mod balance;
mod billing;
mod ceiling;
mod curve;
mod digest;
mod fee;
mod float;
mod last_round;
mod metering;
mod nonces;
mod offer;
mod payment;
mod price;
mod rand;
mod recipient;
mod seed;
mod sender;
mod signature;
mod ticket;
mod winners;

pub use auth_token::{
    AuthTokenError, AuthTokenSecret, TOKEN_LIFETIME_S, TOKEN_REFRESH_MARGIN_S, auth_token_message,
    token_needs_refresh,
};
pub use balance::{
    Account, InsufficientLiveBalance, Settlement, StagedUpdate, is_sufficient, live_interval_fee,
    lowest_ev, stage_update,
};
pub use billing::{
    BillingError, BillingType, LV2V_PRELOAD_PIXELS, MAX_TICKETS_PER_REQUEST, billable_units,
};
pub use ceiling::{
    CeilingSource, MaxPriceError, PriceExceeded, check_ceilings, configured_maximum,
    parse_max_price,
};
pub use digest::{
    EMPTY_DATA_HASH, devnet_transaction_digest, eip191_digest, node_digest,
    orchestrator_request_digest, orchestrator_request_message, ping_digest, segment_digest,
    segment_preimage, transcode_result_digest, transcode_result_hash,
};
pub use fee::{RenditionRate, estimated_pixels, fee_estimate, padded_pixels};
pub use float::{PendingUnderflow, RedeemRefusal, SenderFloat, check_redemption, subtract_pending};
pub use metering::{DEFAULT_INTERVAL_MS, LV2V_PIXELS_PER_SECOND, LiveMeter};
pub use nonces::{MAX_NONCES, NonceError, NonceSet, NoncesExhausted, SenderSession};
pub use offer::{
    Need, OFFER_LIFETIME_BLOCKS, OfferConfig, OfferError, OfferRequest, RoundView, make_offer,
};
pub use payment::{
    Effect, ExpectedPriceError, MAX_TICKETS_PER_PAYMENT, NotAWinner, Payment, PaymentContext,
    PaymentError, PaymentOutcome, SessionPrice, SignedNonce, VerifiedPayment, Winner,
    verify_payment,
};
pub use price::{
    PriceChangeError, PriceDoesNotFit, check_price_change, fee, price_with_overhead, wire_price,
    wire_price_floored,
};
pub use rand::{RandInputs, RecipientRand, RecipientSecret, win_draw, wins};
pub use recipient::{
    Admission, OfferClaim, RecipientContext, TicketError, VerifiedOffer, VerifiedTicket, admit,
    offer_expired, receive_ticket, verify_offer, verify_ticket, verify_tickets,
};
pub use sender::{
    SenderError, SenderFunds, SenderLimits, SenderView, batch_expiration_params, build_batch,
    check_batch, check_batch_worth,
};
pub use signature::{Signature, SignatureError, verify_bytes, verify_many};
pub use ticket::{ExpirationParams, Ticket, TicketParams, ticket_ev};
pub use winners::{
    QueuePlace, QueueView, QueuedWinner, WinnerState, in_order_of_policy, is_final_failure,
    next_to_redeem, oldest_redeemable_round, retry_block,
};
