//! Every parser takes 100,000 generated inputs: random bytes, and valid messages that were cut,
//! flipped, spliced and repeated. None may panic, and what a parser accepts must survive being
//! written and read again, so that "accepted" means something.

use base64::Engine as _;
use penstock_domain::{Capabilities, Capability, ManifestId, Rational, VideoProfile};
use penstock_wire::{
    AuthToken, OrchestratorOffer, PaymentFields, SegmentCredential, SegmentSpec, SenderFields,
    TicketParamsFields, capabilities, header,
    json::{self, LivePaymentRequest, SignedState},
    net,
};
use prost::Message;

const CASES: u32 = 100_000;

/// xorshift64*: the same cases on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max)).map(|_| self.next() as u8).collect()
    }

    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len());
            match self.below(7) {
                0 => input.truncate(at),
                1 | 2 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                3 if !input.is_empty() => input[at] = self.next() as u8,
                4 => drop(input.splice(at..at, self.bytes(9))),
                5 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    let end = (at + self.below(16)).min(input.len());
                    let piece = input[at.min(end)..end].to_vec();
                    drop(input.splice(at..at, piece));
                }
            }
        }
        input
    }
}

/// Runs a parser over the cases; `accepted` says whether it took one. Some must be taken, or the
/// test would show nothing about what comes after the first check.
fn run(seed: u64, corpus: &[Vec<u8>], mut accepted: impl FnMut(&[u8]) -> bool) {
    for valid in corpus {
        assert!(accepted(valid), "the corpus itself must be accepted");
    }
    let mut dice = Dice(seed);
    let mut taken = 0;
    for case in 0..CASES {
        let input = if case % 4 == 0 { dice.bytes(64) } else { dice.mutate(corpus) };
        taken += u32::from(accepted(&input));
    }
    assert!(taken > CASES / 100, "only {taken} of {CASES} cases were accepted");
}

fn token() -> AuthToken {
    AuthToken { token: vec![7; 32], session_id: "a1b2c3d4".into(), expiration_s: 1_800_000_000 }
}

fn node() -> Capabilities {
    let mut node = Capabilities::ai_job(Capability::AudioToText, "openai/whisper-tiny.en", true);
    node.version = "0.8.5".into();
    node
}

fn ticket_params() -> TicketParamsFields {
    let params = net::TicketParams {
        recipient: vec![1; 20],
        face_value: vec![9; 9],
        win_prob: vec![3; 31],
        recipient_rand_hash: vec![4; 32],
        seed: vec![5; 32],
        expiration_block: vec![1, 2, 3],
        expiration_params: Some(net::TicketExpirationParams {
            creation_round: 201,
            creation_round_block_hash: vec![6; 32],
        }),
    };
    TicketParamsFields::try_from(&params).unwrap()
}

fn offer() -> net::OrchestratorInfo {
    net::OrchestratorInfo {
        transcoder: "https://127.0.0.1:8935".into(),
        ticket_params: Some(ticket_params().to_offer_message()),
        price_info: Some(net::PriceInfo {
            price_per_unit: 5,
            pixels_per_unit: 3,
            ..Default::default()
        }),
        address: vec![2; 20],
        capabilities: Some(capabilities::write_report(&node())),
        auth_token: Some((&token()).into()),
        hardware: vec![net::HardwareInformation {
            pipeline: "audio-to-text".into(),
            model_id: "m".into(),
            gpu_info: [("0".to_owned(), net::GpuComputeInfo::default())].into(),
        }],
        storage: vec![net::OsInfo {
            storage_type: 1,
            s3info: Some(net::S3osInfo { host: "https://s3".into(), ..Default::default() }),
        }],
        capabilities_prices: vec![net::PriceInfo {
            price_per_unit: 1,
            pixels_per_unit: 1,
            capability: 31,
            constraint: "m".into(),
        }],
        nodes: vec!["https://n:8935".into()],
    }
}

fn segment() -> net::SegData {
    let manifest = ManifestId::new("manifest").unwrap();
    SegmentSpec {
        seq: 7,
        duration_ms: 2000,
        profiles: VideoProfile::defaults(),
        ..SegmentSpec::empty(manifest, Some(node()), token())
    }
    .to_message(vec![1; 65])
}

#[test]
fn payment_header() {
    let ticket = |sender_nonce| SenderFields { sender_nonce, sig: vec![8; 65] };
    let full = PaymentFields {
        sender: Some(penstock_domain::Address::repeat_byte(1)),
        ticket_params: Some(ticket_params()),
        expiration_params: ticket_params().expiration_params,
        tickets: vec![ticket(1), ticket(2)],
        expected_price: penstock_domain::PriceInfo::new(5, 3).ok(),
    };
    let empty = PaymentFields { tickets: Vec::new(), ..full.clone() };
    let corpus = [full, empty].map(|p| p.to_message().encode_to_vec());
    run(1, &corpus, |bytes| {
        // Both as the bytes inside and, raw, as the text itself.
        let _ = header::decode_payment(&String::from_utf8_lossy(bytes));
        let Ok(message) = header::decode_payment(&header::to_base64(bytes)) else { return false };
        let Ok(fields) = PaymentFields::try_from(&message) else { return false };
        let again = PaymentFields::try_from(&fields.to_message()).unwrap();
        if !fields.tickets.is_empty() {
            assert_eq!(again, fields);
        }
        true
    });
}

#[test]
fn segment_header() {
    let corpus = [segment().encode_to_vec()];
    run(2, &corpus, |bytes| {
        let _ = SegmentCredential::from_header(&String::from_utf8_lossy(bytes));
        let Ok(read) = SegmentCredential::from_header(&header::to_base64(bytes)) else {
            return false;
        };
        assert!((1..=300_000).contains(&read.duration_ms));
        for profile in &read.profiles {
            assert_eq!(profile.clone().checked().as_ref(), Ok(profile));
        }
        let spec = SegmentSpec {
            manifest_id: read.manifest_id.clone(),
            seq: read.seq,
            hash: read.hash,
            duration_ms: read.duration_ms,
            profiles: read.profiles.clone(),
            capabilities: read.capabilities.clone().ok(),
            auth_token: read.auth_token.clone().ok(),
            storage: read.storage.clone(),
            calc_perceptual_hash: read.calc_perceptual_hash,
            clip: read.clip,
            force_session_reinit: read.force_session_reinit,
        };
        let again = SegmentCredential::from_message(&spec.to_message(read.sig.clone())).unwrap();
        assert_eq!(again.profiles, read.profiles);
        assert_eq!(again.rendition_names(), read.rendition_names());
        true
    });
}

#[test]
fn orchestrator_info() {
    let corpus = [offer().encode_to_vec()];
    run(3, &corpus, |bytes| {
        let Ok(offer) = OrchestratorOffer::decode(bytes) else { return false };
        assert_eq!(OrchestratorOffer::decode(&offer.encode()).unwrap(), offer);
        true
    });
}

#[test]
fn capabilities_message() {
    let corpus = [node(), Capabilities::of_set(penstock_domain::CapabilitySet::default_video())]
        .map(|c| capabilities::write(&c).encode_to_vec());
    let job = Capabilities::ai_job(Capability::AudioToText, "openai/whisper-tiny.en", true);
    run(4, &corpus, |bytes| {
        let Ok(read) = capabilities::decode(bytes) else { return false };
        let again = capabilities::write_report(&read).encode_to_vec();
        assert_eq!(capabilities::decode(&again).unwrap(), read);
        let _ = job.fits(&read);
        true
    });
}

#[test]
fn live_payment_json() {
    let price = Rational::from_decimal("1.012e16").unwrap();
    let state = SignedState { state: b"state".to_vec(), sig: vec![1; 32] };
    let held = json::PaymentState::new(state.to_json()).unwrap();
    let info = offer().encode_to_vec();
    let call = json::LivePaymentCall {
        orchestrator: &info,
        state: Some(&held),
        manifest_id: "a1b2c3d4",
        app: "app",
        in_pixels: 1000,
        job_type: "lv2v",
        max_price: Some((&price, "720p-pixel-seconds")),
        capabilities: b"abc",
        byoc_capability: "flux",
    };
    let small = json::LivePaymentCall { orchestrator: b"abc", in_pixels: 1, ..Default::default() };
    let corpus = [call, small].map(|c| c.to_json().to_string().into_bytes());
    run(5, &corpus, |bytes| LivePaymentRequest::parse(bytes).is_ok());
}

#[test]
fn brought_jobs() {
    let job = r#"{"id":"a","request":"{\"run\":1}","capability":"c","timeout_seconds":30,
        "parameters":"{\"orchestrators\":{\"include\":[\"https://a\"]}}"}"#;
    let header = |json: &[u8]| base64::engine::general_purpose::STANDARD.encode(json);
    run(9, &[job.as_bytes().to_vec()], |bytes| {
        let Ok(job) = json::ByocJobRequest::from_header(&header(bytes)) else { return false };
        let signed = job.to_header("0x0", "0x1");
        assert_eq!(json::ByocJobRequest::from_header(&signed).unwrap(), job);
        true
    });
    let bytes = |n: usize| base64::engine::general_purpose::STANDARD.encode(vec![7; n]);
    let token = serde_json::json!({
        "service_addr": "https://o:8935", "available_capacity": 2, "balance": 5,
        "price": { "pricePerUnit": 3, "pixelsPerUnit": 2 },
        "ticket_params": {
            "recipient": bytes(20), "face_value": bytes(8), "win_prob": bytes(32),
            "recipient_rand_hash": bytes(32), "seed": bytes(32), "expiration_block": bytes(4),
            "expiration_params": { "creation_round": 9, "creation_round_block_hash": bytes(32) },
        },
    });
    run(10, &[token.to_string().into_bytes()], |b| json::ByocToken::parse(b).is_ok());
}

#[test]
fn discovery_json() {
    let text = r#"[{"address":"https://o:8935","score":1,"capabilities":["audio-to-text/m"],
        "runners":[{"url":"https://r","app":"a","capacity":1,"capacity_used":0,
        "capacity_available":1,"price_info":{"price":0.5,"currency":"wei","unit":"seconds"}}]},
        {"address":"https://p:8935"}]"#;
    run(6, &[text.as_bytes().to_vec()], |bytes| {
        let Ok(list) = json::parse_discovery(bytes) else { return false };
        let again: Vec<_> = list.iter().map(json::DiscoveryEntry::to_json).collect();
        let again = serde_json::Value::Array(again).to_string();
        assert_eq!(json::parse_discovery(again.as_bytes()).unwrap().len(), list.len());
        true
    });
}

#[test]
fn live_runner_json() {
    let text = r#"{"runner_id":"runner_a","runner_url":"http://r:1","app":"echo","capacity":2,
        "gpu":{"id":"0","name":"H100","vram_mb":9},"proxy":true,"label":"l","mode":"single-shot",
        "price_info":{"price":0.5,"currency":"usd","unit":"hour"},"health_url":"/h"}"#;
    let list = format!(r#"{{"runners":[{text}]}}"#);
    run(11, &[text.as_bytes().to_vec()], |b| json::RunnerSaid::parse(b).is_ok());
    run(12, &[list.into_bytes()], |b| json::StaticRunnerSaid::parse_list(b).is_ok());
    let wanted = br#"{"channels":[{"name":"in","mime_type":"video/mp2t"}]}"#;
    run(13, &[wanted.to_vec()], |b| json::WantedChannel::parse_list(b).is_ok());
}

#[test]
fn profiles_json() {
    let text = r#"[{"name":"p","width":640,"height":360,"bitrate":1200000,"fps":30,"fpsDen":1,
        "profile":"H264High","gop":"2.5","encoder":"H.264","quality":20},
        {"width":2,"height":2,"bitrate":1}]"#;
    run(7, &[text.as_bytes().to_vec()], |bytes| {
        let Ok(list) = json::parse_profiles(bytes) else { return false };
        let again: Vec<_> = list.iter().map(json::profile_to_json).collect();
        let again = serde_json::Value::Array(again).to_string();
        assert_eq!(json::parse_profiles(again.as_bytes()).unwrap(), list);
        true
    });
}

#[test]
fn byoc_at_orchestrators() {
    let header = |text: &[u8]| base64::engine::general_purpose::STANDARD.encode(text);
    let said = r#"{"name":"flux","url":"http://w","capacity":2,"price_per_unit":7}"#;
    run(12, &[said.as_bytes().to_vec()], |b| json::ByocRegistration::parse(b).is_ok());
    let job = r#"{"id":"a","request":"{}","capability":"c","timeout_seconds":9,"sig":"00"}"#;
    let proof = r#"{"addr":"0xd4146f1a8a9e6cb2a4a3ac22d9f48b6d2f3fbb65","sig":"00"}"#;
    run(13, &[job.as_bytes().to_vec(), proof.as_bytes().to_vec()], |bytes| {
        let text = header(bytes);
        json::SignedByocJob::from_header(&text).is_ok()
            | json::EthAddressProof::from_header(&text).is_ok()
    });
}

#[test]
fn live_video_json() {
    let asked =
        r#"{"model_id":"noop","params":{"a":[1]},"stream_id":"s","gateway_request_id":"r"}"#;
    run(11, &[asked.as_bytes().to_vec(), b"{}".to_vec()], |bytes| {
        let Ok(start) = json::LiveVideoStart::parse(bytes) else { return false };
        assert!((1..=256).contains(&start.model_id.len()));
        true
    });
}

/// The small documents share their reader with the ones above; fewer cases of each will do.
#[test]
fn small_documents() {
    let challenge = json::PaymentChallenge {
        payment_params: offer().encode_to_vec(),
        orchestrator: "https://o:8935".into(),
        manifest_id: "a1b2c3d4".into(),
        payment_url: "https://o:8935/payment".into(),
    };
    let answer = json::LivePaymentAnswer::body(
        "cA==",
        "c2M=",
        &SignedState { state: vec![1], sig: vec![2] },
    );
    let corpus = [
        challenge.to_json().to_string(),
        answer.to_string(),
        r#"{"text":"hi","chunks":[{"timestamp":[0,1.5],"text":"hi"}]}"#.into(),
        r#"{"error":{"message":"m","code":"c"}}"#.into(),
        r#"{"address":"0xd4146f1a8a9e6cb2a4a3ac22d9f48b6d2f3fbb65","signature":"0x00"}"#.into(),
        r#"{"state":{"State":"AQ==","Sig":"AQ=="},"segment":"AQ=="}"#.into(),
        r#"{"sender":"0xd4146f1a8a9e6cb2a4a3ac22d9f48b6d2f3fbb65","manifest_id":"m"}"#.into(),
    ]
    .map(String::into_bytes);
    run(8, &corpus, |bytes| {
        let results = [
            json::PaymentChallenge::parse(bytes).is_ok(),
            json::LivePaymentAnswer::parse(bytes).is_ok(),
            <json::TextAnswer as json::AiResult>::parse(bytes, 10_000).is_ok(),
            <json::ImageAnswer as json::AiResult>::parse(bytes, 10_000).is_ok(),
            <json::LlmAnswer as json::AiResult>::parse(bytes, 10_000).is_ok(),
            json::SignOrchestratorInfo::parse(bytes).is_ok(),
            json::SegmentCredentialsRequest::parse(bytes).is_ok(),
            json::SegmentCredentialsAnswer::parse(bytes).is_ok(),
            json::RefreshPaymentRequest::parse(bytes).is_ok(),
            // Never fails; its words are bounded.
            json::ErrorEnvelope::parse(bytes).message.len() <= 3 * 4096,
        ];
        results.contains(&true)
    });
}
