//! A gateway with its peers, all on port 0.

use bytes::Bytes;
use penstock_gateway::{
    app::App,
    config::{Args, DiscoveryTimes, Settings},
    service::Gateway,
};
use penstock_http_kit::CancellationToken;
use penstock_store::{SegmentStore, SessionStore};
use penstock_testkit::{
    sim::{Running, SimOrchestrator, SimSigner},
    until::DEADLINE,
};
use std::sync::Arc;

pub const MODEL: &str = "openai/whisper-tiny.en";
/// Two renditions of 2 s: (16·16 + 32·16) · 30 · 2 pixels.
pub const PIXELS: u64 = 46_080;
pub const CONFIG: &str = concat!(
    r#"{"profiles":[{"name":"small","width":16,"height":16,"bitrate":1000,"fps":30},"#,
    r#"{"name":"wide","width":32,"height":16,"bitrate":2000,"fps":30}]}"#
);

/// Two packets of a transport stream without tables: a container, and nothing recognised in it.
/// `tag` is above 0.
pub const fn segment(tag: u8) -> [u8; 376] {
    let mut packets = [tag; 376];
    packets[0] = 0x47;
    packets[188] = 0x47;
    packets
}

/// One of them.
pub static SOURCE: &[u8] = &segment(1);
/// Another.
pub static OTHER: &[u8] = &segment(2);
/// The beginning of an MP4 file.
pub static MP4: &[u8] = b"\0\0\0\x18ftypisom\0\0\0\0isomiso2";

pub struct World {
    pub signer: Running<SimSigner>,
    pub orchestrators: Vec<Running<SimOrchestrator>>,
    pub gateway: Arc<Gateway>,
    pub url: String,
    pub admin: String,
    pub rtmp: String,
    pub http: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Orchestrators that ask for nothing, and named ones, since there is no signer to list them.
pub const OFFCHAIN: &str = "--network=offchain";

/// One gateway.
pub struct Replica {
    pub gateway: Arc<Gateway>,
    pub url: String,
    pub admin: String,
    pub rtmp: String,
    pub stop: CancellationToken,
}

impl Replica {
    /// With this signer, unless a flag names another.
    pub async fn start(signer_url: &str, flags: &[&str]) -> Self {
        Self::on(signer_url, flags, None).await
    }

    /// The same on stores that are there already.
    pub async fn on(signer_url: &str, flags: &[&str], stores: Option<Stores>) -> Self {
        Self::run(settings(signer_url, flags), stores).await
    }

    /// With these settings.
    pub async fn run(settings: Settings, stores: Option<Stores>) -> Self {
        let app = match stores {
            None => App::build(settings, None).await.unwrap(),
            Some((store, segments)) => {
                App::build_on(settings, None, store, segments).await.unwrap()
            }
        };
        let addresses = app.addresses();
        let (url, admin) =
            (format!("http://{}", addresses["http"]), format!("http://{}", addresses["admin"]));
        let rtmp = format!("rtmp://{}", addresses["rtmp"]);
        let gateway = app.gateway().clone();
        let stop = CancellationToken::new();
        tokio::spawn(app.run(stop.clone()));
        Self { gateway, url, admin, rtmp, stop }
    }
}

/// What these flags become, with this signer unless a flag names another.
pub fn settings(signer_url: &str, flags: &[&str]) -> Settings {
    let model = format!("--default-model=audio-to-text={MODEL}");
    let base = [
        "penstock-gateway",
        "--http-addr=127.0.0.1:0",
        "--admin-addr=127.0.0.1:0",
        "--metrics-addr=127.0.0.1:0",
        &model,
        "--rtmp-addr=127.0.0.1:0",
        // Rounds are run by hand, except the first.
        "--discovery-interval-ms=3600000",
        // Tests change what is stored of orchestrators, and have it count at once.
        "--selection-cache-ms=0",
        // A busy machine is no silent peer.
        "--segment-head-timeout-ms=60000",
        "--orchestrator-ping-ms=60000",
        "--segment-hedge-after-ms=0",
        "--payment-timeout-ms=30000",
        "--signer-timeout-ms=30000",
        // What is bought follows from the jobs, and not from how fast they come.
        "--prepay-ms=0",
    ];
    let name = |flag: &str| flag.split('=').next().unwrap_or(flag).to_owned();
    let chosen = |base: &&&str| !flags.iter().any(|flag| name(flag) == name(base));
    let mut argv: Vec<_> =
        base.iter().filter(chosen).chain(flags).map(|s| (*s).to_owned()).collect();
    if !flags.iter().any(|f| f.starts_with("--signer-url")) {
        argv.push(format!("--signer-url={signer_url}"));
    }
    let args: Args = penstock_config::try_parse_from(argv).unwrap();
    let mut settings = Settings::from_args(args).unwrap();
    // Nobody is late on a busy machine, but where a test says so.
    settings.discovery = DiscoveryTimes { answer: DEADLINE, first_tick: DEADLINE };
    settings
}

/// What replicas share.
pub type Stores = (Arc<dyn SessionStore>, Arc<dyn SegmentStore>);

/// A multipart answer, taken apart.
pub type Parts = Vec<(String, Bytes)>;

impl World {
    /// A gateway with so many orchestrators, ready.
    pub async fn with(orchestrators: usize) -> Self {
        Self::start(orchestrators, &[]).await
    }

    /// With more flags.
    pub async fn start(count: usize, flags: &[&str]) -> Self {
        Self::arranged(count, flags, |_, _| {}).await
    }

    /// With settings and orchestrators that a test changes before the gateway begins.
    pub async fn arranged(
        count: usize,
        flags: &[&str],
        arrange: impl FnOnce(&mut Settings, &[Running<SimOrchestrator>]),
    ) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let signer = SimSigner::start().await;
        let signer_url = signer.uri();
        let mut orchestrators = Vec::new();
        for _ in 0..count {
            let sim = SimOrchestrator::start().await;
            sim.terms.lock().unwrap().free = flags.contains(&OFFCHAIN);
            signer.orchestrators.lock().unwrap().push(sim.uri());
            orchestrators.push(sim);
        }
        let uris = orchestrators.iter().map(|o| o.uri()).collect::<Vec<_>>();
        let listed = format!("--orchestrators={}", uris.join(","));
        let mut flags = flags.to_vec();
        if flags.contains(&OFFCHAIN) {
            flags.push(&listed);
        }
        let mut settings = settings(&signer_url, &flags);
        arrange(&mut settings, &orchestrators);
        let Replica { gateway, url, admin, rtmp, stop } = Replica::run(settings, None).await;
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        let world = Self { signer, orchestrators, gateway, url, admin, rtmp, http, stop };
        if count > 0 {
            world.gateway.refresh_all().await;
        }
        world
    }

    /// Begins to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Pushes a segment and returns status and body.
    pub async fn push(&self, path: &str, data: &'static [u8]) -> reqwest::Response {
        self.http
            .put(format!("{}{path}", self.url))
            .header("accept", "multipart/mixed")
            .header("livepeer-transcode-configuration", CONFIG)
            .body(data)
            .send()
            .await
            .unwrap()
    }

    /// Pushes a segment that has to succeed.
    pub async fn pushed(&self, path: &str, data: &'static [u8]) -> Parts {
        let answer = self.push(path, data).await;
        let status = answer.status();
        if status != 200 {
            panic!("{path}: {status} {}", answer.text().await.unwrap());
        }
        parts(answer).await
    }

    /// The body of a GET and its status.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The one orchestrator.
    pub fn orchestrator(&self) -> &SimOrchestrator {
        &self.orchestrators[0]
    }

    /// Segments asked for, over all orchestrators.
    pub fn segments(&self) -> usize {
        self.orchestrators.iter().map(|o| o.segments()).sum()
    }

    /// Nothing was paid, asked or stored.
    pub async fn assert_untouched(&self) {
        assert_eq!(self.signer.asked(), 0, "the signer was asked for a payment");
        assert_eq!(self.segments(), 0, "a segment went out");
        for o in &self.orchestrators {
            assert!(o.seen.lock().unwrap().audio.is_empty(), "an AI job went out");
            assert!(o.books.lock().unwrap().is_empty());
        }
        let (_, streams) = self.get("/api/streams").await;
        assert_eq!(streams, r#"{"streams":[]}"#);
    }
}

/// Reads a multipart answer.
pub async fn parts(answer: reqwest::Response) -> Parts {
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap().to_owned();
    assert!(boundary.len() == 20 && boundary.bytes().all(|b| b.is_ascii_hexdigit()));
    let body = answer.bytes().await.unwrap();
    let stream = futures::stream::iter([Ok::<_, std::io::Error>(body)]);
    let mut reader = multer::Multipart::new(stream, boundary);
    let mut all = Vec::new();
    while let Some(part) = reader.next_field().await.unwrap() {
        let name = part.headers()["rendition-name"].to_str().unwrap().to_owned();
        assert!(part.headers().contains_key("content-length"));
        all.push((name, part.bytes().await.unwrap()));
    }
    all
}

/// Status, code and text of an error, which must be in the envelope.
pub async fn error(answer: reqwest::Response) -> (u16, String, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: serde_json::Value = answer.json().await.unwrap();
    let text = |key: &str| body["error"][key].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}
