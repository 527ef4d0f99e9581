//! The pages: the player at `/`, the API page at `/docs`, and what they load. Everything is in the
//! binary; assets/README.md says where each file is from.

use super::Shared;
use axum::{
    Router,
    extract::Path,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use penstock_http_kit::ApiError;

/// The player needs workers and media from blobs, as hls.js makes them; nothing from elsewhere.
const PLAYER_POLICY: &str = "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
    worker-src 'self' blob:; script-src 'self'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Scalar writes styles into the page and reads data URLs.
const DOCS_POLICY: &str = "default-src 'self'; img-src 'self' data:; font-src 'self' data:; \
    script-src 'self'; style-src 'self' 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    gzipped: bool,
    bytes: &'static [u8],
}

const JS: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 6] = [
    Asset {
        name: "player.css",
        content_type: "text/css; charset=utf-8",
        gzipped: false,
        bytes: include_bytes!("../../assets/player.css"),
    },
    Asset {
        name: "player.js",
        content_type: JS,
        gzipped: false,
        bytes: include_bytes!("../../assets/player.js"),
    },
    Asset {
        name: "docs.js",
        content_type: JS,
        gzipped: false,
        bytes: include_bytes!("../../assets/docs.js"),
    },
    Asset {
        name: "hls.js",
        content_type: JS,
        gzipped: true,
        bytes: include_bytes!("../../assets/hls.light.min.js.gz"),
    },
    Asset {
        name: "scalar.js",
        content_type: JS,
        gzipped: true,
        bytes: include_bytes!("../../assets/scalar.js.gz"),
    },
    Asset {
        name: "signer.openapi.json",
        content_type: "application/json",
        gzipped: false,
        bytes: include_bytes!("../../../openapi/signer.json"),
    },
];

/// The routes. They are pages, not part of the API document.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/", get(|| async { page(include_str!("../../assets/index.html"), PLAYER_POLICY) }))
        .route("/docs", get(|| async { page(include_str!("../../assets/docs.html"), DOCS_POLICY) }))
        .route("/openapi.json", get(document))
        .route("/assets/{name}", get(asset))
}

fn page(html: &'static str, policy: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, html).into_response()
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::json()).into_response()
}

async fn asset(Path(name): Path<String>) -> Response {
    let Some(asset) = ASSETS.iter().find(|a| a.name == name) else {
        return ApiError::not_found("not found").with_code("not_found").into_response();
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        // Short: the names stay the same from one version to the next.
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    if asset.gzipped {
        // Stored compressed and sent as stored: everything that runs these scripts reads gzip.
        headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    let mut response = asset.bytes.into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
    response
}
