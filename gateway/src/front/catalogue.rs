//! Every error code that the gateway answers with: what it means, whether the same request may do
//! better later, and what to do. `penstock-gateway errors` prints it as docs/errors.md; a test compares
//! both, and another reads the code for codes that are missing here.

/// Whether the same request is worth repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    No,
    /// After `Retry-After`.
    Later,
    /// At once or later: nothing was done, or it is safe.
    Safe,
}

/// One code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `error.code`.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What it means.
    pub meaning: &'static str,
    /// Whether to repeat.
    pub retry: Retry,
    /// What the caller, or the operator, does about it.
    pub remedy: &'static str,
}

const fn entry(
    code: &'static str,
    status: u16,
    retry: Retry,
    meaning: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { code, status, meaning, retry, remedy }
}

use Retry::{Later, No, Safe};

/// All of them, by status and code.
pub const ALL: &[Entry] = &[
    entry(
        "bad_audio",
        400,
        No,
        "The upload is no audio, or shorter than a second",
        "Send WAV, MP3, FLAC, Ogg, M4A, WebM or AAC of at least a second",
    ),
    entry(
        "bad_body",
        400,
        Safe,
        "The body ended early or stopped arriving",
        "Send it again, whole",
    ),
    entry(
        "bad_capability",
        400,
        No,
        "The capability's name cannot be an account",
        "Use at most 64 printable characters",
    ),
    entry(
        "bad_duration",
        400,
        No,
        "`Content-Duration` is negative or above 300 s",
        "Send shorter segments, and their length in milliseconds",
    ),
    entry(
        "bad_extension",
        400,
        No,
        "The pushed file is neither `.ts` nor `.mp4`; a recording's file none of these and no `.m3u8`",
        "Name segments `N.ts` or `N.mp4`",
    ),
    entry(
        "bad_field",
        400,
        No,
        "A field of an AI request is missing or of the wrong kind",
        "The message names the field",
    ),
    entry(
        "bad_form",
        400,
        No,
        "The form cannot be read, or one of its fields is wrong",
        "The message names the field",
    ),
    entry(
        "bad_idempotency_key",
        400,
        No,
        "`Idempotency-Key` is not 1 to 128 printable ASCII characters without spaces",
        "Use a UUID",
    ),
    entry(
        "bad_image",
        400,
        No,
        "The upload is no picture whose size can be read",
        "Send PNG, JPEG or GIF: the size is the price",
    ),
    entry("bad_json", 400, No, "The body is not the JSON object that is expected", "Send JSON"),
    entry(
        "bad_manifest_id",
        400,
        No,
        "The id that header or stream webhook name for a stream cannot be used",
        "1 to 64 letters, digits, `-`, `_`, `.`, not beginning with a dot",
    ),
    entry(
        "bad_model",
        400,
        No,
        "The model's name is missing or impossible",
        "Name a model of `GET /v1/models`",
    ),
    entry(
        "bad_record_store",
        400,
        No,
        "The object store that the header or the stream webhook names, for segments or a recording, cannot be used",
        "An `s3://` or `s3+https://` address with key, secret and bucket, at a public host",
    ),
    entry(
        "bad_request",
        400,
        No,
        "The request cannot be done wherever it goes",
        "The message says what to change",
    ),
    entry("bad_slice", 400, No, "`Content-Slice-From` lies after `Content-Slice-To`", "Swap them"),
    entry(
        "bad_transcode_config",
        400,
        No,
        "`Livepeer-Transcode-Configuration` is no JSON, or names impossible renditions",
        "The message says which",
    ),
    entry(
        "bad_url",
        400,
        No,
        "The stream's name or the path of a push is not allowed",
        "1 to 64 letters, digits, `-`, `_`, `.`; one path element",
    ),
    entry(
        "nobody_has_it",
        400,
        Later,
        "No orchestrator has the capability, or has room for another job of it, now",
        "Check its name, and the job's own list of orchestrators; ask again later",
    ),
    entry(
        "profiles_mismatch",
        400,
        No,
        "`Livepeer-Transcode-Configuration` has other renditions than the stream webhook names",
        "Leave them to the webhook, or send the same",
    ),
    entry(
        "too_much",
        400,
        No,
        "The job is larger than can be priced",
        "Ask for a smaller picture, or for fewer",
    ),
    entry(
        "worker_refused",
        400,
        No,
        "The orchestrator or the worker of a brought capability refuses the job: its own status, 400 to 499, and words",
        "Change what the words say",
    ),
    entry(
        "unauthorized",
        401,
        No,
        "No bearer token, or one that is nobody's",
        "Send `Authorization: Bearer …` with a valid API key or token",
    ),
    entry(
        "forbidden",
        403,
        No,
        "The key expired or was revoked, the account is blocked, or the signer pays no such job by its rules",
        "Ask the operator",
    ),
    entry(
        "not_allowed",
        403,
        No,
        "The account does not have this model or capability, or video (`transcode/*`)",
        "Use another model, or ask the operator for it",
    ),
    entry(
        "stream_denied",
        403,
        No,
        "The stream webhook refuses the stream, or it is another caller's",
        "Ask who runs the webhook; use another name",
    ),
    entry(
        "not_found",
        404,
        No,
        "No such path, stream, rendition or segment",
        "Look at `/openapi.json`; segments leave the window after a while",
    ),
    entry("method_not_allowed", 405, No, "The path has other methods", "Look at `/openapi.json`"),
    entry(
        "idempotency_in_progress",
        409,
        Later,
        "The first request with this `Idempotency-Key` is still under way",
        "Repeat with the same key",
    ),
    entry(
        "idempotent_answer_gone",
        409,
        No,
        "The request was done; its answer was too large to be kept, or has expired",
        "Use a new key to have it done, and paid, again",
    ),
    entry(
        "body_too_large",
        413,
        No,
        "The body is above its limit",
        "Send less; the operator: `--max-body-bytes`, `--max-audio-bytes`",
    ),
    entry(
        "file_too_large",
        413,
        No,
        "A segment, a rendition or a result's file is larger than the segment store takes",
        "Send shorter segments, ask for less; the operator: `--segment-store-file-bytes`",
    ),
    entry(
        "attempts_exhausted",
        422,
        Safe,
        "Every orchestrator that was tried failed (on `/live`; elsewhere 503)",
        "Push it again; the operator: the log names each failure",
    ),
    entry(
        "idempotency_key_reused",
        422,
        No,
        "This `Idempotency-Key` was used for another request",
        "Use a new key for each request",
    ),
    entry(
        "no_media",
        422,
        No,
        "The segment is no container of the kind that its name says",
        "Send MPEG-TS as `.ts`, MP4 as `.mp4`",
    ),
    entry(
        "unknown_codec",
        422,
        No,
        "The video's codec is one that nobody transcodes",
        "Send H.264, HEVC, VP8 or VP9",
    ),
    entry(
        "unsupported_input",
        422,
        No,
        "No orchestrator could transcode this input",
        "Change its pixel format or profile",
    ),
    entry(
        "budget_exceeded",
        429,
        Later,
        "A budget, a spend rate or the rate of requests of the account is used up at the signer",
        "Come again after `Retry-After`; the operator: `penstock accounts`",
    ),
    entry(
        "quota_exceeded",
        429,
        Later,
        "The caller has made as many requests in 24 hours as are allowed",
        "Wait as `Retry-After` says; the operator: `--caller-requests-per-day`",
    ),
    entry(
        "rate_limited",
        429,
        Later,
        "The caller asks too often",
        "Wait as `Retry-After` says; the operator: `requests_per_second` of the account",
    ),
    entry(
        "too_many_jobs",
        429,
        Later,
        "The caller has too many jobs at work",
        "Wait for others to end; the operator: `--caller-max-in-flight`",
    ),
    entry(
        "internal",
        500,
        Safe,
        "A bug, or a peer's impossible answer",
        "Report it with `x-request-id`; the log has the cause",
    ),
    entry(
        "attempts_exhausted",
        503,
        Later,
        "Every orchestrator that was tried failed",
        "Repeat; the operator: the log names each failure",
    ),
    entry(
        "auth_unavailable",
        503,
        Later,
        "Nobody can tell who is calling now",
        "Repeat; the operator: is the signer up, and may this gateway name subjects?",
    ),
    entry(
        "busy",
        503,
        Later,
        "No place for the job, or no memory for its body",
        "Repeat as `Retry-After` says; the operator: `--video-…`, `--ai-…`, `--max-buffered-bytes`",
    ),
    entry(
        "no_orchestrators",
        503,
        Later,
        "No orchestrator can take it now",
        "Repeat; the operator: `/readyz`, `GET /v1/selection/explain`, `--max-price`",
    ),
    entry(
        "signer_unavailable",
        503,
        Later,
        "The signer cannot be reached or refuses to pay",
        "Repeat; the operator: `--signer-url`, budgets, deposit",
    ),
    entry(
        "store_unavailable",
        503,
        Later,
        "The session store cannot be reached",
        "Repeat; nothing was lost or paid twice",
    ),
    entry(
        "stream_webhook_unavailable",
        503,
        Safe,
        "The stream webhook does not answer, or with 5xx",
        "Push again; the operator: `--auth-webhook-url`, `--auth-webhook-timeout-ms`",
    ),
];

/// The first entry of a code.
pub fn of(code: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.code == code)
}

/// docs/errors.md.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Errors of the gateway\n\n\
         Printed by `penstock-gateway errors`; do not edit. The body of every error is \
         `{\"error\":{\"message\":\"…\",\"code\":\"…\"}}`, as the Go node's; with `Accept: application/problem+json` \
         it is RFC 9457's form with the same `code`. `x-request-id` names the request in the logs.\n\n\
         Repeating: **no**: it will fail again; **later**: after `Retry-After`; **safe**: at any time. \
         With an `Idempotency-Key` a repetition is not done or paid twice, unless the replica that was at it \
         died, or could not reach the session store for 10 s.\n\n\
         | status | code | meaning | repeat? | what to do |\n|---|---|---|---|---|\n",
    );
    for entry in ALL {
        let retry = match entry.retry {
            No => "no",
            Later => "later",
            Safe => "safe",
        };
        let Entry { code, status, meaning, remedy, .. } = entry;
        text.push_str(&format!("| {status} | `{code}` | {meaning} | {retry} | {remedy} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::Path};

    #[test]
    fn the_committed_table_is_up_to_date() {
        assert!(
            include_str!("../../../docs/errors.md") == markdown(),
            "docs/errors.md is out of date: cargo run -p penstock-gateway -- errors > docs/errors.md"
        );
    }

    #[test]
    fn in_order_and_once() {
        let order: Vec<_> = ALL.iter().map(|e| (e.status, e.code)).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(order, sorted);
    }

    /// What `crate::error` answers with: `(S::BAD_REQUEST, "bad_form")`, across lines.
    fn used(source: &str) -> BTreeSet<(u16, String)> {
        let source = source.split("#[cfg(test)]").next().unwrap();
        source
            .split("(S::")
            .skip(1)
            .filter_map(|rest| {
                let (status, rest) = rest.split_once(',')?;
                let code = rest.trim_start().strip_prefix('"')?.split('"').next()?;
                let status = match status {
                    "BAD_REQUEST" => 400,
                    "UNAUTHORIZED" => 401,
                    "PAYMENT_REQUIRED" => 402,
                    "FORBIDDEN" => 403,
                    "NOT_FOUND" => 404,
                    "NOT_ACCEPTABLE" => 406,
                    "CONFLICT" => 409,
                    "GONE" => 410,
                    "PAYLOAD_TOO_LARGE" => 413,
                    "UNSUPPORTED_MEDIA_TYPE" => 415,
                    "RANGE_NOT_SATISFIABLE" => 416,
                    "UNPROCESSABLE_ENTITY" => 422,
                    "TOO_MANY_REQUESTS" => 429,
                    "INTERNAL_SERVER_ERROR" => 500,
                    "NOT_IMPLEMENTED" => 501,
                    "BAD_GATEWAY" => 502,
                    "SERVICE_UNAVAILABLE" => 503,
                    "GATEWAY_TIMEOUT" => 504,
                    other => panic!("{other}: add it here"),
                };
                Some((status, code.to_owned()))
            })
            .collect()
    }

    #[test]
    fn every_code_is_in_it_and_no_other() {
        let mut used = used(include_str!("../error.rs"));
        // Answered by the shared HTTP layer.
        used.extend([(404, "not_found".to_owned()), (405, "method_not_allowed".to_owned())]);
        let listed: BTreeSet<_> = ALL.iter().map(|e| (e.status, e.code.to_owned())).collect();
        let missing: Vec<_> = used.difference(&listed).collect();
        assert!(missing.is_empty(), "not in the catalogue: {missing:?}");
        let unused: Vec<_> = listed.difference(&used).collect();
        assert!(unused.is_empty(), "answered by nothing: {unused:?}");
    }

    /// Codes written anywhere else in the gateway.
    #[test]
    fn no_route_makes_up_a_code() {
        fn look(folder: &Path, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    look(&path, found);
                } else if !path.ends_with("catalogue.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let codes = text.split("with_code(\"").skip(1);
                    found.extend(codes.filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
                }
            }
        }
        let mut found = BTreeSet::new();
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        for code in found {
            assert!(of(&code).is_some(), "{code} is not in the catalogue");
        }
    }
}
