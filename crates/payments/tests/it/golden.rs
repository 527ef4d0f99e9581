//! `vectors/payments.json`, whole: a key that no test consumes fails.

use crate::{
    common::{Key, r},
    golden_json::{Object, unhex},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use penstock_domain::{
    Address, B256, Capability, CapabilitySet, PriceInfo, Rational, SessionId, U256, Wei,
    address_lower, be_bytes, keccak256,
};
use penstock_payments::*;

struct Keys {
    sender: Key,
    recipient: Key,
    recipient_secret: RecipientSecret,
    auth_secret: AuthTokenSecret,
    auth_secret_bytes: [u8; 32],
}

#[test]
fn every_key_of_the_golden_file_is_met() {
    let text = include_str!("../../vectors/payments.json");
    let mut file = Object::new("payments.json", serde_json::from_str(text).unwrap());
    assert!(file.text("about").starts_with("Made by generate.py."));
    let keys = keys(file.object("keys"));
    for case in file.objects("known_ticket_hashes") {
        known_hash(case);
    }
    for case in file.objects("tickets") {
        ticket(case, &keys);
    }
    for case in file.objects("ticket_params") {
        ticket_params(case);
    }
    for case in file.objects("stage_update") {
        staged(case);
    }
    lv2v(file.object("lv2v"));
    for case in file.objects("fee_estimate") {
        fee_estimates(case);
    }
    for mut case in file.objects("price_to_fixed") {
        let cut = price_with_overhead(&case.rational("price"), &Rational::ZERO);
        assert_eq!(cut, case.rational("fixed"));
    }
    for case in file.objects("auth_tokens") {
        auth_token(case, &keys);
    }
    orchestrator_request(file.object("orchestrator_request"), &keys);
    let mut ping = file.object("ping");
    let digest = ping_digest(&ping.bytes("value"));
    signed_by(&keys.recipient, &digest, &ping.bytes("pong"));
    for case in file.objects("segments") {
        segment(case, &keys);
    }
    transcode_result(file.object("transcode_result"), &keys);
    payment_header(file.object("payment_header"), &keys);
    segment_header(file.object("segment_header"), &keys);
    signer_state(file.object("signer_state"), &keys);
    capabilities(file.object("capability_bitstrings"));
}

/// Both curve codes recover the signer, and signing again gives the same bytes.
fn signed_by(key: &Key, digest: &B256, signature: &[u8]) -> Signature {
    let signature = verify_bytes(signature, digest, key.address()).unwrap();
    assert_eq!(signature.recover_reference(digest), Ok(key.address()));
    assert_eq!(key.sign(digest), signature);
    signature
}

fn keys(mut file: Object) -> Keys {
    let mut role = |name: &str| {
        let mut entry = file.object(name);
        let key = Key::from_bytes(entry.array("private_key"));
        assert_eq!(key.address(), entry.address("address"));
        assert_eq!(key.address().to_string(), entry.text("checksum"));
        key
    };
    let (sender, recipient) = (role("sender"), role("recipient"));
    let auth_secret_bytes = file.array("auth_hmac_secret");
    Keys {
        sender,
        recipient,
        recipient_secret: RecipientSecret::new(file.array("recipient_hmac_secret")),
        auth_secret: AuthTokenSecret::new(auth_secret_bytes),
        auth_secret_bytes,
    }
}

fn ticket_of(case: &mut Object) -> Ticket {
    Ticket {
        recipient: case.address("recipient"),
        sender: case.address("sender"),
        face_value: case.wei("face_value"),
        win_prob: case.u256("win_prob"),
        sender_nonce: u32::try_from(case.u64("sender_nonce")).unwrap(),
        recipient_rand_hash: case.b256("recipient_rand_hash"),
        expiration_params: ExpirationParams {
            creation_round: case.u64("creation_round"),
            creation_round_block_hash: case.b256("creation_round_block_hash"),
        },
    }
}

fn known_hash(mut case: Object) {
    let ticket = ticket_of(&mut case);
    assert_eq!(ticket.hash(), case.b256("hash"));
}

fn ticket(mut case: Object, keys: &Keys) {
    let name = case.text("name");
    let ticket = ticket_of(&mut case);
    let price = case.rational("price");
    let seed = U256::from_be_slice(&case.bytes("seed"));
    let expiration_block = U256::from(case.u64("expiration_block"));
    let params = TicketParams {
        recipient: ticket.recipient,
        face_value: ticket.face_value,
        win_prob: ticket.win_prob,
        recipient_rand_hash: ticket.recipient_rand_hash,
        seed,
        expiration_block,
        expiration_params: ticket.expiration_params,
    };
    assert_eq!(
        Ticket::from_params(&params, ticket.expiration_params, ticket.sender, ticket.sender_nonce),
        ticket
    );
    let inputs = RandInputs::of(&params, ticket.sender, &price, &ticket.expiration_params);
    assert_eq!(inputs.message(), case.bytes("recipient_rand_message"), "{name}");
    let rand = inputs.recipient_rand(&keys.recipient_secret);
    assert_eq!(rand.as_bytes(), &case.array("recipient_rand"), "{name}");
    assert_eq!(rand.hash(), ticket.recipient_rand_hash, "{name}");

    assert_eq!(ticket.packed(), case.bytes("packed"), "{name}");
    assert_eq!(ticket.packed().len() as u64, case.u64("packed_len"), "{name}");
    assert_eq!(ticket.hash(), case.b256("hash"), "{name}");
    assert_eq!(ticket.digest(), case.b256("eip191_digest"), "{name}");
    let signature = signed_by(&keys.sender, &ticket.digest(), &case.bytes("sig"));
    assert_eq!(ticket.verify(&signature), Ok(()));
    assert_eq!(win_draw(&signature, &rand).to_be_bytes(), case.array("draw"), "{name}");
    let won = case.flag("won");
    assert_eq!(wins(&signature, &rand, ticket.win_prob), won, "{name}");
    assert_eq!(ticket.ev(), case.rational("ev"), "{name}");

    // Everything is right but for the seed, which no Penstock sealed: not an offer of ours.
    let context = RecipientContext {
        recipient: ticket.recipient,
        secret: &keys.recipient_secret,
        withdraw_round: Ok(0),
        last_initialized_round: 3_000,
    };
    let claim = OfferClaim {
        sender: ticket.sender,
        params: &params,
        expiration_params: ticket.expiration_params,
        price: &price,
    };
    let refused = verify_offer(&context, &claim).unwrap_err();
    assert_eq!(refused, TicketError::RecipientRand, "{name}");
}

fn ticket_params(mut case: Object) {
    assert_eq!(case.u64("multiplier"), 100, "the multiplier is a constant");
    let config = OfferConfig {
        ticket_ev: case.wei("ev"),
        redeem_gas: case.u64("redeem_gas"),
        max_face_value: case.wei("max_face_value"),
    };
    let max_float = case.rational("max_float");
    let made = config.face_value(case.wei("gas_price"), &max_float);
    let expected = case.text("face_value");
    match made {
        Err(error) => {
            // Ours goes on with both numbers.
            let said = error.to_string();
            assert!(said.starts_with(&format!("{expected}: ")), "{said}");
            assert!(case.maybe("win_prob").is_none() && case.maybe("ticket_ev").is_none());
        }
        Ok(face) => {
            assert_eq!(face.to_string(), expected);
            let win_prob = config.win_prob(face);
            assert_eq!(win_prob, case.u256("win_prob"));
            assert_eq!(ticket_ev(face, win_prob), case.rational("ticket_ev"));
        }
    }
}

fn staged(mut case: Object) {
    let name = case.text("name");
    let fee = case.rational("fee");
    let update = stage_update(case.rational("existing"), &fee, &case.rational("ev"));
    assert_eq!(update.num_tickets, case.u64("tickets"), "{name}");
    assert_eq!(update.new_credit, case.rational("new_credit"), "{name}");
    let after = update.settle(&Settlement::ReceivedChange { debit: fee });
    if let Some(expected) = case.maybe("balance_after_fee") {
        assert_eq!(after, r(expected.as_str().unwrap()), "{name}");
    }
}

fn lv2v(mut case: Object) {
    assert_eq!(case.u64("pixels_per_second"), LV2V_PIXELS_PER_SECOND);
    let preload = case.u64("first_payment_pixels");
    assert_eq!(preload, LV2V_PRELOAD_PIXELS);
    assert_eq!(billable_units(BillingType::Lv2v, 0, 0), Ok(preload));
}

fn fee_estimates(mut case: Object) {
    let renditions: Vec<_> = case
        .list("profiles")
        .iter()
        .map(|profile| {
            let number = |n: usize| u32::try_from(profile[n].as_u64().unwrap()).unwrap();
            RenditionRate {
                width: number(0),
                height: number(1),
                fps: number(2),
                fps_den: number(3),
            }
        })
        .collect();
    let seconds = Rational::from_decimal(&case.value("seconds").to_string()).unwrap();
    let duration_ms = (seconds * r("1000")).ceil_u64().unwrap();
    let pixels = estimated_pixels(&renditions, duration_ms);
    assert_eq!(pixels, U256::from(case.u64("pixels")));
    assert_eq!(fee_estimate(pixels, &case.rational("price")), case.rational("fee"));
}

fn auth_token(mut case: Object, keys: &Keys) {
    let session = case.text("session_id");
    let expiration = case.value("expiration").as_i64().unwrap();
    let token = case.array("token");
    let message = case.bytes("hmac_message");
    assert_eq!(auth_token_message(session.as_bytes(), expiration), message);
    match SessionId::new(session.clone()) {
        Ok(id) => {
            assert_eq!(keys.auth_secret.issue(&id, expiration), token);
            assert_eq!(keys.auth_secret.check(&token, &session, expiration, expiration), Ok(()));
            assert_eq!(
                keys.auth_secret.check(&token, &session, expiration, expiration + 1),
                Err(AuthTokenError::Expired)
            );
        }
        // The vector has one with an empty id, whose HMAC is right but which we never issue.
        Err(_) => {
            assert_eq!(hmac_sha256(&keys.auth_secret_bytes, &message), token);
            assert_eq!(
                keys.auth_secret.check(&token, &session, expiration, 0),
                Err(AuthTokenError::Invalid)
            );
        }
    }
}

fn orchestrator_request(mut case: Object, keys: &Keys) {
    let address = keys.sender.address();
    let message = orchestrator_request_message(address);
    assert_eq!(message, case.text("message"));
    assert_eq!(keccak256(message.as_bytes()), case.b256("keccak"));
    let digest = orchestrator_request_digest(address);
    assert_eq!(digest, case.b256("digest"));
    signed_by(&keys.sender, &digest, &case.bytes("sig"));
}

fn segment(mut case: Object, keys: &Keys) {
    let name = case.text("name");
    let manifest_id = case.text("manifest_id");
    let sequence = case.value("seq").as_i64().unwrap();
    let data = case.bytes("data");
    let data_hash = keccak256(&data);
    assert_eq!(data_hash, case.b256("data_hash"));
    assert!(!data.is_empty() || data_hash == EMPTY_DATA_HASH);
    let names: Vec<_> =
        case.list_or_empty("profiles").iter().map(|n| n.as_str().unwrap().to_owned()).collect();
    let flat = segment_preimage(manifest_id.as_bytes(), sequence, &data_hash, &names);
    assert_eq!(flat, case.bytes("flattened"), "{name}");
    assert_eq!(keccak256(&flat), case.b256("keccak"), "{name}");
    // Only the absolute value of the sequence number counts.
    let negative = segment_preimage(manifest_id.as_bytes(), -sequence, &data_hash, &names);
    assert_eq!(flat, negative);
    let digest = segment_digest(manifest_id.as_bytes(), sequence, &data_hash, &names);
    signed_by(&keys.sender, &digest, &case.bytes("sig"));
}

fn transcode_result(mut case: Object, keys: &Keys) {
    let hashes: Vec<B256> = case
        .list("renditions")
        .iter()
        .map(|rendition| keccak256(unhex(rendition.as_str().unwrap())))
        .collect();
    assert_eq!(transcode_result_hash(&hashes), case.b256("hash"));
    signed_by(&keys.recipient, &transcode_result_digest(&hashes), &case.bytes("sig"));
}

/// The bytes are the wire crate's business; here the payment inside has to be good money.
fn payment_header(mut case: Object, keys: &Keys) {
    let protobuf = case.bytes("protobuf");
    assert_eq!(STANDARD.decode(case.text("header")).unwrap(), protobuf);
    let nonces: Vec<u64> = case.list("tickets").iter().map(|n| n.as_u64().unwrap()).collect();
    let fields = message(&protobuf);
    let params_fields = message(fields[0].bytes(1));
    let params = TicketParams {
        recipient: Address::from_slice(params_fields[0].bytes(1)),
        face_value: Wei(U256::from_be_slice(params_fields[1].bytes(2))),
        win_prob: U256::from_be_slice(params_fields[2].bytes(3)),
        recipient_rand_hash: B256::from_slice(params_fields[3].bytes(4)),
        seed: U256::from_be_slice(params_fields[4].bytes(5)),
        expiration_block: U256::from_be_slice(params_fields[5].bytes(6)),
        expiration_params: ExpirationParams::default(),
    };
    assert_eq!(be_bytes(params.face_value.0), params_fields[1].bytes(2));
    let round = message(fields[2].bytes(3));
    let price = message(fields[5].bytes(5));
    let payment = Payment {
        sender: Some(Address::from_slice(fields[1].bytes(2))),
        ticket_params: Some(params.clone()),
        expiration_params: ExpirationParams {
            creation_round: round[0].number(1),
            creation_round_block_hash: B256::from_slice(round[1].bytes(2)),
        },
        tickets: fields[3..5]
            .iter()
            .map(|field| {
                let ticket = message(field.bytes(4));
                SignedNonce {
                    sender_nonce: u32::try_from(ticket[0].number(1)).unwrap(),
                    signature: ticket[1].bytes(2).to_vec(),
                }
            })
            .collect(),
        expected_price: Some(PriceInfo::new(
            i64::try_from(price[0].number(1)).unwrap(),
            i64::try_from(price[1].number(2)).unwrap(),
        )),
    };
    assert_eq!(payment.sender, Some(keys.sender.address()));
    assert_eq!(
        payment.tickets.iter().map(|t| u64::from(t.sender_nonce)).collect::<Vec<_>>(),
        nonces
    );
    for signed in &payment.tickets {
        let sender = keys.sender.address();
        let round = payment.expiration_params;
        let ticket = Ticket::from_params(&params, round, sender, signed.sender_nonce);
        assert!(verify_bytes(&signed.signature, &ticket.digest(), sender).is_ok());
    }
}

fn segment_header(mut case: Object, keys: &Keys) {
    let protobuf = case.bytes("protobuf");
    assert_eq!(STANDARD.decode(case.text("header")).unwrap(), protobuf);
    let manifest_id = case.text("manifest_id");
    let fields = message(&protobuf);
    assert_eq!(fields[0].bytes(1), manifest_id.as_bytes());
    assert_eq!(fields[1].bytes(3), EMPTY_DATA_HASH.as_slice());
    assert_eq!(fields[2].bytes(4), b"invalid");
    let digest = segment_digest::<&str>(manifest_id.as_bytes(), 0, &EMPTY_DATA_HASH, &[]);
    signed_by(&keys.sender, &digest, fields[3].bytes(5));
    let token = message(fields[4].bytes(8));
    let session = std::str::from_utf8(token[1].bytes(2)).unwrap();
    let expiration = i64::try_from(token[2].number(3)).unwrap();
    assert_eq!(keys.auth_secret.check(token[0].bytes(1), session, expiration, 0), Ok(()));
}

/// A state blob of another signer: the primitive straight over its bytes, of any length.
fn signer_state(mut case: Object, keys: &Keys) {
    let state = case.text("state_utf8");
    assert_eq!(STANDARD.encode(&state), case.text("state_base64"));
    let signature = case.bytes("sig");
    assert_eq!(STANDARD.encode(&signature), case.text("sig_base64"));
    signed_by(&keys.sender, &eip191_digest(state.as_bytes()), &signature);
    let fields: serde_json::Value = serde_json::from_str(&state).unwrap();
    let recipient = address_lower(&keys.recipient.address());
    assert_eq!(fields["OrchestratorAddress"], recipient.as_str());
    assert_eq!(r(fields["Balance"].as_str().unwrap()).to_string(), "7/3");
}

fn capabilities(mut case: Object) {
    let words = |case: &mut Object, key: &str| -> Vec<u64> {
        case.list(key).iter().map(|word| word.as_str().unwrap().parse().unwrap()).collect()
    };
    let default = CapabilitySet::default_video();
    assert_eq!(default.words(), words(&mut case, "default"));
    let legacy = CapabilitySet::of((0..12).filter_map(Capability::from_number));
    assert_eq!(legacy.words(), words(&mut case, "legacy"));
    let live = CapabilitySet::of([Capability::LiveVideoToVideo]);
    assert_eq!(live.words(), words(&mut case, "live_video_to_video"));
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    use hmac::Mac;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// One protobuf field: enough of a decoder to look into the golden messages.
struct Field<'a> {
    number: u64,
    varint: u64,
    bytes: &'a [u8],
}

impl<'a> Field<'a> {
    fn bytes(&self, number: u64) -> &'a [u8] {
        assert_eq!(self.number, number);
        self.bytes
    }

    fn number(&self, number: u64) -> u64 {
        assert_eq!(self.number, number);
        self.varint
    }
}

fn message(mut rest: &[u8]) -> Vec<Field<'_>> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, tail) = rest.split_first().unwrap();
            *rest = tail;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("varint too long")
    }
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let value = varint(&mut rest);
        let bytes = if tag & 7 == 2 {
            let (bytes, tail) = rest.split_at(usize::try_from(value).unwrap());
            rest = tail;
            bytes
        } else {
            assert_eq!(tag & 7, 0);
            &[]
        };
        fields.push(Field { number: tag >> 3, varint: value, bytes });
    }
    fields
}
