//! `--record-retention-hours`: what was recorded longer ago goes. Only files that recordings have are
//! touched, so that a folder or bucket may hold other things; first the parts of the index, then what
//! no index names any more.

use super::{Recordings, format_of, write::PART_MS};
use crate::{
    clock,
    media::recording::{Run, is_part},
    service::Gateway,
};
use futures::StreamExt;
use penstock_domain::StreamId;
use penstock_store::{Cas, DocKey, RecordFile, StoreError, UnixMs};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often; one replica does it for all.
const EVERY_MS: u64 = 3_600_000;
/// After the start.
const FIRST: Duration = Duration::from_secs(60);

impl Gateway {
    /// Sweeps now and then, until told to stop.
    pub async fn sweep_recordings(&self, stop: CancellationToken) {
        if !self.recordings.forgets() {
            return;
        }
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = Duration::from_millis(EVERY_MS);
            let now = clock::now();
            let turn = DocKey::new("recording-sweep", "all");
            let ttl = EVERY_MS - EVERY_MS / 10;
            let mine = self.store.put_doc(&turn, None, self.replica.clone().into(), ttl, now).await;
            match mine {
                Ok(Cas::Stored(_)) => match self.recordings.sweep(now).await {
                    Ok(0) => {}
                    Ok(files) => tracing::info!(files, "recorded files that were over are deleted"),
                    Err(error) => tracing::warn!(%error, "old recordings were not deleted"),
                },
                Ok(Cas::Conflict(_)) => {}
                Err(error) => tracing::warn!(%error, "old recordings were not looked for"),
            }
        }
    }
}

impl Recordings {
    fn forgets(&self) -> bool {
        self.own.is_some() && self.retention_ms.is_some()
    }

    /// Deletes what is over at `now`; how many files that were.
    pub async fn sweep(&self, now: UnixMs) -> Result<usize, StoreError> {
        let (Some(store), Some(retention_ms)) = (&self.own, self.retention_ms) else {
            return Ok(0);
        };
        let mut files = store.all();
        let mut deleted = 0;
        while let Some(file) = files.next().await {
            let file = file?;
            if is_over(&file, retention_ms, now) {
                store.remove(&file).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// A part of an index is written for an hour at most, so its segments are at most so much older.
fn is_over(file: &RecordFile, retention_ms: u64, now: UnixMs) -> bool {
    let age_ms = now.since_ms(file.modified);
    match kind(&file.name) {
        Some(Kind::Part) => age_ms >= retention_ms,
        Some(Kind::Segment) => age_ms >= retention_ms.saturating_add(PART_MS),
        None => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Part,
    Segment,
}

/// What we wrote, by its name.
fn kind(name: &str) -> Option<Kind> {
    let mut parts = name.split('/');
    let (stream, run) = (parts.next()?, parts.next()?);
    StreamId::new(stream).ok()?;
    Run::of_folder(run)?;
    let (first, second, third) = (parts.next()?, parts.next(), parts.next());
    match (second, third) {
        (None, _) => is_part(first).then_some(Kind::Part),
        (Some(file), None) => {
            let (seq, _) = file.split_once('-')?;
            format_of(file)?;
            seq.parse::<u64>().ok().map(|_| Kind::Segment)
        }
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_deleted() {
        for (name, wanted) in [
            ("show/1-0-ab/playlist_1.json", Some(Kind::Part)),
            ("show/1-0-ab/source/0-abcd.ts", Some(Kind::Segment)),
            ("show/1-0-ab/source/0-abcd.mp4", Some(Kind::Segment)),
            ("show/1-0-ab/source/0.ts", None),
            ("show/1-0-ab/source/x/0-a.ts", None),
            ("show/1-0-ab/notes.txt", None),
            ("show/1-0-ab/source/0-abcd.txt", None),
            ("show/0xab-host/playlist_1.json", None),
            ("playlist_1.json", None),
            ("show/index.m3u8", None),
            ("", None),
        ] {
            assert_eq!(kind(name), wanted, "{name}");
        }
    }
}
