//! The one thing of a caller's wording that gets signed: a job for a capability that somebody
//! brought along (byoc.md section 1.3).
//!
//! The network's nodes verify `K(request ‖ parameters)`, the two texts one after the other with
//! nothing between. That both have to be JSON objects is what keeps them apart from everything else
//! that is signed: packed tickets and credentials hold zero bytes, which no JSON text does, and an
//! address or a ping does not begin with a brace.

use crate::Refusal;
use penstock_domain::B256;
use penstock_payments::node_digest;

/// Most bytes of `request` and `parameters` together. They travel in one HTTP header, base64 in
/// JSON, and the reference orchestrator takes 1 MiB of headers.
pub const MAX_BYOC_JOB_BYTES: usize = 768 << 10;

/// A job request whose texts were looked at. Only [`ByocJob::new`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct ByocJob<'a> {
    request: &'a str,
    parameters: &'a str,
}

impl<'a> ByocJob<'a> {
    /// `request` is the text of a JSON object; `parameters` too, or empty when the job has none.
    /// Nothing is trimmed or rewritten, because the signature covers the very bytes.
    pub fn new(request: &'a str, parameters: &'a str) -> Result<Self, Refusal> {
        let bytes = request.len().saturating_add(parameters.len());
        if bytes > MAX_BYOC_JOB_BYTES {
            return Err(Refusal::JobTooLarge(bytes));
        }
        if !is_json_object(request) || !(parameters.is_empty() || is_json_object(parameters)) {
            return Err(Refusal::JobNotJson);
        }
        let job = Self { request, parameters };
        super::refuse_ticket_shapes(&job.message())?;
        Ok(job)
    }

    /// What the curve will sign: for the audit record that is written first.
    pub fn digest(&self) -> B256 {
        node_digest(&self.message())
    }

    fn message(&self) -> Vec<u8> {
        [self.request.as_bytes(), self.parameters.as_bytes()].concat()
    }
}

/// Whether the whole text is one JSON object. Values are skipped, not kept, so that this takes no
/// memory, and serde_json bounds the nesting.
fn is_json_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyError, LocalKey, TypedSigner};
    use penstock_domain::keccak256;
    use penstock_payments::{eip191_digest, segment_preimage};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A JSON object of exactly that many bytes.
    fn object(bytes: usize) -> String {
        format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8))
    }

    #[tokio::test]
    async fn signs_what_the_nodes_verify() {
        let signer = TypedSigner::new(Arc::new(LocalKey::random().unwrap()));
        // As Python's json.dumps writes them; an SDK job has no parameters.
        for (request, parameters) in [
            (r#"{"prompt": "a cat \u00e9"}"#, ""),
            (r#"{"stream_id":"s"}"#, r#"{"enable_video_ingress":true}"#),
            (" {}\n", "{}"),
        ] {
            let job = ByocJob::new(request, parameters).unwrap();
            let signature = signer.sign_byoc_job(&job).await.unwrap();
            let text = format!("{request}{parameters}");
            let digest = eip191_digest(keccak256(text.as_bytes()).as_slice());
            assert_eq!(job.digest(), digest);
            assert_eq!(signature.verify(&digest, signer.address()), Ok(()));
        }
        assert_eq!(signer.operations(), 3);
    }

    #[test]
    fn whatever_has_a_tickets_length_is_refused() {
        for (request, parameters) in [
            (object(168), String::new()),
            (object(232), String::new()),
            (object(100), object(68)),
            (object(200), object(32)),
        ] {
            let bytes = request.len() + parameters.len();
            let made = ByocJob::new(&request, &parameters).unwrap_err();
            assert_eq!(made, Refusal::TicketShaped(bytes));
        }
        for (request, parameters) in [(object(32), String::new()), (object(20), object(12))] {
            assert_eq!(ByocJob::new(&request, &parameters).unwrap_err(), Refusal::RawHash);
        }
        for bytes in [31, 33, 167, 169, 231, 233] {
            assert!(ByocJob::new(&object(bytes), "").is_ok(), "{bytes}");
        }
    }

    #[test]
    fn only_json_objects_and_not_too_much_of_them() {
        let deep = format!("{{\"a\":{}", "[".repeat(300_000));
        for (request, parameters) in [
            ("", ""),
            ("", "{}"),
            ("[]", ""),
            ("\"{}\"", ""),
            ("{} {}", ""),
            ("{", "}"),
            ("{\"a\":\"", "\"}"),
            ("{\"a\":\"\0\"}", ""),
            ("\u{feff}{}", ""),
            ("{}", "null"),
            ("{}", " "),
            (deep.as_str(), ""),
            // What an orchestrator's request signs.
            ("0xD4148239446Dd07900D01F3D17513562b264BB65", ""),
        ] {
            let made = ByocJob::new(request, parameters).unwrap_err();
            assert_eq!(made, Refusal::JobNotJson, "{}", request.get(..9).unwrap_or(request));
        }
        let (half, more) = (object(MAX_BYOC_JOB_BYTES / 2), object(MAX_BYOC_JOB_BYTES / 2 + 1));
        assert!(ByocJob::new(&half, &half).is_ok());
        let made = ByocJob::new(&half, &more).unwrap_err();
        assert_eq!(made, Refusal::JobTooLarge(MAX_BYOC_JOB_BYTES + 1));
        assert!(!KeyError::from(made).is_retryable());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        // Never a panic, never the bytes of a credential, whatever the texts are.
        #[test]
        fn any_text_is_answered(
            request in r#"[\{\}\[\]":,a0 \\]{0,40}"#,
            parameters in r#"[\{\}":a0]{0,12}"#,
        ) {
            if let Ok(job) = ByocJob::new(&request, &parameters) {
                let message = job.message();
                prop_assert!(!message.contains(&0));
                prop_assert!(segment_preimage(b"m", 1, &B256::ZERO, &["n"]).contains(&0));
                let read: serde_json::Value = serde_json::from_str(&request).unwrap();
                prop_assert!(read.is_object());
            }
        }
    }
}
