//! Who may reach what. A route that nobody thought of here wants a caller.

use http::Method;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody in particular: the address is the key, and cannot be guessed.
    Address,
    /// Watching: open unless `--playback-auth caller`.
    Playback,
    /// Sending video in: a caller, unless `--publish-auth open`.
    Publish,
    /// A caller.
    Caller,
}

/// Of a request to the API. Pages, documents and health are not in it.
pub fn of(method: &Method, path: &str) -> Access {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let watched = ["/stream/", "/recordings/", "/dash/", "/hls/", "/api/streams/"];
    if reads && watched.iter().any(|prefix| path.starts_with(prefix)) {
        return Access::Playback;
    }
    if reads && path.starts_with("/ai/results/") {
        return Access::Address;
    }
    if path.starts_with("/live/") {
        return Access::Publish;
    }
    Access::Caller
}

/// Asks how an asynchronous job stands: a POST, as in the Go node, that begins nothing for the caller.
const POLL: &str = "/image-to-video/result";

/// Whether a request may cost something, so that limits count it, and its `Idempotency-Key` names it.
pub fn costs(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && path != POLL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_whom() {
        for (method, path, access) in [
            (Method::GET, "/stream/a.m3u8", Access::Playback),
            (Method::HEAD, "/stream/a/source/0.ts", Access::Playback),
            (Method::POST, "/stream/a.m3u8", Access::Caller),
            (Method::GET, "/api/streams/a", Access::Playback),
            (Method::GET, "/api/streams", Access::Caller),
            (Method::GET, "/ai/results/0af7/a.png", Access::Address),
            (Method::HEAD, "/ai/results/0af7/a.png", Access::Address),
            (Method::DELETE, "/ai/results/0af7/a.png", Access::Caller),
            (Method::GET, "/ai/results", Access::Caller),
            (Method::PUT, "/live/a/0.ts", Access::Publish),
            (Method::POST, "/live/a/0.ts", Access::Publish),
            (Method::POST, "/audio-to-text", Access::Caller),
            (Method::GET, "/v1/models", Access::Caller),
            (Method::DELETE, "/recordings/a", Access::Caller),
            (Method::GET, "/unheard-of", Access::Caller),
        ] {
            assert_eq!(of(&method, path), access, "{method} {path}");
        }
        assert!(costs(&Method::POST, "/image-to-video") && costs(&Method::DELETE, "/x"));
        assert!(!costs(&Method::GET, "/x") && !costs(&Method::POST, POLL));
    }
}
