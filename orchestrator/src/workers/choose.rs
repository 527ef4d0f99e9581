//! Which worker takes a job: pure, so that the choice can be tested and explained.

use penstock_domain::{Capabilities, Capability, version_at_least};
use thiserror::Error;

/// A worker as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Sessions on it now.
    pub load: u32,
    /// Sessions it takes.
    pub capacity: u32,
    /// What it can do.
    pub capabilities: &'a Capabilities,
}

/// Why no worker takes it. The texts are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoWorker {
    /// Nobody is registered, or all that could are full.
    #[error("no transcoders available")]
    Available,
    /// Nobody can do that.
    #[error("no transcoders can provide requested capabilities")]
    Compatible,
}

/// The least loaded compatible transcoding worker, the first of equals. Versions count, models do
/// not (video-transcode-worker.md section 5.1).
pub fn transcoder(candidates: &[Candidate<'_>], job: &Capabilities) -> Result<usize, NoWorker> {
    if candidates.is_empty() {
        return Err(NoWorker::Available);
    }
    let mut best: Option<(usize, &Candidate<'_>)> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let fits = job.set.is_subset(&candidate.capabilities.set)
            && version_at_least(&job.min_version, &candidate.capabilities.version);
        if fits && best.is_none_or(|(_, b)| less_loaded(candidate, b)) {
            best = Some((at, candidate));
        }
    }
    match best {
        None => Err(NoWorker::Compatible),
        Some((_, full)) if full.load >= full.capacity => Err(NoWorker::Available),
        Some((at, _)) => Ok(at),
    }
}

/// `a.load / a.capacity < b.load / b.capacity`, without fractions.
fn less_loaded(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    u64::from(a.load) * u64::from(b.capacity) < u64::from(b.load) * u64::from(a.capacity)
}

/// The AI worker with the smallest share of its model's capacity in use; `in_use` is by worker.
/// `None` when none has room.
pub fn ai_worker(
    workers: &[(&Capabilities, u32)],
    capability: Capability,
    model: &str,
) -> Option<usize> {
    let mut best: Option<(usize, u64, u64)> = None;
    for (at, (capabilities, in_use)) in workers.iter().enumerate() {
        let Some(offered) = capabilities.model(capability, model) else { continue };
        if *in_use >= offered.capacity {
            continue;
        }
        let (used, room) = (u64::from(*in_use), u64::from(offered.capacity));
        if best.is_none_or(|(_, best_used, best_room)| used * best_room < best_used * room) {
            best = Some((at, used, room));
        }
    }
    best.map(|(at, _, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::CapabilitySet;

    fn video(version: &str) -> Capabilities {
        let mut c = Capabilities::of_set(CapabilitySet::default_video());
        c.version = version.into();
        c
    }

    #[test]
    fn least_loaded_compatible() {
        let (old, new) = (video("0.5.0"), video("0.9.1"));
        let bare = Capabilities::default();
        let c = |load, capacity, capabilities| Candidate { load, capacity, capabilities };
        let mut job = video("");
        assert_eq!(transcoder(&[], &job), Err(NoWorker::Available));
        assert_eq!(transcoder(&[c(0, 9, &bare)], &job), Err(NoWorker::Compatible));
        assert_eq!(transcoder(&[c(1, 2, &new), c(2, 5, &new), c(0, 1, &bare)], &job), Ok(1));
        assert_eq!(transcoder(&[c(0, 1, &new), c(0, 5, &new)], &job), Ok(0), "first of equals");
        assert_eq!(transcoder(&[c(1, 1, &new)], &job), Err(NoWorker::Available));
        job.min_version = "0.6".into();
        assert_eq!(transcoder(&[c(0, 9, &old), c(5, 9, &new)], &job), Ok(1));
        assert_eq!(transcoder(&[c(0, 1, &bare)], &Capabilities::default()), Ok(0));
    }

    #[test]
    fn models_with_room() {
        let model = |capacity| {
            let mut c = Capabilities::ai_job(Capability::AudioToText, "m", true);
            c.models.get_mut(&31).unwrap().get_mut("m").unwrap().capacity = capacity;
            c
        };
        let (one, four) = (model(1), model(4));
        let pick =
            |workers: &[(&Capabilities, u32)]| ai_worker(workers, Capability::AudioToText, "m");
        assert_eq!(pick(&[(&one, 1), (&four, 3)]), Some(1));
        assert_eq!(pick(&[(&one, 0), (&four, 1)]), Some(0));
        assert_eq!(pick(&[(&one, 1), (&four, 4)]), None);
        assert_eq!(pick(&[]), None);
        assert_eq!(ai_worker(&[(&four, 0)], Capability::AudioToText, "x"), None);
        assert_eq!(ai_worker(&[(&four, 0)], Capability::Llm, "m"), None);
    }
}
