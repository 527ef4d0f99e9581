//! Whether this worker can do anything right now.

use crate::ai::pool::{Pool, State};
use penstock_http_kit::health::{NotReady, Readiness};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What the links and runners have reported. Cheap to ask.
#[derive(Debug)]
pub struct Status {
    transcoding: Option<AtomicBool>,
    ai: Option<(AtomicBool, Arc<Pool>)>,
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Segments.
    Transcoding,
    /// AI jobs.
    Ai,
}

impl Work {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transcoding => "transcoding",
            Self::Ai => "ai",
        }
    }
}

impl Status {
    /// What this worker is set up for.
    pub fn new(transcoding: bool, pool: Option<Arc<Pool>>) -> Self {
        Self {
            transcoding: transcoding.then(AtomicBool::default),
            ai: pool.map(|pool| (AtomicBool::default(), pool)),
        }
    }

    /// Notes whether the orchestrator has us registered for a kind of work.
    pub fn registered(&self, work: Work, yes: bool) {
        let flag = match work {
            Work::Transcoding => self.transcoding.as_ref(),
            Work::Ai => self.ai.as_ref().map(|(flag, _)| flag),
        };
        if let Some(flag) = flag {
            flag.store(yes, Ordering::Relaxed);
        }
        metrics::gauge!("penstock_worker_registered", "work" => work.name()).set(if yes {
            1.0
        } else {
            0.0
        });
    }

    /// Ready when at least one kind of work can come in and be done.
    pub fn readiness(&self) -> Readiness {
        let mut missing = Vec::new();
        if let Some(flag) = &self.transcoding {
            if flag.load(Ordering::Relaxed) {
                return Ok(());
            }
            missing.push(unregistered("transcoding"));
        }
        if let Some((flag, pool)) = &self.ai {
            let mut live = false;
            for (member, state) in pool.members().iter().zip(pool.watch().borrow().iter()) {
                match state {
                    State::Live(_) => live = true,
                    State::Restarting(_) => missing.push(NotReady::new(
                        format!("runner of {}", member.model_id),
                        "it is being restarted",
                    )),
                    State::Down(why) => {
                        missing.push(NotReady::new(
                            format!("runner of {}", member.model_id),
                            why.clone(),
                        ));
                    }
                }
            }
            match (live, flag.load(Ordering::Relaxed)) {
                (true, true) => return Ok(()),
                (_, false) => missing.push(unregistered("AI jobs")),
                (false, true) => {}
            }
        }
        Err(missing)
    }
}

fn unregistered(what: &str) -> NotReady {
    NotReady::new(
        "orchestrator",
        format!("not registered for {what}; see --orchestrator and --secret-file"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::{
        client::Endpoint,
        models,
        pool::{Live, Member},
    };
    use std::collections::BTreeMap;

    #[test]
    fn one_working_kind_is_enough() {
        let entry = &models::parse(r#"[{"pipeline":"audio-to-text","model_id":"m"}]"#).unwrap()[0];
        let pool = Arc::new(Pool::new(vec![Member::new(entry, 1)]));
        let status = Status::new(true, Some(pool.clone()));
        let missing = |s: &Status| s.readiness().unwrap_err().len();
        assert_eq!(missing(&status), 3);
        status.registered(Work::Transcoding, true);
        assert_eq!(status.readiness(), Ok(()));
        status.registered(Work::Transcoding, false);

        // Registered for AI counts only with a live runner.
        status.registered(Work::Ai, true);
        assert_eq!(missing(&status), 2);
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        let live = Arc::new(Live { endpoint, version: String::new(), gpus: BTreeMap::new() });
        pool.set(0, State::Live(live.clone()));
        assert_eq!(status.readiness(), Ok(()));
        pool.set(0, State::Restarting(live));
        assert!(status.readiness().is_err());
    }
}
