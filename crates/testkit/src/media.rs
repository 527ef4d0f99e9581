//! Real media: speech with its text, a film cut into segments, and what ffprobe says about a file.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::places;

/// A recording and what is said in it.
#[derive(Debug, Clone)]
pub struct Speech {
    /// A WAV file, 16 kHz mono.
    pub wav: PathBuf,
    /// Its exact words.
    pub text: String,
}

/// The five clips of *Sense and Sensibility* with their transcription.
pub fn speech() -> Vec<Speech> {
    let folder = places::media().join("librivox");
    let transcription = std::fs::read_to_string(folder.join("transcription")).expect("readable");
    let clips: Vec<Speech> = transcription
        .lines()
        .filter_map(|line| {
            let (text, name) = line.rsplit_once('(')?;
            let text = text.replace("<s>", "").replace("</s>", "").trim().to_owned();
            Some(Speech { wav: folder.join(format!("{}.wav", name.trim_end_matches(')'))), text })
        })
        .collect();
    assert_eq!(clips.len(), 5, "five clips");
    clips
}

/// A photograph: `astronaut.png`, `chelsea.png` (a cat), `coffee.png`, `page.png` (text).
pub fn picture(name: &str) -> Vec<u8> {
    std::fs::read(places::media().join("pictures").join(name)).expect("a picture of the test media")
}

/// Cuts a film into consecutive MPEG-TS segments of two seconds, each beginning with a keyframe and
/// keeping the film's clock. `rounds` plays the film so many times over.
pub fn cut_into_segments(film: &Path, rounds: usize, folder: &Path) -> Vec<PathBuf> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-stream_loop", &(rounds - 1).to_string(), "-i"])
        .arg(film)
        .args(["-map", "0:v:0", "-map", "0:a:0", "-c:v", "libx264", "-preset", "ultrafast"])
        .args(["-bf", "0", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0"])
        .args(["-c:a", "aac", "-ac", "2", "-f", "segment", "-segment_time", "2"])
        .args(["-segment_format", "mpegts"])
        .arg(folder.join("%d.ts"))
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&output.stderr));
    let segments: Vec<PathBuf> = (0..)
        .map(|number| folder.join(format!("{number}.ts")))
        .take_while(|path| path.exists())
        .collect();
    assert!(segments.len() >= 2, "a film has several segments");
    segments
}

/// What ffprobe counted in a file's video.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Presentation time of each decoded frame, in 1/90,000 s, rising.
    pub frame_pts_90khz: Vec<i64>,
    /// Whether there is sound beside it.
    pub has_audio: bool,
}

#[derive(Deserialize)]
struct Probed {
    streams: Vec<Stream>,
    #[serde(default)]
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Stream {
    codec_type: String,
    width: Option<u32>,
    height: Option<u32>,
    time_base: Option<String>,
}

#[derive(Deserialize)]
struct Frame {
    media_type: String,
    pts: Option<i64>,
}

/// Decodes the whole file and reports every frame: a file that does not decode fails the test.
pub fn probe(file: &Path) -> Video {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_frames", "-show_streams", "-of", "json"])
        .args(["-show_entries", "stream=codec_type,width,height,time_base:frame=media_type,pts"])
        .arg(file)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success(), "ffprobe {}: {output:?}", file.display());
    let probed: Probed = serde_json::from_slice(&output.stdout).expect("ffprobe writes JSON");
    let video = probed
        .streams
        .iter()
        .find(|stream| stream.codec_type == "video")
        .unwrap_or_else(|| panic!("{} has no video", file.display()));
    assert_eq!(video.time_base.as_deref(), Some("1/90000"), "MPEG-TS counts in 1/90,000 s");
    let mut frame_pts_90khz: Vec<i64> = probed
        .frames
        .iter()
        .filter(|frame| frame.media_type == "video")
        .map(|frame| frame.pts.expect("every frame has a time"))
        .collect();
    frame_pts_90khz.sort_unstable();
    Video {
        width: video.width.expect("video has a width"),
        height: video.height.expect("video has a height"),
        frame_pts_90khz,
        has_audio: probed.streams.iter().any(|stream| stream.codec_type == "audio"),
    }
}

/// How long a recording is, in whole milliseconds, counted from its samples.
pub fn duration_ms(wav: &Path) -> u64 {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=duration_ts,sample_rate", "-of", "json"])
        .arg(wav)
        .output()
        .expect("ffprobe runs");
    let probed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stream = &probed["streams"][0];
    let samples = stream["duration_ts"].as_u64().expect("a number of samples");
    let rate: u64 = stream["sample_rate"].as_str().and_then(|r| r.parse().ok()).expect("a rate");
    (samples * 1000).div_ceil(rate)
}

/// The film in small, for tests that are not about pictures: 320×180.
pub fn shrink(film: &Path, folder: &Path) -> PathBuf {
    let small = folder.join("small.mp4");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-y", "-v", "error", "-i"])
        .arg(film)
        .args(["-vf", "scale=320:180", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .arg(&small)
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&output.stderr));
    small
}
