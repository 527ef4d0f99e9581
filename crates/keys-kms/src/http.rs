//! What both services need of HTTP: bounds, and another try when the service asks for one.

use penstock_keys::KeyError;
use rand::Rng;
use reqwest::{Client, Response, redirect::Policy};
use std::time::Duration;
use tokio::time::sleep;

/// Largest answer read; real ones have some hundred bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// For one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts at one request, the first included.
const ATTEMPTS: u32 = 4;
/// Before the second attempt; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The client. Key services do not redirect, and a signed request must not follow.
pub(crate) fn client() -> Result<Client, KeyError> {
    Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .build()
        .map_err(|error| KeyError::Denied(error.to_string()))
}

/// Why one attempt failed.
pub(crate) struct Failed {
    pub(crate) error: KeyError,
    /// Whether another attempt at once makes sense: throttled, or broken for the moment.
    pub(crate) again: bool,
}

impl From<KeyError> for Failed {
    fn from(error: KeyError) -> Self {
        Self { error, again: false }
    }
}

impl Failed {
    /// The service did not answer.
    pub(crate) fn unreachable(service: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut text = format!("{service}: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self { error: KeyError::Unavailable(text), again: true }
    }
}

/// Repeats what may succeed in a moment. A signature may be asked for any number of times.
pub(crate) async fn retried<T, F: Future<Output = Result<T, Failed>>>(
    attempt: impl Fn() -> F,
) -> Result<T, KeyError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(failed) if failed.again => {
                tracing::debug!(error = %failed.error, "trying again");
                let part = rand::rng().random_range(0.5..1.0);
                sleep(pause.mul_f64(part)).await;
                pause *= 2;
            }
            done => return done.map_err(|failed| failed.error),
        }
    }
    attempt().await.map_err(|failed| failed.error)
}

/// The body, bounded.
pub(crate) async fn read(service: &str, mut response: Response) -> Result<Vec<u8>, Failed> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(KeyError::BadAnswer("larger than 64 KiB").into()),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Failed::unreachable(service, error)),
        }
    }
}

/// A service's words, fit for a log line.
pub(crate) fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}
