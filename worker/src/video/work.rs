//! One segment from notice to uploaded result.

use super::{
    command,
    job::{self, Notice, SegmentJob},
    sessions::{Place, Sessions},
    transcode::{TranscodeError, Transcoded, Transcoder},
};
use crate::{
    link::{
        download::{DownloadError, Downloader},
        multipart::{Mixed, Part},
        upload::{Outcome, UploadError, Uploader},
    },
    workdir::WorkDir,
};
use penstock_domain::Capabilities;
use penstock_telemetry::{
    step,
    trace::{self, Traceparent},
};
use penstock_wire::{
    net,
    worker_upload::{PERCEPTUAL_HASH, PIXELS},
};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;

/// An error's text may be sent this much after the result would have been too late.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Why a segment has no result; the text goes to the orchestrator.
#[derive(Debug, Error)]
enum SegmentError {
    #[error(transparent)]
    Bad(#[from] job::BadNotice),
    #[error(transparent)]
    Busy(#[from] super::sessions::Busy),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
    #[error("transcoder is too busy")]
    TooLate,
}

/// Everything a segment needs.
#[derive(Debug)]
pub struct VideoWork {
    /// What was advertised.
    pub capabilities: Capabilities,
    /// Runs ffmpeg.
    pub transcoder: Transcoder,
    /// Who runs when.
    pub sessions: Sessions,
    /// Job folders.
    pub work_dir: Arc<WorkDir>,
    /// Fetches segments.
    pub downloader: Downloader,
    /// Sends results.
    pub uploader: Uploader,
    /// Largest segment.
    pub segment_bytes: u64,
}

impl VideoWork {
    /// Works on a notice. The session's place is taken before this returns, so that segments run
    /// in the order in which they were announced.
    pub fn handle(
        self: &Arc<Self>,
        notice: net::NotifySegment,
    ) -> impl Future<Output = ()> + use<> {
        let received = Instant::now();
        let caller = Traceparent::parse(&notice.traceparent);
        let task_id = notice.task_id;
        let read = job::read(&notice, &self.capabilities).map_err(SegmentError::from);
        let entered = read.and_then(|notice| match notice {
            Notice::EndSession(session_id) => {
                tracing::debug!(session_id, "session ended");
                self.transcoder.devices().end(&session_id);
                Ok(None)
            }
            Notice::Segment(job) => {
                let place = self.sessions.enter(&job.session_id)?;
                Ok(Some((job, place)))
            }
        });
        let work = self.clone();
        let span = match &entered {
            Ok(None) => tracing::Span::none(),
            _ => trace::accept("transcode", caller),
        };
        let working = async move {
            let (deadline, done) = match entered {
                Ok(None) => return,
                Ok(Some((job, place))) => {
                    let deadline = received + job.time_limit();
                    (deadline, work.transcode(&job, place, deadline).await)
                }
                Err(error) => (received + Duration::from_secs(8), Err(error)),
            };
            let sending = work.send(task_id, done, deadline);
            sending.instrument(step!("upload", otel.kind = "client")).await;
        };
        trace::scope_if(caller, working).instrument(span)
    }

    async fn transcode(
        &self,
        job: &SegmentJob,
        place: Place,
        deadline: Instant,
    ) -> Result<Transcoded, SegmentError> {
        let started = StdInstant::now();
        let directory = self.work_dir.job().map_err(TranscodeError::from)?;
        // Fetched while earlier segments of the session still run.
        let input = directory.path().join(command::INPUT);
        let fetching = self.downloader.to_file(&job.url, &input, self.segment_bytes, deadline);
        fetching.instrument(step!("download")).await?;
        let fetched_ms = elapsed_ms(started);
        let _turn = tokio::time::timeout_at(deadline, place.turn())
            .await
            .map_err(|_| SegmentError::TooLate)?;
        let limit = deadline.saturating_duration_since(Instant::now());
        let done = self.transcoder.transcode(job, directory, limit);
        let done = done.instrument(step!("ffmpeg", renditions = job.profiles.len())).await?;
        let duration = started.elapsed();
        metrics::histogram!("penstock_worker_segment_seconds").record(duration.as_secs_f64());
        metrics::counter!("penstock_worker_decoded_pixels_total").increment(done.decoded_pixels);
        let encoded_pixels = done.renditions.iter().map(|r| r.pixels).sum::<u64>();
        metrics::counter!("penstock_worker_encoded_pixels_total").increment(encoded_pixels);
        tracing::info!(
            manifest_id = job.manifest_id.as_str(),
            seq = job.seq,
            task_id = job.task_id,
            renditions = done.renditions.len(),
            decoded_pixels = done.decoded_pixels,
            encoded_pixels,
            fetched_ms,
            duration_ms = elapsed_ms(started),
            "segment transcoded"
        );
        Ok(done)
    }

    async fn send(&self, task_id: i64, done: Result<Transcoded, SegmentError>, deadline: Instant) {
        let result = if done.is_ok() { "ok" } else { "failed" };
        metrics::counter!("penstock_worker_segments_total", "result" => result).increment(1);
        let sent = match &done {
            Ok(done) => {
                let outcome = Outcome::Done(Mixed::new(rand::random(), parts(done)));
                self.uploader.transcoded(task_id, done.decoded_pixels, &outcome, deadline).await
            }
            Err(error) => {
                tracing::warn!(task_id, %error, "segment failed");
                let outcome = Outcome::Failed(error.to_string());
                self.uploader.transcoded(task_id, 0, &outcome, deadline + LAST_WORD).await
            }
        };
        report_upload(task_id, sent);
    }
}

/// A part for each rendition, its signature directly behind it.
fn parts(done: &Transcoded) -> Vec<Part> {
    let mut parts = Vec::new();
    for rendition in &done.renditions {
        let media = Part::file(rendition.content_type, rendition.path.clone(), rendition.bytes);
        parts.push(media.with_header(PIXELS, rendition.pixels));
        if let Some((path, bytes)) = &rendition.signature {
            parts.push(Part::file(PERCEPTUAL_HASH, path.clone(), *bytes));
        }
    }
    parts
}

/// A result that did not arrive is lost; the orchestrator will time out or ask somebody else.
pub fn report_upload(task_id: i64, sent: Result<(), UploadError>) {
    if let Err(error) = sent {
        metrics::counter!("penstock_worker_upload_failures_total").increment(1);
        tracing::warn!(task_id, %error, "the result could not be delivered");
    }
}

fn elapsed_ms(since: StdInstant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
