//! What travels in headers and in gRPC messages.

use crate::text;
use penstock_gateway::media::{config_header, path};
use penstock_signer::service::offer::PaymentOffer;
use penstock_wire::{
    ExpirationFields, OrchestratorOffer, PaymentFields, SegmentCredential, capabilities as caps,
    header,
    json::{ByocJobRequest, EthAddressProof, SignedByocJob, parse_profiles},
    net,
};
use prost::Message;

/// `Livepeer-Payment`: base64, or the message itself, which a fuzzer gets into more easily.
pub fn payment(data: &[u8]) -> bool {
    let message = match text(data).map(header::decode_payment) {
        Some(Ok(message)) => message,
        _ => match net::Payment::decode(data) {
            Ok(message) => message,
            Err(_) => return false,
        },
    };
    let again = header::decode_payment(&header::encode_payment(&message));
    assert!(again.is_err() || again.as_ref() == Ok(&message), "a payment is read as another one");
    let Ok(fields) = PaymentFields::try_from(&message) else { return false };
    let again = PaymentFields::try_from(&fields.to_message());
    // What belongs to tickets is not sent without any, and their round is said once.
    let mut sent = fields;
    if sent.tickets.is_empty() {
        (sent.ticket_params, sent.expiration_params) = (None, ExpirationFields::default());
    }
    if let Some(params) = &mut sent.ticket_params {
        params.expiration_params = ExpirationFields::default();
    }
    assert_eq!(again.as_ref(), Ok(&sent), "fields are read as others");
    true
}

/// `Livepeer-Segment`, in the same two forms.
pub fn segment(data: &[u8]) -> bool {
    if let Some(text) = text(data)
        && SegmentCredential::from_header(text).is_ok()
    {
        return true;
    }
    let Ok(credential) = SegmentCredential::from_bytes(data) else { return false };
    assert_eq!(credential.rendition_names().len(), credential.profiles.len());
    let Ok(message) = net::SegData::decode(data) else { return false };
    let again = SegmentCredential::from_bytes(&message.encode_to_vec());
    assert_eq!(again.as_ref(), Ok(&credential), "a credential is read as another one");
    true
}

/// `OrchestratorInfo`, as a gateway and as a signer read it.
pub fn offer(data: &[u8]) -> bool {
    if let Ok(offer) = PaymentOffer::parse(data) {
        // Later rows of the documented checks; each has its own words.
        let _ = (offer.address(), offer.tickets().is_ok(), offer.auth_token(0), offer.refresh());
    }
    let Ok(offer) = OrchestratorOffer::decode(data) else { return false };
    let again = OrchestratorOffer::decode(&offer.encode());
    assert_eq!(again.as_ref(), Ok(&offer), "an offer is read as another one");
    let _ = offer.terms().map(|terms| terms.auth_token.clone());
    true
}

/// Capabilities, as requests to a signer carry them.
pub fn capabilities(data: &[u8]) -> bool {
    let Ok(read) = caps::decode(data) else { return false };
    let again = caps::read(&caps::write_report(&read));
    assert_eq!(again.as_ref(), Ok(&read), "capabilities are read as others");
    true
}

/// `Livepeer`: a job for a brought capability, as a gateway and as an orchestrator read it, and who asks for its
/// terms (`Livepeer-Eth-Address`); base64, or its JSON.
pub fn byoc(data: &[u8]) -> bool {
    let encoded = header::to_base64(data);
    let read = |value: &str| {
        [
            ByocJobRequest::from_header(value).is_ok(),
            SignedByocJob::from_header(value).is_ok(),
            EthAddressProof::from_header(value).is_ok(),
        ]
    };
    let said = text(data).map(read).unwrap_or_default();
    [said, read(&encoded)].as_flattened().contains(&true)
}

/// `Livepeer-Transcode-Configuration`, `--transcoding-options`, and the path of a push.
pub fn transcode_config(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    let accepted = [
        config_header::parse_header(text).is_ok(),
        config_header::parse_options(text).is_ok(),
        parse_profiles(data).is_ok(),
    ];
    let _ = (path::split(text), path::split_name(text));
    accepted.contains(&true) || path::parse_push(text).is_ok()
}
