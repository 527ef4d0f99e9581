//! The golden vectors that concern the wire. They live with the payments crate and were made by
//! the Go node's own code (payments.md section 16).

use penstock_domain::{
    B256, Capability, CapabilitySet, ManifestId, VideoProfile, keccak256, parse_b256,
};
use penstock_wire::{
    AuthToken, PaymentFields, SegmentCredential, SegmentSpec, header,
    json::{GoSignerState, LivePaymentRequest, SignOrchestratorInfo, SignedState},
    net,
};
use prost::Message;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../payments/vectors/payments.json")).unwrap()
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_else(|| panic!("no {key}"))
}

fn bytes(v: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(v, key).strip_prefix("0x").unwrap()).unwrap()
}

#[test]
fn payment_header() {
    let all = vectors();
    let v = &all["payment_header"];
    let message = header::decode_payment(text(v, "header")).unwrap();
    assert_eq!(message.encode_to_vec(), bytes(v, "protobuf"));
    let fields = PaymentFields::try_from(&message).unwrap();
    assert_eq!(fields.tickets.len(), v["tickets"].as_array().unwrap().len());
    assert_eq!(fields.tickets[0].sender_nonce, 1);
    assert_eq!(fields.tickets[0].sig.len(), 65);
    let price = fields.expected_price.unwrap();
    assert_eq!((price.price_per_unit(), price.pixels_per_unit()), (201, 200));
    let sender = text(&all["orchestrator_request"], "message");
    assert_eq!(fields.sender.unwrap().to_string(), sender);
    assert_eq!(header::encode_payment(&fields.to_message()), text(v, "header"));
}

#[test]
fn segment_header() {
    let all = vectors();
    let v = &all["segment_header"];
    let token = &all["auth_tokens"][0];
    let spec = SegmentSpec::empty(
        ManifestId::new(text(v, "manifest_id")).unwrap(),
        None,
        AuthToken {
            token: bytes(token, "token"),
            session_id: text(token, "session_id").into(),
            expiration_s: token["expiration"].as_i64().unwrap(),
        },
    );
    let message = spec.to_message(bytes(&all["segments"][0], "sig"));
    assert_eq!(message.encode_to_vec(), bytes(v, "protobuf"));
    assert_eq!(header::encode_segment(&message), text(v, "header"));
    let read = SegmentCredential::from_header(text(v, "header")).unwrap();
    assert_eq!(read.auth_token.ok(), spec.auth_token);
    assert_eq!(read.manifest_id, spec.manifest_id);
}

/// What a credential that went over the wire is checked against: manifest id, number, data hash,
/// and the hash text of the rendition names.
#[test]
fn segments() {
    for v in vectors()["segments"].as_array().unwrap() {
        let profiles = v["profiles"].as_array().unwrap();
        let data_hash = parse_b256(text(v, "data_hash")).unwrap();
        assert_eq!(keccak256(bytes(v, "data")), data_hash);
        let token = AuthToken { token: vec![1], session_id: "a".into(), expiration_s: 0 };
        let manifest = ManifestId::new(text(v, "manifest_id")).unwrap();
        let spec = SegmentSpec {
            seq: v["seq"].as_i64().unwrap(),
            hash: data_hash,
            profiles: profiles
                .iter()
                .map(|p| VideoProfile::preset(p.as_str().unwrap()).unwrap())
                .collect(),
            ..SegmentSpec::empty(manifest, None, token)
        };
        let sent = header::encode_segment(&spec.to_message(bytes(v, "sig")));
        let read = SegmentCredential::from_header(&sent).unwrap();
        let mut flat = read.manifest_id.as_str().as_bytes().to_vec();
        flat.extend_from_slice(&[0; 24]);
        flat.extend_from_slice(&read.seq.unsigned_abs().to_be_bytes());
        flat.extend_from_slice(read.hash.as_slice());
        for name in read.rendition_names() {
            flat.extend_from_slice(hex::encode(&keccak256(name)[..4]).as_bytes());
        }
        assert_eq!(flat, bytes(v, "flattened"), "{}", text(v, "name"));
        assert_eq!(keccak256(&flat), B256::from_slice(&bytes(v, "keccak")));
        assert_eq!(read.sig, bytes(v, "sig"));
    }
}

#[test]
fn capability_bitstrings() {
    let all = vectors();
    let words = |key: &str| -> Vec<u64> {
        let list = all["capability_bitstrings"][key].as_array().unwrap();
        list.iter().map(|w| w.as_str().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(CapabilitySet::default_video().words(), words("default"));
    assert_eq!(CapabilitySet::legacy().words(), words("legacy"));
    let live = CapabilitySet::of([Capability::LiveVideoToVideo]);
    assert_eq!(live.words(), words("live_video_to_video"));
    let message = net::Capabilities { bitstring: words("default"), ..Default::default() };
    let read = penstock_wire::capabilities::read(&message).unwrap();
    assert_eq!(read.capacities.len(), 15);
    assert_eq!(penstock_wire::capabilities::write(&read).bitstring, words("default"));
}

#[test]
fn signer_state() {
    let all = vectors();
    let v = &all["signer_state"];
    let state: GoSignerState = serde_json::from_str(text(v, "state_utf8")).unwrap();
    assert_eq!((state.sender_nonce, state.balance.as_str()), (2, "7/3"));
    assert_eq!(serde_json::to_string(&state).unwrap(), text(v, "state_utf8"));
    let signed = SignedState { state: text(v, "state_utf8").into(), sig: bytes(v, "sig") };
    let json = signed.to_json();
    assert_eq!(json["State"], v["state_base64"]);
    assert_eq!(json["Sig"], v["sig_base64"]);
    let request = serde_json::json!({ "state": json }).to_string();
    assert_eq!(LivePaymentRequest::parse(request.as_bytes()).unwrap().state, Some(signed));
}

#[test]
fn orchestrator_request() {
    let all = vectors();
    let v = &all["orchestrator_request"];
    let body = serde_json::json!({ "address": v["message"], "signature": v["sig"] });
    let info = SignOrchestratorInfo::parse(body.to_string().as_bytes()).unwrap();
    assert_eq!(info.signature, bytes(v, "sig"));
    assert_eq!(info.to_json(), body);
}
