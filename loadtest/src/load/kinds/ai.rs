//! Batch AI jobs through a gateway: `POST /audio-to-text`, `/text-to-image`, `/llm`.

use super::{
    super::{
        drive::Failure,
        scenario::{Ai, Pipeline},
        tally::{Tally, Turn},
        target::Role,
    },
    Context, answers, authorized, below,
};
use crate::gateway_chaos::wav;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;
use std::sync::Arc;

const BOUNDARY: &str = "----penstock-loadtest";
/// Read of an answer.
const MOST_BYTES: usize = 64 << 20;
/// From the request to its whole answer.
const JOB: &str = "job";
/// From the request to the first byte of a streamed answer.
const FIRST_BYTE: &str = "first byte";

/// The same job over and over.
pub struct Jobs {
    http: reqwest::Client,
    url: String,
    content_type: HeaderValue,
    body: bytes::Bytes,
    bearer: Option<HeaderValue>,
    is_streamed: bool,
    tally: Arc<Tally>,
}

impl Jobs {
    pub fn new(context: &Context<'_>, ai: &Ai) -> Result<Self, String> {
        let place = context.place(Role::Gateway)?;
        let (path, content_type, body) = request(ai);
        Ok(Self {
            http: context.http(context.trust())?,
            url: below(&place, path),
            content_type: HeaderValue::from_str(&content_type).expect("a printable header"),
            body: body.into(),
            bearer: context.bearer()?,
            is_streamed: ai.streamed && ai.pipeline == Pipeline::Llm,
            tally: Arc::clone(context.tally),
        })
    }

    pub async fn run(&self, turn: Turn) -> Result<(), Failure> {
        let request = self.http.post(&self.url).header(CONTENT_TYPE, &self.content_type);
        let request = authorized(request, self.bearer.as_ref()).body(self.body.clone());
        let mut answer = answers::good(request.send().await).await?;
        let body = if self.is_streamed {
            let first = answer.chunk().await.map_err(|error| answers::broken(&error))?;
            self.tally.record(FIRST_BYTE, turn.due, turn.begun);
            let mut body = first.unwrap_or_default().to_vec();
            body.extend(answers::rest(answer, MOST_BYTES).await?);
            body
        } else {
            answers::rest(answer, MOST_BYTES).await?
        };
        if self.is_streamed && find(&body, b"event: error") {
            return Err("200, and the answer broke off".to_owned());
        }
        if body.is_empty() {
            return Err("200 without an answer".to_owned());
        }
        self.tally.record(JOB, turn.due, turn.begun);
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Path, content type and body.
fn request(ai: &Ai) -> (&'static str, String, Vec<u8>) {
    let json_type = "application/json".to_owned();
    match ai.pipeline {
        Pipeline::AudioToText => {
            let kind = format!("multipart/form-data; boundary={BOUNDARY}");
            ("audio-to-text", kind, form(&ai.model, ai.seconds))
        }
        Pipeline::TextToImage => {
            let mut body = json!({"prompt": "a red kite", "width": ai.side, "height": ai.side});
            if !ai.model.is_empty() {
                body["model_id"] = ai.model.as_str().into();
            }
            ("text-to-image", json_type, body.to_string().into_bytes())
        }
        Pipeline::Llm => {
            let body = json!({
                "model": ai.model, "stream": ai.streamed, "max_tokens": ai.max_tokens,
                "messages": [{"role": "user", "content": "Say hello."}],
            });
            ("llm", json_type, body.to_string().into_bytes())
        }
    }
}

fn form(model: &str, seconds: u64) -> Vec<u8> {
    let mut form = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    )
    .into_bytes();
    form.extend(wav(seconds));
    if !model.is_empty() {
        let name = "Content-Disposition: form-data; name=\"model_id\"";
        form.extend(format!("\r\n--{BOUNDARY}\r\n{name}\r\n\r\n{model}").into_bytes());
    }
    form.extend(format!("\r\n--{BOUNDARY}--\r\n").into_bytes());
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_only_if_there_is_one() {
        let ai = |pipeline, model: &str| Ai {
            pipeline,
            model: model.to_owned(),
            seconds: 2,
            side: 256,
            max_tokens: 9,
            streamed: true,
        };
        let text = |ai: &Ai| String::from_utf8_lossy(&request(ai).2).into_owned();
        let picture = Pipeline::TextToImage;
        assert!(!text(&ai(picture, "")).contains("model_id"));
        assert!(text(&ai(picture, "a/b")).contains(r#""model_id":"a/b""#));
        assert!(text(&ai(picture, "")).contains(r#""height":256"#));
        let speech = Pipeline::AudioToText;
        assert!(text(&ai(speech, "a/b")).contains("name=\"model_id\"\r\n\r\na/b\r\n--"));
        assert!(!text(&ai(speech, "")).contains("model_id"));
        let words = text(&ai(Pipeline::Llm, "a/b"));
        assert!(words.contains(r#""max_tokens":9"#) && words.contains(r#""stream":true"#));
    }
}
