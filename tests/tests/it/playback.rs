//! Does the film play? Asked of a real browser, headless, through WebDriver.
//!
//! `PENSTOCK_TEST_SCREENSHOT=docs/player.png cargo xtask test a_film_comes_back` also saves what the
//! browser shows.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock::dev::Role;
use penstock_testkit::{Process, Spec, until_some};
use serde_json::{Value, json};

use crate::network::Network;

/// Opens the player page on the stream; the picture has a size and its clock advances.
pub async fn plays(network: &Network, stream: &str) {
    let browser = Browser::open(&network.http, network.scratch()).await;
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

/// What the page's video element says.
#[derive(Debug, Clone, Copy)]
pub struct Video {
    /// Of the picture; 0: there is none.
    pub width: u64,
    /// Where it plays.
    pub seconds: f64,
}

/// A headless Chromium.
pub struct Browser {
    http: reqwest::Client,
    // Dies with the test, and Chromium with it.
    _driver: Process,
    session: String,
}

impl Browser {
    /// Starts one that keeps its things in `folder`.
    pub async fn open(http: &reqwest::Client, folder: &Path) -> Self {
        let folder = folder.join("browser");
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
        let answer = call(http, &base, &capabilities).await;
        let id = answer["sessionId"].as_str().expect("a session");
        Self { http: http.clone(), _driver: driver, session: format!("{base}/{id}") }
    }

    /// Opens a page.
    pub async fn go(&self, url: &str) {
        call(&self.http, &format!("{}/url", self.session), &json!({ "url": url })).await;
    }

    /// Looks at the page's video element until it is as wanted.
    pub async fn watch(&self, what: &str, wanted: impl Fn(&Video) -> bool) -> Video {
        const SCRIPT: &str = "const v = document.querySelector('video'); \
            return v && { width: v.videoWidth, seconds: v.currentTime, \
                          error: v.error && v.error.message };";
        until_some(what, || async {
            let body = json!({ "script": SCRIPT, "args": [] });
            let seen = call(&self.http, &format!("{}/execute/sync", self.session), &body).await;
            assert!(seen["error"].is_null(), "the browser cannot play it: {seen}");
            let video =
                Video { width: seen["width"].as_u64()?, seconds: seen["seconds"].as_f64()? };
            wanted(&video).then_some(video)
        })
        .await
    }

    async fn screenshot(&self) -> Vec<u8> {
        let url = format!("{}/screenshot", self.session);
        let answer: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        STANDARD.decode(answer["value"].as_str().expect("a picture")).unwrap()
    }

    /// Ends it.
    pub async fn close(self) {
        self.http.delete(&self.session).send().await.unwrap();
    }
}

async fn call(http: &reqwest::Client, url: &str, body: &Value) -> Value {
    let answer = http.post(url).json(body).send().await.unwrap();
    let status = answer.status();
    let mut answer: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{url}: {answer}");
    answer["value"].take()
}
