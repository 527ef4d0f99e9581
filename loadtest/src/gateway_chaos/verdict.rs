//! The books after the storm: what the signers signed, what orchestrators credited and debited.

use super::{Act, Broken, Tally, Times};
use crate::fleet::Fleet;
use penstock_domain::Rational;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the books say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Payments in the signers' ledger.
    pub payments: u64,
    /// Tickets in them.
    pub tickets: u64,
    /// Their worth, exact wei.
    pub signed_ev_wei: String,
    /// The same according to the orchestrators.
    pub credited_ev_wei: String,
    /// Worth of tickets that were signed and that no orchestrator was shown.
    pub undelivered_wei: String,
    /// What orchestrators debited for work.
    pub debited_wei: String,
    /// AI jobs that orchestrators did; more than were asked for were done twice.
    pub ai_jobs_done: u64,
    /// Times that simulated orchestrators were asked for a segment again, at whichever of them.
    pub segments_done_twice: u64,
    /// Payments that orchestrators refused because they had them: repeated after a death.
    pub repeated_payments: u64,
}

/// Compares everything; what does not agree is noted in `tally`.
pub async fn judge(fleet: &Fleet, tally: &Tally) -> Books {
    let summary: Value = fleet.rig.admin(0, "/v1/summary").await;
    let wei = |name: &str| -> Rational { summary[name].as_str().unwrap().parse().unwrap() };
    let signed = wei("ticket_ev_total_wei");
    let (mut credited, mut debited) = match &fleet.transcoder {
        Some(transcoder) => transcoder.totals().await,
        None => (Rational::ZERO, Rational::ZERO),
    };
    let mut books = Books {
        payments: summary["payments"].as_u64().unwrap_or(0),
        tickets: summary["tickets"].as_u64().unwrap_or(0),
        ..Books::default()
    };
    let mut segments = Vec::new();
    for orchestrator in &fleet.rig.orchestrators {
        let totals = orchestrator.totals();
        credited = &credited + &totals.credited;
        debited = &debited + &totals.debited;
        for refusal in orchestrator.refusals() {
            if refusal.contains("already seen") {
                books.repeated_payments += 1;
            } else {
                tally.violation(format!("an orchestrator refused a payment: {refusal}"));
            }
        }
        let seen = orchestrator.seen.lock().unwrap();
        books.ai_jobs_done += seen.audio_done;
        segments.extend(seen.segments.iter().map(|(_, number)| *number));
    }
    let asked = segments.len();
    segments.sort_unstable();
    segments.dedup();
    books.segments_done_twice = (asked - segments.len()) as u64;
    if credited > signed {
        tally.violation(format!("orchestrators credited {credited}, signers signed {signed}"));
    }
    // Whatever died on the way: the tickets that were signed are with those whom they are for.
    if credited < signed {
        tally.violation(format!("tickets worth {} never arrived", &signed - &credited));
    }
    if debited > credited {
        tally.violation(format!("orchestrators debited {debited} of {credited}"));
    }
    books.undelivered_wei = (&signed - &credited).to_string();
    books.signed_ev_wei = signed.to_string();
    books.credited_ev_wei = credited.to_string();
    books.debited_wei = debited.to_string();
    books
}

/// What may have been done more than once, and why: work that was under way when something broke is asked
/// for again, by the balancer or by whoever wants it.
#[derive(Debug, Clone, Copy)]
pub struct Repeated<'a> {
    /// What broke.
    pub broken: &'a Broken,
    /// AI clients, each with one job at a time.
    pub clients: u64,
    /// AI jobs answered.
    pub jobs: u64,
    /// Answers to AI jobs that were lost.
    pub jobs_lost: u64,
    /// Answers to segments that were lost.
    pub segments_lost: u64,
}

impl Repeated<'_> {
    /// What was done more often than that explains, or less often than was asked for.
    pub fn judge(&self, books: &Books) -> Vec<String> {
        let mut found = Vec::new();
        let disturbances = self.broken.disturbances();
        let done = books.ai_jobs_done;
        let most = self.jobs + disturbances * self.clients + self.jobs_lost;
        if done < self.jobs {
            found.push(format!("{} AI jobs were answered, {done} were done", self.jobs));
        }
        if done > most {
            found.push(format!(
                "{done} AI jobs were done, and {} asked for: {disturbances} disturbances explain {most}",
                self.jobs
            ));
        }
        // The encoder pushes one segment at a time.
        let (again, most) = (books.segments_done_twice, disturbances + self.segments_lost);
        if again > most {
            found.push(format!(
                "segments were asked for again {again} times: {disturbances} disturbances explain {most}"
            ));
        }
        found
    }
}

/// What an orchestrator may cost that is not there any more, at p99: less than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A dead one, whoever waits: a viewer or a job.
    pub death_ms: u64,
    /// A silent one, a viewer: until another one gets the segment as well (`--segment-hedge-after-ms`), and
    /// what a death may cost.
    pub silence_viewer_ms: u64,
    /// A silent one, a job: until its connection is given up (`--orchestrator-ping-ms`, twice), and what a
    /// death may cost.
    pub silence_job_ms: u64,
}

impl Default for Bounds {
    /// With the gateway's own settings.
    fn default() -> Self {
        Self { death_ms: 3_000, silence_viewer_ms: 7_000, silence_job_ms: 11_000 }
    }
}

/// What orchestrators that were gone cost for too long.
pub fn slow(broken: &Broken, bounds: &Bounds) -> Vec<String> {
    let viewer = |act| (act, "the viewer", broken.gaps_ms(act));
    let job = |act| (act, "a job that met it", broken.costs_ms(act));
    let judged = [
        (viewer(Act::KillOrchestrator), bounds.death_ms),
        (viewer(Act::FreezeOrchestrator), bounds.silence_viewer_ms),
        (job(Act::KillAiOrchestrator), bounds.death_ms),
        (job(Act::SilenceAiOrchestrator), bounds.silence_job_ms),
    ];
    let judged = judged.into_iter().filter_map(|((act, whom, times), most_ms)| {
        let p99_ms = Times::of(times).p99_ms;
        let slow = format!("{act} cost {whom} {p99_ms} ms at p99, of {most_ms} ms");
        (p99_ms >= most_ms).then_some(slow)
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway_chaos::monkey::Effect;

    fn broken(acts: &[(Act, &[u64])]) -> Broken {
        let effect = |gaps: &[u64]| Effect {
            times: gaps.len() as u64,
            gaps_ms: gaps.to_vec(),
            ..Effect::default()
        };
        Broken { acts: acts.iter().map(|(act, gaps)| (act.to_string(), effect(gaps))).collect() }
    }

    #[test]
    fn work_is_repeated_for_a_reason() {
        // Three disturbances: one gateway is killed before it dies by itself.
        let broken =
            broken(&[(Act::PauseRedis, &[1]), (Act::GatewayAt("gateway.after_sign"), &[1])]);
        let found = |ai_jobs_done, segments_done_twice| {
            let books = Books { ai_jobs_done, segments_done_twice, ..Books::default() };
            let repeated = Repeated {
                broken: &broken,
                clients: 16,
                jobs: 1_000,
                jobs_lost: 2,
                segments_lost: 1,
            };
            repeated.judge(&books).len()
        };
        assert_eq!(found(1_000, 0), 0);
        assert_eq!(found(1_000 + 3 * 16 + 2, 3 + 1), 0);
        assert_eq!(found(1_000 + 3 * 16 + 3, 0), 1, "a job done again for no reason");
        assert_eq!(found(1_000, 3 + 2), 1, "a segment done again for no reason");
        assert_eq!(found(2_000, 60), 2, "everything twice");
        assert_eq!(found(999, 0), 1, "an answer that nobody worked for");
    }

    #[test]
    fn who_is_gone_may_cost_so_much() {
        let times = |slow: usize, ms: u64| {
            let mut times = vec![900; 200];
            times[..slow].fill(ms);
            times
        };
        let dead = |slow| {
            let gaps = times(slow, 3_000);
            super::slow(
                &broken(&[(Act::KillOrchestrator, &gaps), (Act::FailOver, &[9_000])]),
                &Bounds::default(),
            )
        };
        assert_eq!(dead(1), Vec::<String>::new(), "one in a hundred may");
        assert_eq!(dead(3).len(), 1);
        let jobs = |act: Act, ms| {
            let mut broken = broken(&[(act, &[1])]);
            broken.acts.get_mut(&act.to_string()).unwrap().costs_ms = times(3, ms);
            super::slow(&broken, &Bounds::default()).len()
        };
        assert_eq!(jobs(Act::KillAiOrchestrator, 2_999), 0);
        assert_eq!(jobs(Act::KillAiOrchestrator, 3_000), 1);
        assert_eq!(jobs(Act::SilenceAiOrchestrator, 10_999), 0);
        assert_eq!(jobs(Act::SilenceAiOrchestrator, 11_000), 1);
    }

    #[test]
    fn a_silence_is_no_death() {
        let acts = [Act::KillAiOrchestrator, Act::SilenceAiOrchestrator, Act::FreezeOrchestrator];
        let deaths = |act| broken(&[(act, &[1, 1])]).deaths();
        assert_eq!(acts.map(deaths), [2, 0, 0]);
        assert_eq!(deaths(Act::PauseRedis), 0);
    }
}
