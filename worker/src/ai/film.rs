//! image-to-video: a runner answers with pictures, an orchestrator gets one MP4 (ai-pipelines.md
//! section 8.1). ffmpeg joins them, held as for segments.

use crate::{
    child::{self, ChildError},
    confine::{Limits, Sandbox},
    workdir::WorkDir,
};
use penstock_wire::{
    ai::{AiRequest, data_url},
    json::MediaAnswer,
};
use serde::Deserialize;
use serde_json::Number;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use thiserror::Error;

const FILM: &str = "film.mp4";

/// There is no film; the text goes to the orchestrator.
#[derive(Debug, Error)]
pub enum FilmError {
    /// Not the frames of one film.
    #[error("unexpected number of image-to-video outputs expected=1 actual={0}")]
    Count(usize),
    /// Not what the interface says.
    #[error("image-to-video container gave a malformed answer")]
    Malformed,
    /// A size or rate that no film has.
    #[error("image-to-video: no film of {width}x{height} at {fps} frames per second can be made")]
    Shape {
        /// Pixels.
        width: i64,
        /// Pixels.
        height: i64,
        /// Frames per second.
        fps: i64,
    },
    /// ffmpeg could not be run to its end.
    #[error("image-to-video: ffmpeg {0}")]
    Child(#[from] ChildError),
    /// ffmpeg gave up; its last words.
    #[error("image-to-video: ffmpeg failed: {0}")]
    Failed(String),
    /// Disk trouble.
    #[error("image-to-video storage: {0}")]
    Io(#[from] std::io::Error),
}

/// A film on disk.
#[derive(Debug)]
pub struct Film {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The first frame's.
    pub seed: Number,
    /// The first frame's.
    pub nsfw: bool,
    /// Where the file is; it goes when this does.
    pub folder: TempDir,
}

/// What a film is to look like; the network's defaults (ai-pipelines.md section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    width: i64,
    height: i64,
    fps: i64,
}

impl Look {
    fn of(request: &AiRequest) -> Result<Self, FilmError> {
        let said = |name, default| request.int(name).unwrap_or(default);
        let (width, height, fps) = (said("width", 1024), said("height", 576), said("fps", 7));
        let sides = 16..=8192;
        if !sides.contains(&width) || !sides.contains(&height) || !(1..=240).contains(&fps) {
            return Err(FilmError::Shape { width, height, fps });
        }
        // The encoder takes even sides only.
        Ok(Self { width: width & !1, height: height & !1, fps })
    }
}

#[derive(Deserialize)]
struct Frames {
    frames: Vec<Vec<MediaAnswer>>,
}

/// How pictures come: what ffmpeg calls them.
fn codec_of(picture: &[u8]) -> Option<&'static str> {
    match picture {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, ..] => Some("mjpeg"),
        _ => None,
    }
}

/// Makes films.
#[derive(Debug)]
pub struct FilmMaker {
    /// The program.
    pub ffmpeg: PathBuf,
    /// How it is held.
    pub sandbox: Sandbox,
    /// Speed of the encoder.
    pub preset: String,
    /// Address space of one ffmpeg.
    pub memory_bytes: u64,
    /// For frames and films.
    pub work_dir: Arc<WorkDir>,
    /// How much of them.
    pub limits: crate::limits::Limits,
}

impl FilmMaker {
    /// The film of a runner's answer, within `limit`.
    pub async fn make(
        &self,
        request: &AiRequest,
        answer: &[u8],
        limit: Duration,
    ) -> Result<Film, FilmError> {
        let look = Look::of(request)?;
        let answer: Frames = serde_json::from_slice(answer).map_err(|_| FilmError::Malformed)?;
        let count = answer.frames.len();
        let Ok([frames]) = <[Vec<MediaAnswer>; 1]>::try_from(answer.frames) else {
            return Err(FilmError::Count(count));
        };
        let first = frames.first().filter(|_| frames.len() <= self.limits.film_frames);
        let (seed, nsfw) = first.map(|f| (f.seed.clone(), f.nsfw)).ok_or(FilmError::Malformed)?;
        let folder = self.work_dir.job()?;
        let mut codec = None;
        for (index, frame) in frames.iter().enumerate() {
            let picture = data_url::decode(&frame.url, self.limits.film_frame_bytes)
                .map_err(|_| FilmError::Malformed)?;
            let found = codec_of(&picture).ok_or(FilmError::Malformed)?;
            if *codec.get_or_insert(found) != found {
                return Err(FilmError::Malformed);
            }
            tokio::fs::write(folder.path().join(format!("{index}.frame")), picture).await?;
        }
        let args = arguments(look, codec.unwrap_or("png"), &self.preset);
        let limits = Limits {
            cpu: limit,
            address_space_bytes: Some(self.memory_bytes),
            file_bytes: self.limits.film_bytes,
        };
        let line = self.sandbox.wrap(&limits, &self.ffmpeg, &args);
        let mut last = String::new();
        let status =
            child::run(&line, folder.path(), limit, |said| said.clone_into(&mut last)).await?;
        if !status.success() {
            return Err(FilmError::Failed(last.chars().filter(|c| !c.is_control()).collect()));
        }
        let path = folder.path().join(FILM);
        let bytes = tokio::fs::metadata(&path).await?.len();
        Ok(Film { path, bytes, seed, nsfw, folder })
    }
}

fn arguments(look: Look, codec: &str, preset: &str) -> Vec<String> {
    let Look { width, height, fps } = look;
    let text = format!(
        "-nostdin -hide_banner -loglevel error -y -protocol_whitelist file -f image2 \
         -framerate {fps} -start_number 0 -c:v {codec} -i %d.frame -an \
         -vf scale={width}:{height} -pix_fmt yuv420p -c:v libx264 -preset {preset} -b:v 6000k \
         -movflags +faststart -f mp4 {FILM}"
    );
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::ai::{FieldValue, Pipeline, Upload};

    fn request(fields: &[(&'static str, i64)]) -> AiRequest {
        let file = Some(Upload { name: "f".into(), data: bytes::Bytes::from_static(b"x") });
        let fields = fields.iter().map(|(name, value)| (*name, FieldValue::Int(*value)));
        AiRequest::of_values(Pipeline::ImageToVideo, None, file, fields).unwrap()
    }

    #[test]
    fn looks() {
        let look = |fields: &[_]| Look::of(&request(fields)).map(|l| (l.width, l.height, l.fps));
        assert_eq!(look(&[]).unwrap(), (1024, 576, 7));
        assert_eq!(look(&[("width", 321), ("height", 200), ("fps", 6)]).unwrap(), (320, 200, 6));
        for bad in [("width", 0), ("height", 9000), ("fps", 0), ("fps", 1000)] {
            assert!(look(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_command_line() {
        let look = Look { width: 64, height: 48, fps: 6 };
        let line = arguments(look, "png", "veryfast").join(" ");
        assert!(line.contains("-protocol_whitelist file -f image2 -framerate 6"), "{line}");
        assert!(line.contains("-vf scale=64:48 -pix_fmt yuv420p"), "{line}");
        assert!(line.ends_with("-b:v 6000k -movflags +faststart -f mp4 film.mp4"), "{line}");
    }
}
