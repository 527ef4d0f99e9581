//! Answers: texts, headers, and how to say no to somebody who is still sending.

use crate::{
    error::Refusal,
    gate::Denied,
    wire::{CLOSED, LATEST, SEQ, TERMINATED},
};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, Version, header, request::Parts};
use http_body_util::BodyExt as _;
use std::time::Duration;

/// After an answer that leaves a body unread, so long is the rest taken from the wire: a
/// connection closed with unread bytes is reset, and the reset may overtake the answer.
const LINGER: Duration = Duration::from_millis(500);

/// An empty 200 to which headers are added.
pub(super) struct Headers(Response);

impl Headers {
    pub fn new(status: StatusCode, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self(response)
    }

    pub fn set(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    pub fn seq(self, seq: u64) -> Self {
        self.set(SEQ, HeaderValue::from(seq))
    }

    pub fn latest(self, latest: u64) -> Self {
        self.set(LATEST, HeaderValue::from(latest))
    }

    pub fn closed(self, closed: bool) -> Self {
        if closed { self.set(CLOSED, HeaderValue::from_static(TERMINATED)) } else { self }
    }

    /// As an answer in words.
    pub fn text(self) -> Self {
        self.set(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
            .set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    pub fn done(self) -> Response {
        self.0
    }
}

pub(super) fn text(status: StatusCode, message: &str) -> Response {
    Headers::new(status, Body::from(format!("{message}\n"))).text().done()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        metrics::counter!("trickle_refused_total", "reason" => self.code()).increment(1);
        let response = text(self.status(), &self.to_string());
        if self.may_pass() {
            let mut response = response;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        response
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        metrics::counter!("trickle_refused_total", "reason" => "denied").increment(1);
        let (status, message) = self.answer();
        text(status, &message)
    }
}

pub(super) async fn method_not_allowed() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// Answers without waiting for the rest of the request's body: the connection ends with it.
pub(super) fn closing(request: &Parts, body: Body, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    // Over HTTP/2 only the stream ends.
    if request.version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        tokio::spawn(tokio::time::timeout(LINGER, discard(body)));
    }
    response
}

async fn discard(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}
