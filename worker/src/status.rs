//! Whether this worker can do what it is set up for.

use crate::{
    ai::pool::{Pool, State},
    video::devices::Devices,
};
use penstock_http_kit::health::{NotReady, Readiness};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the links and runners have reported. Cheap to ask.
#[derive(Debug)]
pub struct Status {
    transcoding: Option<AtomicBool>,
    ai: Option<AtomicBool>,
    live: Option<AtomicBool>,
    pool: Option<Arc<Pool>>,
    devices: Option<Arc<Devices>>,
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Segments.
    Transcoding,
    /// AI jobs.
    Ai,
    /// Sessions of live video.
    Live,
}

impl Work {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transcoding => "transcoding",
            Self::Ai => "ai",
            Self::Live => "live",
        }
    }
}

impl Status {
    /// What this worker is set up for.
    pub fn new(transcoding: bool, pool: Option<Arc<Pool>>) -> Self {
        let has = |live: bool| {
            let mut members = pool.iter().flat_map(|pool| pool.members());
            members.any(|member| member.is_live_video() == live)
        };
        Self {
            transcoding: transcoding.then(AtomicBool::default),
            ai: has(false).then(AtomicBool::default),
            live: has(true).then(AtomicBool::default),
            pool,
            devices: None,
        }
    }

    /// Cards count too: those that the operator named, and those that have worked before.
    pub fn with_devices(self, devices: Arc<Devices>) -> Self {
        Self { devices: Some(devices), ..self }
    }

    /// Notes whether the orchestrator has us registered for a kind of work.
    pub fn registered(&self, work: Work, yes: bool) {
        let flag = match work {
            Work::Transcoding => self.transcoding.as_ref(),
            Work::Ai => self.ai.as_ref(),
            Work::Live => self.live.as_ref(),
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

    /// Ready when everything this worker is set up for can come in and be done: registered for
    /// each kind of work, a live runner for each model, every card in use. What works already is served meanwhile;
    /// whoever waits for this worker waits for all of it.
    pub fn readiness(&self) -> Readiness {
        let mut missing = Vec::new();
        if let Some(pool) = &self.pool {
            missing.extend(models_without_runner(pool));
        }
        for (flag, what) in [
            (&self.transcoding, "transcoding"),
            (&self.ai, "AI jobs"),
            (&self.live, "live video, which orchestrators of the Go node do not take from workers"),
        ] {
            if flag.as_ref().is_some_and(|flag| !flag.load(Ordering::Relaxed)) {
                missing.push(unregistered(what));
            }
        }
        missing.extend(self.devices.iter().flat_map(|devices| devices.missing()));
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

/// Models none of whose runners is live, each with one runner's reason.
fn models_without_runner(pool: &Pool) -> Vec<NotReady> {
    let mut without = BTreeMap::new();
    for (member, state) in pool.members().iter().zip(pool.watch().borrow().iter()) {
        let reason = match state {
            State::Live(_) | State::OnDemand(_) => None,
            State::Restarting(_) => Some("it is being restarted".to_owned()),
            State::Down(why) => Some(why.clone()),
        };
        let known = without.entry((member.capability, &member.model_id)).or_insert(reason.clone());
        *known = known.take().and(reason);
    }
    let missing = without.into_iter().filter_map(|((_, model), reason)| Some((model, reason?)));
    missing.map(|(model, reason)| NotReady::new(format!("runner of {model}"), reason)).collect()
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

    #[test]
    fn ready_is_everything_that_was_asked_for() {
        let entry = &models::parse(r#"[{"pipeline":"audio-to-text","model_id":"m"}]"#).unwrap()[0];
        let pool = Arc::new(Pool::new(vec![Member::new(entry, 1), Member::new(entry, 1)]));
        let status = Status::new(true, Some(pool.clone()));
        let missing = |s: &Status| s.readiness().unwrap_err().len();
        assert_eq!(missing(&status), 3);
        status.registered(Work::Transcoding, true);
        assert_eq!(missing(&status), 2);
        status.registered(Work::Ai, true);
        assert_eq!(missing(&status), 1);

        // One live runner a model is enough, whichever it is.
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        let live = Arc::new(Live { endpoint, version: String::new(), gpus: BTreeMap::new() });
        for (up, other) in [(0, 1), (1, 0)] {
            pool.set(up, State::Live(live.clone()));
            pool.set(other, State::Restarting(live.clone()));
            assert_eq!(status.readiness(), Ok(()));
        }
        pool.set(1, State::Down("why".into()));
        assert_eq!(missing(&status), 1);
        pool.set(0, State::Live(live));
        status.registered(Work::Ai, false);
        assert_eq!(missing(&status), 1);

        // Each kind of work is wanted only where there is something for it.
        let text = r#"[{"pipeline":"live-video-to-video","model_id":"m"}]"#;
        let member = Member::new(&models::parse(text).unwrap()[0], 1);
        let pool = Arc::new(Pool::new(vec![member]));
        let live_only = Status::new(false, Some(pool.clone()));
        assert_eq!(missing(&live_only), 2);
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        let live = Live { endpoint, version: String::new(), gpus: BTreeMap::new() };
        pool.set(0, State::Live(Arc::new(live)));
        live_only.registered(Work::Ai, true);
        assert_eq!(missing(&live_only), 1);
        live_only.registered(Work::Live, true);
        assert_eq!(live_only.readiness(), Ok(()));

        let video_only = Status::new(true, None);
        assert_eq!(missing(&video_only), 1);
        video_only.registered(Work::Transcoding, true);
        assert_eq!(video_only.readiness(), Ok(()));
    }
}
