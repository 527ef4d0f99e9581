//! Against the real SoftHSM. Each test runs its body in a child process, because SoftHSM finds its
//! tokens through the environment, which only a new process can be given safely.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use penstock_config::{Secret, read_secret_file};
use penstock_keys::{DigestSigner, KeyError, LocalKey, TypedSigner, conformance};
use penstock_keys_pkcs11::{Pkcs11Key, Pkcs11Uri, create, import};
use penstock_testkit::softhsm::{self, SoftHsm};
use rusty_fork::{fork, rusty_fork_id};
use std::{fs, path::PathBuf, sync::Arc};

/// Where the parent's token is, for the child.
fn tokens() -> PathBuf {
    let conf = PathBuf::from(std::env::var_os("SOFTHSM2_CONF").unwrap());
    conf.with_file_name("tokens")
}

fn uri(object: &str) -> Pkcs11Uri {
    let text = softhsm::uri(object, &tokens().with_file_name("pin"));
    Pkcs11Uri::parse(text.strip_prefix("pkcs11:").unwrap()).unwrap()
}

fn pin() -> Secret {
    Secret::new(softhsm::PIN)
}

/// Runs `body` in a child that has a fresh token.
fn with_token(test: &str, body: fn()) {
    let hsm = std::env::var_os("SOFTHSM2_CONF").is_none().then(SoftHsm::start);
    let environment = |command: &mut std::process::Command| {
        let (name, value) = hsm.as_ref().unwrap().env();
        command.env(name, value);
    };
    let watch = |child: &mut rusty_fork::ChildWrapper, output: &mut fs::File| {
        let status = child.wait().unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(output).unwrap();
        std::io::Read::read_to_string(output, &mut text).unwrap();
        assert!(status.success(), "{text}");
        assert!(text.contains("the body ran to its end"), "{text}");
    };
    let run = || {
        body();
        #[allow(clippy::print_stdout, reason = "the parent reads it")]
        {
            println!("the body ran to its end");
        }
    };
    fork(test, rusty_fork_id!(), environment, watch, run).unwrap();
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(work)
}

#[test]
fn a_key_made_in_the_token_conforms() {
    with_token("a_key_made_in_the_token_conforms", || {
        let address = create(&uri("deposit"), &pin()).unwrap();
        let key = Pkcs11Key::open(&uri("deposit"), &pin()).unwrap();
        assert_eq!(key.address(), address);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("Pkcs11Key {{ address: {address:?}, .. }}"));
        block_on(conformance::check(Arc::new(key)));
        // A second one of that name is not made.
        let again = create(&uri("deposit"), &pin()).unwrap_err();
        assert!(matches!(again, KeyError::Denied(_)), "{again}");
        let other = create(&uri("other"), &pin()).unwrap();
        assert_ne!(other, address);
    });
}

#[test]
fn a_key_brought_to_the_token_conforms() {
    with_token("a_key_brought_to_the_token_conforms", || {
        let local = LocalKey::random().unwrap();
        let address = import(&uri("brought"), &pin(), &local).unwrap();
        assert_eq!(address, local.address());
        let key = Pkcs11Key::open(&uri("brought"), &pin()).unwrap();
        block_on(conformance::check(Arc::new(key)));
        assert!(import(&uri("brought"), &pin(), &local).is_err());
    });
}

#[test]
fn a_wrong_pin_is_tried_once() {
    with_token("a_wrong_pin_is_tried_once", || {
        create(&uri("deposit"), &pin()).unwrap();
        let wrong = Pkcs11Key::open(&uri("deposit"), &Secret::new("0000")).unwrap_err();
        assert!(matches!(wrong, KeyError::Denied(_)), "{wrong}");
        assert!(!wrong.is_retryable());
    });
}

#[test]
fn what_is_not_there_has_a_name() {
    with_token("what_is_not_there_has_a_name", || {
        let nothing = Pkcs11Key::open(&uri("nothing"), &pin()).unwrap_err();
        assert!(nothing.to_string().contains("`nothing`"), "{nothing}");
        let mut elsewhere = uri("deposit");
        elsewhere.token = "no such token".into();
        let nowhere = Pkcs11Key::open(&elsewhere, &pin()).unwrap_err();
        assert!(nowhere.to_string().contains("no such token"), "{nowhere}");
        elsewhere.module = "/nonexistent/module.so".into();
        let unloaded = Pkcs11Key::open(&elsewhere, &pin()).unwrap_err();
        assert!(matches!(unloaded, KeyError::Denied(_)), "{unloaded}");
    });
}

#[test]
fn a_token_that_went_and_came_back_signs_again() {
    with_token("a_token_that_went_and_came_back_signs_again", || {
        create(&uri("deposit"), &pin()).unwrap();
        let key = Pkcs11Key::open(&uri("deposit"), &pin()).unwrap();
        let signer = TypedSigner::new(Arc::new(key));
        block_on(async {
            signer.sign_ping(&[1; 32]).await.unwrap();
            // Pulled out: the token's folder is elsewhere.
            let (here, away) = (tokens(), tokens().with_file_name("away"));
            fs::rename(&here, &away).unwrap();
            fs::create_dir(&here).unwrap();
            let gone = signer.sign_ping(&[2; 32]).await.unwrap_err();
            assert!(gone.is_retryable(), "{gone}");
            fs::remove_dir_all(&here).unwrap();
            fs::rename(&away, &here).unwrap();
            let signature = signer.sign_ping(&[3; 32]).await.unwrap();
            let digest = penstock_payments::ping_digest(&[3; 32]);
            assert_eq!(signature.verify(&digest, signer.address()), Ok(()));
        });
    });
}

#[test]
fn sessions_that_were_closed_are_opened_again() {
    with_token("sessions_that_were_closed_are_opened_again", || {
        create(&uri("deposit"), &pin()).unwrap();
        let key: Arc<dyn DigestSigner> =
            Arc::new(Pkcs11Key::open(&uri("deposit"), &pin()).unwrap());
        block_on(async {
            conformance::check(Arc::clone(&key)).await;
            // The module is one for the whole process; finalising it is what a driver does that is
            // restarted below us: every session is gone and nobody is logged in.
            cryptoki::context::Pkcs11::new(softhsm::module()).unwrap().finalize().unwrap();
            conformance::check(key).await;
        });
    });
}

#[test]
fn the_pin_file_is_read_without_its_line_end() {
    let hsm = SoftHsm::start();
    fs::write(hsm.pin_file(), format!("{}\n", softhsm::PIN)).unwrap();
    assert_eq!(read_secret_file(&hsm.pin_file(), "pin-source").unwrap().expose(), softhsm::PIN);
}
