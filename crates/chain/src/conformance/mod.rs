//! The suite that every implementation of [`Chain`](crate::Chain) has to pass.
//!
//! [`chain_conformance!`](crate::chain_conformance) stamps one test for each case; the caller says
//! how to make a fresh [`Network`]. What a case asserts is the contracts' behaviour, so the same
//! cases hold for an embedded chain and for the real contracts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test suite: a failed assertion is its result"
)]

mod funding;
mod network;
mod orchestrators;
mod redemption;
mod restart;
mod reverts;
mod rounds;

pub use funding::{funding_adds_up, strangers_are_empty, the_way_out};
pub use network::Network;
pub use orchestrators::{joining_the_active_set, operations_need_an_account};
pub use redemption::{
    a_reserve_is_shared, a_winner_is_paid_once, an_empty_payment_burns_the_ticket,
    concurrent_redemptions_pay_once, what_would_bring_too_little_is_not_sent,
};
pub use restart::everything_survives_a_restart;
pub use reverts::{recipients_must_be_active, reverts_in_order, tickets_expire, unlocked_senders};
pub use rounds::rounds_advance;

/// Stamps the suite's tests. `$make` is an async function or closure that gives a fresh
/// [`Network`](crate::conformance::Network) each time.
#[macro_export]
macro_rules! chain_conformance {
    ($make:expr) => {
        $crate::chain_conformance!(@cases $make;
            strangers_are_empty, funding_adds_up, the_way_out, rounds_advance,
            joining_the_active_set, operations_need_an_account, a_winner_is_paid_once,
            a_reserve_is_shared, an_empty_payment_burns_the_ticket,
            concurrent_redemptions_pay_once, what_would_bring_too_little_is_not_sent, reverts_in_order, recipients_must_be_active,
            tickets_expire, unlocked_senders, everything_survives_a_restart
        );
    };
    (@cases $make:expr; $($case:ident),*) => {$(
        #[tokio::test]
        async fn $case() {
            let mut network = $make().await;
            $crate::conformance::$case(&mut network).await;
        }
    )*};
}
