//! The two headers of a paid call: base64 of `Payment` and of `SegData`, and the plain codecs
//! they are made of. Standard alphabet with padding, as the reference reads and writes it.

use crate::{
    error::{WireError, bounded},
    limits, net,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;

/// Carries a payment (orchestrator-wire.md section 6).
pub const PAYMENT: &str = "Livepeer-Payment";
/// Carries a segment's credential (orchestrator-wire.md section 6).
pub const SEGMENT: &str = "Livepeer-Segment";
/// Who will pay, on a request without payment (orchestrator-wire.md section 8).
pub const PAYER_ADDRESS: &str = "Livepeer-Payer-Address";
/// Content type of a segment in the body.
pub const CONTENT_SEGMENT: &str = "video/MP2T";
/// Content type of a body that is the segment's URL.
pub const CONTENT_URI: &str = "application/vnd+livepeer.uri";

/// Standard base64 with padding.
pub fn to_base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The inverse of [`to_base64`], refusing more than `max_bytes` of text before decoding.
pub fn from_base64(what: &'static str, text: &str, max_bytes: usize) -> Result<Vec<u8>, WireError> {
    bounded(what, text.len(), max_bytes)?;
    STANDARD.decode(text).map_err(|_| WireError::Base64(what))
}

/// Parses a message of at most `max_bytes`.
pub fn decode_message<M: Message + Default>(
    what: &'static str,
    bytes: &[u8],
    max_bytes: usize,
) -> Result<M, WireError> {
    bounded(what, bytes.len(), max_bytes)?;
    M::decode(bytes).map_err(|e| WireError::Protobuf { what, reason: e.to_string() })
}

/// The value of [`PAYMENT`].
pub fn encode_payment(payment: &net::Payment) -> String {
    to_base64(payment.encode_to_vec())
}

/// Reads the value of [`PAYMENT`]. An empty header is an empty payment, not an error
/// (orchestrator-wire.md section 14). Fields are not checked here.
pub fn decode_payment(text: &str) -> Result<net::Payment, WireError> {
    let bytes = from_base64("payment header", text, limits::PAYMENT_HEADER_BYTES)?;
    let payment: net::Payment =
        decode_message("payment header", &bytes, limits::PAYMENT_HEADER_BYTES)?;
    crate::error::at_most(
        "ticket list of the payment",
        payment.ticket_sender_params.len(),
        limits::TICKETS_PER_PAYMENT,
    )?;
    Ok(payment)
}

/// The value of [`SEGMENT`].
pub fn encode_segment(segment: &net::SegData) -> String {
    to_base64(segment.encode_to_vec())
}

/// Reads the value of [`SEGMENT`]. Fields are not checked here.
pub fn decode_segment(text: &str) -> Result<net::SegData, WireError> {
    let bytes = from_base64("segment header", text, limits::SEGMENT_HEADER_BYTES)?;
    decode_message("segment header", &bytes, limits::SEGMENT_HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_payment_is_empty() {
        assert_eq!(decode_payment("").unwrap(), net::Payment::default());
        assert_eq!(encode_payment(&net::Payment::default()), "");
    }

    #[test]
    fn alphabet_padding_and_size_are_strict() {
        assert_eq!(decode_payment("CgA"), Err(WireError::Base64("payment header")));
        assert_eq!(decode_segment("-_-_"), Err(WireError::Base64("segment header")));
        let long = "A".repeat(limits::SEGMENT_HEADER_BYTES + 4);
        assert!(matches!(decode_segment(&long), Err(WireError::TooLong { .. })));
        let garbage = to_base64([0xff; 8]);
        assert!(matches!(decode_segment(&garbage), Err(WireError::Protobuf { .. })));
    }
}
