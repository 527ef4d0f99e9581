//! `GET /discover-orchestrators` (remote-signer.md section 10).

use super::{AppState, views};
use crate::{auth::Caller, discovery::DiscoveryReport, error::SignerError};
use axum::{
    Json,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Kept by whoever asked, and shown again with `If-None-Match`: a list is never older than that.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The orchestrators known, those with any of the wanted capabilities first to last wanted.
#[utoipa::path(
    get,
    path = "/discover-orchestrators",
    params(
        ("If-None-Match" = Option<String>, Header, description = "Tags of earlier answers."),
        ("caps" = Option<Vec<String>>, Query, description = "`pipeline/model` or an application; exact match, repeatable, any of them suffices. Empty values are dropped; none means all."),
    ),
    responses(
        (status = 200, body = Vec<views::DiscoveryEntry>, headers(
            ("ETag" = String, description = "Changes when the answer does."),
            ("Cache-Control" = String, description = "To be revalidated with If-None-Match."),
        )),
        (status = 304, description = "The answer still has the tag of If-None-Match."),
        (status = 401, body = views::ErrorBody),
        (status = 503, body = views::ErrorBody, description = "No orchestrator is known."),
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn discover_orchestrators(
    _caller: Caller,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, SignerError> {
    let wanted: Vec<String> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(name, value)| name == "caps" && !value.is_empty())
        .map(|(_, value)| value.into_owned())
        .collect();
    let answer = state.discovery.find(&wanted).ok_or(SignerError::NoOrchestrators)?;
    let caching = [(header::ETAG, answer.etag.clone()), (header::CACHE_CONTROL, REVALIDATE)];
    if shown(&headers, &answer.etag) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, caching, answer.body).into_response())
}

/// Whether `If-None-Match` names the tag (RFC 9110 section 13.1.2, weak comparison).
fn shown(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// Everybody that is asked, with health, prices and the reason of those that are not listed.
#[utoipa::path(
    get,
    path = "/v1/discovery",
    responses((status = 200, body = DiscoveryReport), (status = 401, body = views::ErrorBody)),
    security((), ("bearer" = [])),
)]
pub(super) async fn discovery_report(State(state): State<AppState>) -> Json<DiscoveryReport> {
    Json(state.discovery.report())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

        /// Pieces of tags in any order, and bytes that are no text: no panic, and a match only
        /// where the tag stands.
        #[test]
        fn any_header(pieces in prop::collection::vec(0usize..10, 0..10)) {
            const PIECES: [&[u8]; 10] =
                [b"ab", b"\"", b"*", b",", b" ", b"W/", b"\\", b"\x80", b"a", b"\"ab\""];
            let value: Vec<u8> = pieces.iter().flat_map(|n| PIECES[*n].iter().copied()).collect();
            let etag = HeaderValue::from_static("\"ab\"");
            let header = HeaderValue::from_bytes(&value).unwrap();
            let found = shown(&HeaderMap::from_iter([(header::IF_NONE_MATCH, header)]), &etag);
            let stands = value.windows(4).any(|w| w == b"\"ab\"") || value.contains(&b'*');
            prop_assert!(!found || stands, "{:?}", value);
        }
    }

    #[test]
    fn tags_are_compared() {
        let etag = HeaderValue::from_static("\"ab\"");
        let shown = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            shown(&HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]), &etag)
        };
        for yes in ["\"ab\"", "W/\"ab\"", "*", "\"x\" , \"ab\""] {
            assert!(shown(yes), "{yes}");
        }
        for no in ["", "ab", "\"a\"", "\"abc\"", "w/\"ab\""] {
            assert!(!shown(no), "{no}");
        }
    }
}
