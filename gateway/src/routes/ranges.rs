//! Answers with a known body that players and caches may ask for in part or not at all: `ETag` and
//! `If-None-Match`, one `Range`. `HEAD` is what the router makes of it.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use utoipa::IntoResponses;

/// A body and what is said about it.
#[derive(Debug)]
pub struct Content {
    /// All of it.
    pub data: Bytes,
    /// `Content-Type`.
    pub kind: &'static str,
    /// `Cache-Control`.
    pub cache: &'static str,
    /// A strong tag, without quotes: other bytes have another one.
    pub tag: String,
}

/// How else it may be answered. Documentation only; films and segments of recordings come whole.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub enum Partly {
    /// 206.
    #[response(status = 206, description = "The range asked for")]
    Part,
    /// 304.
    #[response(status = 304, description = "As the `If-None-Match` of the request")]
    Same,
    /// 416.
    #[response(status = 416, description = "No such range")]
    Nothing,
}

/// Answers a request with these headers. Any page may play a stream.
pub fn answer(asked: &HeaderMap, content: Content) -> Response {
    let Content { data, kind, cache, tag } = content;
    let tag = format!("\"{tag}\"");
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Content-Length, Content-Range, ETag"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, value);
    }
    let says = |name| asked.get(name).and_then(|value| value.to_str().ok());
    if says(header::IF_NONE_MATCH).is_some_and(|known| matches(known, &tag)) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A range is meant of these bytes only.
    let same = says(header::IF_RANGE).is_none_or(|known| known == tag);
    match says(header::RANGE).filter(|_| same).map(|range| parse(range, data.len())) {
        None | Some(Wanted::All) => (headers, data).into_response(),
        Some(Wanted::Part { from, to }) => {
            let range = format!("bytes {from}-{}/{}", to.saturating_sub(1), data.len());
            headers.insert(header::CONTENT_RANGE, value(&range));
            (StatusCode::PARTIAL_CONTENT, headers, data.slice(from..to)).into_response()
        }
        Some(Wanted::Nothing) => {
            headers.insert(header::CONTENT_RANGE, value(&format!("bytes */{}", data.len())));
            headers.remove(header::CONTENT_TYPE);
            (StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response()
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn matches(known: &str, tag: &str) -> bool {
    let mut all = known.split(',').map(|one| one.trim().trim_start_matches("W/"));
    all.any(|one| one == "*" || one == tag)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part { from: usize, to: usize },
    Nothing,
}

/// RFC 9110 section 14: several ranges, or what is none, mean all of it.
fn parse(range: &str, length: usize) -> Wanted {
    let Some(one) = range.strip_prefix("bytes=").filter(|r| !r.contains(',')) else {
        return Wanted::All;
    };
    let Some((from, to)) = one.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| text.parse::<usize>().ok();
    match (from, number(from), number(to)) {
        ("", _, Some(0)) => Wanted::Nothing,
        ("", _, Some(last)) if length > 0 => {
            Wanted::Part { from: length.saturating_sub(last), to: length }
        }
        (_, Some(from), _) if from >= length => Wanted::Nothing,
        (_, Some(from), None) if to.is_empty() => Wanted::Part { from, to: length },
        (_, Some(from), Some(to)) if to >= from => {
            Wanted::Part { from, to: to.saturating_add(1).min(length) }
        }
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    #[test]
    fn parts() {
        for (range, wanted) in [
            ("bytes=0-", Wanted::Part { from: 0, to: 10 }),
            ("bytes=2-3", Wanted::Part { from: 2, to: 4 }),
            ("bytes=8-99", Wanted::Part { from: 8, to: 10 }),
            ("bytes=-3", Wanted::Part { from: 7, to: 10 }),
            ("bytes=-99", Wanted::Part { from: 0, to: 10 }),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=3-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("bytes=", Wanted::All),
        ] {
            assert_eq!(parse(range, 10), wanted, "{range}");
        }
    }

    #[test]
    fn whatever_is_asked() {
        cases(100_000, |rng| {
            let range = damaged(rng, b"bytes=12-345", 3);
            let range = String::from_utf8_lossy(&range);
            for length in [0, 1, 200] {
                if let Wanted::Part { from, to } = parse(&range, length) {
                    assert!(from < to && to <= length, "{range} of {length}");
                }
            }
        });
    }
}
