//! Every kind of key in a running signer: it signs, it leaves no core, and nothing it prints has the
//! key, a password or a credential in it.

use crate::{
    startup::spec,
    world::{PASSWORD, devnet, keystore_in},
};
use penstock_domain::Address;
use penstock_keys::{LocalKey, keystore::ScryptCost};
use penstock_testkit::{
    Process,
    key_homes::{
        aws_kms::FakeAwsKms,
        gcp_kms::FakeGcpKms,
        vault::{APPROLE, FakeVault, ROOT_TOKEN},
    },
    softhsm::{self, SoftHsm},
    until::DEADLINE,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

type Env = BTreeMap<String, String>;

async fn run(folder: &Path, words: &[&str], env: &Env) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-signer"));
    command.args(words).args(["--data-dir", &folder.display().to_string()]).envs(env);
    // Stand-ins answer on this runtime.
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn stderr(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every way in which bytes get into text.
fn forms(secret: &[u8]) -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let decimal = format!("{secret:?}");
    let hex = hex::encode(secret);
    let base64 = BASE64_STANDARD.encode(secret);
    // Parts, so that a cut-off print is found too.
    vec![
        hex[..16].to_owned(),
        hex[..16].to_uppercase(),
        base64[..12].to_owned(),
        decimal[1..20].to_owned(),
    ]
}

/// Starts a signer at the highest log level, lets it sign, looks at it from outside, and stops it.
async fn starts_signs_and_is_silent(
    folder: &Path,
    account: Address,
    flags: &[String],
    env: &Env,
    secrets: &[String],
) -> String {
    let net = devnet(account).await;
    let mut spec = spec(folder, &net.chain_url);
    spec.args.push("--log-level=trace".into());
    spec.args.extend_from_slice(flags);
    spec.env = env.clone();
    let mut signer = Process::start(spec, folder).await;
    let url = format!("http://{}/sign-orchestrator-info", signer.addr("http"));
    let answer = reqwest::Client::builder()
        .timeout(DEADLINE)
        .build()
        .unwrap()
        .post(url)
        .send()
        .await
        .unwrap();
    let info: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(info["address"], account.to_string());

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", signer.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
    // What is not dumpable belongs to root here, whoever runs it (and says nothing where root does).
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(format!("/proc/{}/mem", signer.pid())).unwrap().uid();
    assert_eq!(owner, 0);

    assert_eq!(signer.terminate().await.code(), Some(0));
    let log = std::fs::read_to_string(signer.log_file()).unwrap();
    assert!(log.contains(&account.to_string()), "the log is the signer's");
    for secret in secrets {
        assert!(!log.contains(secret.as_str()), "the log has {secret}");
    }
    log
}

fn env_of(pairs: impl IntoIterator<Item = (String, String)>) -> Env {
    pairs.into_iter().collect()
}

#[tokio::test]
async fn a_keystore_with_its_password_in_the_credential_directory() {
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let credentials = tempfile::tempdir().unwrap();
    let password = folder.path().join("keystore-password");
    std::fs::rename(&password, credentials.path().join("keystore-password")).unwrap();
    let directory = credentials.path().display().to_string();
    let env = env_of([("CREDENTIALS_DIRECTORY".to_owned(), directory)]);
    let mut secrets = forms(key.expose_secret());
    secrets.push(PASSWORD.to_owned());
    starts_signs_and_is_silent(folder.path(), key.address(), &[], &env, &secrets).await;
}

#[tokio::test]
async fn a_key_in_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let hsm = SoftHsm::start();
    let (name, value) = hsm.env();
    let env = env_of([(name.to_owned(), value.display().to_string())]);
    let flag = format!("--key={}", hsm.uri("deposit"));
    let created = stdout(&run(folder.path(), &["keys", "create", &flag], &env).await);
    let again = stderr(&run(folder.path(), &["keys", "create", &flag], &env).await);
    assert!(again.contains("already"), "{again}");
    let shown = stdout(&run(folder.path(), &["keys", "show", &flag], &env).await);
    assert_eq!(shown, created);
    let rotate = ["keys", "rotate", "--new-password-file=/x", &flag];
    let rotated = stderr(&run(folder.path(), &rotate, &env).await);
    assert!(rotated.contains("change-pin"), "{rotated}");

    let key = LocalKey::random().unwrap();
    let file = folder.path().join("hex");
    std::fs::write(&file, hex::encode(key.expose_secret())).unwrap();
    let brought = format!("--key={}", hsm.uri("brought"));
    let from = format!("--from-hex={}", file.display());
    let imported = run(folder.path(), &["keys", "import", &from, &brought], &env).await;
    assert_eq!(stdout(&imported), key.address().to_string());

    let mut secrets = forms(key.expose_secret());
    secrets.push(softhsm::PIN.to_owned());
    let account = created.parse().unwrap();
    starts_signs_and_is_silent(folder.path(), account, &[flag], &env, &secrets).await;
    starts_signs_and_is_silent(folder.path(), key.address(), &[brought], &env, &secrets).await;
}

#[tokio::test]
async fn a_key_and_the_state_keys_in_a_vault() {
    let folder = tempfile::tempdir().unwrap();
    let vault = FakeVault::new().listen().await;
    let fake = &vault.vault;
    let none = Env::new();
    let token = folder.path().join("vault-token");
    std::fs::write(&token, ROOT_TOKEN).unwrap();
    let flags = [
        "--key=vault:secret/signer".to_owned(),
        format!("--vault-addr=http://{}", vault.addr),
        format!("--vault-token-file={}", token.display()),
    ];
    let keys = |command: &[&str]| -> Vec<String> {
        let words = ["keys"].iter().chain(command).map(|word| (*word).to_owned());
        words.chain(flags.iter().cloned()).collect()
    };
    async fn with(folder: &Path, words: Vec<String>, env: &Env) -> Output {
        run(folder, &words.iter().map(String::as_str).collect::<Vec<_>>(), env).await
    }
    let created = stdout(&with(folder.path(), keys(&["create"]), &none).await);
    let again = stderr(&with(folder.path(), keys(&["create"]), &none).await);
    assert!(again.contains("nothing was written"), "{again}");
    assert_eq!(stdout(&with(folder.path(), keys(&["show"]), &none).await), created);

    // Served through AppRole; the state keys are made in the vault, beside what is there.
    let stored = fake.newest("secret/signer").unwrap();
    let stored = hex::decode(stored["private_key"].as_str().unwrap()).unwrap();
    let secret_id = folder.path().join("secret-id");
    std::fs::write(&secret_id, APPROLE.1).unwrap();
    let state = "--state-keys-file=vault:secret/states".to_owned();
    let serving = [
        flags[0].clone(),
        flags[1].clone(),
        format!("--vault-approle-role-id={}", APPROLE.0),
        format!("--vault-approle-secret-id-file={}", secret_id.display()),
        state.clone(),
    ];
    let mut secrets = forms(&stored);
    secrets.extend([APPROLE.1.to_owned(), ROOT_TOKEN.to_owned(), "hvs.login".to_owned()]);
    let account = created.parse().unwrap();
    let log = starts_signs_and_is_silent(folder.path(), account, &serving, &none, &secrets).await;
    let first = fake.newest("secret/states").unwrap()["state_keys"].as_str().unwrap().to_owned();
    assert!(first.starts_with("01:"));
    assert!(!log.contains(&first[3..20]));

    fake.put("secret/states", json!({ "state_keys": first, "beside": "x" }));
    let rotate = keys(&["rotate-state", &state]);
    assert!(stdout(&with(folder.path(), rotate, &none).await).contains("state key 02"));
    let rotated = fake.newest("secret/states").unwrap();
    assert_eq!(rotated["beside"], "x");
    let lines = rotated["state_keys"].as_str().unwrap().to_owned();
    assert!(lines.starts_with("02:") && lines.contains(first.trim()), "the old one is kept");
}

#[tokio::test]
async fn a_key_in_aws_kms() {
    let folder = tempfile::tempdir().unwrap();
    let key = LocalKey::random().unwrap();
    let kms = FakeAwsKms::start(key.expose_secret()).await;
    let env = env_of(FakeAwsKms::env());
    let flag = format!("--key={}", kms.uri());
    let shown = stdout(&run(folder.path(), &["keys", "show", &flag], &env).await);
    assert_eq!(shown, key.address().to_string());
    let created = stderr(&run(folder.path(), &["keys", "create", &flag], &env).await);
    assert!(created.contains("aws kms create-key --region eu-test-1"), "{created}");
    let mut secrets = forms(key.expose_secret());
    secrets.extend([env["AWS_SECRET_ACCESS_KEY"].clone(), env["AWS_SESSION_TOKEN"].clone()]);
    starts_signs_and_is_silent(folder.path(), key.address(), &[flag], &env, &secrets).await;
}

#[tokio::test]
async fn a_key_in_google_cloud_kms() {
    let folder = tempfile::tempdir().unwrap();
    let key = LocalKey::random().unwrap();
    let kms = FakeGcpKms::start(key.expose_secret()).await;
    let env = Env::new();
    let file = folder.path().join("account.json");
    kms.write_credentials(&file);
    let flag = format!("--key={}", kms.uri(Some(&file)));
    let shown = stdout(&run(folder.path(), &["keys", "show", &flag], &env).await);
    assert_eq!(shown, key.address().to_string());
    let created = stderr(&run(folder.path(), &["keys", "create", &flag], &env).await);
    assert!(created.contains("gcloud kms keys create deposit --project p"), "{created}");
    let mut secrets = forms(key.expose_secret());
    secrets.extend(["ya29.".to_owned(), "PRIVATE KEY".to_owned()]);
    starts_signs_and_is_silent(folder.path(), key.address(), &[flag], &env, &secrets).await;
}

#[tokio::test]
async fn a_keystore_is_brought_and_encrypted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let key = LocalKey::random().unwrap();
    let (none, at) = (Env::new(), |name: &str| folder.path().join(name));
    let cost = ScryptCost { log2_n: 4, ..ScryptCost::default() };
    penstock_keys::keystore::create(&at("geth.json"), &key, "geth's", cost).unwrap();
    for (name, text) in [("geth-password", "geth's"), ("keystore-password", "old"), ("new", "new")]
    {
        std::fs::write(at(name), text).unwrap();
    }
    let from = format!("--from-keystore={}", at("geth.json").display());
    let password = format!("--from-password-file={}", at("geth-password").display());
    let import = ["keys", "import", &from, &password, "--scrypt-log-n=4"];
    let account = key.address().to_string();
    assert_eq!(stdout(&run(folder.path(), &import, &none).await), account);
    stderr(&run(folder.path(), &import, &none).await);
    let new = format!("--new-password-file={}", at("new").display());
    let rotate = ["keys", "rotate", &new, "--scrypt-log-n=4"];
    assert_eq!(stdout(&run(folder.path(), &rotate, &none).await), account);
    let old = stderr(&run(folder.path(), &["keys", "show"], &none).await);
    assert!(old.contains("wrong password"), "{old}");
    let show = ["keys", "show", &format!("--key-password-file={}", at("new").display())];
    assert_eq!(stdout(&run(folder.path(), &show, &none).await), account);

    // State keys, prepared and rotated in their file.
    std::fs::write(at("state-keys"), format!("07:{}\n", "ab".repeat(32))).unwrap();
    let state = async |words: &[&str]| stdout(&run(folder.path(), words, &none).await);
    assert!(state(&["keys", "rotate-state", "--prepare"]).await.contains("is prepared"));
    assert!(state(&["keys", "rotate-state", "--prepare"]).await.contains("already"));
    assert!(state(&["keys", "rotate-state"]).await.contains("state key 08"));
    let text = std::fs::read_to_string(at("state-keys")).unwrap();
    assert!(text.starts_with("08:") && text.contains(&format!("07:{}", "ab".repeat(32))));
}
