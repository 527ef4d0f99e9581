//! How long an audio file is: what an audio-to-text job is charged by. ffprobe says so in a
//! process of its own (`penstock_confine`), with a forced format, no other files, no network and resource
//! limits; this process looks at no more than the first bytes.

use bytes::Bytes;
use penstock_confine::{Limits, Sandbox, find_program};
use std::{path::PathBuf, process::Stdio, time::Duration};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::OnceCell,
};

/// Longest look at a file.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What the child may use; it writes no file.
const LIMITS: Limits =
    Limits { cpu: Duration::from_secs(15), address_space_bytes: Some(1 << 31), file_bytes: 0 };
/// For every container: its own file alone, and no tables without end.
const HELD: &str = "-v error -protocol_whitelist file -max_streams 64";
/// MP4 tables may say that the samples are in another file.
const HELD_MOV: &str = "-enable_drefs 0 -use_absolute_path 0";
/// More than a number takes.
const MAX_ANSWER_BYTES: u64 = 256;

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

/// Tells lengths by one ffprobe program.
#[derive(Debug)]
pub struct AudioProbe {
    ffprobe: PathBuf,
    /// Found out with the first file.
    sandbox: OnceCell<Sandbox>,
}

impl AudioProbe {
    /// By this program, a name in `PATH` or a path.
    pub fn new(ffprobe: PathBuf) -> Self {
        Self { ffprobe, sandbox: OnceCell::new() }
    }

    /// Whole seconds, at least 1.
    pub async fn duration_s(&self, audio: Bytes) -> Result<u64, AudioError> {
        let demuxer = demuxer_of(&audio).ok_or(AudioError::Format)?;
        let answer = self.ask(demuxer, &audio).await.map_err(AudioError::Probe)?;
        answer.and_then(|answer| parse_seconds(&answer)).ok_or(AudioError::NoDuration)
    }

    /// What ffprobe says of a file; `None`: nothing in time.
    async fn ask(&self, demuxer: &str, audio: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("audio");
        let mut file = tokio::fs::File::create(&path).await?;
        file.write_all(audio).await?;
        file.flush().await?;
        drop(file);
        let program = find_program(self.ffprobe.as_os_str())
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        let held_mov = if demuxer == "mov" { HELD_MOV } else { "" };
        let words = HELD.split(' ').chain(held_mov.split_whitespace());
        let words = words.chain(["-f", demuxer, "-show_entries", "format=duration"]);
        let words = words.chain(["-of", "default=nw=1:nk=1", "-i"]);
        let mut words: Vec<String> = words.map(str::to_owned).collect();
        words.push(format!("file:{}", path.display()));
        let sandbox = self.sandbox.get_or_init(Sandbox::probe).await;
        let line = sandbox.wrap(&LIMITS, &program, &words);
        let (program, words) =
            line.split_first().ok_or_else(|| std::io::Error::other("an empty command line"))?;
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .kill_on_drop(true)
            .spawn()?;
        let mut answer = Vec::new();
        let read = async {
            if let Some(out) = child.stdout.take() {
                out.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
            }
            child.wait().await
        };
        match tokio::time::timeout(TIMEOUT, read).await {
            Ok(status) => status.map(|_| Some(answer)),
            Err(_) => Ok(None),
        }
    }
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
        let probe = AudioProbe::new("ffprobe".into());
        assert_eq!(probe.duration_s(wav(10)).await.unwrap(), 1);
        assert_eq!(probe.duration_s(wav(39)).await.unwrap(), 3);
        assert!(matches!(probe.duration_s(wav(9)).await, Err(AudioError::NoDuration)));
        let odd = Bytes::from_static(b"RIFF\0\0\0\0WAVE");
        assert!(matches!(probe.duration_s(odd).await, Err(AudioError::NoDuration)));
        let text = Bytes::from_static(b"#EXTM3U\nfile:///etc/passwd");
        assert!(matches!(probe.duration_s(text).await, Err(AudioError::Format)));
        let missing = AudioProbe::new("/no/such/ffprobe".into());
        assert!(matches!(missing.duration_s(wav(10)).await, Err(AudioError::Probe(_))));
    }

    /// Whatever a file says, no other one is read, nobody is called, and there is an answer.
    #[tokio::test(flavor = "multi_thread")]
    async fn hostile_files_are_nobodys_fault_but_theirs() {
        use penstock_testkit::hostile;
        let folder = tempfile::tempdir().unwrap();
        let words = "-f lavfi -i sine=duration=3 -c:a aac";
        let film = hostile::make(folder.path(), words, "sound.m4a");
        let path = folder.path().join("sound.m4a");
        let trap = hostile::Trap::set();
        let probe = AudioProbe::new("ffprobe".into());
        let scripts = hostile::scripts(&path, trap.address);
        for file in scripts.iter().chain(&hostile::disguised(&scripts)) {
            let refused = probe.duration_s(file.data.clone().into()).await;
            let theirs = matches!(refused, Err(AudioError::Format | AudioError::NoDuration));
            assert!(theirs, "{}: {refused:?}", file.name);
        }
        for file in [
            hostile::by_alias(&film, &path.display().to_string()),
            hostile::by_url(&film, &format!("http://{}/a", trap.address)),
            hostile::apart(&path.display().to_string(), b"#EXTM3U\n"),
        ] {
            // The tables alone are read, and what they say is all there is.
            assert!(probe.duration_s(file.into()).await.unwrap_or_default() <= 3);
        }
        for sound in hostile::sounds() {
            let asked = probe.duration_s(sound.data.into()).await;
            assert!(!matches!(asked, Err(AudioError::Probe(_))), "{}: {asked:?}", sound.name);
        }
        let mut chance = hostile::Seeded(2);
        for _ in 0..24 {
            let damaged = probe.duration_s(chance.damaged(&film).into()).await;
            assert!(!matches!(damaged, Err(AudioError::Probe(_))), "{damaged:?}");
        }
        assert_eq!(probe.duration_s(film.into()).await.unwrap(), 3);
        assert_eq!(trap.reached(), 0);
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
