//! The binary itself: help, output and exit status.

use crate::network::{announce, server};
use penstock_http_kit::health;
use tokio::process::Command;

async fn penstock(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(words)
        .env_clear()
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn help_lists_the_commands_and_each_has_its_own() {
    let (status, help, _) = penstock(&["--help"]).await;
    assert_eq!(status, 0);
    for command in ["deposit", "funds", "orchestrator", "devnet", "status"] {
        assert!(help.contains(&format!("\n  {command}")), "{help}");
    }
    let (status, own, _) = penstock(&["deposit", "--help"]).await;
    assert!(status == 0 && own.contains("Usage: penstock deposit"), "{own}");
    assert!(own.contains("Examples:\n  penstock deposit 0.5eth\n"), "{own}");
}

#[tokio::test]
async fn exit_status_tells_settings_from_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let (status, out, err) = penstock(&["payments", "--data-dir", data_dir]).await;
    assert_eq!((status, out.as_str()), (64, ""));
    assert!(err.starts_with("error: where is the signer?"), "{err}");
    let (status, _, err) = penstock(&["payments", "--limit", "0"]).await;
    assert_eq!(status, 64);
    assert!(err.contains("--limit"), "{err}");
    let routes = health::router(|| Box::pin(async { Ok(()) }));
    let role = format!("gateway=http://{}", server(routes).await);
    let (status, out, _) = penstock(&["status", "--data-dir", data_dir, "--role", &role]).await;
    assert_eq!(status, 0, "{out}");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    announce(folder.path(), "signer", "metrics", &gone.to_string());
    let (status, out, _) = penstock(&["status", "--data-dir", data_dir]).await;
    assert_eq!(status, 1, "{out}");
}
