//! The circuit breaker of one orchestrator.
//!
//! - **closed**: no breaker is kept; jobs go there.
//! - **open**: its suspension lasts, longer with each failure in a row.
//! - **half-open**: the suspension is over; one job at a time tries it out. Success closes it, a
//!   failure opens it for longer.
//!
//! Pure: the state is a small record that a store keeps, time is an argument.

use crate::{Fault, suspension_ms};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long one job has for finding out.
pub const PROBE_MS: u64 = 10_000;
/// A breaker whose last failure is so old is forgotten.
pub const FORGET_MS: u64 = 3_600_000;
/// Most breakers of one pool.
const MAX: usize = 4_096;

/// What is kept of an orchestrator whose last job failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// In a row.
    pub failures: u32,
    /// Unix milliseconds of the last one.
    pub failed_ms: u64,
    /// Unix milliseconds until which a job is trying it out.
    pub probing_until_ms: u64,
    /// It is not the one it was: while its suspension lasts it is no last resort either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_barred: bool,
}

/// Whether jobs may go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Yes.
    Closed,
    /// No.
    Open,
    /// One at a time.
    HalfOpen,
}

/// Where a circuit stands.
pub fn circuit(breaker: Option<&Breaker>, suspended_until_ms: Option<u64>, now_ms: u64) -> Circuit {
    match (breaker, suspended_until_ms) {
        (_, Some(until)) if until > now_ms => Circuit::Open,
        (Some(_), _) => Circuit::HalfOpen,
        (None, _) => Circuit::Closed,
    }
}

/// All breakers of one pool that are not closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Breakers(BTreeMap<String, Breaker>);

impl Breakers {
    /// That of one orchestrator, unless it is closed.
    pub fn get(&self, orchestrator: &str) -> Option<&Breaker> {
        self.0.get(orchestrator)
    }

    /// Whether all are closed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a failure; how long to suspend for. Having no room, or a price, is no failure: it counts
    /// for the time only.
    pub fn failed(&mut self, orchestrator: &str, fault: Fault, now_ms: u64) -> u64 {
        self.0.retain(|_, b| now_ms.saturating_sub(b.failed_ms) < FORGET_MS);
        if matches!(fault, Fault::Busy | Fault::Price) {
            return suspension_ms(fault, 1);
        }
        if self.0.len() >= MAX && !self.0.contains_key(orchestrator) {
            return suspension_ms(fault, 1);
        }
        let breaker = self.0.entry(orchestrator.to_owned()).or_default();
        // Jobs that were there together fail together: that is one failure.
        if now_ms.saturating_sub(breaker.failed_ms) >= 1_000 || breaker.failures == 0 {
            breaker.failures = breaker.failures.saturating_add(1);
        }
        breaker.failed_ms = now_ms;
        breaker.probing_until_ms = 0;
        breaker.is_barred |= fault == Fault::WrongKey;
        suspension_ms(fault, breaker.failures)
    }

    /// Closes it; whether it was not closed.
    pub fn succeeded(&mut self, orchestrator: &str) -> bool {
        self.0.remove(orchestrator).is_some()
    }

    /// Takes the right to try it out; false while another job has it.
    pub fn begin_probe(&mut self, orchestrator: &str, now_ms: u64) -> bool {
        match self.0.get_mut(orchestrator) {
            Some(breaker) if breaker.probing_until_ms > now_ms => false,
            Some(breaker) => {
                breaker.probing_until_ms = now_ms.saturating_add(PROBE_MS);
                breaker.is_barred = false;
                true
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn opens_probes_and_closes() {
        let mut all = Breakers::default();
        let first = all.failed("o", Fault::Failed, 10_000);
        assert_eq!(circuit(all.get("o"), Some(10_000 + first), 10_001), Circuit::Open);
        let later = 10_000 + first;
        assert_eq!(circuit(all.get("o"), None, later), Circuit::HalfOpen);
        assert!(all.begin_probe("o", later));
        assert!(!all.begin_probe("o", later + PROBE_MS - 1), "one at a time");
        assert!(all.begin_probe("o", later + PROBE_MS), "unless it never came back");
        let second = all.failed("o", Fault::Failed, later + 1);
        assert_eq!(second, 2 * first);
        assert!(all.succeeded("o"));
        assert_eq!(circuit(all.get("o"), None, later), Circuit::Closed);
        assert!(!all.succeeded("o"));
        assert!(all.begin_probe("o", 0), "a closed one needs no permission");
    }

    #[test]
    fn no_room_is_no_failure_and_one_moment_is_one_failure() {
        let mut all = Breakers::default();
        all.failed("o", Fault::Busy, 5_000);
        assert!(all.is_empty());
        for _ in 0..10 {
            all.failed("o", Fault::Unreachable, 5_000);
        }
        assert_eq!(all.get("o").unwrap().failures, 1);
        all.failed("p", Fault::Failed, 5_000 + FORGET_MS);
        assert_eq!(all.get("o"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Whatever happens, no orchestrator is out for longer than the longest suspension, one that
        /// succeeded is closed, and no two jobs try one out at once.
        #[test]
        fn any_history(steps in prop::collection::vec((0u8..4, 0u64..30_000), 0..60)) {
            let (mut all, mut now, mut until, mut probe) = (Breakers::default(), 1_u64, 0_u64, 0_u64);
            for (step, wait) in steps {
                now += wait;
                match step {
                    0 | 1 => {
                        let fault = if step == 0 { Fault::Unreachable } else { Fault::BadResult };
                        let ms = all.failed("o", fault, now);
                        prop_assert!(ms > 0 && ms <= crate::MAX_MS);
                        until = until.max(now + ms);
                        probe = 0;
                    }
                    2 => {
                        all.succeeded("o");
                        prop_assert_eq!(circuit(all.get("o"), None, now), Circuit::Closed);
                        probe = 0;
                    }
                    _ if all.get("o").is_some() => {
                        let got = all.begin_probe("o", now);
                        prop_assert_eq!(got, probe <= now);
                        if got {
                            probe = now + PROBE_MS;
                        }
                    }
                    _ => {}
                }
                prop_assert!(until <= now + crate::MAX_MS);
            }
        }
    }
}
