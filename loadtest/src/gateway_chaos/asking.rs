//! One request to the fleet, and what its answer means to whoever asked.

use reqwest::RequestBuilder;
use std::time::Duration;

/// What came back.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200, whole.
    Done(Vec<u8>),
    /// 503 or 429: not taken now, and when to ask again.
    NotNow(Duration),
    /// No answer, half of one, or the balancer's word that its replica gave none: whether the work
    /// was done is not known.
    Lost(String),
    /// Any other status.
    Refused(u16, String),
}

/// What a refusal that names no time means.
const USUAL_PAUSE: Duration = Duration::from_secs(1);

/// Sends it.
pub async fn ask(request: RequestBuilder) -> Answer {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Answer::Lost(chain(&error)),
    };
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = match answer.bytes().await {
        Ok(body) => body.to_vec(),
        Err(error) => return Answer::Lost(chain(&error)),
    };
    let text = || String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
    match status {
        200 => Answer::Done(body),
        429 | 503 => {
            let after = headers.get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
            Answer::NotNow(after.map_or(USUAL_PAUSE, Duration::from_secs))
        }
        502 | 504 => Answer::Lost(format!("{status} {}", text())),
        status => Answer::Refused(status, text()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
