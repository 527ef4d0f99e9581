//! Moving pictures and a tone, made by ffmpeg: no film has to be there, and each run has the same.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// How many different segments there are.
const SEGMENTS: u64 = 3;

/// ffmpeg's input: pictures and sound of so many seconds.
fn source(width: u32, height: u32, seconds: u64) -> Vec<String> {
    let pictures = format!("testsrc=size={width}x{height}:rate=25:duration={seconds}");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={seconds}");
    let args = ["-f", "lavfi", "-i", &pictures, "-f", "lavfi", "-i", &sound];
    args.map(str::to_owned).to_vec()
}

/// Encoded so that each so many seconds begin with a key frame.
fn encoded(segment_s: u64) -> Vec<String> {
    let frames = (segment_s * 25).to_string();
    let video = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0"];
    let keys = ["-g", &frames, "-keyint_min", &frames, "-sc_threshold", "0"];
    let audio = ["-c:a", "aac", "-ac", "2"];
    video.iter().chain(&keys).chain(&audio).map(|arg| (*arg).to_owned()).collect()
}

async fn ffmpeg(args: Vec<String>) -> Result<(), String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-y", "-v", "error"]).args(args).stdin(Stdio::null());
    let output = command.kill_on_drop(true).output().await;
    let output = output.map_err(|error| format!("ffmpeg, which makes the media: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ffmpeg: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Consecutive MPEG-TS segments.
pub async fn segments(
    folder: &Path,
    (width, height): (u32, u32),
    segment_s: u64,
) -> Result<Vec<bytes::Bytes>, String> {
    let (length, name) = (segment_s.to_string(), format!("{width}x{height}-{segment_s}"));
    let mut args = source(width, height, segment_s * SEGMENTS);
    args.extend(encoded(segment_s));
    args.extend(
        ["-f", "segment", "-segment_time", &length, "-segment_format", "mpegts"].map(str::to_owned),
    );
    args.push(folder.join(format!("{name}-%d.ts")).display().to_string());
    ffmpeg(args).await?;
    let mut all = Vec::new();
    for number in 0..SEGMENTS {
        let path = folder.join(format!("{name}-{number}.ts"));
        let segment = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        all.push(segment.into());
    }
    Ok(all)
}

/// A film with a key frame every two seconds, to be published as it is.
pub async fn film(
    folder: &Path,
    (width, height): (u32, u32),
    seconds: u64,
) -> Result<PathBuf, String> {
    let path = folder.join(format!("{width}x{height}-{seconds}.flv"));
    let mut args = source(width, height, seconds);
    args.extend(encoded(2));
    args.extend(["-f".to_owned(), "flv".to_owned(), path.display().to_string()]);
    ffmpeg(args).await?;
    Ok(path)
}
