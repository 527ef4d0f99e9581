//! Audio length of containers that are not plain WAV, by `ffprobe` as a confined child process:
//! forced demuxer, `-protocol_whitelist file`, no environment, limits on memory, processor time and
//! open files (`prlimit`), killed after ten seconds. It sees one private temporary file and nothing
//! of the caller's request but those bytes.

use super::wav;
use serde::Deserialize;
use std::{io::Write, process::Stdio, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{io::AsyncReadExt, process::Command, sync::Semaphore};

/// Why there is no length.
#[derive(Debug, Error)]
pub enum NoDuration {
    /// The caller's fault: not audio that we know, or broken.
    #[error("{0}")]
    NotAudio(&'static str),
    /// Ours: the program is missing or the machine refuses.
    #[error("ffprobe cannot be run: {0}")]
    Probe(#[from] std::io::Error),
}

/// Longest file accepted, so that its price has an end: 24 hours.
const MAX_MS: u64 = 24 * 3600 * 1000;
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Runs at most a few probes at once.
#[derive(Debug, Clone)]
pub struct AudioProbe {
    running: Arc<Semaphore>,
}

impl Default for AudioProbe {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(4)) }
    }
}

impl AudioProbe {
    /// Milliseconds of audio in `file`. WAV is read here; others by ffprobe.
    pub async fn duration_ms(&self, file: &[u8]) -> Result<u64, NoDuration> {
        let ms = match wav::duration_ms(file) {
            Some(ms) => ms,
            None => self.with_ffprobe(file).await?,
        };
        if ms > MAX_MS {
            return Err(NoDuration::NotAudio("longer than 24 hours"));
        }
        Ok(ms)
    }

    async fn with_ffprobe(&self, file: &[u8]) -> Result<u64, NoDuration> {
        let demuxer = demuxer(file).ok_or(NoDuration::NotAudio("unknown audio container"))?;
        // Closed only when the process ends, which drops the probe with it.
        let _slot = self.running.acquire().await.map_err(std::io::Error::other)?;
        let mut temporary = tempfile::NamedTempFile::with_prefix("penstock-audio-")?;
        temporary.write_all(file)?;
        let path = temporary.path().display().to_string();
        let mut child = Command::new("prlimit")
            .args(["--as=1073741824", "--cpu=10", "--nofile=64", "--fsize=0", "--core=0"])
            .args(["ffprobe", "-v", "error", "-hide_banner", "-protocol_whitelist", "file"])
            .args(["-f", demuxer, "-show_entries", "format=duration:stream=codec_type"])
            .args(["-of", "json", "-i", &format!("file:{path}")])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut answer = Vec::new();
        let read = async {
            if let Some(out) = child.stdout.take() {
                out.take(64 * 1024).read_to_end(&mut answer).await?;
            }
            child.wait().await
        };
        match tokio::time::timeout(TIME_LIMIT, read).await {
            Ok(status) => {
                let status = status?;
                // 127 is prlimit saying that there is no ffprobe.
                if status.code() == Some(127) {
                    return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
                }
            }
            Err(_) => return Err(NoDuration::NotAudio("takes too long to read")),
        }
        parse(&answer).ok_or(NoDuration::NotAudio("no audio with a known duration"))
    }
}

/// By the first bytes; the file name and content type are the caller's and decide nothing.
fn demuxer(file: &[u8]) -> Option<&'static str> {
    Some(match file {
        [b'I', b'D', b'3', ..] => "mp3",
        [b'f', b'L', b'a', b'C', ..] => "flac",
        [b'O', b'g', b'g', b'S', ..] => "ogg",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => "wav",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "mov",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "matroska",
        [0xff, second, ..] if second & 0xf6 == 0xf0 => "aac",
        [0xff, second, ..] if second & 0xe0 == 0xe0 => "mp3",
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Format,
}

#[derive(Deserialize)]
struct Stream {
    codec_type: String,
}

#[derive(Deserialize)]
struct Format {
    duration: String,
}

fn parse(json: &[u8]) -> Option<u64> {
    let answer: Answer = serde_json::from_slice(json).ok()?;
    let audio = answer.streams.iter().any(|s| s.codec_type == "audio");
    let (whole, part) =
        answer.format.duration.split_once('.').unwrap_or((&answer.format.duration, "0"));
    let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    let ms = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)?;
    audio.then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let ok = br#"{"programs":[],"streams":[{"codec_type":"audio"}],"format":{"duration":"5.855011"}}"#;
        assert_eq!(parse(ok), Some(5_855));
        assert_eq!(
            parse(br#"{"streams":[{"codec_type":"video"}],"format":{"duration":"5.8"}}"#),
            None
        );
        assert_eq!(parse(br#"{"streams":[{"codec_type":"audio"}],"format":{}}"#), None);
        assert_eq!(
            parse(br#"{"streams":[{"codec_type":"audio"}],"format":{"duration":"-1.2"}}"#),
            None
        );
        assert_eq!(parse(b""), None);
    }

    #[tokio::test]
    async fn unknown_bytes_start_no_process() {
        let probe = AudioProbe::default();
        assert!(matches!(probe.duration_ms(b"").await, Err(NoDuration::NotAudio(_))));
        assert!(matches!(
            probe.duration_ms(b"#EXTM3U\nfile:///etc/passwd").await,
            Err(NoDuration::NotAudio(_))
        ));
        assert_eq!(probe.duration_ms(&wav::tests::wav(8_000, 8_000, 16_000)).await.unwrap(), 1_000);
    }
}
