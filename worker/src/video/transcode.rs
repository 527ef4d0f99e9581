//! Runs one ffmpeg process over one segment and collects what it made.

use super::{
    command::{self, Plan, UnsupportedCodec},
    container::{AudioAction, Container, PROBE_BYTES},
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
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use thiserror::Error;
use tokio::io::AsyncReadExt;

/// Largest rendition an orchestrator takes (video-transcode-worker.md section 3).
const MAX_RENDITION_BYTES: u64 = 300_000_000;

/// Beyond this many threads a codec gains nothing, and each one maps memory that is limited.
const MANY_CORES: u32 = 16;

/// A transcode that gave no result; the text goes to the orchestrator.
#[derive(Debug, Error)]
pub enum TranscodeError {
    /// Not a container that segments come in.
    #[error("unsupported input: neither MPEG-TS nor MP4")]
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

/// Makes renditions.
#[derive(Debug)]
pub struct Transcoder {
    tools: Tools,
    preset: String,
    memory_bytes: u64,
    /// Spreads segments over cards.
    next_gpu: AtomicUsize,
}

impl Transcoder {
    /// `preset` is the speed of the software encoders, `memory_bytes` the address space of one ffmpeg.
    pub fn new(tools: Tools, preset: String, memory_bytes: u64) -> Self {
        Self { tools, preset, memory_bytes, next_gpu: AtomicUsize::new(0) }
    }

    /// The tools in use.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Transcodes the segment that lies in `directory` under [`command::INPUT`], within `limit`.
    /// A card that fails is replaced by the processor: drivers hiccup, and some inputs only decode there.
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
        let deadline = tokio::time::Instant::now() + limit;
        let mut accel = self.choose_accel();
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let provider = provider(&job.orch_id);
            let plan = Plan {
                container,
                audio,
                accel,
                profiles: &job.profiles,
                preset: &self.preset,
                provider: &provider,
                signature: job.signature,
                threads: (cores() > MANY_CORES).then_some(MANY_CORES),
            };
            match self.run(&plan, directory.path(), left).await {
                Ok((decoded_pixels, renditions)) => {
                    return Ok(Transcoded { decoded_pixels, renditions, _directory: directory });
                }
                Err(error) if accel != Accel::Software => {
                    tracing::warn!(%error, ?accel, "the card failed, using the processor");
                    accel = Accel::Software;
                }
                // An announced sound track without data stops ffmpeg before the first frame.
                Err(TranscodeError::Failed(error)) if audio != AudioAction::Drop => {
                    tracing::debug!(error, "trying without audio");
                    audio = AudioAction::Drop;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn run(
        &self,
        plan: &Plan<'_>,
        directory: &Path,
        limit: Duration,
    ) -> Result<(u64, Vec<Rendition>), TranscodeError> {
        let limits = Limits {
            cpu: limit * cores() + Duration::from_secs(1),
            address_space_bytes: (plan.accel == Accel::Software).then_some(self.memory_bytes),
            file_bytes: MAX_RENDITION_BYTES,
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
        Ok((log.decoded_pixels(), renditions))
    }

    fn choose_accel(&self) -> Accel {
        let gpus = &self.tools.gpus;
        let turn = self.next_gpu.fetch_add(1, Ordering::Relaxed);
        gpus.get(turn.checked_rem(gpus.len()).unwrap_or(0))
            .map_or(Accel::Software, |index| Accel::Nvidia(*index))
    }
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
