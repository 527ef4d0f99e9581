//! What the ffmpeg program on this machine can do, found out once at start by asking and by trying.

use super::encoder::{Accel, encoder_name};
use crate::{
    child,
    confine::{Limits, Sandbox, find_program},
    settings::GpuChoice,
};
use penstock_domain::{Capability, CapabilitySet, VideoCodec};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use thiserror::Error;

/// ffmpeg cannot be used.
#[derive(Debug, Error)]
pub enum ToolsError {
    /// Not installed.
    #[error("--ffmpeg: `{0}` is not installed (Debian and Ubuntu: apt-get install ffmpeg)")]
    Missing(String),
    /// It does not run.
    #[error("--ffmpeg: {0} does not run: {1}")]
    Broken(PathBuf, String),
    /// It lacks the encoder that every job needs.
    #[error("--ffmpeg: {0} has no H.264 encoder (libx264)")]
    NoEncoder(PathBuf),
}

/// ffmpeg and what it can do here.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Absolute path of the program.
    pub ffmpeg: PathBuf,
    /// How children are held.
    pub sandbox: Sandbox,
    /// Cards that encode, by index; empty means software.
    pub gpus: Vec<u32>,
    encoders: BTreeSet<String>,
    signature_filter: bool,
}

impl Tools {
    /// Asks the program and tries the cards.
    pub async fn probe(ffmpeg: &OsStr, choice: &GpuChoice) -> Result<Self, ToolsError> {
        let path = find_program(ffmpeg)
            .ok_or_else(|| ToolsError::Missing(ffmpeg.to_string_lossy().into_owned()))?;
        let encoders = second_words(&ask(&path, "-encoders").await?);
        let filters = second_words(&ask(&path, "-filters").await?);
        if !encoders.contains("libx264") {
            return Err(ToolsError::NoEncoder(path));
        }
        let mut tools = Self {
            ffmpeg: path,
            sandbox: Sandbox::probe().await,
            gpus: Vec::new(),
            signature_filter: filters.contains("signature"),
            encoders,
        };
        for index in chosen_gpus(choice) {
            if tools.gpu_encodes(index).await {
                tools.gpus.push(index);
            } else {
                tracing::warn!(
                    gpu = index,
                    "this card has no usable H.264 encoder: segments are encoded in software"
                );
            }
        }
        Ok(tools)
    }

    /// Capabilities of a transcoder with these tools. Segment slicing is not among them.
    pub fn capabilities(&self) -> CapabilitySet {
        use Capability as C;
        // Decoding is software where a card cannot, so every H.264 format is decoded.
        let mut set = CapabilitySet::of([
            C::H264,
            C::MpegTs,
            C::Mp4,
            C::FractionalFramerates,
            C::StorageDirect,
            C::StorageS3,
            C::StorageGcs,
            C::H264Baseline,
            C::H264Main,
            C::H264High,
            C::H264ConstrainedHigh,
            C::Gop,
            C::AuthToken,
            C::HevcDecode,
            C::Vp8Decode,
            C::Vp9Decode,
            C::H264Decode444_8,
            C::H264Decode422_8,
            C::H264Decode444_10,
            C::H264Decode422_10,
            C::H264Decode420_10,
        ]);
        if self.encodes(VideoCodec::H265) {
            set.insert(C::HevcEncode);
        }
        if self.signature_filter {
            set.insert(C::Mpeg7Signature);
        }
        set
    }

    fn encodes(&self, codec: VideoCodec) -> bool {
        encoder_name(codec, Accel::Software).is_some_and(|name| self.encoders.contains(name))
    }

    /// A one-frame encode: some cards have no encoder, some drivers do not match.
    async fn gpu_encodes(&self, index: u32) -> bool {
        if !self.encoders.contains("h264_nvenc") {
            return false;
        }
        let args = format!(
            "-nostdin -hide_banner -loglevel error -f lavfi -i color=size=256x256:rate=1:duration=1 \
             -c:v h264_nvenc -gpu {index} -f null -"
        );
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let limits =
            Limits { cpu: Duration::from_secs(30), address_space_bytes: None, file_bytes: 1 << 20 };
        let line = self.sandbox.wrap(&limits, &self.ffmpeg, &args);
        let directory = std::env::temp_dir();
        let done = child::run(&line, &directory, Duration::from_secs(30), |text| {
            tracing::debug!(gpu = index, text, "encoder trial");
        });
        matches!(done.await, Ok(status) if status.success())
    }
}

/// The cards of this machine that `choice` means.
pub fn chosen_gpus(choice: &GpuChoice) -> Vec<u32> {
    wanted_gpus(choice, &present_gpus(Path::new("/dev")))
}

/// `/dev/nvidia0`, `/dev/nvidia1`, …
fn present_gpus(dev: &Path) -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir(dev) else { return BTreeSet::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok())
        .collect()
}

/// The cards to try: those asked for, or those that are there.
fn wanted_gpus(choice: &GpuChoice, present: &BTreeSet<u32>) -> Vec<u32> {
    match choice {
        GpuChoice::None => Vec::new(),
        GpuChoice::All => present.iter().copied().collect(),
        GpuChoice::Some(list) => list.clone(),
    }
}

async fn ask(ffmpeg: &Path, what: &str) -> Result<String, ToolsError> {
    let broken = |text: String| ToolsError::Broken(ffmpeg.to_owned(), text);
    let output = tokio::process::Command::new(ffmpeg)
        .args(["-hide_banner", "-loglevel", "error", what])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(30), output)
        .await
        .map_err(|_| broken("no answer within 30 s".into()))?
        .map_err(|e| broken(e.to_string()))?;
    if !output.status.success() {
        return Err(broken(String::from_utf8_lossy(&output.stderr).chars().take(300).collect()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// ffmpeg's lists have flags first, then the name.
fn second_words(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|l| l.split_whitespace().nth(1)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_cards() {
        let list = " V..... = Video\n ------\n V....D libx264  libx264 H.264\n A....D aac  AAC\n";
        assert!(second_words(list).contains("libx264"));
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm", "sda1"] {
            std::fs::write(dev.path().join(name), "").unwrap();
        }
        let present = present_gpus(dev.path());
        assert_eq!(wanted_gpus(&GpuChoice::All, &present), [0, 10]);
        assert_eq!(wanted_gpus(&GpuChoice::Some(vec![3]), &present), [3]);
        assert!(wanted_gpus(&GpuChoice::None, &present).is_empty());
        assert!(present_gpus(Path::new("/no/such/folder")).is_empty());
    }

    #[tokio::test]
    async fn a_missing_ffmpeg_says_how_to_get_it() {
        let error = Tools::probe(OsStr::new("no-such-ffmpeg"), &GpuChoice::None).await.unwrap_err();
        assert!(error.to_string().contains("apt-get install ffmpeg"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_ffmpeg_is_refused() {
        let error = Tools::probe(OsStr::new("false"), &GpuChoice::None).await.unwrap_err();
        assert!(matches!(error, ToolsError::Broken(..)));
        let error = Tools::probe(OsStr::new("true"), &GpuChoice::None).await.unwrap_err();
        assert!(matches!(error, ToolsError::NoEncoder(_)));
    }
}
