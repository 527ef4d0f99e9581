//! How long an audio file is: what an audio-to-text job is charged by. ffprobe says so in a
//! process of its own, with a forced format, no network protocols and resource limits; this
//! process looks at no more than the first bytes.

use bytes::Bytes;
use std::{path::Path, process::Stdio, time::Duration};
use thiserror::Error;
use tokio::{io::AsyncWriteExt, process::Command};

/// Longest look at a file.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Address space, CPU seconds and file size of the child, as prlimit wants them.
const LIMITS: [&str; 3] = ["--as=2147483648", "--cpu=15", "--fsize=0"];

/// Why there is no duration. The caller answers 400 `Unable to calculate duration`.
#[derive(Debug, Error)]
pub enum AudioError {
    /// Not a format that is transcribed.
    #[error("unknown audio format")]
    Format,
    /// ffprobe made nothing of it, or less than a second.
    #[error("no duration")]
    NoDuration,
    /// ffprobe did not run or not end: ours.
    #[error("ffprobe did not run")]
    Probe(#[source] std::io::Error),
}

/// Whole seconds, at least 1.
pub async fn duration_s(ffprobe: &Path, audio: Bytes) -> Result<u64, AudioError> {
    let demuxer = demuxer_of(&audio).ok_or(AudioError::Format)?;
    let folder = tempfile::tempdir().map_err(AudioError::Probe)?;
    let path = folder.path().join("audio");
    let mut file = tokio::fs::File::create(&path).await.map_err(AudioError::Probe)?;
    file.write_all(&audio).await.map_err(AudioError::Probe)?;
    file.flush().await.map_err(AudioError::Probe)?;
    drop(file);
    let child = Command::new("prlimit")
        .args(LIMITS)
        .arg("--")
        .arg(ffprobe)
        .args(["-v", "error", "-protocol_whitelist", "file", "-f", demuxer])
        .args(["-show_entries", "format=duration", "-of", "default=nw=1:nk=1", "-i"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .kill_on_drop(true)
        .spawn()
        .map_err(AudioError::Probe)?;
    let output = tokio::time::timeout(TIMEOUT, child.wait_with_output())
        .await
        .map_err(|_| AudioError::NoDuration)?
        .map_err(AudioError::Probe)?;
    parse_seconds(&output.stdout).ok_or(AudioError::NoDuration)
}

/// `12.345000` → 12; below 1 or no number → none.
fn parse_seconds(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text.get(..64).unwrap_or(text)).ok()?.trim();
    let whole = text.split('.').next()?;
    whole.parse().ok().filter(|seconds| *seconds >= 1)
}

/// ffmpeg's name of the container, from its first bytes.
fn demuxer_of(audio: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| {
        audio.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    Some(match () {
        () if at(0, b"RIFF") && at(8, b"WAVE") => "wav",
        () if at(0, b"fLaC") => "flac",
        () if at(0, b"OggS") => "ogg",
        () if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) => "matroska",
        () if at(4, b"ftyp") => "mov",
        () if at(0, b"FORM") => "aiff",
        () if at(0, &[0x47]) && at(188, &[0x47]) => "mpegts",
        () if at(0, b"ID3") => "mp3",
        () if mpeg_audio(audio) == Some(0) => "aac",
        () if mpeg_audio(audio).is_some() => "mp3",
        () => return None,
    })
}

/// The layer bits of an MPEG audio frame header: 0 is ADTS AAC.
fn mpeg_audio(audio: &[u8]) -> Option<u8> {
    match audio {
        [0xff, second, ..] if second & 0xe0 == 0xe0 => Some((second >> 1) & 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wav(seconds_tenths: u32) -> Bytes {
        let data = 1600 * seconds_tenths;
        let mut w = b"RIFF".to_vec();
        w.extend((36 + data).to_le_bytes());
        w.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        w.extend(8_000u32.to_le_bytes());
        w.extend(16_000u32.to_le_bytes());
        w.extend(b"\x02\0\x10\0data");
        w.extend(data.to_le_bytes());
        w.resize(w.len() + data as usize, 0);
        w.into()
    }

    #[tokio::test]
    async fn whole_seconds_of_real_files() {
        let probe = Path::new("ffprobe");
        assert_eq!(duration_s(probe, wav(10)).await.unwrap(), 1);
        assert_eq!(duration_s(probe, wav(39)).await.unwrap(), 3);
        assert!(matches!(duration_s(probe, wav(9)).await, Err(AudioError::NoDuration)));
        let odd = Bytes::from_static(b"RIFF\0\0\0\0WAVE");
        assert!(matches!(duration_s(probe, odd).await, Err(AudioError::NoDuration)));
        let text = Bytes::from_static(b"#EXTM3U\nfile:///etc/passwd");
        assert!(matches!(duration_s(probe, text).await, Err(AudioError::Format)));
    }

    #[test]
    fn formats() {
        assert_eq!(demuxer_of(b"ID3\x04"), Some("mp3"));
        assert_eq!(demuxer_of(&[0xff, 0xfb, 0x90]), Some("mp3"));
        assert_eq!(demuxer_of(&[0xff, 0xf1, 0x50]), Some("aac"));
        assert_eq!(demuxer_of(b"\0\0\0\x20ftypM4A "), Some("mov"));
        assert_eq!(demuxer_of(b"OggS"), Some("ogg"));
        assert_eq!(demuxer_of(b""), None);
        assert_eq!(demuxer_of(b"concat:/etc/passwd"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let _ = demuxer_of(&bytes);
            let _ = parse_seconds(&bytes);
        }
    }
}
