//! Google Cloud KMS.

use super::{SECRET, account};
use penstock_keys::{KeyError, TypedSigner, conformance};
use penstock_keys_kms::{
    Environment,
    gcp::{GcpKmsKey, GcpKmsUri},
};
use penstock_testkit::key_homes::gcp_kms::{FakeGcpKms, Mood};
use std::{collections::HashMap, path::Path, sync::Arc};

fn uri(kms: &FakeGcpKms, credentials: Option<&Path>) -> GcpKmsUri {
    GcpKmsUri::parse(kms.uri(credentials).strip_prefix("gcpkms:").unwrap()).unwrap()
}

async fn open(kms: &FakeGcpKms) -> Result<GcpKmsKey, KeyError> {
    GcpKmsKey::open(&uri(kms, None), &Environment::Fixed(kms.env())).await
}

#[tokio::test]
async fn conforms_with_tokens_of_the_metadata_server() {
    let account = account();
    let kms = FakeGcpKms::start(&SECRET).await;
    let key = open(&kms).await.unwrap();
    assert_eq!(format!("{key:?}"), format!("GcpKmsKey {{ address: {account:?}, .. }}"));
    conformance::check(Arc::new(key)).await;
    assert_eq!(kms.tokens(), 1, "one token serves many calls");
}

#[tokio::test]
async fn a_service_account_signs_its_own_assertion() {
    account();
    let kms = FakeGcpKms::start(&SECRET).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    kms.write_credentials(&file);
    let nothing = Environment::Fixed(HashMap::new());
    let key = GcpKmsKey::open(&uri(&kms, Some(&file)), &nothing).await.unwrap();
    let signer = TypedSigner::new(Arc::new(key));
    signer.sign_ping(&[1; 32]).await.unwrap();
    kms.revoke_tokens();
    signer.sign_ping(&[2; 32]).await.unwrap();
    assert_eq!(kms.tokens(), 2);
    let by_environment =
        HashMap::from([("GOOGLE_APPLICATION_CREDENTIALS".to_owned(), file.display().to_string())]);
    GcpKmsKey::open(&uri(&kms, None), &Environment::Fixed(by_environment)).await.unwrap();

    // The account of another project, whose assertion this one does not take.
    let other = FakeGcpKms::start(&SECRET).await;
    other.write_credentials(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    let there = format!("http://{}/token", other.addr);
    let here = format!("http://{}/token", kms.addr);
    std::fs::write(&file, text.replace(&there, &here)).unwrap();
    let error = GcpKmsKey::open(&uri(&kms, Some(&file)), &nothing).await.unwrap_err();
    assert!(matches!(&error, KeyError::Denied(t) if t.contains("invalid_grant")), "{error}");
}

#[tokio::test]
async fn files_of_other_kinds_are_named() {
    account();
    let kms = FakeGcpKms::start(&SECRET).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    let nothing = Environment::Fixed(HashMap::new());
    for (text, part) in [
        (r#"{"type":"external_account"}"#, "external_account"),
        (r#"{"type":"service_account","private_key":"hunter2"}"#, "PEM"),
        ("hunter2", "not a service account"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = GcpKmsKey::open(&uri(&kms, Some(&file)), &nothing).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_changed_on_the_way_is_found() {
    account();
    let kms = FakeGcpKms::start(&SECRET).await;
    let signer = TypedSigner::new(Arc::new(open(&kms).await.unwrap()));
    for mood in
        [Mood { flip: true, ..Mood::default() }, Mood { unverified: true, ..Mood::default() }]
    {
        kms.set(mood);
        let error = signer.sign_ping(&[1; 32]).await.unwrap_err();
        assert!(matches!(error, KeyError::BadAnswer(_)), "{error}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn failures_are_retried_and_refusals_are_not() {
    account();
    let kms = FakeGcpKms::start(&SECRET).await;
    let signer = TypedSigner::new(Arc::new(open(&kms).await.unwrap()));
    kms.set(Mood { fail: 3, ..Mood::default() });
    signer.sign_ping(&[1; 32]).await.unwrap();
    kms.set(Mood { fail: 4, ..Mood::default() });
    let error = signer.sign_ping(&[1; 32]).await.unwrap_err();
    assert!(matches!(error, KeyError::Unavailable(_)), "{error}");
    kms.set(Mood { denied: true, ..Mood::default() });
    let error = signer.sign_ping(&[1; 32]).await.unwrap_err();
    assert!(matches!(&error, KeyError::Denied(t) if t.contains("useToSign")), "{error}");
    kms.set(Mood { algorithm: Some("EC_SIGN_P256_SHA256".into()), ..Mood::default() });
    let error = open(&kms).await.unwrap_err();
    assert!(error.to_string().contains("EC_SIGN_P256_SHA256"), "{error}");
}
