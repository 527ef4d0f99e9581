//! The signer's payment state. Whoever does not have the key gets no further than its MAC, so that the bytes
//! are put under a key here: what is behind the MAC must be safe as well.

use hmac::{Hmac, Mac};
use penstock_signer::state_blob::StateKeys;
use penstock_wire::json::SignedState;
use sha2::Sha256;

const KEY: [u8; 32] = [0x11; 32];
/// As `penstock_signer::state_blob` begins what it signs.
const DOMAIN: &[u8] = b"penstock signer payment state 1\0";

pub fn read(data: &[u8]) -> bool {
    let keys = format!("01:{}", "11".repeat(KEY.len()));
    let Ok(keys) = StateKeys::parse(&keys) else { return false };
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(&KEY) else { return false };
    mac.update(DOMAIN);
    mac.update(data);
    let sig = [&[1][..], &mac.finalize().into_bytes()].concat();
    // The bytes as a signature, too, and as a file of keys.
    let _ = keys.open(&SignedState { state: Vec::new(), sig: data.to_vec() });
    let _ = crate::text(data).map(StateKeys::parse);
    let Ok(state) = keys.open(&SignedState { state: data.to_vec(), sig }) else { return false };
    let sealed = keys.seal(state.claim());
    let again = sealed.and_then(|sealed| keys.open(&sealed).ok());
    assert_eq!(again.as_ref(), Some(&state), "a state is read as another one");
    true
}
