//! `POST /segment` and `POST /payment` (orchestrator-wire.md sections 6 and 7).

use super::{OrchestratorClient, PaidHeaders};
use crate::{
    call::{Bounds, Call},
    error::{CallError, CallErrorKind, Operation},
};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use penstock_wire::{
    OrchestratorOffer, WireError, checked_url, header, limits,
    net::{self, transcode_result},
};
use std::{future::ready, time::Duration};
use url::Url;

/// Largest encoded result: 16 renditions and an offer.
const MAX_RESULT_BYTES: u64 = 2 * 1024 * 1024;

/// What is sent.
#[derive(Debug)]
pub enum SegmentBody {
    /// The segment itself, whole or as a stream.
    Data(reqwest::Body),
    /// Where the orchestrator finds it.
    Url(String),
}

/// Time limits of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentTimeouts {
    /// Until the answer begins: the upload has arrived and was accepted.
    pub head: Duration,
    /// Until the result is there.
    pub whole: Duration,
}

impl SegmentTimeouts {
    /// The documented ones: head max(2 s, half the duration), whole max(8 s, four times the
    /// duration), both times `multiplier_percent`/100 if that is above 1.
    pub fn of(duration: Duration, multiplier_percent: u32) -> Self {
        let stretch = |t: Duration| t.saturating_mul(multiplier_percent.max(100)) / 100;
        Self {
            head: stretch(Duration::from_secs(2).max(duration / 2)),
            whole: stretch(Duration::from_secs(8).max(duration.saturating_mul(4))),
        }
    }
}

/// One rendition of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Where to fetch it, absolute.
    pub url: String,
    /// Encoded pixels, which the orchestrator charges for.
    pub pixels: u64,
    /// Where to fetch its perceptual hash.
    pub perceptual_hash_url: Option<String>,
}

/// A transcoded segment.
#[derive(Debug, Clone)]
pub struct SegmentAnswer {
    /// The segment's number.
    pub seq: i64,
    /// In the order of the profiles; fewer when the orchestrator could not save some.
    pub renditions: Vec<Rendition>,
    /// Over the renditions' hashes.
    pub sig: Vec<u8>,
    /// Replaces the session's offer, with its encoding for the signer.
    pub offer: Option<(OrchestratorOffer, Vec<u8>)>,
    /// From the start of the call until the whole result was read.
    pub elapsed: Duration,
}

impl OrchestratorClient {
    /// Has a segment transcoded.
    pub async fn submit_segment(
        &self,
        transcoder: &str,
        headers: &PaidHeaders,
        body: SegmentBody,
        timeouts: SegmentTimeouts,
    ) -> Result<SegmentAnswer, CallError> {
        let operation = Operation::Segment;
        let target = self.route(operation, transcoder, "segment")?;
        let (base, origin) = target.clone();
        let start = tokio::time::Instant::now();
        let (content_type, body) = match body {
            SegmentBody::Data(body) => (header::CONTENT_SEGMENT, body),
            SegmentBody::Url(url) => (header::CONTENT_URI, url.into()),
        };
        let prepare = |request: reqwest::RequestBuilder| {
            ready(request.header(CONTENT_TYPE, content_type).body(body))
        };
        let bounds =
            Bounds { head: timeouts.head, whole: timeouts.whole, max_bytes: MAX_RESULT_BYTES };
        let answer = self.post_paid(operation, target, headers, prepare, bounds).await?;
        let elapsed = start.elapsed();
        let call = Call { operation, origin: &origin };
        read_result(&answer.body, &base, elapsed).map_err(|kind| call.error(kind))
    }

    /// Pays without a job. The answer's offer replaces the session's.
    pub async fn pay(
        &self,
        transcoder: &str,
        headers: &PaidHeaders,
    ) -> Result<Option<(OrchestratorOffer, Vec<u8>)>, CallError> {
        let target = self.route(Operation::Payment, transcoder, "payment")?;
        self.pay_at_url(target, headers).await
    }

    /// As [`Self::pay`], at the whole URL that a challenge named.
    pub async fn pay_at(
        &self,
        payment_url: &str,
        headers: &PaidHeaders,
    ) -> Result<Option<(OrchestratorOffer, Vec<u8>)>, CallError> {
        let target = self.target(Operation::Payment, payment_url)?;
        self.pay_at_url(target, headers).await
    }

    async fn pay_at_url(
        &self,
        target: (Url, String),
        headers: &PaidHeaders,
    ) -> Result<Option<(OrchestratorOffer, Vec<u8>)>, CallError> {
        let operation = Operation::Payment;
        let origin = target.1.clone();
        let limit = self.options.payment_timeout;
        let bounds = Bounds { head: limit, whole: limit, max_bytes: MAX_RESULT_BYTES };
        let prepare = |request: reqwest::RequestBuilder| ready(request.body(Bytes::new()));
        let answer = self.post_paid(operation, target, headers, prepare, bounds).await?;
        let result: net::PaymentResult =
            header::decode_message("payment result", &answer.body, MAX_RESULT_BYTES as usize)
                .map_err(|e| Call { operation, origin: &origin }.error(CallErrorKind::Answer(e)))?;
        offer_of(result.info)
            .map_err(|e| Call { operation, origin: &origin }.error(CallErrorKind::Answer(e)))
    }
}

fn offer_of(
    info: Option<net::OrchestratorInfo>,
) -> Result<Option<(OrchestratorOffer, Vec<u8>)>, WireError> {
    info.map(|info| {
        let encoded = prost::Message::encode_to_vec(&info);
        OrchestratorOffer::try_from(&info).map(|offer| (offer, encoded))
    })
    .transpose()
}

fn read_result(body: &[u8], base: &Url, elapsed: Duration) -> Result<SegmentAnswer, CallErrorKind> {
    let result: net::TranscodeResult =
        header::decode_message("transcode result", body, MAX_RESULT_BYTES as usize)
            .map_err(CallErrorKind::Answer)?;
    let data = match result.result {
        Some(transcode_result::Result::Data(data)) => data,
        Some(transcode_result::Result::Error(text)) => {
            return Err(CallErrorKind::Job(text.chars().take(1024).collect()));
        }
        None => return Err(CallErrorKind::NoResult),
    };
    if data.segments.len() > limits::PROFILES || data.sig.len() > 128 {
        let (what, max) = ("renditions", limits::PROFILES);
        return Err(CallErrorKind::Answer(WireError::TooMany { what, max }));
    }
    let renditions = data
        .segments
        .iter()
        .map(|s| rendition(s, base))
        .collect::<Result<_, _>>()
        .map_err(CallErrorKind::Answer)?;
    let offer = offer_of(result.info).map_err(CallErrorKind::Answer)?;
    Ok(SegmentAnswer { seq: result.seq, renditions, sig: data.sig, offer, elapsed })
}

fn rendition(segment: &net::TranscodedSegmentData, base: &Url) -> Result<Rendition, WireError> {
    Ok(Rendition {
        url: absolute(&segment.url, base)?,
        pixels: u64::try_from(segment.pixels)
            .map_err(|_| WireError::Invalid { what: "pixels", reason: "must not be negative" })?,
        perceptual_hash_url: match segment.perceptual_hash_url.as_str() {
            "" => None,
            url => Some(absolute(url, base)?),
        },
    })
}

/// Orchestrators behind a proxy may send a path only; it is completed with their own host.
fn absolute(url: &str, base: &Url) -> Result<String, WireError> {
    let what = "rendition url";
    if url.len() > limits::URL_BYTES {
        return Err(WireError::TooLong { what, max: limits::URL_BYTES });
    }
    let joined = base
        .join(url)
        .map_err(|_| WireError::Invalid { what, reason: "must be a URL or a path" })?;
    checked_url(what, joined.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn base() -> Url {
        Url::parse("https://o:8935/segment").unwrap()
    }

    fn read(result: &net::TranscodeResult) -> Result<SegmentAnswer, CallErrorKind> {
        read_result(&result.encode_to_vec(), &base(), Duration::ZERO)
    }

    fn with(segments: Vec<net::TranscodedSegmentData>) -> net::TranscodeResult {
        let data = net::TranscodeData { segments, sig: vec![1; 65] };
        let result = Some(transcode_result::Result::Data(data));
        net::TranscodeResult { seq: 3, result, info: None }
    }

    #[test]
    fn documented_timeouts() {
        let secs = Duration::from_secs;
        let t = SegmentTimeouts::of(secs(2), 100);
        assert_eq!((t.head, t.whole), (secs(2), secs(8)));
        let t = SegmentTimeouts::of(secs(10), 150);
        assert_eq!((t.head, t.whole), (Duration::from_millis(7500), secs(60)));
        assert_eq!(SegmentTimeouts::of(secs(2), 0), SegmentTimeouts::of(secs(2), 100));
    }

    #[test]
    fn urls_become_absolute_and_stay_http() {
        let one = |url: &str| {
            read(&with(vec![net::TranscodedSegmentData { url: url.into(), ..Default::default() }]))
                .map(|a| a.renditions[0].url.clone())
        };
        assert_eq!(one("/stream/a/P/3.ts").unwrap(), "https://o:8935/stream/a/P/3.ts");
        assert_eq!(one("http://s/x.ts").unwrap(), "http://s/x.ts");
        assert!(one("file:///etc/passwd").is_err());
        assert!(one("https://u:p@s/").is_err());
    }

    #[test]
    fn results_that_are_none() {
        let error = Some(transcode_result::Result::Error("ZeroSegments".into()));
        let failed = net::TranscodeResult { result: error, ..Default::default() };
        assert!(matches!(read(&failed), Err(CallErrorKind::Job(t)) if t == "ZeroSegments"));
        assert!(matches!(read(&net::TranscodeResult::default()), Err(CallErrorKind::NoResult)));
        let negative = net::TranscodedSegmentData { pixels: -1, ..Default::default() };
        assert!(matches!(read(&with(vec![negative])), Err(CallErrorKind::Answer(_))));
        let many = vec![net::TranscodedSegmentData::default(); 17];
        assert!(matches!(read(&with(many)), Err(CallErrorKind::Answer(_))));
        assert!(read_result(&[0xff], &base(), Duration::ZERO).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100_000))]
        /// Flips, cuts and insertions in a valid result: no panic, and whatever is accepted has
        /// only URLs that may be called.
        #[test]
        fn generated_results(
            edits in proptest::collection::vec((0usize..120, proptest::prelude::any::<u8>(), 0u8..3), 0..6),
        ) {
            let segment = net::TranscodedSegmentData {
                url: "/stream/a/P/3.ts".into(),
                pixels: 7,
                perceptual_hash_url: "/stream/a/P/3.ts.phash".into(),
            };
            let mut bytes = with(vec![segment]).encode_to_vec();
            for (at, value, kind) in edits {
                let at = at.min(bytes.len());
                match kind {
                    0 => bytes.insert(at, value),
                    1 if at < bytes.len() => bytes[at] = value,
                    _ if value < 16 => bytes.truncate(at),
                    _ => {}
                }
            }
            if let Ok(answer) = read_result(&bytes, &base(), Duration::ZERO) {
                for rendition in answer.renditions {
                    proptest::prop_assert!(checked_url("url", &rendition.url).is_ok());
                }
            }
        }
    }
}
