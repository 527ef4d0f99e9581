//! AWS KMS.

use super::{SECRET, account};
use penstock_keys::{KeyError, TypedSigner, conformance};
use penstock_keys_kms::{
    Environment,
    aws::{AwsKmsKey, AwsKmsUri},
};
use penstock_testkit::key_homes::aws_kms::{FakeAwsKms, Mood};
use std::{collections::HashMap, sync::Arc};

fn uri(kms: &FakeAwsKms) -> AwsKmsUri {
    AwsKmsUri::parse(kms.uri().strip_prefix("awskms:").unwrap(), None).unwrap()
}

async fn open(kms: &FakeAwsKms) -> Result<AwsKmsKey, KeyError> {
    AwsKmsKey::open(&uri(kms), &Environment::Fixed(FakeAwsKms::env())).await
}

#[tokio::test]
async fn conforms() {
    let account = account();
    let kms = FakeAwsKms::start(&SECRET).await;
    let key = open(&kms).await.unwrap();
    assert_eq!(format!("{key:?}"), format!("AwsKmsKey {{ address: {account:?}, .. }}"));
    conformance::check(Arc::new(key)).await;
    assert!(kms.signed() > 70);
}

#[tokio::test]
async fn throttling_and_failures_are_retried_and_refusals_are_not() {
    account();
    let kms = FakeAwsKms::start(&SECRET).await;
    let signer = TypedSigner::new(Arc::new(open(&kms).await.unwrap()));
    kms.set(Mood { throttle: 2, fail: 1, ..Mood::default() });
    signer.sign_ping(&[1; 32]).await.unwrap();
    kms.set(Mood { fail: 4, ..Mood::default() });
    let error = signer.sign_ping(&[1; 32]).await.unwrap_err();
    assert!(matches!(&error, KeyError::Unavailable(t) if t.contains("KMSInternalException")));
    let before = kms.signed();
    kms.set(Mood { denied: true, ..Mood::default() });
    let error = signer.sign_ping(&[1; 32]).await.unwrap_err();
    assert!(matches!(&error, KeyError::Denied(t) if t.contains("kms:Sign")), "{error}");
    assert_eq!(kms.signed(), before);
}

#[tokio::test]
async fn a_signature_by_another_key_never_comes_out() {
    account();
    let kms = FakeAwsKms::start(&SECRET).await;
    let signer = TypedSigner::new(Arc::new(open(&kms).await.unwrap()));
    kms.set(Mood { wrong_key: true, ..Mood::default() });
    let error = signer.sign_ping(&[1; 32]).await.unwrap_err();
    assert!(matches!(error, KeyError::BadAnswer(_)), "{error}");
}

#[tokio::test]
async fn wrong_credentials_regions_and_keys_are_refused() {
    account();
    let kms = FakeAwsKms::start(&SECRET).await;
    let mut wrong = FakeAwsKms::env();
    wrong.insert("AWS_SECRET_ACCESS_KEY".into(), "other".into());
    let error = AwsKmsKey::open(&uri(&kms), &Environment::Fixed(wrong)).await.unwrap_err();
    assert!(matches!(&error, KeyError::Denied(t) if t.contains("InvalidSignature")), "{error}");
    let good = Environment::Fixed(FakeAwsKms::env());
    let elsewhere = AwsKmsUri { region: "us-test-2".into(), ..uri(&kms) };
    assert!(AwsKmsKey::open(&elsewhere, &good).await.is_err());
    let other = AwsKmsUri { key_id: "alias/other".into(), ..uri(&kms) };
    let error = AwsKmsKey::open(&other, &good).await.unwrap_err();
    assert!(error.to_string().contains("NotFoundException"), "{error}");
    kms.set(Mood { key_spec: Some("ECC_NIST_P256".into()), ..Mood::default() });
    let error = open(&kms).await.unwrap_err();
    assert!(error.to_string().contains("ECC_NIST_P256"), "{error}");
}

#[tokio::test]
async fn credentials_come_from_a_profile_too() {
    let account = account();
    let kms = FakeAwsKms::start(&SECRET).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let env = FakeAwsKms::env();
    let text = format!(
        "[signer]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
        env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"]
    );
    std::fs::write(&file, text).unwrap();
    let variables = HashMap::from([
        ("AWS_PROFILE".to_owned(), "signer".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file.display().to_string()),
        ("AWS_CONFIG_FILE".to_owned(), "/nonexistent".to_owned()),
    ]);
    let key = AwsKmsKey::open(&uri(&kms), &Environment::Fixed(variables)).await.unwrap();
    assert_eq!(penstock_keys::DigestSigner::address(&key), account);
}
