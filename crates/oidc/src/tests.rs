//! Attacks on tokens, with real keys and signatures.

use super::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt as _;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

const NOW_S: i64 = 1_800_000_000;

/// An ES256 key of the provider's, with its published form.
struct Provider {
    key: EncodingKey,
    jwk: Value,
    public_pem: String,
}

fn provider(kid: &str) -> Provider {
    let pair = rcgen::KeyPair::generate().unwrap();
    // The last 64 bytes of the SubjectPublicKeyInfo of a P-256 key are x and y.
    let der = pair.public_key_raw();
    let point = &der[der.len() - 64..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    Provider {
        key: EncodingKey::from_ec_der(pair.serialized_der()),
        jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig"}),
        public_pem: pair.public_key_pem(),
    }
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": ["other", "signer"], "sub": "bob", "org": "acme",
        "exp": NOW_S + 60, "iat": NOW_S})
}

fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
    Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }
}

struct Checked {
    oidc: Oidc,
    _folder: tempfile::TempDir,
}

impl Checked {
    fn new(jwks: &[Value], algorithms: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, json!({ "keys": jwks }).to_string()).unwrap();
        let settings = OidcSettings {
            issuer: "https://id.example".into(),
            audiences: vec!["signer".into()],
            algorithms: algorithms.iter().map(|a| algorithm(a).unwrap()).collect(),
            source: Source::File(file),
            account: AccountFrom::Claim("org".into()),
            subject_claim: "sub".into(),
            leeway_s: 5,
        };
        Self { oidc: Oidc::new(settings).unwrap(), _folder: folder }
    }

    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        self.oidc.verify(token, NOW_S).await
    }

    async fn refuses(&self, token: &str, why: &str) {
        match self.verify(token).await {
            Err(TokenError::Bad(reason)) => {
                assert!(reason.contains(why), "{reason}, not {why}")
            }
            other => panic!("{other:?} instead of {why}"),
        }
    }
}

#[tokio::test]
async fn a_good_token_names_account_and_subject() {
    let provider = provider("k1");
    let checked = Checked::new(core::slice::from_ref(&provider.jwk), &["ES256"]);
    for kid in [Some("k1"), None] {
        let token = encode(&header(Algorithm::ES256, kid), &claims(), &provider.key).unwrap();
        let identity = checked.verify(&token).await.unwrap();
        assert_eq!(identity, Identity { account: "acme".into(), subject: "bob".into() });
    }
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused() {
    let provider = provider("k1");
    let checked = Checked::new(core::slice::from_ref(&provider.jwk), &["ES256"]);
    for (name, value, why) in [
        ("iss", json!("https://id.example/"), "issuer"),
        ("iss", json!("https://evil.example"), "issuer"),
        ("aud", json!("other"), "audience"),
        ("aud", json!(["signers"]), "audience"),
        ("exp", json!(NOW_S - 5), "expired"),
        ("exp", Value::Null, ""),
        ("nbf", json!(NOW_S + 6), "not valid yet"),
        ("iat", json!(NOW_S + 60), "not valid yet"),
        ("sub", Value::Null, "subject"),
        ("org", json!(["acme"]), "account"),
    ] {
        let mut claims = claims();
        claims[name] = value;
        let token = encode(&header(Algorithm::ES256, Some("k1")), &claims, &provider.key).unwrap();
        checked.refuses(&token, why).await;
    }
    for missing in ["iss", "aud", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        let token = encode(&header(Algorithm::ES256, Some("k1")), &claims, &provider.key).unwrap();
        checked.refuses(&token, "missing").await;
    }
}

#[tokio::test]
async fn a_token_cannot_choose_its_algorithm_or_its_key() {
    let provider = provider("k1");
    let checked = Checked::new(core::slice::from_ref(&provider.jwk), &["ES256"]);
    let good = encode(&header(Algorithm::ES256, Some("k1")), &claims(), &provider.key).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let b64 = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
    // No signature at all, in the spellings that libraries have fallen for.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let head = b64(json!({"alg": none, "typ": "JWT", "kid": "k1"}));
        checked.refuses(&format!("{head}.{}.", parts[1]), "not a signed JWT").await;
        checked.refuses(&format!("{head}.{}.{}", parts[1], parts[2]), "not a signed JWT").await;
    }
    // The published key used as the secret of a symmetric algorithm.
    let x = provider.jwk["x"].as_str().unwrap();
    for secret in
        [provider.public_pem.as_bytes(), x.as_bytes(), provider.jwk.to_string().as_bytes()]
    {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret);
            let token = encode(&header(algorithm, Some("k1")), &claims(), &key).unwrap();
            checked.refuses(&token, "algorithm").await;
        }
    }
    // A key of the attacker's, offered by the token itself.
    let evil = self::provider("k1");
    let mut head = header(Algorithm::ES256, Some("k1"));
    head.jwk = serde_json::from_value(evil.jwk.clone()).ok();
    head.jku = Some("https://evil.example/jwks".into());
    let token = encode(&head, &claims(), &evil.key).unwrap();
    checked.refuses(&token, "signature").await;
    let unknown = encode(&header(Algorithm::ES256, Some("k2")), &claims(), &evil.key).unwrap();
    checked.refuses(&unknown, "not one of").await;
    // Another header or body under the same signature.
    let body = b64(
        json!({"iss": "https://id.example", "aud": "signer", "sub": "root", "org": "acme", "exp": NOW_S + 60}),
    );
    checked.refuses(&format!("{}.{body}.{}", parts[0], parts[2]), "signature").await;
    let head = b64(json!({"alg": "RS256", "kid": "k1"}));
    checked.refuses(&format!("{head}.{}.{}", parts[1], parts[2]), "algorithm").await;
    let mut critical = header(Algorithm::ES256, Some("k1"));
    critical.crit = Some(vec!["b64".into()]);
    let token = encode(&critical, &claims(), &provider.key).unwrap();
    checked.refuses(&token, "critical").await;
}

#[tokio::test]
async fn keys_of_another_kind_do_not_count() {
    let provider = provider("k1");
    // The algorithm is configured, the key is of another kind.
    let both = Checked::new(core::slice::from_ref(&provider.jwk), &["RS256", "ES256"]);
    let good = encode(&header(Algorithm::ES256, Some("k1")), &claims(), &provider.key).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": "k1"}).to_string());
    both.refuses(&format!("{head}.{}.{}", parts[1], parts[2]), "another algorithm").await;
    // The provider's key is for another algorithm of the same kind, or not for signatures.
    let mut other = provider.jwk.clone();
    other["alg"] = json!("ES384");
    Checked::new(&[other], &["ES256"]).refuses(&good, "another algorithm").await;
    let mut encrypts = provider.jwk.clone();
    encrypts["use"] = json!("enc");
    let symmetric = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"});
    for jwks in [vec![encrypts], vec![symmetric], vec![json!({"kty": "new"})], vec![]] {
        let unusable = Checked::new(&jwks, &["ES256"]).verify(&good).await;
        assert!(matches!(unusable, Err(TokenError::KeysUnknown)), "{unusable:?}");
    }
    for symmetric in ["HS256", "HS384", "HS512", "none", "", "es256"] {
        assert!(algorithm(symmetric).is_err(), "{symmetric}");
    }
}

#[tokio::test]
async fn junk_costs_little_and_panics_never() {
    let provider = provider("k1");
    let checked = Checked::new(core::slice::from_ref(&provider.jwk), &["ES256"]);
    let good = encode(&header(Algorithm::ES256, Some("k1")), &claims(), &provider.key).unwrap();
    checked.verify(&good).await.unwrap();
    checked.refuses(&format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES)), "too long").await;
    let long = encode(&header(Algorithm::ES256, Some(&"k".repeat(300))), &claims(), &provider.key);
    checked.refuses(&long.unwrap(), "too long").await;
    for junk in
        ["", ".", "..", "...", "a.b.c", "é.é.é", "e30.e30.e30", &good[1..], &good[..good.len() - 3]]
    {
        assert!(matches!(checked.verify(junk).await, Err(TokenError::Bad(_))), "{junk}");
    }
    // Every single changed character breaks it, or is one that base64 does not tell apart.
    for place in 0..good.len() {
        let mut other = good.clone().into_bytes();
        other[place] = if other[place] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        let said = checked.verify(&other).await;
        assert!(said.is_err() || other == good, "{place}: {said:?}");
    }
}

/// A provider whose keys are read from a file, and the one that is to take its place there.
struct Replaced {
    old: Provider,
    new: Provider,
    checked: Checked,
    file: std::path::PathBuf,
}

/// The old one's tokens are good.
async fn replaced() -> Replaced {
    let (old, new) = (provider("old"), provider("new"));
    let checked = Checked::new(core::slice::from_ref(&old.jwk), &["ES256"]);
    let Source::File(file) = checked.oidc.settings.source.clone() else { panic!() };
    checked.verify(&signed_by(&old, "old")).await.unwrap();
    Replaced { old, new, checked, file }
}

fn signed_by(provider: &Provider, kid: &str) -> String {
    encode(&header(Algorithm::ES256, Some(kid)), &claims(), &provider.key).unwrap()
}

#[tokio::test]
async fn last_good_keys_stay_and_unknown_names_do_not_cause_a_read_each() {
    let Replaced { old, new, checked, file } = replaced().await;
    std::fs::write(&file, json!({ "keys": [new.jwk] }).to_string()).unwrap();
    // A read was made a moment ago; strangers cannot cause another one yet.
    checked.refuses(&signed_by(&new, "new"), "not one of").await;
    checked.verify(&signed_by(&old, "old")).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    // A regular read that fails.
    checked.oidc.follow(stop).await;
    checked.verify(&signed_by(&old, "old")).await.unwrap();
}

#[tokio::test]
async fn who_names_an_unknown_key_waits_for_nobody() {
    let Replaced { old, new, checked, file } = replaced().await;
    std::fs::write(&file, json!({ "keys": [old.jwk, new.jwk] }).to_string()).unwrap();
    checked.oidc.keys.grow_old();
    let token = signed_by(&new, "new");
    for _ in 0..3 {
        let said = checked.verify(&token).now_or_never().expect("an answer without a wait");
        assert!(matches!(said, Err(TokenError::Bad(why)) if why.contains("not one of")));
    }
    // The keys are read meanwhile, and the next one fits.
    penstock_testkit::until("the new key counts", || async {
        checked.verify(&token).await.is_ok()
    })
    .await;
}
