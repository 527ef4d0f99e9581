//! Random requests, many at once: no nonce twice, one answer a state, books that add up.

use crate::world::{Reply, World, request};
use penstock_domain::{B256, Rational};
use penstock_wire::net;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// One request: which session, which state of it (0 newest), which offer, how many units.
type Ask = (usize, usize, usize, i64);

#[derive(Default)]
struct Session {
    /// States received, oldest first.
    states: Vec<Value>,
}

async fn history(rounds: Vec<Vec<Ask>>) {
    let world = World::new().await;
    let offers: Vec<net::OrchestratorInfo> =
        [(3, 7, 35), (3, 7, 5), (2, 7, 35)].map(|(p, per, ev)| world.offer(p, per, ev)).into();
    let mut sessions: Vec<Session> = (0..4).map(|_| Session::default()).collect();
    let mut answers: HashMap<String, Vec<u8>> = HashMap::new();
    let mut tickets: HashSet<(B256, u32)> = HashSet::new();
    let mut bodies: HashSet<Vec<u8>> = HashSet::new();
    for round in rounds {
        let asks: Vec<(usize, Option<String>, Value)> = round
            .into_iter()
            .map(|(s, back, o, units)| {
                let state = sessions[s].states.iter().rev().nth(back).cloned();
                let mut ask =
                    request(&offers[o], json!({"inPixels": units, "ManifestID": format!("m{s}")}));
                if let Some(state) = &state {
                    ask["state"] = state.clone();
                }
                (s, state.map(|s| s.to_string()), ask)
            })
            .collect();
        let replies: Vec<Reply> =
            futures::future::join_all(asks.iter().map(|(_, _, ask)| world.pay(ask))).await;
        for ((s, state, _), reply) in asks.iter().zip(replies) {
            match reply.status {
                200 => {}
                480..=482 => continue,
                400 => {
                    assert!(reply.message().contains("maximum of 100"), "{reply:?}");
                    continue;
                }
                other => panic!("{other}: {reply:?}"),
            }
            if let Some(state) = state {
                let first = answers.entry(state.clone()).or_insert_with(|| reply.body.clone());
                assert_eq!(*first, reply.body, "two answers to one state");
            }
            if bodies.insert(reply.body.clone()) {
                for ticket in world.tickets(&reply) {
                    let key = (ticket.recipient_rand_hash, ticket.sender_nonce);
                    assert!(tickets.insert(key), "nonce {} twice", ticket.sender_nonce);
                }
                sessions[*s].states.push(reply.state());
            }
        }
    }
    let books = world.books().await;
    assert_eq!(books.summary.tickets, tickets.len() as u64);
    assert_eq!(books.summary.payments, bodies.len() as u64);
    // Tickets × EV − fees = balance, summed over the payments themselves.
    let mut balance = Rational::ZERO;
    for row in world.signer().ledger.payments(u32::MAX).await.unwrap() {
        balance += &(Rational::from(u64::from(row.num_tickets)) * row.ticket_ev_wei);
        balance -= &row.fee_wei;
    }
    assert_eq!(balance, books.summary.balance_total_wei);
    // A key operation for each ticket; none was thrown away, since requests with one state wait for
    // each other. Beside them the own address, and a credential for each manifest id, or a few when
    // several sessions begin with it at the same time.
    let beside = books.key_operations - books.summary.tickets - 1;
    assert!(beside <= books.summary.payments, "{beside}");
    assert!(beside >= sessions.iter().filter(|s| !s.states.is_empty()).count() as u64);
    world.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn random_requests_at_once(
        rounds in prop::collection::vec(
            prop::collection::vec((0usize..4, 0usize..3, 0usize..3, 1i64..900), 1..12),
            1..8,
        )
    ) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(history(rounds));
    }
}
