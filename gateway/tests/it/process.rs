//! The program itself: exit codes, address file, drain.

use penstock_testkit::{until::DEADLINE, until_some};
use std::process::{Output, Stdio};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

fn gateway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-gateway"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn bad_settings_exit_64() {
    for args in
        [&["--session-store", "redis://x"][..], &["--no-such-flag"], &["--http-addr", "nowhere"]]
    {
        let done = output(gateway(args)).await;
        assert_eq!(done.status.code(), Some(64), "{args:?}");
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let done = output(gateway(&["--http-addr", &addr])).await;
    assert_eq!(done.status.code(), Some(1), "an address that is taken is a failed start");
}

#[tokio::test]
async fn the_document_is_printed() {
    let done = output(gateway(&["openapi"])).await;
    assert!(done.status.success());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), penstock_gateway::openapi::json());
}

#[tokio::test]
async fn the_table_of_errors_is_printed() {
    let done = output(gateway(&["errors"])).await;
    assert!(done.status.success());
    let table = penstock_gateway::front::catalogue::markdown();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), table);
}

/// What a gateway that ends by itself says.
async fn output(mut command: Command) -> Output {
    timeout(DEADLINE, command.output()).await.expect("it ends").unwrap()
}

/// What one that is to end has said.
async fn ended(child: Child) -> Output {
    timeout(DEADLINE, child.wait_with_output()).await.expect("it ends").unwrap()
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap()
}

/// A gateway without a signer that is up, and its addresses.
async fn started(flags: &[&str]) -> (Child, serde_json::Value) {
    penstock_http_kit::tls::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("addrs.json");
    let signer = format!("http://{}", penstock_testkit::sim::nobody());
    let own = ["--http-addr=127.0.0.1:0", "--rtmp-addr=none", "--signer-url", &signer];
    let mut command = gateway(&[&own[..], flags].concat());
    let mut child = command.arg("--addr-file").arg(&file).spawn().unwrap();
    let addrs = until_some("it announces its addresses", || {
        let there = std::fs::read(&file).ok();
        let runs = child.try_wait().unwrap().is_none();
        assert!(there.is_some() || runs, "it ended before it was up");
        async move { there.map(|text| serde_json::from_slice(&text).unwrap()) }
    })
    .await;
    (child, addrs)
}

async fn terminate(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
}

#[tokio::test]
async fn it_says_goodbye_before_it_goes_and_goes_at_once_when_told_twice() {
    let (child, addrs) = started(&["--drain-notice-ms=3600000"]).await;
    let url = format!("http://{}", addrs["http"].as_str().unwrap());
    let http = http();
    let alive = http.get(format!("{url}/healthz")).send().await.unwrap();
    assert!(!alive.headers().contains_key("connection"));
    terminate(&child).await;
    penstock_testkit::until("it is not ready because it stops", || async {
        let ready = http.get(format!("{url}/readyz")).send().await.unwrap();
        ready.text().await.unwrap().contains("this replica is stopping")
    })
    .await;
    // New requests are still answered, each on its last connection.
    let answer = http.get(format!("{url}/api/streams")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["connection"].as_bytes()),
        (200, &b"close"[..])
    );
    terminate(&child).await;
    assert_eq!(ended(child).await.status.code(), Some(130));
}

#[tokio::test]
async fn it_announces_itself_and_drains() {
    let (child, addrs) =
        started(&["--metrics-addr=127.0.0.1:0", "--log-format=json", "--drain-notice-ms=0"]).await;
    let http = http();
    for (listener, path, status) in [
        ("http", "/healthz", 200),
        ("http", "/readyz", 503),
        ("metrics", "/metrics", 200),
        ("metrics", "/healthz", 200),
    ] {
        let url = format!("http://{}{path}", addrs[listener].as_str().unwrap());
        assert_eq!(http.get(&url).send().await.unwrap().status(), status, "{url}");
    }
    assert!(addrs["admin"].is_string());
    terminate(&child).await;
    let done = ended(child).await;
    assert_eq!(done.status.code(), Some(0));
    let log = String::from_utf8(done.stderr).unwrap();
    for line in log.lines() {
        let _: serde_json::Value = serde_json::from_str(line).expect("every log line is JSON");
    }
}

/// How much is logged can be changed while it runs, and is what it was when the next one begins.
#[tokio::test]
async fn the_log_level_is_changed_at_run_time() {
    let (child, addrs) = started(&["--admin-addr=127.0.0.1:0", "--log-level=warn"]).await;
    let admin = format!("http://{}", addrs["admin"].as_str().unwrap());
    let http = http();
    let level = async || {
        let answer = http.get(format!("{admin}/getLogLevel")).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(level().await, "warn");
    let set = async |form: &str| {
        let request = http.post(format!("{admin}/setLogLevel"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(form.to_owned()).send().await.unwrap().status().as_u16()
    };
    for (form, status, now) in [
        ("loglevel=info,penstock_gateway%3Ddebug", 200, "penstock_gateway=debug,info"),
        ("loglevel=no%3Dsuch%3Dthing", 400, "penstock_gateway=debug,info"),
        ("", 400, "penstock_gateway=debug,info"),
        ("loglevel=6", 200, "trace"),
    ] {
        assert_eq!(set(form).await, status, "{form}");
        assert_eq!(level().await, now, "{form}");
    }
    // Another listener knows of none of this.
    let public = format!("http://{}/setLogLevel?loglevel=error", addrs["http"].as_str().unwrap());
    assert_eq!(http.get(public).send().await.unwrap().status(), 404);
    terminate(&child).await;
    let done = ended(child).await;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("TRACE"), "it logged as much as was asked for: {said}");
}
