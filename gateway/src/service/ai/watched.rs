//! Asynchronous jobs whose replica may have ended: what polls have seen of it, one after the other. The argument
//! is that of requests under an `Idempotency-Key` (docs/session-store.md).

use crate::{front::takeover::Watch, service::error::JobError};
use penstock_store::{SessionStore, Version};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Jobs watched at once; of others a lease has to lapse.
const MOST: usize = 4_096;
/// One that nobody asked about for so long is not watched any more: its next poll begins anew.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// By name.
#[derive(Debug, Default)]
pub struct Watched(Mutex<HashMap<String, (Watch, Instant)>>);

impl Watched {
    fn with<T>(
        &self,
        id: &str,
        version: Version,
        now: Instant,
        look: impl FnOnce(&mut Watch) -> T,
    ) -> Option<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(id) {
            all.retain(|_, (_, asked)| now.saturating_duration_since(*asked) < FORGOTTEN);
            if all.len() >= MOST {
                return None;
            }
        }
        let (watch, asked) =
            all.entry(id.to_owned()).or_insert_with(|| (Watch::new(version, now), now));
        if now.saturating_duration_since(*asked) >= FORGOTTEN {
            *watch = Watch::new(version, now);
        }
        *asked = now;
        Some(look(watch))
    }

    /// Whether the replica that has the job has ended, as far as polls here have seen.
    pub async fn has_ended(
        &self,
        store: &dyn SessionStore,
        id: &str,
        version: Version,
        seen_as: &Option<String>,
    ) -> Result<bool, JobError> {
        let Some(name) = seen_as else { return Ok(false) };
        let now = Instant::now();
        let is_due = self.with(id, version, now, |watch| watch.is_due(version, now));
        if is_due != Some(true) {
            return Ok(false);
        }
        let (sight, now) = (store.sight(name).await?, Instant::now());
        let ended = self.with(id, version, now, |watch| watch.has_ended(sight, now));
        let ended = ended == Some(true);
        if ended {
            tracing::info!(job = id, replica = name, "the replica that had a job has ended");
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_watched_apart_and_not_for_ever() {
        let (watched, start) = (Watched::default(), Instant::now());
        let due = |id: &str, version, after_ms| {
            let now = start + Duration::from_millis(after_ms);
            watched.with(id, Version(version), now, |watch| watch.is_due(Version(version), now))
        };
        assert_eq!(due("a", 1, 0), Some(false));
        assert_eq!((due("b", 1, 1_500), due("a", 1, 1_500)), (Some(false), Some(true)));
        assert_eq!(due("a", 2, 1_600), Some(false), "it was renewed");
        assert_eq!(due("b", 1, 90_000), Some(false), "who knows what was meanwhile");
        for n in 0..MOST {
            due(&format!("job {n}"), 1, 90_000);
        }
        assert_eq!(due("one more", 1, 90_000), None);
        assert_eq!(due("one more", 1, 160_000), Some(false), "the others are forgotten");
    }
}
