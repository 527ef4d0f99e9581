//! Valid inputs, made by the encoders where there are any: at least two for each target.

use penstock_domain::{
    Address, AuthId, B256, Capabilities, Capability, ManifestId, PriceInfo, StateId, U256,
    VideoProfile, Wei,
};
use penstock_gateway::{
    media::{aac::AacConfig, ts::mux::Muxer},
    rtmp::{
        amf::{self, Value},
        chunk::{Message, write},
    },
};
use penstock_keys::{LocalKey, keystore};
use penstock_signer::state_blob::{StateClaim, StateKeys};
use penstock_wire::{
    AuthToken, ExpirationFields, OrchestratorOffer, PaymentFields, SegmentSpec, SenderFields,
    TicketParamsFields, capabilities, header,
    json::{LivePaymentAnswer, LivePaymentCall, PaymentChallenge, SignedState, eth_address_header},
};
use prost::Message as _;
use serde_json::json;

type Seed = (&'static str, usize, Vec<u8>);

/// All of them: target, number, input.
pub fn all() -> Vec<Seed> {
    let all = [
        ("payment_header", payments()),
        ("segment_credential", segments()),
        ("orchestrator_offer", offers()),
        ("capabilities", menus()),
        ("byoc_header", byoc()),
        (
            "transcode_config",
            texts(&[
                r#"{"presets":["P240p30fps16x9"],"profiles":[{"name":"a","width":16,"height":16,"bitrate":1,"fps":30}]}"#,
                "P240p30fps16x9,P360p30fps16x9",
                "/live/stream/0.ts",
            ]),
        ),
        ("signer_state", states()),
        (
            "trickle_path",
            texts(&[
                "POST /chan\nPOST /chan/0\nGET /chan/0\nGET /chan/next\nDELETE /chan/0\nDELETE /chan",
                "POST /a\nGET /a/-2\nGET /_changes/0\nPOST /a/17",
                "POST /b%20c\nPOST /b%20c/9223372036854775806\nGET /b%20c/-1",
            ]),
        ),
        ("heartbeat", heartbeats()),
        ("payment_request", requests()),
        (
            "ai_request",
            texts(&[
                r#"{"model_id":"m","prompt":"a cat","width":512,"seed":7}"#,
                r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":5,"stream":true}"#,
                "data:image/png;base64,iVBORw0KGgo=",
            ]),
        ),
        ("discovery", lists()),
        ("keystore", keystores()),
        (
            "settings_file",
            texts(&[
                "http_addr = \"127.0.0.1:0\"\nmax_attempts = 3\n",
                "auth_id = \"sim:a\"\nprepay_ms = 0\ndefault_model = [\"llm=m\"]\n",
            ]),
        ),
        (
            "price_file",
            texts(&[
                r#"{"capabilities_prices":[{"pipeline":"llm","model_id":"m","price_per_unit":1,"pixels_per_unit":2}]}"#,
                "0.5USD/1e12",
                "7/3",
            ]),
        ),
        ("playlist", playlists()),
        ("media_file", files()),
        ("rtmp_chunks", messages()),
    ];
    all.into_iter()
        .flat_map(|(name, list)| list.into_iter().enumerate().map(move |(n, data)| (name, n, data)))
        .collect()
}

fn texts(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn params() -> TicketParamsFields {
    TicketParamsFields {
        recipient: Address::repeat_byte(7),
        face_value: Wei::from_u64(1_000_000),
        win_prob: U256::MAX / U256::from(100),
        recipient_rand_hash: B256::repeat_byte(9),
        seed: U256::from(5),
        expiration_block: U256::from(1_000),
        expiration_params: expiration(),
    }
}

fn expiration() -> ExpirationFields {
    ExpirationFields { creation_round: 3, creation_round_block_hash: B256::repeat_byte(4) }
}

fn token() -> AuthToken {
    AuthToken { token: vec![7; 32], session_id: "a1b2c3d4".into(), expiration_s: 1_700_000_000 }
}

fn payments() -> Vec<Vec<u8>> {
    let none = PaymentFields { sender: Some(Address::repeat_byte(1)), ..PaymentFields::default() };
    let ticket = |n| SenderFields { sender_nonce: n, sig: vec![27; 65] };
    let full = PaymentFields {
        sender: Some(Address::repeat_byte(1)),
        ticket_params: Some(params()),
        expiration_params: expiration(),
        tickets: (1..4).map(ticket).collect(),
        expected_price: PriceInfo::new(7, 3).ok(),
    };
    let text = header::encode_payment(&full.to_message());
    vec![none.to_message().encode_to_vec(), full.to_message().encode_to_vec(), text.into_bytes()]
}

fn segments() -> Vec<Vec<u8>> {
    let manifest = ManifestId::new("manifest").unwrap();
    let job = Capabilities::ai_job(Capability::Llm, "m", true);
    let empty = SegmentSpec::empty(manifest, Some(job), token());
    let video = SegmentSpec {
        seq: 7,
        duration_ms: 2000,
        profiles: VideoProfile::defaults(),
        ..empty.clone()
    };
    let text = header::encode_segment(&video.to_message(vec![1; 65]));
    vec![
        empty.to_message(vec![1; 65]).encode_to_vec(),
        video.to_message(vec![1; 65]).encode_to_vec(),
        text.into_bytes(),
    ]
}

fn offer() -> OrchestratorOffer {
    OrchestratorOffer {
        transcoder: Some("https://o:8935".into()),
        address: Some(Address::repeat_byte(7)),
        price: PriceInfo::new(7, 3).ok(),
        ticket_params: Some(params()),
        capabilities: Some(Capabilities::ai_job(Capability::Llm, "m", true)),
        auth_token: Some(token()),
        storage: None,
        capabilities_prices: Vec::new(),
        hardware: Vec::new(),
        nodes: vec!["https://p:8935".into()],
    }
}

fn offers() -> Vec<Vec<u8>> {
    let bare = OrchestratorOffer {
        price: None,
        ticket_params: None,
        capabilities: None,
        auth_token: None,
        nodes: Vec::new(),
        ..offer()
    };
    vec![offer().encode(), bare.encode()]
}

fn menus() -> Vec<Vec<u8>> {
    let job = Capabilities::ai_job(Capability::AudioToText, "openai/whisper", false);
    vec![
        capabilities::write(&job).encode_to_vec(),
        capabilities::write_report(&job).encode_to_vec(),
    ]
}

fn byoc() -> Vec<Vec<u8>> {
    let job = json!({
        "id": "job", "capability": "echo", "timeout_seconds": 30, "request": "{\"run\":\"echo\"}",
        "parameters": r#"{"orchestrators":{"include":["https://o:8935"],"exclude":[]}}"#,
    });
    let text = job.to_string();
    // As an orchestrator gets it, and who asks it for terms.
    let mut signed = job;
    signed["sender"] = json!(Address::repeat_byte(0xab).to_string());
    signed["sig"] = json!(format!("0x{}", "1b".repeat(65)));
    let asks = eth_address_header(Address::repeat_byte(0xab), &[0x1b; 65]);
    vec![
        text.clone().into_bytes(),
        header::to_base64(text).into_bytes(),
        signed.to_string().into_bytes(),
        asks.into_bytes(),
    ]
}

fn states() -> Vec<Vec<u8>> {
    let keys = StateKeys::random();
    let claim = StateClaim {
        state_id: StateId::new("0a0b0c0d").unwrap(),
        sequence: 7,
        orchestrator: Address::repeat_byte(0xab),
        app: "scope".into(),
        job_type: "lv2v".parse().unwrap(),
        manifest_id: ManifestId::new("m1").unwrap(),
        auth_id: None,
        auth_expiry_s: 0,
    };
    let known = StateClaim {
        auth_id: AuthId::new("client:subject").ok(),
        auth_expiry_s: 1_700_000_000,
        ..claim.clone()
    };
    [claim, known].iter().map(|claim| keys.seal(claim).unwrap().state).collect()
}

fn heartbeats() -> Vec<Vec<u8>> {
    let runner = json!({
        "runner_url": "http://10.0.0.2:9000", "app": "echo", "mode": "persistent", "capacity": 2,
        "price_info": { "price": 0.36, "currency": "usd", "unit": "hour" }, "runner_id": "runner_a",
        "gpu": { "id": "GPU-1", "name": "H100", "vram_mb": 81_559 }, "proxy": true,
    });
    let list =
        json!({ "runners": [runner, { "runner_url": "http://r", "app": "b", "routing": "any" }] });
    vec![runner.to_string().into_bytes(), list.to_string().into_bytes()]
}

fn requests() -> Vec<Vec<u8>> {
    let info = offer().encode();
    let job =
        capabilities::write(&Capabilities::ai_job(Capability::Llm, "m", true)).encode_to_vec();
    let first =
        LivePaymentCall { orchestrator: &info, in_pixels: 500, ..LivePaymentCall::default() };
    let other = LivePaymentCall {
        orchestrator: &info,
        manifest_id: "33_m",
        app: "app",
        job_type: "lv2v",
        capabilities: &job,
        ..LivePaymentCall::default()
    };
    let state = SignedState { state: b"{}".to_vec(), sig: vec![1; 33] };
    let answer = LivePaymentAnswer::body("cGF5", "c2Vn", &state);
    [first.to_json(), other.to_json(), answer].iter().map(|v| v.to_string().into_bytes()).collect()
}

fn lists() -> Vec<Vec<u8>> {
    let list = json!([
        { "address": "https://o:8935", "score": 1.5, "capabilities": ["llm/m"] },
        { "address": "https://p:8935" },
    ]);
    let challenge = PaymentChallenge {
        payment_params: offer().encode(),
        orchestrator: "https://o:8935".into(),
        manifest_id: "33_m".into(),
        payment_url: "https://o:8935/payment".into(),
    };
    vec![list.to_string().into_bytes(), challenge.to_json().to_string().into_bytes()]
}

fn keystores() -> Vec<Vec<u8>> {
    let cost = keystore::ScryptCost { log2_n: 4, r: 1, p: 1 };
    let text = |byte| {
        let key = LocalKey::from_bytes([byte; 32].into()).unwrap();
        keystore::encrypt(&key, "password", cost).unwrap().into_bytes()
    };
    vec![text(1), text(2)]
}

fn playlists() -> Vec<Vec<u8>> {
    let part = |from: u32| {
        let segments: Vec<_> = (from..from + 3)
            .map(|n| json!({ "seq_no": n, "uri": format!("source/{n}.ts"), "duration_ms": 2_000 }))
            .collect();
        json!({
            "duration_ms": 6_000,
            "tracks": [{ "name": "source", "bandwidth": 4_000_000, "resolution": "1280x720" }],
            "segments": { "source": segments },
        })
    };
    vec![
        json!([part(0)]).to_string().into_bytes(),
        json!([part(3), part(0)]).to_string().into_bytes(),
    ]
}

fn files() -> Vec<Vec<u8>> {
    let (mut stream, mut muxer) = (Vec::new(), Muxer::default());
    muxer.begin(&mut stream, true);
    let config = AacConfig::of_specific(&[0x12, 0x10]).unwrap();
    for n in 0..4_u64 {
        let unit = [&[0, 0, 0, 1, if n == 0 { 0x65 } else { 0x41 }][..], &[7; 200]].concat();
        muxer.video(&mut stream, n * 3_600 + 7_200, n * 3_600, n == 0, &unit);
        let frame = [&config.adts(5).unwrap()[..], &[1, 2, 3, 4, 5]].concat();
        muxer.audio(&mut stream, n * 4_180, &frame);
    }
    let mut wav = b"RIFF\x64\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x40\0\0\0".to_vec();
    wav.resize(wav.len() + 64, 0);
    vec![stream, wav]
}

fn messages() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let message =
        |kind, data: Vec<u8>| Message { kind, stream: 1, timestamp: 40, data: data.into() };
    let connect = amf::write(&[
        Value::Text("connect".into()),
        Value::Number(1.0),
        Value::Object(vec![("app".into(), Value::Text("live".into()))]),
    ]);
    write(&mut out, 3, &message(20, connect));
    write(&mut out, 4, &message(9, [&[0x17, 1, 0, 0, 0][..], &[5; 400]].concat()));
    let mut short = Vec::new();
    write(&mut short, 3, &message(8, vec![0xaf, 0, 0x12, 0x10]));
    vec![out, short]
}
