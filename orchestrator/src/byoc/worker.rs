//! The worker of a brought capability, over HTTP: where a job goes, and what may come back.

use super::{error::ByocError, registry::Brought};
use crate::{
    release::{RELEASE_REASON, Reason},
    runner_networks::{RunnerHttp, RunnerNetworks},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use penstock_clients::{BuildError, HttpOptions};
use std::{sync::Arc, time::Duration};
use url::Url;

/// The client for all workers; no job takes longer than `longest`.
pub fn client(networks: &Arc<RunnerNetworks>, longest: Duration) -> Result<RunnerHttp, BuildError> {
    let options = HttpOptions {
        // Each job has its own time, and a model may think for long before it says a word.
        read_timeout: longest,
        total_timeout: None,
        // Common servers close idle connections after some seconds; a job on one that is just being
        // closed would look like a worker that has failed.
        idle_per_host: 0,
        ..HttpOptions::default()
    };
    RunnerHttp::new(networks, &options)
}

/// Below the worker's own URL, as the path says it: neither above nor beside it. `rest` is as it came,
/// percent signs included.
pub fn target(worker: &Url, rest: &str) -> Result<Url, ByocError> {
    if rest.is_empty() {
        return Ok(worker.clone());
    }
    let lower = rest.to_ascii_lowercase();
    let hidden = ["%2e", "%2f", "%5c", "%00", "\\"];
    let climbs = rest.split('/').any(|segment| matches!(segment, "." | ".."));
    if climbs || hidden.iter().any(|h| lower.contains(h)) || rest.contains(['?', '#']) {
        return Err(ByocError::Path);
    }
    let mut url = worker.clone();
    let path = format!("{}/{rest}", worker.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// Sends a job.
pub async fn send(
    http: &RunnerHttp,
    brought: &Brought,
    url: Url,
    content_type: Option<HeaderValue>,
    body: Bytes,
) -> Result<reqwest::Response, reqwest::Error> {
    let mut request = http.to(&url).post(url).body(body);
    if let Some(kind) = content_type {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    if let Some(token) = &brought.token {
        request = request.bearer_auth(token.expose());
    }
    request.send().await
}

/// A request to a worker, at a path of ours below its URL.
fn request(
    http: &RunnerHttp,
    method: Method,
    brought: &Brought,
    path: &str,
) -> reqwest::RequestBuilder {
    let path = format!("{}/{path}", brought.url.path().trim_end_matches('/'));
    let mut url = brought.url.clone();
    url.set_path(&path);
    let request = http.to(&url).request(method, url);
    match &brought.token {
        Some(token) => request.bearer_auth(token.expose()),
        None => request,
    }
}

/// Says something about a stream to its worker: `what` is `start`, `stop` or `params`.
pub async fn stream(
    http: &RunnerHttp,
    brought: &Brought,
    what: &str,
    id: &str,
    body: impl Into<reqwest::Body>,
) -> Result<reqwest::Response, reqwest::Error> {
    let request = request(http, Method::POST, brought, &format!("stream/{what}"));
    let request = request.header("x-stream-id", id);
    request.header(header::CONTENT_TYPE, "application/json").body(body).send().await
}

/// The same at a stream's end, with why it is over.
pub async fn stop_stream(
    http: &RunnerHttp,
    brought: &Brought,
    id: &str,
    why: Reason,
) -> Result<reqwest::Response, reqwest::Error> {
    let request = request(http, Method::POST, brought, "stream/stop");
    let request = request.header("x-stream-id", id).header(RELEASE_REASON, why.as_str());
    request.header(header::CONTENT_TYPE, "application/json").body(Bytes::new()).send().await
}

/// Begins a training job; the body names it.
pub async fn train(
    http: &RunnerHttp,
    brought: &Brought,
    body: Bytes,
) -> Result<reqwest::Response, reqwest::Error> {
    let request = request(http, Method::POST, brought, "train");
    request.header(header::CONTENT_TYPE, "application/json").body(body).send().await
}

/// Asks how one stands.
pub async fn training(
    http: &RunnerHttp,
    brought: &Brought,
    id: &str,
) -> Result<reqwest::Response, reqwest::Error> {
    request(http, Method::GET, brought, &format!("train/{id}")).send().await
}

/// Ends one, and says why.
pub async fn cancel(
    http: &RunnerHttp,
    brought: &Brought,
    id: &str,
    why: Reason,
) -> Result<reqwest::Response, reqwest::Error> {
    let request = request(http, Method::POST, brought, &format!("train/{id}/cancel"));
    request.header(RELEASE_REASON, why.as_str()).send().await
}

/// Whether a status is the application's answer, which is paid for: also that a request makes no sense to it, is
/// not allowed, or leads nowhere (most of 4xx). It is none that the worker has failed (5xx), does not know us
/// (401), has waited too long for our request (408), or takes no more (429): that is not charged.
pub fn is_answer(status: StatusCode) -> bool {
    let is_workers =
        [StatusCode::UNAUTHORIZED, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !is_workers.contains(&status)
}

/// Whether an answer is a stream of events.
pub fn is_events(answer: &reqwest::Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(worker: &str, rest: &str) -> Result<String, ByocError> {
        target(&Url::parse(worker).unwrap(), rest).map(|url| url.to_string())
    }

    #[test]
    fn jobs_go_below_their_worker() {
        assert_eq!(at("http://w:1", "").unwrap(), "http://w:1/");
        assert_eq!(at("http://w:1", "flux").unwrap(), "http://w:1/flux");
        assert_eq!(at("http://w:1/base/", "a/b%20c").unwrap(), "http://w:1/base/a/b%20c");
        for bad in ["..", "a/../b", "%2e%2e/x", "a%2Fb", "a\\b", "x?y", "./x"] {
            assert!(at("http://w:1/base", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_an_answer() {
        let is = |status| is_answer(StatusCode::from_u16(status).unwrap());
        for answer in [200, 204, 302, 400, 403, 404, 418, 422, 451] {
            assert!(is(answer), "{answer}");
        }
        for failure in [401, 408, 429, 500, 501, 502, 503, 504, 599] {
            assert!(!is(failure), "{failure}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn no_path_leaves_its_worker(rest in "[ -~]{0,24}") {
            if let Ok(url) = at("http://w:1/base", &rest) {
                let url = Url::parse(&url).unwrap();
                prop_assert_eq!((url.host_str(), url.port()), (Some("w"), Some(1)), "{}", &url);
                prop_assert_eq!((url.query(), url.fragment()), (None, None), "{}", &url);
                let path = url.path();
                prop_assert!(path == "/base" || path.starts_with("/base/"), "{}", &url);
                let plain = path.to_ascii_lowercase().replace("%2e", ".");
                prop_assert!(!plain.split('/').any(|segment| segment == ".."), "{}", &url);
            }
        }
    }
}
