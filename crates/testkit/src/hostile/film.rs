//! Small real films to start from.

use std::{path::Path, process::Command};

/// Runs ffmpeg in `folder` with these words; what it makes is `output`.
pub fn make(folder: &Path, words: &str, output: &str) -> Vec<u8> {
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(words.split_whitespace())
        .arg(output)
        .current_dir(folder)
        .output()
        .expect("ffmpeg runs");
    assert!(done.status.success(), "ffmpeg {words}: {}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(folder.join(output)).expect("ffmpeg wrote it")
}

const PICTURES: &str = "-f lavfi -i testsrc2=size=64x36:rate=25:duration=0.4 \
                        -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p";

/// Ten frames of 64 × 36 with sound, MPEG-TS.
pub fn tiny_ts(folder: &Path) -> Vec<u8> {
    let words = format!("-f lavfi -i sine=duration=0.4 {PICTURES} -c:a aac -f mpegts");
    make(folder, &words, "tiny.ts")
}

/// Ten frames of 64 × 36, MP4.
pub fn tiny_mp4(folder: &Path) -> Vec<u8> {
    make(folder, PICTURES, "tiny.mp4")
}
