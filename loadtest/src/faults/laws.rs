//! What holds whenever nothing is under way: the books of signer and orchestrators agree to the wei, each job that was
//! answered was charged, nothing else was, and none twice but where that may be.

use super::{
    cell::Kind,
    traffic::Traffic,
    world::{CAPABILITY, OWN_MODEL, SHARED_MODEL, World},
};
use crate::orchestrator_chaos::books::Books;
use penstock_domain::{Capability, Rational, model_capability_key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the books say in the end, exact wei.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Worth of the tickets that the signer signed.
    pub signed_wei: String,
    /// Worth of those that orchestrators credited.
    pub credited_wei: String,
    /// What they charged for work.
    pub debited_wei: String,
    /// Tickets that won, of them handed over to the redeemer, redeemed by it, paid by the chain.
    pub winners: [u64; 4],
}

/// Whether everything that was signed is where it belongs.
pub fn money([signed, credited, debited]: &[Rational; 3]) -> Result<(), String> {
    if credited != signed {
        return Err(format!("{signed} wei were signed, {credited} credited"));
    }
    if debited > credited {
        return Err(format!("{debited} wei of {credited} were charged"));
    }
    Ok(())
}

/// What was charged for jobs of one kind: times, by units.
type Charges = BTreeMap<u64, u64>;

/// How often work that was answered was charged once more than once; what must not be is said.
pub async fn jobs(world: &World, traffic: &Traffic, found: &mut Vec<String>) -> u64 {
    let books = Books::read(&world.ledger).await;
    let charged = |account: &str| -> Charges {
        let key = (world.sender, account.to_owned());
        let mut times = Charges::new();
        for charge in books.debits.get(&key).into_iter().flatten() {
            *times.entry(charge.units).or_default() += 1;
        }
        times
    };
    let of = |model: &str| charged(&model_capability_key(Capability::Llm, model));
    let mut shared = of(SHARED_MODEL);
    for job in world.other.ai.jobs.lock().unwrap().iter() {
        if let Some(tokens) = job.take("max_tokens").and_then(|tokens| tokens.parse().ok()) {
            *shared.entry(tokens).or_default() += 1;
        }
    }
    let mut again = 0;
    for (kind, charges) in [(Kind::Words, shared), (Kind::OwnWords, of(OWN_MODEL))] {
        again += judge(kind, &charges, &traffic.words(kind), found);
    }
    // By the second: they look alike.
    let brought: u64 = charged(CAPABILITY).values().sum();
    let answered = traffic.brought();
    if brought < answered {
        found.push(format!("{answered} brought jobs were answered, {brought} charged"));
    }
    again + brought.saturating_sub(answered)
}

/// Of jobs in words, by their units: how often one was charged once more; what must not be is said.
pub(crate) fn judge(
    kind: Kind,
    charges: &Charges,
    asked: &BTreeMap<u64, bool>,
    found: &mut Vec<String>,
) -> u64 {
    for (units, answered) in asked {
        if *answered && !charges.contains_key(units) {
            found.push(format!("{kind}: the job of {units} units was answered for nothing"));
        }
    }
    let mut again = 0;
    for (units, times) in charges {
        if !asked.contains_key(units) {
            found.push(format!("{kind}: nobody asked for a job of {units} units"));
        }
        again += times - 1;
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_that_is_missing_is_missed() {
        let wei = |n: u64| Rational::from(n);
        assert_eq!(money(&[wei(7), wei(7), wei(7)]), Ok(()));
        assert!(money(&[wei(7), wei(6), wei(1)]).is_err(), "signed and nowhere");
        assert!(money(&[wei(7), wei(8), wei(1)]).is_err(), "from nobody");
        assert!(money(&[wei(7), wei(7), wei(8)]).is_err(), "more than was paid");
    }

    #[test]
    fn jobs_are_charged_once() {
        let asked = BTreeMap::from([(1, true), (2, true), (3, false)]);
        let said = |charges: &[(u64, u64)]| {
            let mut found = Vec::new();
            let again = judge(Kind::Words, &charges.iter().copied().collect(), &asked, &mut found);
            (again, found.len())
        };
        assert_eq!(said(&[(1, 1), (2, 1)]), (0, 0));
        assert_eq!(said(&[(1, 1), (2, 1), (3, 1)]), (0, 0), "done, though nobody heard of it yet");
        assert_eq!(said(&[(1, 2), (2, 1)]), (1, 0));
        assert_eq!(said(&[(1, 1)]), (0, 1), "answered for nothing");
        assert_eq!(said(&[(1, 1), (2, 1), (9, 1)]), (0, 1), "nobody asked");
    }
}
