//! Files of other programs open; files with absurd demands are refused before any work.

use super::*;
use serde_json::{Value, json};

const WIKI_PBKDF2: &str = include_str!("../../../testdata/wiki-pbkdf2.json");
const WIKI_SCRYPT: &str = include_str!("../../../testdata/wiki-scrypt.json");
const GETH_31: &str = include_str!("../../../testdata/geth-31-byte.json");
const GETH_30: &str = include_str!("../../../testdata/geth-30-byte.json");
const GETH_LIGHT: &str = include_str!("../../../testdata/geth-very-light.json");
const ETH_ACCOUNT_SCRYPT: &str = include_str!("../../../testdata/eth-account-scrypt.json");
const ETH_ACCOUNT_PBKDF2: &str = include_str!("../../../testdata/eth-account-pbkdf2.json");

/// The cheapest cost that is still scrypt.
const CHEAP: ScryptCost = ScryptCost { log2_n: 1, r: 8, p: 1 };

fn secret_of(text: &str, password: &str) -> String {
    hex::encode(decrypt(text, password).unwrap().secret())
}

fn reason(text: &str) -> &'static str {
    match decrypt(text, "password") {
        Err(KeystoreError::BadFile(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn edited(text: &str, pointer: &str, value: Value) -> String {
    let mut file: Value = serde_json::from_str(text).unwrap();
    *file.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    file.to_string()
}

#[test]
fn opens_files_of_other_programs() {
    let wiki = decrypt(WIKI_PBKDF2, "testpassword").unwrap();
    assert_eq!(
        hex::encode(wiki.secret()),
        "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
    );
    assert_eq!(
        wiki.address().to_string().to_lowercase(),
        "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b"
    );
    assert_eq!(
        secret_of(GETH_31, "foo"),
        "00fa7b3db73dc7dfdf8c5fbdb796d741e4488628c41fc4febd9160a866ba0f35"
    );
    assert_eq!(
        secret_of(GETH_30, "foo"),
        "000081c29e8142bb6a81bef5a92bda7a8328a5c85bb2f9542e76f9b0f94fc018"
    );
    let light = decrypt(GETH_LIGHT, "").unwrap();
    assert_eq!(
        light.address().to_string().to_lowercase(),
        "0x45dea0fb0bba44f4fcf290bba71fd57d7117cbb8"
    );
}

#[test]
fn opens_what_eth_account_made_at_full_cost() {
    let sender = "18222c4eb1dabe63c11f0ba348d0167f81d3c8e68ec71a4c0ff053823594cdb5";
    assert_eq!(secret_of(ETH_ACCOUNT_SCRYPT, "penstock"), sender);
    assert_eq!(secret_of(ETH_ACCOUNT_PBKDF2, "penstock"), sender);
}

#[test]
fn own_files_round_trip_and_hide_the_key() {
    let key = LocalKey::random().unwrap();
    let text = encrypt(&key, "correct horse", CHEAP).unwrap();
    assert!(!text.contains(&hex::encode(key.secret())));
    let opened = decrypt(&text, "correct horse").unwrap();
    assert_eq!((opened.secret(), opened.address()), (key.secret(), key.address()));
    assert!(matches!(decrypt(&text, "wrong"), Err(KeystoreError::WrongPassword)));
    assert!(matches!(decrypt(&text, ""), Err(KeystoreError::WrongPassword)));
    // Salt and iv are new each time.
    assert_ne!(text, encrypt(&key, "correct horse", CHEAP).unwrap());
}

#[test]
fn a_tampered_file_does_not_open() {
    let text = edited(GETH_LIGHT, "/crypto/ciphertext", json!("00".repeat(32)));
    assert!(matches!(decrypt(&text, ""), Err(KeystoreError::WrongPassword)));
    let text = edited(GETH_LIGHT, "/crypto/mac", json!("00".repeat(32)));
    assert!(matches!(decrypt(&text, ""), Err(KeystoreError::WrongPassword)));
    let text = edited(GETH_LIGHT, "/address", json!("0000000000000000000000000000000000000001"));
    assert!(matches!(decrypt(&text, ""), Err(KeystoreError::WrongAccount)));
    let text = edited(GETH_LIGHT, "/address", json!("rubbish"));
    assert!(matches!(decrypt(&text, ""), Err(KeystoreError::WrongAccount)));
    // The iv is not authenticated by the format; the account is what catches it.
    let text = edited(GETH_LIGHT, "/crypto/cipherparams/iv", json!("00".repeat(16)));
    assert!(matches!(decrypt(&text, ""), Err(KeystoreError::WrongAccount)));
}

#[test]
fn absurd_parameters_are_refused() {
    const COST: &str = "scrypt cost out of bounds";
    for (field, value) in [
        ("n", json!(1_u64 << 24)),
        ("n", json!(u64::MAX)),
        ("n", json!(0)),
        ("n", json!(1)),
        ("n", json!(3)),
        ("r", json!(0)),
        ("r", json!(u32::MAX)),
        ("p", json!(0)),
        ("p", json!(u32::MAX)),
    ] {
        let text = edited(GETH_LIGHT, &format!("/crypto/kdfparams/{field}"), value.clone());
        assert_eq!(reason(&text), COST, "{field} = {value}");
    }
    assert_eq!(reason(WIKI_SCRYPT), COST);
    let text = edited(GETH_LIGHT, "/crypto/kdfparams/dklen", json!(16));
    assert_eq!(reason(&text), "dklen is not 32");
    let text = edited(GETH_LIGHT, "/crypto/kdfparams/salt", json!("00".repeat(257)));
    assert_eq!(reason(&text), "salt too long");
    for rounds in [0, 10_000_001, u32::MAX] {
        let text = edited(ETH_ACCOUNT_PBKDF2, "/crypto/kdfparams/c", json!(rounds));
        assert_eq!(reason(&text), "pbkdf2 rounds out of bounds");
    }
    let text = edited(ETH_ACCOUNT_PBKDF2, "/crypto/kdfparams/prf", json!("hmac-sha1"));
    assert_eq!(reason(&text), "prf is not hmac-sha256");
}

#[test]
fn other_formats_are_named() {
    assert_eq!(reason("{}"), "not keystore JSON");
    assert_eq!(reason(&edited(GETH_LIGHT, "/version", json!(1))), "version is not 3");
    assert_eq!(
        reason(&edited(GETH_LIGHT, "/crypto/cipher", json!("aes-128-cbc"))),
        "cipher is not aes-128-ctr"
    );
    assert_eq!(
        reason(&edited(GETH_LIGHT, "/crypto/kdf", json!("argon2"))),
        "kdf is neither scrypt nor pbkdf2"
    );
    assert_eq!(
        reason(&edited(GETH_LIGHT, "/crypto/kdf", json!("pbkdf2"))),
        "kdfparams do not fit the kdf"
    );
    assert_eq!(
        reason(&edited(GETH_LIGHT, "/crypto/ciphertext", json!("00".repeat(33)))),
        "ciphertext is not up to 32 bytes of hex"
    );
    assert_eq!(reason(&format!("{GETH_LIGHT}{}", " ".repeat(MAX_FILE_BYTES))), "too large");
}

#[test]
fn an_older_spelling_is_read() {
    let text = GETH_LIGHT.replace("\"crypto\"", "\"Crypto\"");
    assert!(decrypt(&text, "").is_ok());
}

#[test]
fn absurd_costs_are_not_written_either() {
    let key = LocalKey::random().unwrap();
    for cost in [
        ScryptCost { log2_n: 0, r: 8, p: 1 },
        ScryptCost { log2_n: 25, r: 8, p: 1 },
        ScryptCost { log2_n: 64, r: 8, p: 1 },
        ScryptCost { log2_n: 4, r: 0, p: 1 },
    ] {
        assert!(matches!(encrypt(&key, "x", cost), Err(KeystoreError::BadFile(_))), "{cost:?}");
    }
    assert_eq!(ScryptCost::default(), ScryptCost { log2_n: 18, r: 8, p: 1 });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]
    #[test]
    fn any_text_is_refused_quietly(text in "\\PC{0,200}") {
        proptest::prop_assert!(decrypt(&text, "x").is_err());
    }

    #[test]
    fn any_edit_opens_to_the_same_key_or_not_at_all(
        at in 0..GETH_LIGHT.len(), byte in proptest::prelude::any::<char>()
    ) {
        let mut text: Vec<char> = GETH_LIGHT.chars().collect();
        text[at] = byte;
        let text: String = text.into_iter().collect();
        // A digit put before a cost would only cost time, which the bounds test looks at.
        if !text.contains("\"n\": 2,") || !text.contains("\"p\": 1,") || !text.contains("\"r\": 8,") {
            return Ok(());
        }
        if let Ok(key) = decrypt(&text, "") {
            proptest::prop_assert_eq!(
                key.address().to_string().to_lowercase(),
                "0x45dea0fb0bba44f4fcf290bba71fd57d7117cbb8"
            );
        }
    }
}
