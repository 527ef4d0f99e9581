//! Tickets validated and nothing else, in a process of its own on the core that the orchestrator uses: a payment's
//! header read, its offer known again, each ticket's signature checked, its draw made, its nonce looked up, its
//! credit summed up. No credential, no socket, no ledger: what those add is what a load of payments shows (`tickets`).

use super::Settings;
use crate::{cpu, payment};
use penstock_domain::{Address, B256, PriceInfo, U256, Wei};
use penstock_keys::{LocalKey, TypedSigner};
use penstock_payments::{
    NonceSet, OfferConfig, OfferRequest, PaymentContext, RecipientContext, RecipientSecret,
    RoundView, SessionPrice, TicketParams, make_offer, verify_payment,
};
use penstock_testkit::sim::orchestrator::{params_fields, payment as payment_of};
use penstock_wire::{PaymentFields, header};
use serde::{Deserialize, Serialize};
use std::{hint::black_box, path::Path, sync::Arc, time::Instant};

/// The subcommand of this crate's program that prints nanoseconds of a ticket.
pub const SUBCOMMAND: &str = "validation-ns";
/// Tickets that are validated in a round, about.
const TICKETS: u32 = 10_000;
/// Tickets that are signed for it, at least: their payments are validated again and again.
const SIGNED: u32 = 256;
const RECIPIENT: Address = Address::repeat_byte(0xaa);
const ROUND: u64 = 3_000;
const L1_BLOCK: u64 = 20_000_000;
const TICKET_EV_WEI: u64 = 8_000_000_000;
/// One ticket in so many wins, as in the loads.
const WINS_ONE_IN: u64 = 1_000;

/// What validating a ticket takes, in payments of so many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Tickets of one payment.
    pub tickets_per_payment: u32,
    /// Nanoseconds of processor time of a ticket, each round.
    pub rounds_ns: Vec<u64>,
    /// In the middle round.
    pub ticket_ns: u64,
    /// Of a hundred tickets that the faster of the bare operations would allow.
    pub percent_of_raw: f64,
}

/// Rounds before, between and after loads.
#[derive(Debug)]
pub(super) struct Rounds(Vec<(u32, Vec<u64>)>);

impl Rounds {
    /// For payments of these sizes.
    pub(super) fn of(tickets_per_payment: &[u32]) -> Self {
        Self(tickets_per_payment.iter().map(|tickets| (*tickets, Vec::new())).collect())
    }

    /// One more.
    pub(super) fn measure(&mut self, settings: &Settings) {
        for (tickets, rounds) in &mut self.0 {
            rounds.push(match &settings.own {
                Some(own) => of_child(own, settings.core, *tickets),
                None => in_a_thread(*tickets),
            });
        }
    }

    /// What they came to, beside the faster bare operation.
    pub(super) fn result(self, fastest_ns: u64) -> Vec<Validation> {
        let of = |(tickets_per_payment, rounds_ns): (u32, Vec<u64>)| {
            let mut sorted = rounds_ns.clone();
            sorted.sort_unstable();
            let ticket_ns = sorted[sorted.len() / 2];
            let percent_of_raw = fastest_ns as f64 / ticket_ns.max(1) as f64 * 100.0;
            Validation { tickets_per_payment, rounds_ns, ticket_ns, percent_of_raw }
        };
        self.0.into_iter().map(of).collect()
    }
}

/// Nanoseconds of processor time that a ticket takes on this thread, which has to be the process's first.
pub fn of_this_thread(tickets_per_payment: u32) -> u64 {
    validate(&payments(tickets_per_payment), tickets_per_payment, cpu::own_ns, TICKETS)
}

fn of_child(own: &Path, core: Option<usize>, tickets: u32) -> u64 {
    let mut child = cpu::pinned(core, &own.display().to_string());
    let output = child.args([SUBCOMMAND, &tickets.to_string()]).output();
    let output = output.expect("our own program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{SUBCOMMAND}: {output:?}"))
}

/// In this process, where no thread has a processor time of its own to look at.
fn in_a_thread(tickets: u32) -> u64 {
    let began = Instant::now();
    let now_ns = || u64::try_from(began.elapsed().as_nanos()).unwrap();
    let work = || validate(&payments(tickets), tickets, now_ns, TICKETS / 100);
    std::thread::scope(|scope| scope.spawn(work).join().expect("payments that are good"))
}

fn secret() -> RecipientSecret {
    RecipientSecret::new([7; 32])
}

fn price() -> PriceInfo {
    PriceInfo::new(1_201, 1_000).unwrap()
}

fn offer(sender: Address) -> TicketParams {
    let config = OfferConfig {
        ticket_ev: Wei::from_u64(TICKET_EV_WEI),
        redeem_gas: 350_000,
        max_face_value: Wei::from_u64(TICKET_EV_WEI * WINS_ONE_IN),
    };
    let rounds = RoundView {
        last_initialized_round: ROUND,
        l1_block_hash: B256::repeat_byte(0x33),
        previous_round_l1_block_hash: B256::repeat_byte(0x22),
        last_seen_l1_block: L1_BLOCK,
    };
    let request = OfferRequest {
        recipient: RECIPIENT,
        sender,
        price: &price().rational(),
        gas_price: Wei::from_u64(10_000_000),
        max_float: &10_000_000_000_000_000_000_u64.into(),
        rounds,
        seed: U256::from(0x5eed),
    };
    make_offer(&config, &secret(), &request).unwrap()
}

/// Headers of payments of so many tickets each, all of one offer.
fn payments(tickets: u32) -> Vec<String> {
    // The same in every process and run, so that the same tickets win.
    let key = LocalKey::from_bytes([7; 32].into()).expect("a key of the curve");
    let signer = TypedSigner::new(Arc::new(key));
    let offer = params_fields(&offer(signer.address()));
    // A key on this machine signs without waiting for anything.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let of = |number: u32| {
        let nonces = number * tickets + 1..=(number + 1) * tickets;
        runtime.block_on(payment::signed(&signer, &offer, Some(price()), nonces))
    };
    (0..SIGNED.div_ceil(tickets)).map(of).collect()
}

/// What the orchestrator decides of the tickets of one payment, from its header to its credit.
fn credit(header: &str, secret: &RecipientSecret) -> usize {
    let message = header::decode_payment(header).unwrap();
    let payment = payment_of(&PaymentFields::try_from(&message).unwrap());
    let recipient = RecipientContext {
        recipient: RECIPIENT,
        secret,
        withdraw_round: Ok(0),
        last_initialized_round: ROUND,
    };
    let context = PaymentContext { recipient, recipient_active: true };
    let own = price().rational();
    let verified = verify_payment(&payment, &context).unwrap();
    let session = SessionPrice { fixed: None, own: &own };
    let outcome = verified.settle(NonceSet::default(), L1_BLOCK, &session);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert!(outcome.credited.is_positive());
    black_box(outcome).effects.len()
}

fn validate(payments: &[String], tickets: u32, now_ns: impl Fn() -> u64, count: u32) -> u64 {
    let secret = secret();
    let round = |count: u32| {
        let times = count.div_ceil(tickets);
        let before = now_ns();
        for header in payments.iter().cycle().take(times as usize) {
            black_box(credit(black_box(header), &secret));
        }
        (now_ns() - before) / u64::from(times * tickets)
    };
    round(count / 10);
    round(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ticket_of_a_payment_is_credited() {
        for tickets in [1, 10] {
            for header in payments(tickets) {
                // A nonce and a credit for each, and the price once.
                assert!(credit(&header, &secret()) > 2 * tickets as usize);
            }
        }
    }

    #[test]
    fn the_middle_round_counts() {
        let rounds = Rounds(vec![(1, vec![30, 90, 40])]);
        let [one] = rounds.result(20).try_into().unwrap();
        assert_eq!((one.ticket_ns, one.percent_of_raw), (40, 50.0));
    }
}
