//! What the ffmpeg program on this machine can do, found out once at start by asking it.

use super::encoder::{Accel, Chip, Device, encoder_name};
use crate::confine::{Sandbox, find_program};
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
    encoders: BTreeSet<String>,
    decoders: BTreeSet<String>,
    signature_filter: bool,
    scale_cuda: bool,
}

impl Tools {
    /// Asks the program.
    pub async fn probe(ffmpeg: &OsStr) -> Result<Self, ToolsError> {
        let path = find_program(ffmpeg)
            .ok_or_else(|| ToolsError::Missing(ffmpeg.to_string_lossy().into_owned()))?;
        let encoders = second_words(&ask(&path, "-encoders").await?);
        let decoders = second_words(&ask(&path, "-decoders").await?);
        let filters = second_words(&ask(&path, "-filters").await?);
        if !encoders.contains("libx264") {
            return Err(ToolsError::NoEncoder(path));
        }
        Ok(Self {
            ffmpeg: path,
            sandbox: Sandbox::probe().await,
            signature_filter: filters.contains("signature"),
            scale_cuda: filters.contains("scale_cuda"),
            encoders,
            decoders,
        })
    }

    /// The ways in which this ffmpeg might use a card, the best first. Whether the card and its driver
    /// go along, only a trial tells.
    pub fn ways(&self, device: Device) -> Vec<Accel> {
        match device {
            Device::Nvidia(card) => {
                let (scale, encode) = (self.scale_cuda, self.encoders.contains("h264_nvenc"));
                [(true, true), (false, true), (true, false)]
                    .into_iter()
                    .filter(|(on_card, encoder)| (scale || !on_card) && (encode || !encoder))
                    .map(|(decode, encode)| Accel::Nvidia { card, decode, encode })
                    .collect()
            }
            Device::Netint(card) => match Chip::of(&self.encoders) {
                None => Vec::new(),
                Some(chip) => {
                    [true, false].map(|decode| Accel::Netint { card, chip, decode }).into()
                }
            },
        }
    }

    /// Capabilities of a transcoder with these tools.
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
            C::H264Decode444_8,
            C::H264Decode422_8,
            C::H264Decode444_10,
            C::H264Decode422_10,
            C::H264Decode420_10,
            // Gateways of the reference ask for it with every pushed segment, sliced or not.
            C::SegmentSlicing,
        ]);
        if self.encodes(VideoCodec::H265) {
            set.insert(C::HevcEncode);
        }
        // By the decoders that jobs may use (`command.rs`).
        for (name, capability) in
            [("hevc", C::HevcDecode), ("vp8", C::Vp8Decode), ("vp9", C::Vp9Decode)]
        {
            if self.decoders.contains(name) {
                set.insert(capability);
            }
        }
        if self.signature_filter {
            set.insert(C::Mpeg7Signature);
        }
        set
    }

    fn encodes(&self, codec: VideoCodec) -> bool {
        encoder_name(codec, Accel::Software).is_some_and(|name| self.encoders.contains(name))
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
    fn lists_are_read() {
        let list = " V..... = Video\n ------\n V....D libx264  libx264 H.264\n A....D aac  AAC\n";
        assert!(second_words(list).contains("libx264"));
    }

    #[test]
    fn ways_follow_from_what_ffmpeg_was_built_with() {
        let ways = |encoders: &[&str], scale_cuda, device| {
            let tools = Tools {
                ffmpeg: "ffmpeg".into(),
                sandbox: Sandbox::default(),
                encoders: encoders.iter().map(|e| (*e).to_owned()).collect(),
                decoders: BTreeSet::new(),
                signature_filter: true,
                scale_cuda,
            };
            tools.ways(device).into_iter().map(Accel::engines).collect::<Vec<_>>()
        };
        let (card, nvenc) = (Device::Nvidia(0), ["libx264", "h264_nvenc"]);
        assert_eq!(
            ways(&nvenc, true, card),
            ["nvdec+cuda+nvenc", "software+nvenc", "nvdec+cuda+software"]
        );
        assert_eq!(ways(&nvenc, false, card), ["software+nvenc"]);
        assert_eq!(ways(&["libx264"], true, card), ["nvdec+cuda+software"]);
        assert!(ways(&["libx264"], false, card).is_empty());
        assert!(ways(&nvenc, true, Device::Netint(0)).is_empty());
        assert_eq!(
            ways(&["h264_ni_quadra_enc"], false, Device::Netint(0)),
            ["netint", "software+netint"]
        );
    }

    #[test]
    fn what_is_decoded_is_what_ffmpeg_has_decoders_for() {
        let capabilities = |decoders: &[&str]| {
            let tools = Tools {
                ffmpeg: "ffmpeg".into(),
                sandbox: Sandbox::default(),
                encoders: BTreeSet::new(),
                decoders: decoders.iter().map(|d| (*d).to_owned()).collect(),
                signature_filter: false,
                scale_cuda: false,
            };
            tools.capabilities()
        };
        let has = |set: &CapabilitySet, c| CapabilitySet::of([c]).is_subset(set);
        let (all, one) = (capabilities(&["hevc", "vp8", "vp9"]), capabilities(&["vp9"]));
        use Capability::{HevcDecode, Vp8Decode, Vp9Decode};
        assert_eq!([HevcDecode, Vp8Decode, Vp9Decode].map(|c| has(&all, c)), [true; 3]);
        assert_eq!([HevcDecode, Vp8Decode, Vp9Decode].map(|c| has(&one, c)), [false, false, true]);
    }

    #[tokio::test]
    async fn a_missing_ffmpeg_says_how_to_get_it() {
        let error = Tools::probe(OsStr::new("no-such-ffmpeg")).await.unwrap_err();
        assert!(error.to_string().contains("apt-get install ffmpeg"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_ffmpeg_is_refused() {
        let error = Tools::probe(OsStr::new("false")).await.unwrap_err();
        assert!(matches!(error, ToolsError::Broken(..)));
        let error = Tools::probe(OsStr::new("true")).await.unwrap_err();
        assert!(matches!(error, ToolsError::NoEncoder(_)));
    }
}
