//! `POST /sign-segment-credentials`: the signer's own endpoint, by which a video segment's
//! credential is signed within a payment session.

use super::{payment::SignedState, read};
use crate::{error::WireError, header, json::PaymentState, limits, net};
use prost::Message;
use serde_json::{Value, json};

/// A request as the signer reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentCredentialsRequest {
    /// Names the payment session; must be one of this signer's.
    pub state: SignedState,
    /// Encoded `SegData`, its signature empty.
    pub segment: Vec<u8>,
}

impl SegmentCredentialsRequest {
    /// Reads a body of at most [`limits::SIGNER_REQUEST_BYTES`].
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let what = "segment credentials request";
        let map = read::object(what, body, limits::SIGNER_REQUEST_BYTES)?;
        let segment = read::base64(&map, "segment", limits::SEGMENT_HEADER_BYTES)?;
        if segment.is_empty() {
            return Err(WireError::Missing("segment"));
        }
        Ok(Self { state: SignedState::read(&map)?.ok_or(WireError::Missing("state"))?, segment })
    }

    /// The body as a gateway writes it.
    pub fn body(state: &PaymentState, unsigned: &net::SegData) -> Value {
        json!({
            "state": state.as_value(),
            "segment": header::to_base64(unsigned.encode_to_vec()),
        })
    }
}

/// The signed credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentCredentialsAnswer {
    /// Ready value of the header `Livepeer-Segment`.
    pub seg_creds: String,
}

impl SegmentCredentialsAnswer {
    /// Reads an answer.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let what = "segment credentials answer";
        let map = read::object(what, body, 2 * limits::SEGMENT_HEADER_BYTES)?;
        let seg_creds = read::text(&map, "segCreds", limits::SEGMENT_HEADER_BYTES)?;
        header::decode_segment(&seg_creds)?;
        if seg_creds.is_empty() {
            return Err(WireError::Missing("segCreds"));
        }
        Ok(Self { seg_creds })
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        json!({ "segCreds": self.seg_creds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let state = SignedState { state: b"s".to_vec(), sig: b"g".to_vec() };
        let held = PaymentState::new(state.to_json()).unwrap();
        let segment = net::SegData { seq: 5, ..Default::default() };
        let body = SegmentCredentialsRequest::body(&held, &segment).to_string();
        let read = SegmentCredentialsRequest::parse(body.as_bytes()).unwrap();
        assert_eq!((read.state, read.segment), (state, segment.encode_to_vec()));
        for bad in ["{}", r#"{"segment":"AQ=="}"#, r#"{"state":{"State":"AQ==","Sig":""}}"#] {
            assert!(SegmentCredentialsRequest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let answer = SegmentCredentialsAnswer { seg_creds: header::encode_segment(&segment) };
        let body = answer.to_json().to_string();
        assert_eq!(SegmentCredentialsAnswer::parse(body.as_bytes()).unwrap(), answer);
        assert!(SegmentCredentialsAnswer::parse(b"{}").is_err());
    }
}
