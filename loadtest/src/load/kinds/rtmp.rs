//! Publications by RTMP, each by an ffmpeg of its own in real time, watched in the stream's playlist as a
//! player does: how long until the first segment is there, and how far behind the publisher each one is.

use super::{
    super::{
        drive::Failure,
        scenario::Rtmp,
        tally::{Tally, Turn},
        target::Role,
    },
    Context, answers, authorized, below, media, run_name,
};
use reqwest::{StatusCode, Url, header::HeaderValue};
use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::sleep,
};

/// From a publication's begin until its playlist has a segment.
const FIRST: &str = "first segment";
/// From when a segment's last picture was due until the playlist has it.
const BEHIND: &str = "behind live";
/// Between two looks at a playlist.
const LOOK: Duration = Duration::from_millis(100);
/// Read of what ffmpeg says.
const SAID_BYTES: u64 = 4_096;

/// One publication after the other, of the same film.
pub struct Publications {
    http: reqwest::Client,
    gateway: Url,
    rtmp: Url,
    bearer: Option<HeaderValue>,
    token: Option<String>,
    film: PathBuf,
    seconds: u64,
    run: String,
    tally: Arc<Tally>,
}

impl Publications {
    pub async fn prepare(context: &Context<'_>, rtmp: &Rtmp) -> Result<Self, String> {
        let size = (rtmp.width, rtmp.height);
        Ok(Self {
            http: context.http(context.trust())?,
            gateway: context.place(Role::Gateway)?,
            rtmp: context.place(Role::Rtmp)?,
            bearer: context.bearer()?,
            token: context.target.bearer.clone(),
            film: media::film(context.folder, size, rtmp.seconds).await?,
            seconds: rtmp.seconds,
            run: format!("{}-{}", context.load.name, run_name()),
            tally: Arc::clone(context.tally),
        })
    }

    pub async fn run(&self, turn: Turn) -> Result<(), Failure> {
        let stream = format!("{}-{}", self.run, turn.number);
        let mut publisher = self.publish(&stream)?;
        let playlist = below(&self.gateway, &format!("stream/{stream}/source.m3u8"));
        let mut seen = Seen::default();
        // The last segment is what is left: it may be a little shorter than the film.
        let enough = Duration::from_secs(self.seconds).saturating_sub(Duration::from_secs(1));
        while seen.media < enough {
            sleep(LOOK).await;
            if let Some(text) = self.look(&playlist).await? {
                for media in seen.look(&text) {
                    if seen.count == 1 {
                        self.tally.record(FIRST, turn.due, turn.begun);
                    }
                    self.tally.record(BEHIND, turn.due + media, turn.begun + media);
                }
            }
            if let Ok(Some(status)) = publisher.try_wait()
                && !status.success()
            {
                return Err(format!("ffmpeg: {}", said(&mut publisher).await));
            }
        }
        let status = publisher.wait().await.map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        Err(format!("ffmpeg: {}", said(&mut publisher).await))
    }

    fn publish(&self, stream: &str) -> Result<Child, Failure> {
        let mut url = below(&self.rtmp, &format!("{stream}/key"));
        if let Some(token) = &self.token {
            url = format!("{url}?token={token}");
        }
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-re", "-i"]).arg(&self.film);
        ffmpeg.args(["-c", "copy", "-f", "flv"]).arg(url).kill_on_drop(true);
        ffmpeg.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        ffmpeg.spawn().map_err(|error| format!("ffmpeg: {error}"))
    }

    /// The playlist, if there is one yet.
    async fn look(&self, playlist: &str) -> Result<Option<String>, Failure> {
        let request = authorized(self.http.get(playlist), self.bearer.as_ref());
        let answer = request.send().await.map_err(|error| answers::broken(&error))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answers::body(Ok(answer)).await?;
        Ok(Some(String::from_utf8_lossy(&body).into_owned()))
    }
}

/// The first line of what it wrote. Addresses in it, which have keys, are left out.
async fn said(publisher: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = publisher.stderr.take() {
        let _ = stderr.take(SAID_BYTES).read_to_end(&mut text).await;
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.contains("://")).collect();
    words.join(" ")
}

/// What a playlist has shown.
#[derive(Debug, Default)]
struct Seen {
    next: u64,
    count: u64,
    media: Duration,
}

impl Seen {
    /// Where each segment ends that was not seen before, in the film's time. `count` is as of the newest.
    fn look(&mut self, playlist: &str) -> Vec<Duration> {
        let mut number = 0;
        let mut length = Duration::ZERO;
        let mut ends = Vec::new();
        for line in playlist.lines() {
            if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                number = first.trim().parse().unwrap_or(0);
            } else if let Some(info) = line.strip_prefix("#EXTINF:") {
                let seconds = info.split(',').next().unwrap_or_default();
                let seconds = seconds.trim().parse::<f64>().unwrap_or(0.0);
                length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            } else if !line.is_empty() && !line.starts_with('#') {
                if number >= self.next {
                    (self.next, self.count) = (number + 1, self.count + 1);
                    self.media = self.media.saturating_add(length);
                    ends.push(self.media);
                }
                number += 1;
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playlist(first: u64, lengths: &[f64]) -> String {
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for (number, length) in lengths.iter().enumerate() {
            text += &format!("#EXTINF:{length:.3},\n/stream/s/source/{number}.ts?h=abc\n");
        }
        text
    }

    #[test]
    fn each_segment_is_seen_once_with_where_it_ends() {
        let ms = Duration::from_millis;
        let mut seen = Seen::default();
        assert!(seen.look("#EXTM3U\n").is_empty());
        assert_eq!(seen.look(&playlist(0, &[2.0])), [ms(2_000)]);
        assert!(seen.look(&playlist(0, &[2.0])).is_empty());
        assert_eq!(seen.look(&playlist(0, &[2.0, 2.5, 1.5])), [ms(4_500), ms(6_000)]);
        // The window has moved on.
        assert_eq!(seen.look(&playlist(2, &[1.5, 0.5])), [ms(6_500)]);
        assert_eq!((seen.count, seen.next), (4, 4));
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let mut seen = Seen::default();
        let text = "#EXT-X-MEDIA-SEQUENCE:x\n#EXTINF:1e400,\na.ts\n#EXTINF:-3,\nb.ts\n";
        assert_eq!(seen.look(text), [Duration::ZERO; 2]);
    }
}
