//! `penstock dev` as a person uses it: one command, a paid answer, a role that dies and comes back,
//! ctrl-c. Nothing of it outlives it, not even when it is killed.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use penstock_testkit::{Process, Spec, media, places, until, until_ok, until_some, wer};
use serde_json::Value;

struct Dev {
    process: Process,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl Dev {
    fn start() -> Self {
        Self::start_on("devnet")
    }

    fn start_on(chain: &str) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-dev-").tempdir().unwrap();
        let mut args = vec!["dev".to_owned(), format!("--chain={chain}")];
        args.push(format!("--anvil={}", places::anvil().display()));
        args.push(format!("--contracts={}", places::contracts().display()));
        args.push(format!("--data-dir={}", folder.path().join("data").display()));
        for flag in ["http", "signer", "orchestrator", "chain"] {
            args.push(format!("--{flag}-addr=127.0.0.1:0"));
        }
        args.push(format!("--runner-python={}", places::runner_python().display()));
        args.push(format!("--runner-dir={}", places::repository().join("runner").display()));
        args.push(format!("--models-dir={}", places::models().display()));
        let spec = Spec {
            name: "penstock".to_owned(),
            program: places::binary("penstock"),
            args,
            env: BTreeMap::new(),
        };
        let mut process = Process::new(spec, &folder.path().join("logs"));
        process.spawn();
        let http =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { process, folder, http }
    }

    fn addrs(&self, role: &str) -> Option<BTreeMap<String, String>> {
        let file = self.folder.path().join(format!("data/addrs/{role}.json"));
        serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
    }

    /// It says that it is ready, and so does its gateway; the gateway's URL.
    async fn ready(&mut self) -> String {
        let process = &mut self.process;
        until_ok("penstock dev says that the network is ready", || {
            let (runs, said) = (process.runs(), process.log_tail());
            assert!(runs, "penstock dev ended: {said}");
            let ready = said.contains("The network is ready.");
            async move { if ready { Ok(()) } else { Err(said) } }
        })
        .await;
        self.gateway_ready().await
    }

    /// The gateway is ready; its URL.
    async fn gateway_ready(&self) -> String {
        until_some("the gateway is ready", || async {
            let http = self.addrs("gateway")?.remove("http")?;
            let gateway = format!("http://{http}");
            let answer = self.http.get(format!("{gateway}/readyz")).send().await.ok()?;
            answer.status().is_success().then_some(gateway)
        })
        .await
    }

    /// Winners in the orchestrator's books.
    async fn winners(&self) -> Vec<Value> {
        let admin = self.addrs("orchestrator").unwrap().remove("admin").unwrap();
        let winners = self.get(&format!("http://{admin}/v1/winners?limit=1000")).await;
        winners.as_array().unwrap().clone()
    }

    /// How many of them the chain has paid.
    async fn redeemed(&self) -> usize {
        let winners = self.winners().await;
        winners.iter().filter(|winner| winner["status"] == "redeemed").count()
    }

    /// What the signer has on the chain.
    async fn deposit_wei(&self) -> u128 {
        let admin = self.addrs("signer").unwrap().remove("admin").unwrap();
        let funds = self.get(&format!("http://{admin}/v1/deposit")).await;
        funds["deposit_wei"]
            .as_str()
            .and_then(|wei| wei.parse().ok())
            .unwrap_or_else(|| panic!("{funds}"))
    }

    async fn get(&self, url: &str) -> Value {
        self.http.get(url).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// The processes whose command line names our data folder: the roles, and what they started.
    fn children(&self) -> Vec<u32> {
        let mark = self.folder.path().to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).into_owned();
                line.contains(&mark) && !line.contains("\0dev\0")
            })
            .collect()
    }

    /// The process of one role.
    fn role(&self, role: &str) -> Option<u32> {
        let wanted = format!("penstock-{role}");
        self.children().into_iter().find(|pid| {
            fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == wanted.as_str()))
        })
    }
}

async fn hear(dev: &Dev, gateway: &str, wav: &Path) -> Result<String, String> {
    let part = reqwest::multipart::Part::bytes(fs::read(wav).unwrap()).file_name("speech.wav");
    let form = reqwest::multipart::Form::new().part("audio", part);
    let answer = dev.http.post(format!("{gateway}/audio-to-text")).multipart(form).send().await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {text}"));
    }
    let body: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(body["text"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn one_command_runs_a_network_that_answers_and_is_paid() {
    let mut dev = Dev::start();
    let gateway = dev.ready().await;
    let clip = media::speech().remove(1);
    // Ready means ready: the first job is answered, not the second.
    let heard = hear(&dev, &gateway, &clip.wav).await.unwrap();
    assert!(wer::errors(&clip.text, &heard).at_most_percent(25), "{heard}");

    let admin = dev.addrs("signer").unwrap().remove("admin").unwrap();
    let summary: Value = dev
        .http
        .get(format!("http://{admin}/v1/summary"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(summary["tickets"].as_u64() > Some(0), "{summary}");

    // A role that dies is started again, under the address that the others know.
    for role in ["signer", "orchestrator", "gateway"] {
        let before = dev.role(role).expect("a running role");
        kill(before, rustix::process::Signal::KILL);
        until(&format!("the {role} is back"), || async {
            dev.role(role).is_some_and(|pid| pid != before)
        })
        .await;
        assert_eq!(dev.gateway_ready().await, gateway);
        until(&format!("paid work runs after the death of the {role}"), || async {
            hear(&dev, &gateway, &clip.wav).await.is_ok()
        })
        .await;
    }

    let status = dev.process.terminate().await;
    assert!(status.success(), "{status}: {}", dev.process.log_tail());
    assert_eq!(dev.children(), Vec::<u32>::new(), "a child outlived an orderly stop");
}

/// The same on the contracts themselves: paid work, a winner that the chain pays, and all of it there after a new start.
#[tokio::test]
async fn a_network_on_the_contracts_pays_and_is_there_again() {
    let mut dev = Dev::start_on("anvil");
    let gateway = dev.ready().await;
    let clip = media::speech().remove(1);
    until("a ticket has won", || async {
        hear(&dev, &gateway, &clip.wav).await.unwrap();
        !dev.winners().await.is_empty()
    })
    .await;
    until("the chain has paid a winner", || async { dev.redeemed().await > 0 }).await;
    let deposit = dev.deposit_wei().await;
    let status = dev.process.terminate().await;
    assert!(status.success(), "{status}: {}", dev.process.log_tail());
    assert_eq!(dev.children(), Vec::<u32>::new(), "a child outlived an orderly stop");

    dev.process.spawn();
    let gateway = dev.gateway_ready().await;
    let left = dev.deposit_wei().await;
    assert!(left <= deposit && left > 0, "{left} wei after {deposit}: another chain");
    until("paid work runs again", || async { hear(&dev, &gateway, &clip.wav).await.is_ok() }).await;
}

/// The README's tour, word for word, but for the addresses and folders of this test's own network.
#[tokio::test]
async fn the_tour_of_the_readme_works() {
    let mut dev = Dev::start();
    let gateway = dev.ready().await;
    let readme = fs::read_to_string(places::repository().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme
        .split("```bash\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .collect();
    assert_eq!(blocks.len(), 4, "the tour has four steps to copy");
    let tour = dev.folder.path().join("tour");
    let mut said = Vec::new();
    for block in blocks {
        let script = block
            .replace("http://127.0.0.1:9935", &gateway)
            .replace(".dev/tour", &tour.to_string_lossy())
            .replace(".dev/media", &places::media().to_string_lossy())
            .replace("target/debug/penstock", &places::binary("penstock").to_string_lossy());
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(places::repository())
            .env("PENSTOCK_DATA_DIR", dev.folder.path().join("data"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{text}\n{errors}");
        said.push(text);
    }
    let [speech, _, playlist, money] = &said[..] else { panic!("{said:?}") };
    assert!(speech.to_lowercase().contains("cold"), "{speech}");
    for number in 0..3 {
        let answer = fs::read(tour.join(format!("{number}.multipart"))).unwrap();
        assert!(answer.len() > 100_000, "segment {number}: {} bytes", answer.len());
    }
    assert_eq!(playlist.matches("RESOLUTION=").count(), 4, "the source and three: {playlist}");
    assert!(money.contains("tickets"), "{money}");
}

#[tokio::test]
async fn children_die_with_a_killed_parent() {
    let mut dev = Dev::start();
    dev.ready().await;
    assert!(dev.children().len() >= 5, "{:?}", dev.children());
    dev.process.kill9();
    until("no child is left", || async { dev.children().is_empty() }).await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec::role(
        "penstock",
        [
            "dev".to_owned(),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--chain-addr={}", taken.local_addr().unwrap()),
        ],
    );
    let mut process = Process::new(spec, &folder.path().join("logs"));
    process.spawn();
    let status = process.ended().await;
    assert_eq!(status.code(), Some(1));
    let said = process.log_tail();
    assert!(said.contains("cannot listen") && said.contains("devnet"), "{said}");
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
