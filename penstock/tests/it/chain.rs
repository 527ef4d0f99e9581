//! `devnet` and `mine` against a real devnet.

use crate::network::{announce, penstock, text};
use penstock_chain_devnet::{App, Args};
use penstock_http_kit::CancellationToken;
use serde_json::Value;

const ACCOUNT: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";

/// A devnet and a data folder that knows it and the signer's key.
async fn network() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let chain = folder.path().join("devnet");
    let argv = ["d", "--http-addr", "127.0.0.1:0", "--block-interval-ms", "0"];
    let argv = argv.into_iter().chain(["--round-length", "50", "--data-dir"]);
    let args: Args =
        penstock_config::try_parse_from(argv.chain([chain.to_str().unwrap()])).unwrap();
    let app = App::build(&args).await.unwrap();
    announce(folder.path(), "devnet", "http", &app.addresses()["http"]);
    tokio::spawn(app.run(CancellationToken::new(), None));
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    let keystore = serde_json::json!({ "address": ACCOUNT, "version": 3 }).to_string();
    std::fs::write(folder.path().join("keys/signer.json"), keystore).unwrap();
    folder
}

#[tokio::test]
async fn funding_shows_in_the_deposit() {
    let folder = network().await;
    let data_dir = folder.path().to_str().unwrap();
    let shown = text(&["devnet", "show", "--data-dir", data_dir]).await;
    assert!(shown.contains("deposit             0 wei"), "{shown}");
    let amounts = ["--deposit", "0.5eth", "--reserve", "20gwei"];
    let fund = ["devnet", "fund", "--data-dir", data_dir];
    let shown = text(&[&fund[..], &amounts].concat()).await;
    assert!(shown.contains("deposit             0.5 ETH"), "{shown}");
    assert!(shown.contains("reserve             20,000,000,000 wei"), "{shown}");
    let shown = text(&["devnet", "show", "--json", "--data-dir", data_dir]).await;
    let json: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&json["address"], &json["deposit_wei"]),
        (&ACCOUNT.into(), &"500000000000000000".into())
    );
    let other = "0x0101010101010101010101010101010101010101";
    let shown = text(&["devnet", "show", "--account", other, "--data-dir", data_dir]).await;
    assert!(shown.contains(other) && shown.contains("deposit             0 wei"), "{shown}");
    let error = penstock(&fund).await.unwrap_err();
    assert!(error.to_string().starts_with("--deposit"), "{error}");
}

#[tokio::test]
async fn time_passes_when_told_to() {
    let folder = network().await;
    let data_dir = folder.path().to_str().unwrap();
    let shown = text(&["mine", "--blocks", "7", "--data-dir", data_dir]).await;
    assert_eq!(shown, "L1 block  57\nround     1, 7 of 50 blocks in\n");
    let shown = text(&["mine", "--rounds", "2", "--data-dir", data_dir]).await;
    assert_eq!(shown, "L1 block  150\nround     3, 0 of 50 blocks in\n");
    let shown = text(&["mine", "--data-dir", data_dir]).await;
    assert!(shown.starts_with("L1 block  151\n"), "{shown}");
    let error = penstock(&["mine", "--blocks", "0", "--data-dir", data_dir]).await.unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}

#[tokio::test]
async fn real_chains_are_left_alone() {
    let chain = ["--chain", "https://arb1.example/rpc"];
    let amount = ["--deposit", "1eth", "--account", ACCOUNT];
    for words in [&["mine"][..], &["devnet", "show"], &[&["devnet", "fund"][..], &amount].concat()]
    {
        let error = penstock(&[words, &chain].concat()).await.unwrap_err();
        assert_eq!(error.exit_status(), 64);
        assert!(error.to_string().starts_with("--chain: "), "{error}");
    }
}
