//! The trial of a card: a real transcode of a made-up clip, with the command line that segments get.
//! It fails where a card lacks a part, a driver does not match, or ffmpeg was built without it.

use super::{
    command::{self, Plan},
    container::{AudioAction, Container},
    encoder::{Accel, Device},
    transcode::{Engine, Made, TranscodeError, threads},
};
use crate::{
    child::{self, ChildError},
    confine::Limits,
};
use penstock_domain::{VideoCodec, VideoProfile};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use thiserror::Error;

/// How long one way of using a card may take, and making the clip.
const LIMIT: Duration = Duration::from_secs(30);

/// A trial cannot be made at all.
#[derive(Debug, Error)]
#[error("the clip for trying cards cannot be made: {0}")]
pub struct NoClip(String);

/// What a made-up clip looks like.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
    /// Seconds.
    pub seconds: u32,
}

/// Small enough to be quick on a processor, large enough for every encoder.
const SMALL: Clip = Clip { width: 640, height: 360, fps: 30, seconds: 1 };

/// Tries cards.
#[derive(Debug, Clone)]
pub struct Trial {
    engine: Engine,
    clip: Arc<TempDir>,
    profiles: Arc<[VideoProfile]>,
}

impl Trial {
    /// Makes the clip.
    pub async fn prepare(engine: Engine) -> Result<Self, NoClip> {
        let profiles = ["P360p30fps16x9", "P240p30fps16x9"].map(VideoProfile::preset);
        let profiles = profiles.into_iter().flatten().collect();
        Self::with_clip(engine, SMALL, profiles).await
    }

    /// The same with a clip and renditions of one's own.
    pub async fn with_clip(
        engine: Engine,
        clip: Clip,
        profiles: Arc<[VideoProfile]>,
    ) -> Result<Self, NoClip> {
        let folder = tempfile::tempdir().map_err(|e| NoClip(e.to_string()))?;
        let Clip { width, height, fps, seconds } = clip;
        let args = format!(
            "-nostdin -hide_banner -loglevel error -y \
             -f lavfi -i testsrc2=size={width}x{height}:rate={fps}:duration={seconds} \
             -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p -g {fps} -f mpegts {}",
            command::INPUT
        );
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let limits = Limits { cpu: LIMIT * 64, address_space_bytes: None, file_bytes: 1 << 30 };
        let line = engine.tools.sandbox.wrap(&limits, &engine.tools.ffmpeg, &args);
        let mut said = String::new();
        let status = child::run(&line, folder.path(), LIMIT, |text| text.clone_into(&mut said));
        match status.await {
            Ok(status) if status.success() => Ok(Self { engine, clip: Arc::new(folder), profiles }),
            Ok(status) => Err(NoClip(format!("{status}: {said}"))),
            Err(error) => Err(NoClip(error.to_string())),
        }
    }

    /// The best way in which the card works, or why none does.
    pub async fn card(&self, device: Device) -> Result<Accel, String> {
        let ways = self.engine.tools.ways(device);
        if ways.is_empty() {
            return Err(match device {
                Device::Nvidia(_) => "this ffmpeg has neither h264_nvenc nor scale_cuda".to_owned(),
                Device::Netint(_) => "this ffmpeg has no Netint encoder".to_owned(),
            });
        }
        let mut reasons = Vec::new();
        for accel in ways {
            match self.run(accel, LIMIT).await {
                Ok(_) => return Ok(accel),
                Err(error) => {
                    let hangs = matches!(error, TranscodeError::Child(ChildError::TimedOut(_)));
                    tracing::debug!(%device, engines = accel.engines(), %error, "a trial failed");
                    reasons.push(format!("{}: {error}", accel.engines()));
                    if hangs {
                        break;
                    }
                }
            }
        }
        Err(reasons.join("; "))
    }

    /// Transcodes the clip once.
    pub async fn run(&self, accel: Accel, limit: Duration) -> Result<Made, TranscodeError> {
        let folder = tempfile::tempdir()?;
        let (from, to): (PathBuf, PathBuf) =
            (self.clip.path().join(command::INPUT), folder.path().join(command::INPUT));
        if tokio::fs::hard_link(&from, &to).await.is_err() {
            tokio::fs::copy(&from, &to).await?;
        }
        let plan = Plan {
            container: Container::MpegTs,
            audio: AudioAction::Drop,
            video: Some(VideoCodec::H264),
            accel,
            profiles: &self.profiles,
            preset: &self.engine.preset,
            threads: threads(),
            provider: "trial",
            clip: None,
            signature: false,
        };
        self.engine.run(&plan, folder.path(), limit).await
    }
}

/// Tries all of them, one after the other, and says in the log what came of it.
pub async fn try_all(trial: &Trial, devices: Vec<Device>) -> Vec<(Device, Result<Accel, String>)> {
    let mut tried = Vec::with_capacity(devices.len());
    for device in devices {
        let outcome = trial.card(device).await;
        match &outcome {
            Ok(accel) => {
                tracing::info!(%device, engines = accel.engines(), "segments are transcoded on this card");
            }
            Err(reason) => {
                tracing::warn!(%device, reason, "this card is not used for video: its trial failed");
            }
        }
        tried.push((device, outcome));
    }
    tried
}
