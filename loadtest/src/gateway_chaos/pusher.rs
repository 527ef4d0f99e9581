//! An encoder that pushes one segment after the other and repeats each until it is answered, and a
//! viewer who then must find it in the playlist, once, in its place.

use super::{
    Tally,
    asking::{Answer, ask},
    tally::ms,
};
use penstock_testkit::until::DEADLINE;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// The smallest rendition: this is not about pictures.
const CONFIGURATION: &str =
    r#"{"profiles":[{"name":"tiny","width":128,"height":72,"bitrate":100000,"fps":0}]}"#;
/// Renditions that the viewer looks at.
const TRACKS: [&str; 2] = ["source", "tiny"];
/// How a segment is counted whose answer the encoder did not get.
pub const LOST: &str = "segments whose answer was lost";
/// How many segments a playlist shows.
const SHOWN: u64 = 6;

/// The encoder.
pub struct Pusher {
    /// What it pushes with.
    pub http: reqwest::Client,
    /// Where it notes what it sees.
    pub tally: Arc<Tally>,
    /// The stream's name.
    pub stream: String,
    /// Pushed in turn.
    pub media: Arc<Vec<Vec<u8>>>,
}

/// Why a segment could not be pushed.
pub type Failed = String;

impl Pusher {
    /// Pushes segment `number` to `gateway` until it is answered.
    pub async fn push(&self, gateway: &str, number: u64) -> Result<(), Failed> {
        let (began, strict) = (Instant::now(), self.tally.strict.load(Ordering::SeqCst));
        let mut tries = 0_u32;
        loop {
            let segment = self.media[number as usize % self.media.len()].clone();
            let request = self
                .http
                .put(format!("{gateway}/live/{}/{number}.ts", self.stream))
                .header("Accept", "multipart/mixed")
                .header("Content-Duration", "2000")
                .header("Livepeer-Transcode-Configuration", CONFIGURATION)
                .body(segment);
            tries += 1;
            match ask(request).await {
                Answer::Done(body) => {
                    if find(&body, b"Rendition-Name: tiny").is_none() {
                        return Err(format!("segment {number}: an answer without its rendition"));
                    }
                    if tries > 1 {
                        self.tally.count("segments answered after a repetition");
                    }
                    return Ok(());
                }
                other if strict => return Err(format!("segment {number}: {other:?}")),
                Answer::NotNow(pause) => {
                    self.tally.count("segment refusals (503)");
                    // An encoder has the next segment waiting: it is in a hurry.
                    tokio::time::sleep(pause.min(Duration::from_millis(100))).await;
                }
                Answer::Lost(_) => self.tally.count(LOST),
                Answer::Refused(status, text) => {
                    // Nobody could do it now; an encoder does not give up on a live stream.
                    self.tally.count("segment refusals (other)");
                    if began.elapsed() > DEADLINE / 2 {
                        return Err(format!("segment {number}: {status} {text}"));
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            if began.elapsed() > DEADLINE {
                return Err(format!("segment {number} was not answered in time"));
            }
        }
    }

    /// Pushes a segment and looks for it as a viewer does.
    pub async fn push_and_view(&self, gateway: &str, number: u64) -> Result<(), Failed> {
        let began = Instant::now();
        self.push(gateway, number).await?;
        for track in TRACKS {
            self.view(gateway, track, number).await?;
        }
        self.tally.gaps_ms.lock().unwrap().push(ms(began.elapsed()));
        self.tally.segments.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// The playlist ends with this segment, and has every one before it, once.
    async fn view(&self, gateway: &str, track: &str, number: u64) -> Result<(), Failed> {
        let url = format!("{gateway}/stream/{}/{track}.m3u8", self.stream);
        let (began, strict) = (Instant::now(), self.tally.strict.load(Ordering::SeqCst));
        loop {
            match ask(self.http.get(&url)).await {
                Answer::Done(body) => {
                    let text = String::from_utf8_lossy(&body);
                    return check(&text, number).map_err(|why| format!("{track}: {why}\n{text}"));
                }
                other if strict => return Err(format!("playlist at {number}: {other:?}")),
                Answer::NotNow(pause) => {
                    self.tally.count("playlist refusals (503)");
                    tokio::time::sleep(pause.min(Duration::from_millis(100))).await;
                }
                Answer::Lost(_) => self.tally.count("playlists whose answer was lost"),
                Answer::Refused(status, text) => {
                    return Err(format!("playlist at {number}: {status} {text}"));
                }
            }
            if began.elapsed() > DEADLINE {
                return Err(format!("no playlist in time at {number}"));
            }
        }
    }
}

/// Every number from the first shown to the newest, each once, and no break.
pub(crate) fn check(playlist: &str, newest: u64) -> Result<(), String> {
    if playlist.contains("#EXT-X-DISCONTINUITY") || playlist.contains("#EXT-X-GAP") {
        return Err(format!("a gap, at segment {newest}"));
    }
    let shown: Vec<u64> = playlist
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|uri| {
            let file = uri.rsplit('/').next().unwrap_or_default();
            file.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
        })
        .collect();
    let wanted: Vec<u64> = ((newest + 1).saturating_sub(SHOWN)..=newest).collect();
    if shown == wanted { Ok(()) } else { Err(format!("shows {shown:?}, not {wanted:?}")) }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::check;

    fn playlist(numbers: &[u64]) -> String {
        let mut text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n".to_owned();
        for number in numbers {
            text += &format!("#EXTINF:2.000,\n/stream/s/tiny/{number}.ts?h=abc\n");
        }
        text
    }

    #[test]
    fn a_playlist_has_every_segment_once() {
        assert_eq!(check(&playlist(&[0, 1]), 1), Ok(()));
        assert_eq!(check(&playlist(&[4, 5, 6, 7, 8, 9]), 9), Ok(()));
        assert!(check(&playlist(&[4, 5, 6, 8, 9]), 9).is_err(), "one is missing");
        assert!(check(&playlist(&[4, 5, 6, 7, 8, 8, 9]), 9).is_err(), "one is there twice");
        assert!(check(&playlist(&[4, 5, 6, 7, 8, 9]), 10).is_err(), "the newest is missing");
        let broken = playlist(&[0, 1]).replace("#EXTINF", "#EXT-X-DISCONTINUITY\n#EXTINF");
        assert!(check(&broken, 1).is_err());
    }
}
