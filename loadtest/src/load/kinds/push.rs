//! Streams pushed over HTTP: operation `n` is segment `n / streams` of stream `n % streams`, and is done when
//! its renditions are here. An encoder does not wait for the segment before.

use super::{
    super::{
        drive::Failure,
        scenario::{Push, Rendition},
        tally::{Tally, Turn},
        target::Role,
    },
    Context, answers, authorized, below, media, run_name,
};
use reqwest::{Url, header::HeaderValue};
use serde_json::{Value, json};
use std::sync::Arc;

/// From the push to the answer with all renditions.
const SEGMENT: &str = "segment";

/// Streams and what is pushed into them.
pub struct Streams {
    http: reqwest::Client,
    gateway: Url,
    bearer: Option<HeaderValue>,
    configuration: String,
    names: Vec<String>,
    duration_ms: String,
    run: String,
    count: u64,
    media: Vec<bytes::Bytes>,
    tally: Arc<Tally>,
}

impl Streams {
    pub async fn prepare(context: &Context<'_>, push: &Push) -> Result<Self, String> {
        let size = (push.width, push.height);
        Ok(Self {
            http: context.http(context.trust())?,
            gateway: context.place(Role::Gateway)?,
            bearer: context.bearer()?,
            configuration: configuration(&push.renditions),
            names: push.renditions.iter().map(|rendition| rendition.name.clone()).collect(),
            duration_ms: (push.segment_s * 1_000).to_string(),
            run: format!("{}-{}", context.load.name, run_name()),
            count: push.streams,
            media: media::segments(context.folder, size, push.segment_s).await?,
            tally: Arc::clone(context.tally),
        })
    }

    pub async fn run(&self, turn: Turn) -> Result<(), Failure> {
        let (stream, seq) = (turn.number % self.count, turn.number / self.count);
        let path = format!("live/{}-{stream}/{seq}.ts", self.run);
        let segment = &self.media[seq as usize % self.media.len()];
        let request = self
            .http
            .put(below(&self.gateway, &path))
            .header("Accept", "multipart/mixed")
            .header("Content-Duration", &self.duration_ms)
            .header("Livepeer-Transcode-Configuration", &self.configuration)
            .body(segment.clone());
        let request = authorized(request, self.bearer.as_ref());
        let body = answers::body(request.send().await).await?;
        if let Some(missing) = self.names.iter().find(|name| !has(&body, name)) {
            return Err(format!("200 without rendition {missing}"));
        }
        self.tally.record(SEGMENT, turn.due, turn.begun);
        Ok(())
    }
}

fn configuration(renditions: &[Rendition]) -> String {
    let profiles: Vec<Value> = renditions
        .iter()
        .map(|rendition| {
            json!({
                "name": rendition.name, "width": rendition.width, "height": rendition.height,
                "bitrate": rendition.bitrate, "fps": 0,
            })
        })
        .collect();
    json!({ "profiles": profiles }).to_string()
}

/// Whether a part of the answer is this rendition, however headers are written.
fn has(body: &[u8], name: &str) -> bool {
    let wanted = format!("rendition-name: {name}\r");
    body.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renditions_are_found_by_their_whole_name() {
        let body = b"--x\r\nRendition-Name: tiny2\r\n\r\nbytes\r\n--x--";
        assert!(has(body, "tiny2"));
        assert!(!has(body, "tiny"));
        assert!(has(b"rendition-name: TINY\r\n", "tiny"));
        let tiny = Rendition { name: "tiny".into(), width: 16, height: 8, bitrate: 1_000 };
        let said: Value = serde_json::from_str(&configuration(&[tiny])).unwrap();
        assert_eq!(said["profiles"][0]["width"], 16);
    }
}
