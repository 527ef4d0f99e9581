//! JSON and TOML documents.

use crate::text;
use penstock_domain::CurrencyPrice;
use penstock_gateway::config::{Args, Settings};
use penstock_keys::keystore;
use penstock_signer::service::prices::{PriceFile, PriceLimits};
use penstock_wire::{
    ai::{AiRequest, Pipeline, data_url},
    json::{
        ErrorEnvelope, LivePaymentAnswer, LivePaymentRequest, PaymentChallenge, RunnerSaid,
        SignedState, StaticRunnerSaid, parse_discovery,
    },
};
use serde_json::Value;
use std::io::Write as _;

/// What a live runner says of itself, and an operator of several.
pub fn heartbeat(data: &[u8]) -> bool {
    let said = RunnerSaid::parse(data);
    if let Ok(said) = &said {
        let _ = said.price_info.amount();
    }
    said.is_ok() || StaticRunnerSaid::parse_list(data).is_ok_and(|list| !list.is_empty())
}

/// What a gateway asks a signer for, and what it hears.
pub fn payment_request(data: &[u8]) -> bool {
    let request = LivePaymentRequest::parse(data);
    if let Ok(answer) = LivePaymentAnswer::parse(data) {
        let state = answer.state.as_value().to_string();
        let read: Result<Value, _> = serde_json::from_str(&state);
        assert!(read.is_ok_and(|read| read == answer.state.as_value()), "a state changes");
        return true;
    }
    if let Some(SignedState { state, sig }) = request.as_ref().ok().and_then(|r| r.state.as_ref()) {
        assert!(state.len() <= data.len() && sig.len() <= data.len());
    }
    request.is_ok()
}

/// Jobs of every pipeline, and files inside of them.
pub fn ai_request(data: &[u8]) -> bool {
    if let Some(text) = text(data)
        && let Ok(file) = data_url::decode(text, 1 << 20)
    {
        assert!(file.len() <= data.len());
        return true;
    }
    let read = |pipeline: &Pipeline| {
        let _ = AiRequest::from_json(*pipeline, data);
        AiRequest::read_json(*pipeline, data).is_ok()
    };
    Pipeline::ALL.iter().filter(|pipeline| read(pipeline)).count() > 0
}

/// Lists of orchestrators; and what else peers answer with.
pub fn discovery(data: &[u8]) -> bool {
    let envelope = ErrorEnvelope::parse(data);
    assert!(envelope.message.len() <= 4 * data.len() + 64, "an error longer than its answer");
    let challenge = PaymentChallenge::parse(data).is_ok();
    parse_discovery(data).is_ok_and(|list| !list.is_empty()) || challenge
}

/// A keystore file. Those that ask for much work are left out: that there is a limit is a test's matter.
pub fn keystore(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    if is_costly(data) {
        return false;
    }
    let Ok(key) = keystore::decrypt(text, "password") else { return false };
    let cost = keystore::ScryptCost { log2_n: 2, r: 1, p: 1 };
    let again = keystore::encrypt(&key, "password", cost);
    let again = again.and_then(|text| keystore::decrypt(&text, "password"));
    assert!(again.is_ok_and(|again| again.address() == key.address()), "a key changes");
    true
}

fn is_costly(data: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<Value>(data) else { return false };
    let numbers = ["/crypto/kdfparams", "/Crypto/kdfparams"].into_iter();
    let params = numbers.filter_map(|place| file.pointer(place)).filter_map(Value::as_object);
    let costs = params.flat_map(|params| params.values()).filter_map(Value::as_f64);
    costs.fold(1.0, |product, cost| product * cost.abs().max(1.0)) > 1e7
}

/// A role's settings file.
pub fn settings_file(data: &[u8]) -> bool {
    // Files named in it would be read.
    let names = ["file", "cert", "key"];
    if text(data).is_none_or(|text| names.iter().any(|name| text.contains(name))) {
        return false;
    }
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return false };
    if file.write_all(data).is_err() {
        return false;
    }
    let flag = format!("--config={}", file.path().display());
    let read = penstock_config::try_parse_from::<Args>(["penstock-gateway", flag.as_str()]);
    let Ok(args) = read else { return false };
    Settings::from_args(args).is_ok()
}

/// A file of prices, and a price in it.
pub fn price_file(data: &[u8]) -> bool {
    if let Some((price, units)) = text(data).and_then(|text| text.split_once('/'))
        && let Ok(price) = CurrencyPrice::parse(price, units)
    {
        let _ = price.wei(None);
        return true;
    }
    let Ok(file) = serde_json::from_slice::<PriceFile>(data) else { return false };
    PriceLimits::default().with_file(&file).is_ok()
}
