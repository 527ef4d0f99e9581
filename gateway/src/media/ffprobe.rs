//! Audio length of containers that are not plain WAV, by `ffprobe` as a confined child process
//! (`penstock_confine`): forced demuxer, `-protocol_whitelist file`, no other files, no environment, no
//! network, limits on memory, processor time and open files, killed after ten seconds. It sees one private
//! temporary file and nothing of the caller's request but those bytes.

use super::wav;
use penstock_confine::{Limits, Sandbox, find_program};
use serde::Deserialize;
use std::{ffi::OsStr, io::Write, process::Stdio, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    io::AsyncReadExt,
    process::Command,
    sync::{OnceCell, Semaphore},
};

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
/// What the child may use; it writes no file.
const LIMITS: Limits =
    Limits { cpu: TIME_LIMIT, address_space_bytes: Some(1 << 30), file_bytes: 0 };
/// For every container: its own file alone, and no tables without end.
const HELD: &str = "-protocol_whitelist file -max_streams 64";
/// MP4 tables may say that the samples are in another file.
const HELD_MOV: &str = "-enable_drefs 0 -use_absolute_path 0";

/// Runs at most a few probes at once.
#[derive(Debug, Clone)]
pub struct AudioProbe {
    running: Arc<Semaphore>,
    /// Found out with the first file.
    sandbox: Arc<OnceCell<Sandbox>>,
}

impl Default for AudioProbe {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(4)), sandbox: Arc::default() }
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
        let ffprobe = find_program(OsStr::new("ffprobe"))
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        let sandbox = self.sandbox.get_or_init(Sandbox::probe).await;
        let line = sandbox.wrap(&LIMITS, &ffprobe, &arguments(demuxer, &path));
        let (program, arguments) =
            line.split_first().ok_or_else(|| std::io::Error::other("an empty command line"))?;
        let mut child = Command::new(program)
            .args(arguments)
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
            Ok(status) => drop(status?),
            Err(_) => return Err(NoDuration::NotAudio("takes too long to read")),
        }
        parse(&answer).ok_or(NoDuration::NotAudio("no audio with a known duration"))
    }
}

fn arguments(demuxer: &str, path: &str) -> Vec<String> {
    let held_mov = if demuxer == "mov" { HELD_MOV } else { "" };
    let mut words = vec!["-v", "error", "-hide_banner"];
    words.extend(HELD.split(' ').chain(held_mov.split_whitespace()));
    words.extend(["-f", demuxer, "-show_entries", "format=duration:stream=codec_type"]);
    words.extend(["-of", "json", "-i"]);
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    words.push(format!("file:{path}"));
    words
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

    /// Whatever a file says, no other one is read, nobody is called, and there is an answer.
    #[tokio::test(flavor = "multi_thread")]
    async fn hostile_files_have_no_length_or_a_bounded_one() {
        use penstock_testkit::hostile;
        let folder = tempfile::tempdir().unwrap();
        let words = "-f lavfi -i sine=duration=3 -c:a aac";
        let film = hostile::make(folder.path(), words, "sound.m4a");
        let path = folder.path().join("sound.m4a");
        let trap = hostile::Trap::set();
        let probe = AudioProbe::default();
        for script in hostile::scripts(&path, trap.address) {
            let refused = probe.duration_ms(&script.data).await;
            assert!(matches!(refused, Err(NoDuration::NotAudio(_))), "{}", script.name);
        }
        // Samples elsewhere: the tables alone are ours to read, and what they say is all there is.
        for file in [
            hostile::by_alias(&film, &path.display().to_string()),
            hostile::by_url(&film, &format!("http://{}/a", trap.address)),
            hostile::apart(&path.display().to_string(), b"#EXTM3U\n"),
        ] {
            let ms = probe.duration_ms(&file).await.unwrap_or_default();
            assert!(ms <= 3_100, "{ms}");
        }
        for sound in hostile::sounds() {
            match probe.duration_ms(&sound.data).await {
                Ok(ms) => assert!(ms <= MAX_MS, "{}: {ms}", sound.name),
                Err(NoDuration::NotAudio(_)) => {}
                Err(NoDuration::Probe(error)) => panic!("{}: {error}", sound.name),
            }
        }
        let mut chance = hostile::Seeded(1);
        for _ in 0..24 {
            let damaged = probe.duration_ms(&chance.damaged(&film)).await;
            assert!(!matches!(damaged, Err(NoDuration::Probe(_))), "{damaged:?}");
        }
        assert_eq!(probe.duration_ms(&film).await.unwrap() / 100, 30);
        assert_eq!(trap.reached(), 0);
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
