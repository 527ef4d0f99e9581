//! What the orchestrators' books say of the jobs, in the end: each that was answered was charged, and nothing that nobody
//! asked for was.

use super::{traffic::Traffic, world::World};
use crate::{
    faults::{
        cell::Kind,
        laws::judge,
        world::{CAPABILITY, SHARED_MODEL},
    },
    orchestrator_chaos::books::Books,
};
use penstock_domain::{Capability, model_capability_key};
use std::collections::BTreeMap;

/// How often work was charged once more than it was answered; what must not be is said.
pub async fn jobs(world: &World, traffic: &Traffic, found: &mut Vec<String>) -> u64 {
    let model = model_capability_key(Capability::Llm, SHARED_MODEL);
    let mut words: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut brought, mut segments) = (0, 0);
    for ledger in world.ledgers() {
        let books = Books::read(ledger).await;
        for ((sender, session), charges) in books.debits {
            if sender != world.sender {
                found.push(format!("{sender} was charged and has no work here"));
            } else if session == model {
                charges.iter().for_each(|c| *words.entry(c.units).or_default() += 1);
            } else if session == CAPABILITY {
                // By the second: they look alike.
                brought += charges.len() as u64;
            } else {
                segments += charges.len() as u64;
            }
        }
    }
    let mut again = judge(Kind::Words, &words, &traffic.words(), found);
    let answered = traffic.answered();
    for (kind, charged) in [(Kind::Brought, brought), (Kind::Segments, segments)] {
        let answered = answered.get(&kind).copied().unwrap_or(0);
        if charged < answered {
            found.push(format!("{kind}: {answered} were answered, {charged} charged"));
        }
        again += charged.saturating_sub(answered);
    }
    again
}
