//! Answers and failures in few words: the same words for the same reason, so that they can be counted.

use super::super::drive::Failure;
use penstock_clients::{CallError, CallErrorKind};
use serde_json::Value;

/// Read of an answer.
const MOST_BYTES: usize = 64 << 20;
/// Read of a refusal.
const REFUSAL_BYTES: usize = 64 << 10;

/// The whole body of a good answer.
pub async fn body(answer: Result<reqwest::Response, reqwest::Error>) -> Result<Vec<u8>, Failure> {
    let answer = good(answer).await?;
    rest(answer, MOST_BYTES).await
}

/// An answer that is no refusal.
pub async fn good(
    answer: Result<reqwest::Response, reqwest::Error>,
) -> Result<reqwest::Response, Failure> {
    let answer = answer.map_err(|error| broken(&error))?;
    let status = answer.status().as_u16();
    if answer.status().is_success() {
        return Ok(answer);
    }
    let body = rest(answer, REFUSAL_BYTES).await.unwrap_or_default();
    Err(refusal(status, &body))
}

/// What is left of an answer.
pub async fn rest(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > most {
            return Err("an answer that is too long".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The status, and the code or the first words of what is said.
pub fn refusal(status: u16, body: &[u8]) -> Failure {
    let code = serde_json::from_slice::<Value>(body).ok().and_then(|said| {
        let error = said.get("error")?;
        let text = error.get("code").or_else(|| error.get("message"))?;
        Some(text.as_str()?.to_owned())
    });
    // Numbers differ, and names behind a colon.
    let words = || {
        let text = String::from_utf8_lossy(&body[..body.len().min(256)]).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        line.split(':').next().unwrap_or_default().trim().to_owned()
    };
    format!("{status} {}", code.unwrap_or_else(words)).trim_end().to_owned()
}

/// Why there is no answer.
pub fn broken(error: &reqwest::Error) -> Failure {
    let why = match () {
        () if error.is_timeout() => "no answer in time",
        () if error.is_connect() => "no connection",
        () => "the connection broke",
    };
    why.to_owned()
}

/// The same of the network's own clients.
pub fn words(error: &CallError) -> Failure {
    let why = match &error.kind {
        CallErrorKind::Status { status, .. } => {
            let code = error.code().map(str::to_owned).unwrap_or_else(|| {
                error.message().split(':').next().unwrap_or_default().trim().to_owned()
            });
            format!("{status} {code}")
        }
        CallErrorKind::Connect(_) => "no connection".to_owned(),
        CallErrorKind::Broken(_) => "the connection broke".to_owned(),
        other => other.to_string().split(':').next().unwrap_or_default().to_owned(),
    };
    format!("{}: {}", error.operation, why.trim_end())
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn refusals_in_few_words() {
        let coded = br#"{"error":{"message":"no room for job 17","code":"busy"}}"#;
        assert_eq!(refusal(503, coded), "503 busy");
        let told = br#"{"error":{"message":"no capacity"}}"#;
        assert_eq!(refusal(503, told), "503 no capacity");
        assert_eq!(refusal(404, b"runner not found: a1\nmore"), "404 runner not found");
        assert_eq!(refusal(500, b""), "500");
        assert_eq!(refusal(400, b"{\"error\":7}"), "400 {\"error\"");
    }
}
