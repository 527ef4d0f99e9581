//! The hold that a replica has on an `Idempotency-Key` while it works on the request: renewed until
//! there is an answer, which then takes its place. A lost answer of the store does not lose the hold,
//! because a request that was done and paid for and is not kept would be done and paid for again. What may
//! not be begun any more when it was not renewed is `service::fence`'s, who may take it over is `takeover`'s.

use crate::{
    clock,
    service::{
        claimed::{Claimed, GiveBacks},
        error::JobError,
        fence::{Fence, Moment},
        held::{Held, remove_ours},
        patience::patiently,
    },
};
use bytes::Bytes;
use penstock_store::{DocKey, DocStore, SegmentKey, UnixMs};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// A hold lapses so long after its replica was last heard of: longer than an answer waits for the
/// store, and the time between two renewals, so that nobody begins anew what is being stored.
pub const HOLD_MS: u64 = 15_000;
/// So often it is renewed, and again when the store did not hear of it.
const RENEW: Duration = Duration::from_secs(1);
const RENEW_AGAIN: Duration = Duration::from_millis(100);
/// A record of work outlasts the hold: until then the key means this request.
pub const WORKING_TTL_MS: u64 = HOLD_MS * 6;

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// A replica is at it.
    Working {
        /// Which task of which.
        holder: String,
        /// When it is taken for dead.
        until: UnixMs,
        /// How its replica is seen at the store, if it is. Unknown to older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen_as: Option<String>,
    },
    /// It was answered.
    Done {
        /// With this status.
        status: u16,
        /// These headers.
        headers: Vec<(String, String)>,
        /// And this body.
        body: Kept,
    },
}

/// Where an answer's body is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// Behind the record.
    Here,
    /// In the segment store.
    There(SegmentKey),
    /// It was too large.
    Nowhere,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of what was asked.
    pub digest: String,
    /// How far it is.
    pub stage: Stage,
}

/// JSON, a line feed, the answer's bytes.
pub fn write(record: &Record, body: &[u8]) -> Result<Bytes, JobError> {
    let mut text = serde_json::to_vec(record).map_err(|e| JobError::Internal(e.to_string()))?;
    text.push(b'\n');
    text.extend_from_slice(body);
    Ok(text.into())
}

/// The record, and the bytes behind it.
pub fn read(value: &Bytes) -> Result<(Record, Bytes), JobError> {
    let broken = || JobError::Internal("an idempotency record cannot be read".to_owned());
    let end = value.iter().position(|b| *b == b'\n').ok_or_else(broken)?;
    let record = serde_json::from_slice(value.get(..end).unwrap_or_default());
    Ok((record.map_err(|_| broken())?, value.slice(end + 1..)))
}

/// The record of a request that is at work.
pub fn working(
    digest: &str,
    holder: &str,
    seen_as: Option<String>,
    now: UnixMs,
) -> Result<Bytes, JobError> {
    let until = now.plus_ms(HOLD_MS);
    let stage = Stage::Working { holder: holder.to_owned(), until, seen_as };
    write(&Record { digest: digest.to_owned(), stage }, &[])
}

/// A key that is ours.
#[derive(Debug)]
pub struct Hold {
    /// The record.
    pub record: Held,
    /// Of the request.
    pub digest: String,
    /// This task.
    pub holder: String,
    /// Says what the request may still begin.
    pub fence: Fence,
    /// Frees the key, if no answer takes the hold's place.
    pub claim: Claimed,
}

impl Hold {
    /// Renews the hold until dropped. Losing it stops nothing that is begun.
    pub async fn keep_renewing(
        &mut self,
        store: &dyn DocStore,
        seen_as: impl Fn() -> Option<String>,
    ) -> Infallible {
        let mut pause = RENEW;
        loop {
            tokio::time::sleep(pause).await;
            let again = match self.renew(store, seen_as()).await {
                Ok(()) => RENEW,
                Err(error) => {
                    if pause == RENEW {
                        tracing::warn!(%error, "a hold on an idempotency key was not renewed");
                    }
                    RENEW_AGAIN
                }
            };
            pause = again;
        }
    }

    async fn renew(
        &mut self,
        store: &dyn DocStore,
        seen_as: Option<String>,
    ) -> Result<(), JobError> {
        let began = Moment::now();
        let text = working(&self.digest, &self.holder, seen_as, clock::now())?;
        if self.record.write(store, &text, WORKING_TTL_MS, is_of(&self.holder)).await? {
            self.fence.renewed(began);
        } else {
            tracing::warn!("somebody else took over a request that is still at work here");
            self.fence.is_lost();
        }
        Ok(())
    }

    /// Puts the answer in the hold's place. It is given in any case; a store that is away for a moment
    /// should not make the request run twice.
    pub async fn put_done(self, store: &dyn DocStore, text: &Bytes, ttl_ms: u64) {
        let Self { record, holder, claim, .. } = self;
        let ours = is_of(&holder);
        let kept = patiently(|| {
            // From the version that was last known; what is ours there is recognised each time.
            let (mut record, ours) = (record.clone(), &ours);
            async move { record.write(store, text, ttl_ms, ours).await }
        });
        match kept.await {
            Ok(true) => claim.is_over(),
            Ok(false) => {
                claim.is_over();
                tracing::warn!("an answer was given that another's takes the place of");
            }
            Err(error) => {
                tracing::warn!(%error, "an answer was given and is not kept for its repetition");
            }
        }
    }
}

/// The hold on a key that this holder is about to write: freed unless it is over.
pub fn claim_on(store: Arc<dyn DocStore>, key: &DocKey, holder: &str, by: &GiveBacks) -> Claimed {
    let (key, holder) = (key.clone(), holder.to_owned());
    let undo = move || {
        let (store, key, holder) = (Arc::clone(&store), key.clone(), holder.clone());
        async move { remove_ours(&*store, &key, is_of(&holder)).await }
    };
    Claimed::new("an idempotency key", Duration::from_millis(HOLD_MS), by, undo)
}

/// Whether a stored record is this holder's.
fn is_of(holder: &str) -> impl Fn(&Bytes) -> bool + Send + Sync + use<'_> {
    move |value| {
        read(value).is_ok_and(|(record, _)| {
            matches!(record.stage, Stage::Working { holder: stored, .. } if stored == holder)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::held::tests::{Mumbling, hold, stored};
    use penstock_store::DocKey;
    use std::sync::atomic::Ordering;
    use tokio_util::task::TaskTracker;

    #[test]
    fn records_survive_being_stored() {
        let headers = vec![("content-type".to_owned(), "a/b".to_owned())];
        let stage = Stage::Done { status: 200, headers, body: Kept::Here };
        let record = Record { digest: "d".into(), stage };
        let text = write(&record, b"bytes\nmore").unwrap();
        assert_eq!(read(&text).unwrap(), (record, Bytes::from_static(b"bytes\nmore")));
        for bad in [&b""[..], b"{}", b"{}\n", b"\n\n"] {
            assert!(read(&Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
    }

    async fn held(store: &Arc<Mumbling>) -> Hold {
        let text = working("d", "me", None, clock::now()).unwrap();
        let record = hold(store, DocKey::new("idem", "k"), text).await;
        let by = GiveBacks::among(&TaskTracker::new());
        let claim = claim_on(store.clone(), &record.key, "me", &by);
        let fence = Fence::new(Moment::now());
        Hold { record, digest: "d".into(), holder: "me".into(), fence, claim }
    }

    fn done() -> Bytes {
        let stage = Stage::Done { status: 200, headers: Vec::new(), body: Kept::Here };
        write(&Record { digest: "d".into(), stage }, b"an answer").unwrap()
    }

    #[tokio::test]
    async fn a_renewal_whose_answer_is_lost_does_not_lose_the_answer() {
        // Of a renewal, of the answer itself, of both.
        for (renewals, answers) in [(1, 0), (0, 1), (2, 2)] {
            let store = Arc::new(Mumbling::default());
            let mut hold = held(&store).await;
            store.lose.store(renewals, Ordering::SeqCst);
            for _ in 0..renewals + 2 {
                let _ = hold.renew(&*store, None).await;
            }
            let key = hold.record.key.clone();
            let now = stored(&store, &key).await.unwrap();
            assert!(is_of("me")(&now), "{now:?}");
            store.lose.store(answers, Ordering::SeqCst);
            hold.put_done(&*store, &done(), 60_000).await;
            assert_eq!(stored(&store, &key).await, Some(done()), "{renewals} {answers}");
        }
        // The last renewal before the answer.
        let store = Arc::new(Mumbling::default());
        let mut hold = held(&store).await;
        store.lose.store(1, Ordering::SeqCst);
        let _ = hold.renew(&*store, None).await;
        let key = hold.record.key.clone();
        hold.put_done(&*store, &done(), 60_000).await;
        assert_eq!(stored(&store, &key).await, Some(done()));
    }

    #[tokio::test]
    async fn a_key_is_given_back_whatever_is_lost() {
        // Of a renewal's answers, and of those to giving back.
        for (renewals, removals) in [(0, 0), (1, 0), (0, 2), (1, 2)] {
            let store = Arc::new(Mumbling::default());
            let mut hold = held(&store).await;
            store.lose.store(renewals, Ordering::SeqCst);
            let _ = hold.renew(&*store, None).await;
            let key = hold.record.key.clone();
            let jobs = TaskTracker::new();
            hold.claim.is_over();
            store.lose.store(removals, Ordering::SeqCst);
            let by = GiveBacks::among(&jobs);
            claim_on(store.clone(), &key, "me", &by).give_back().await;
            jobs.close();
            jobs.wait().await;
            assert_eq!(stored(&store, &key).await, None, "{renewals} {removals}");
        }
    }

    #[test]
    fn older_versions_records_are_read() {
        let old = br#"{"digest":"d","stage":{"Working":{"holder":"h","until":7}}}"#;
        let stored = Bytes::from([&old[..], b"\n"].concat());
        let stage = Stage::Working { holder: "h".into(), until: UnixMs(7), seen_as: None };
        assert_eq!(read(&stored).unwrap().0, Record { digest: "d".into(), stage });
        let now = working("d", "h", None, UnixMs(7)).unwrap();
        assert!(!String::from_utf8_lossy(&now).contains("seen_as"), "and they read ours");
    }

    #[tokio::test]
    async fn a_holder_that_is_not_heard_begins_nothing_more() {
        let store = Arc::new(Mumbling::default());
        let mut hold = held(&store).await;
        // Long ago: the renewal counts from when it was asked for, which is now.
        hold.fence = Fence::new(Moment::long_ago());
        assert!(!hold.fence.lets(Moment::now()));
        hold.renew(&*store, None).await.unwrap();
        assert!(hold.fence.lets(Moment::now()));
        hold.fence = Fence::new(Moment::long_ago());
        store.lose.store(1, Ordering::SeqCst);
        assert!(hold.renew(&*store, None).await.is_err());
        assert!(!hold.fence.lets(Moment::now()), "who was not heard has renewed nothing");
        let theirs = working("d", "you", None, clock::now()).unwrap();
        let mut other = hold.record.clone();
        assert!(other.write(&*store, &theirs, 60_000, is_of("me")).await.unwrap());
        hold.renew(&*store, None).await.unwrap();
        assert!(!hold.fence.lets(Moment::now()), "another's");
    }

    #[tokio::test]
    async fn who_took_over_is_left_alone() {
        let store = Arc::new(Mumbling::default());
        let hold = held(&store).await;
        let mut other = hold.record.clone();
        let theirs = working("d", "you", None, clock::now()).unwrap();
        assert!(other.write(&*store, &theirs, 60_000, is_of("me")).await.unwrap());
        let key = hold.record.key.clone();
        hold.put_done(&*store, &done(), 60_000).await;
        assert_eq!(stored(&store, &key).await, Some(theirs));
    }
}
