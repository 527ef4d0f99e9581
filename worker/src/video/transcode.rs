//! Runs one ffmpeg process over one segment and collects what it made.

use super::{
    balance,
    command::{self, Plan, UnsupportedCodec},
    container::{self, AudioAction, Container, PROBE_BYTES},
    devices::{Chosen, Devices},
    encoder::Accel,
    job::SegmentJob,
    log::LogReader,
    tools::Tools,
};
use crate::{
    child::{self, ChildError},
    confine::Limits,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use thiserror::Error;
use tokio::{io::AsyncReadExt, time::Instant};

/// Beyond this many threads a codec gains nothing, and each one maps memory that is limited.
const MANY_CORES: u32 = 16;

/// A transcode that gave no result; the text goes to the orchestrator.
#[derive(Debug, Error)]
pub enum TranscodeError {
    /// Not a container that segments come in.
    #[error("unsupported input: none of MPEG-TS, MP4 and WebM")]
    Container,
    /// No rendition is asked for.
    #[error("no video profiles")]
    NoProfiles,
    /// A rendition that cannot be made here.
    #[error(transparent)]
    Codec(#[from] UnsupportedCodec),
    /// ffmpeg could not be run to its end.
    #[error("transcoder {0}")]
    Child(#[from] ChildError),
    /// ffmpeg gave up; its last words.
    #[error("transcoder failed: {0}")]
    Failed(String),
    /// The segment has no picture that can be decoded.
    #[error("transcoder failed: no video frames were decoded")]
    NothingDecoded,
    /// Some rendition is missing or empty.
    #[error("segment / profile mismatch")]
    Mismatch,
    /// Disk trouble.
    #[error("transcoder storage: {0}")]
    Io(#[from] std::io::Error),
}

/// A finished rendition, still on disk.
#[derive(Debug)]
pub struct Rendition {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Media type.
    pub content_type: &'static str,
    /// Frames encoded × real width × real height.
    pub pixels: u64,
    /// MPEG-7 signature file and its size, if asked for.
    pub signature: Option<(PathBuf, u64)>,
}

/// All renditions of a segment, in the order of the profiles.
#[derive(Debug)]
pub struct Transcoded {
    /// Frames decoded × width × height.
    pub decoded_pixels: u64,
    /// The renditions.
    pub renditions: Vec<Rendition>,
    /// Where the files are; they go when this does.
    _directory: TempDir,
}

/// ffmpeg, and how it is run.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The program and what it can do.
    pub tools: Tools,
    /// Speed of the software encoders.
    pub preset: String,
    /// Address space of one ffmpeg that works on the processor.
    pub memory_bytes: u64,
    /// Largest file that it may write.
    pub rendition_bytes: u64,
}

/// Makes renditions, on whichever device is there for a session.
#[derive(Debug)]
pub struct Transcoder {
    engine: Engine,
    devices: Arc<Devices>,
    /// How long a card may take over one segment; `None`: half of the time that is left.
    card_limit: Option<Duration>,
}

impl Transcoder {
    /// Over these cards, and the processor where none is left.
    pub fn new(engine: Engine, devices: Arc<Devices>, card_limit: Option<Duration>) -> Self {
        Self { engine, devices, card_limit }
    }

    /// The cards.
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// Transcodes the segment that lies in `directory` under [`command::INPUT`], within `limit`. What
    /// a card cannot do, or not in time, another one tries, and then the processor: drivers hiccup,
    /// and some inputs only decode there.
    pub async fn transcode(
        &self,
        job: &SegmentJob,
        directory: TempDir,
        limit: Duration,
    ) -> Result<Transcoded, TranscodeError> {
        if job.profiles.is_empty() {
            return Err(TranscodeError::NoProfiles);
        }
        let head = read_head(&directory.path().join(command::INPUT)).await?;
        let container = Container::sniff(&head).ok_or(TranscodeError::Container)?;
        let mut audio = AudioAction::choose(container, &head);
        let deadline = Instant::now() + limit;
        let (session, cost) = (session_of(job), balance::cost(&job.profiles));
        let provider = provider(&job.orch_id);
        let mut chosen = self.devices.choose(session, cost);
        let mut failed: Vec<Chosen> = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let plan = Plan {
                container,
                audio,
                video: container::video_codec(container, &head),
                accel: chosen.map_or(Accel::Software, |card| card.accel),
                profiles: &job.profiles,
                preset: &self.engine.preset,
                provider: &provider,
                signature: job.signature,
                clip: job.clip,
                threads: threads(),
            };
            let limit = match chosen {
                Some(_) => self.card_limit.unwrap_or(left / 2).min(left),
                None => left,
            };
            match (self.engine.run(&plan, directory.path(), limit).await, chosen) {
                (Ok(Made { decoded_pixels, renditions }), _) => {
                    self.devices.done(session, cost, chosen, &failed);
                    return Ok(Transcoded { decoded_pixels, renditions, _directory: directory });
                }
                (Err(error), Some(card)) => {
                    failed.push(card);
                    chosen = match failed.len() {
                        1 => self.devices.choose_other(session, cost, &failed),
                        _ => None,
                    };
                    let next = chosen.map_or(Accel::Software, |next| next.accel);
                    tracing::warn!(%error, from = ?card.accel, to = ?next, "a card failed, the segment goes elsewhere");
                    metrics::counter!("penstock_worker_device_failures_total", "device" => card.accel.device().map(|d| d.to_string()).unwrap_or_default())
                        .increment(1);
                }
                // An announced sound track without data stops ffmpeg before the first frame. On
                // every device: if it was that, no card is to blame.
                (Err(TranscodeError::Failed(error)), None) if audio != AudioAction::Drop => {
                    tracing::debug!(error, "trying without audio");
                    audio = AudioAction::Drop;
                    failed.clear();
                }
                // Nobody can do it: the input is to blame, not the cards.
                (Err(error), None) => return Err(error),
            }
        }
    }
}

/// What one run of ffmpeg made.
#[derive(Debug)]
pub struct Made {
    /// Frames decoded × width × height.
    pub decoded_pixels: u64,
    /// The files.
    pub renditions: Vec<Rendition>,
}

impl Engine {
    /// Runs ffmpeg once, as `plan` says, over the input in `directory`, for at most `limit`.
    pub async fn run(
        &self,
        plan: &Plan<'_>,
        directory: &Path,
        limit: Duration,
    ) -> Result<Made, TranscodeError> {
        let limits = Limits {
            cpu: limit * cores() + Duration::from_secs(1),
            // Drivers of cards map far more than they use.
            address_space_bytes: (plan.accel == Accel::Software).then_some(self.memory_bytes),
            file_bytes: self.rendition_bytes,
        };
        let args = command::arguments(plan)?;
        let line = self.tools.sandbox.wrap(&limits, &self.tools.ffmpeg, &args);
        let mut log = LogReader::default();
        let status = child::run(&line, directory, limit, |text| log.line(text)).await?;
        if !status.success() {
            let words = log.last_words();
            return Err(TranscodeError::Failed(if words.is_empty() {
                status.to_string()
            } else {
                words
            }));
        }
        if log.decoded_pixels() == 0 {
            return Err(TranscodeError::NothingDecoded);
        }
        let mut renditions = Vec::with_capacity(plan.profiles.len());
        for (index, profile) in plan.profiles.iter().enumerate() {
            let path = directory.join(command::output_name(index, profile.format));
            let bytes = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
            let pixels = log.encoded_pixels(index);
            if bytes == 0 || pixels == 0 {
                return Err(TranscodeError::Mismatch);
            }
            let signature = match plan.signature {
                false => None,
                true => {
                    let path = directory.join(command::signature_name(index));
                    let bytes = tokio::fs::metadata(&path).await?.len();
                    Some((path, bytes))
                }
            };
            let content_type = profile.format.content_type();
            renditions.push(Rendition { path, bytes, content_type, pixels, signature });
        }
        Ok(Made { decoded_pixels: log.decoded_pixels(), renditions })
    }
}

/// What stays on one card. A job without a session counts with its stream.
fn session_of(job: &SegmentJob) -> &str {
    match job.session_id.as_str() {
        "" => job.manifest_id.as_str(),
        id => id,
    }
}

/// Threads for each part of ffmpeg, where the machine has more than does good.
pub fn threads() -> Option<u32> {
    (cores() > MANY_CORES).then_some(MANY_CORES)
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// What the outputs' metadata says (video-transcode-worker.md section 2).
fn provider(orch_id: &str) -> String {
    format!("Livepeer Transcoder {} ({orch_id})", env!("CARGO_PKG_VERSION"))
}

async fn read_head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(PROBE_BYTES as u64).read_to_end(&mut head).await?;
    Ok(head)
}
