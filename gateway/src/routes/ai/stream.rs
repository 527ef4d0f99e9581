//! A streamed answer as server-sent events, one piece a chunk. An answer that breaks off ends with an
//! event that says so.

use crate::{
    front::streamed::ProperEnd,
    service::ai::stream::{BrokenOff, LlmStream, Piece},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use serde_json::json;
use std::convert::Infallible;

/// Writes pieces the way a dialect wants them.
pub trait Dialect: Send + 'static {
    /// One piece.
    fn piece(&mut self, piece: &Piece) -> String;
    /// After the last one; empty for nothing.
    fn end(&mut self) -> String;
    /// In place of the rest.
    fn broken(&mut self, error: &BrokenOff) -> String;
}

/// As the reference writes them: no `[DONE]`.
pub struct Native;

impl Dialect for Native {
    fn piece(&mut self, piece: &Piece) -> String {
        format!("data: {}\n\n", piece.json.replace('\n', " "))
    }

    fn end(&mut self) -> String {
        String::new()
    }

    fn broken(&mut self, error: &BrokenOff) -> String {
        let error = json!({ "error": { "message": error.to_string(), "code": "broken_off" } });
        format!("event: error\ndata: {error}\n\n")
    }
}

/// The answer. `held` is given back when it ends, or when the client has gone.
pub fn events(stream: LlmStream, held: impl Send + 'static, dialect: impl Dialect) -> Response {
    let (end, state) = (ProperEnd::default(), (stream, held, dialect, false));
    let proper = end.clone();
    let chunks = futures::stream::unfold(state, move |(mut stream, held, mut dialect, ended)| {
        let proper = proper.clone();
        async move {
            if ended {
                return None;
            }
            let (text, ended) = match stream.next().await {
                Some(Ok(piece)) => (dialect.piece(&piece), false),
                Some(Err(error)) => (dialect.broken(&error), true),
                None => {
                    proper.reached();
                    (dialect.end(), true)
                }
            };
            Some((Ok::<_, Infallible>(Bytes::from(text)), (stream, held, dialect, ended)))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // For proxies that would collect the pieces.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (Extension(end), headers, Body::from_stream(chunks)).into_response()
}
