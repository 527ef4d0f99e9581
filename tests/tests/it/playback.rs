//! Does the film play? Asked of a real browser, headless, through WebDriver.
//!
//! `PENSTOCK_TEST_SCREENSHOT=docs/player.png cargo xtask test a_film_comes_back` also saves what the
//! browser shows.

use std::{collections::BTreeMap, fs};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock::dev::Role;
use penstock_testkit::{Process, Spec, until_some};
use serde_json::{Value, json};

use crate::network::Network;

/// Opens the player page on the stream; the picture has a size and its clock advances.
pub async fn plays(network: &Network, stream: &str) {
    let browser = Browser::open(network).await;
    browser.go(&format!("{}/?stream={stream}", network.url(Role::Gateway))).await;
    let at_start = browser.watch("the player shows a picture", |v| v.width > 0).await;
    let later = browser
        .watch("the film plays", |v| v.width > 0 && v.seconds > at_start.seconds + 1.0)
        .await;
    assert!(later.width >= 426, "the player shows a rendition or the source: {later:?}");
    if let Some(path) = std::env::var_os("PENSTOCK_TEST_SCREENSHOT") {
        let path = penstock_testkit::places::repository().join(path);
        fs::write(path, browser.screenshot().await).unwrap();
    }
    browser.close().await;
}

#[derive(Debug, Clone, Copy)]
struct Video {
    width: u64,
    seconds: f64,
}

struct Browser<'a> {
    network: &'a Network,
    // Dies with the test, and Chromium with it.
    _driver: Process,
    session: String,
}

impl<'a> Browser<'a> {
    async fn open(network: &'a Network) -> Self {
        let folder = network.scratch().join("browser");
        let spec = Spec {
            name: "chromedriver".to_owned(),
            program: "/usr/bin/chromedriver".into(),
            args: vec!["--port=0".to_owned()],
            env: BTreeMap::new(),
        };
        let mut driver = Process::new(spec, &folder);
        driver.spawn();
        let port = until_some("chromedriver listens", || async {
            let log = driver.log_tail();
            let (_, rest) = log.rsplit_once("successfully on port ")?;
            rest.split_once('.').and_then(|(port, _)| port.parse::<u16>().ok())
        })
        .await;
        let profile = folder.join("profile");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--autoplay-policy=no-user-gesture-required",
            "--window-size=1000,800",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
        } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let answer = call(network, &base, &capabilities).await;
        let id = answer["sessionId"].as_str().expect("a session");
        Self { network, _driver: driver, session: format!("{base}/{id}") }
    }

    async fn go(&self, url: &str) {
        call(self.network, &format!("{}/url", self.session), &json!({ "url": url })).await;
    }

    /// Looks at the page's video element until it is as wanted.
    async fn watch(&self, what: &str, wanted: impl Fn(&Video) -> bool) -> Video {
        const SCRIPT: &str = "const v = document.querySelector('video'); \
            return v && { width: v.videoWidth, seconds: v.currentTime, \
                          error: v.error && v.error.message };";
        until_some(what, || async {
            let body = json!({ "script": SCRIPT, "args": [] });
            let seen = call(self.network, &format!("{}/execute/sync", self.session), &body).await;
            assert!(seen["error"].is_null(), "the browser cannot play it: {seen}");
            let video =
                Video { width: seen["width"].as_u64()?, seconds: seen["seconds"].as_f64()? };
            wanted(&video).then_some(video)
        })
        .await
    }

    async fn screenshot(&self) -> Vec<u8> {
        let answer = self.network.get(&format!("{}/screenshot", self.session)).await;
        STANDARD.decode(answer["value"].as_str().expect("a picture")).unwrap()
    }

    async fn close(self) {
        self.network.http.delete(&self.session).send().await.unwrap();
    }
}

async fn call(network: &Network, url: &str, body: &Value) -> Value {
    let answer = network.http.post(url).json(body).send().await.unwrap();
    let status = answer.status();
    let mut answer: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{url}: {answer}");
    answer["value"].take()
}
