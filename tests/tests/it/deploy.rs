//! What `deploy/` says is what the programs understand: the load balancers' files are read by the
//! load balancers, every flag that a deployment sets is one that its role has, whoever is named is
//! there, and strangers are not let in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::{LazyLock, mpsc},
};

use penstock_testkit::{figure, places, until, until_some};
use serde_json::Value;

fn deploy() -> PathBuf {
    places::repository().join("deploy")
}

#[test]
fn haproxy_reads_its_file_without_a_warning() {
    let output = Command::new(places::program("haproxy"))
        .args(["-c", "-dW", "-f"])
        .arg(deploy().join("haproxy.cfg"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nginx_reads_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(deploy().join("nginx.conf")).unwrap();
    let text = nginx_filled(&text, |name| match name {
        "NGINX_PID" => folder.path().join("pid").display().to_string(),
        "HTTP_BIND" => "127.0.0.1:65002".to_owned(),
        "RTMP_BIND" => "127.0.0.1:65003".to_owned(),
        "SIGNER_BIND" => "127.0.0.1:65004".to_owned(),
        _ => "127.0.0.1:65001".to_owned(),
    });
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text).unwrap();
    let output =
        Command::new(places::program("nginx")).arg("-t").arg("-c").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("[warn]"), "{said}");
}

/// What `envsubst` does.
fn nginx_filled(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').expect("a closing brace");
        filled.push_str(before);
        filled.push_str(&value(name));
        rest = after;
    }
    filled + rest
}

/// How long a role drains that is not told how long.
const DRAIN_MS: u64 = 10_000;

/// What a deployment starts: where it says so, the command line, the variables that it sets.
struct Start {
    place: String,
    command: Vec<String>,
    environment: Vec<String>,
    /// So many of it.
    replicas: u64,
    /// Seconds that it is left after it was told to end.
    grace_s: u64,
}

/// Where somebody is to be found: who says so, who it is, which port.
struct Reached {
    place: String,
    to: String,
    port: u16,
}

/// What `deploy/` says.
struct Deploy {
    /// Of compose, and of the chart with its defaults.
    starts: Vec<Start>,
    reached: Vec<Reached>,
    /// Of the chart with other values, each set of them by its name.
    variants: BTreeMap<String, Vec<Start>>,
    /// What the chart says against values that nothing good can be rendered of, by their name.
    refused: BTreeMap<String, String>,
}

impl Deploy {
    /// Everything that is started anywhere.
    fn all(&self) -> impl Iterator<Item = &Start> {
        self.starts.iter().chain(self.variants.values().flatten())
    }

    /// What is started together, by a name.
    fn each(&self) -> impl Iterator<Item = (&str, Vec<&Start>)> {
        let of = |kind: &str| self.starts.iter().filter(|s| s.place.starts_with(kind)).collect();
        let kinds = ["compose", "kubernetes"].into_iter().map(move |kind| (kind, of(kind)));
        kinds.chain(self.variants.iter().map(|(name, all)| (name.as_str(), all.iter().collect())))
    }
}

/// From compose, and from the chart as Helm renders it; everything there is valid for Kubernetes.
fn read() -> &'static Deploy {
    static DEPLOY: LazyLock<Deploy> = LazyLock::new(read_anew);
    &DEPLOY
}

fn read_anew() -> Deploy {
    let output = Command::new(places::deploy_python())
        .arg(places::repository().join("tests/deploy/read.py"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let starts = |value: &Value| -> Vec<Start> {
        let start = |start: &Value| Start {
            place: text(&start["where"]),
            command: words(&start["command"]),
            environment: words(&start["environment"]),
            replicas: start["replicas"].as_u64().unwrap(),
            grace_s: start["grace_s"].as_u64().unwrap(),
        };
        value.as_array().unwrap().iter().map(start).collect()
    };
    let reached = read["reached"].as_array().unwrap().iter().map(|one| Reached {
        place: text(&one["where"]),
        to: text(&one["to"]),
        port: u16::try_from(one["port"].as_u64().unwrap()).unwrap(),
    });
    let by_name = |name: &str| read[name].as_object().unwrap().iter();
    Deploy {
        starts: starts(&read["starts"]),
        reached: reached.collect(),
        variants: by_name("variants").map(|(name, all)| (name.clone(), starts(all))).collect(),
        refused: by_name("refused").map(|(name, said)| (name.clone(), text(said))).collect(),
    }
}

#[test]
fn every_flag_that_a_deployment_sets_exists() {
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    let balancer = fs::read_to_string(deploy().join("haproxy.cfg")).unwrap();
    let (mut flags, mut wrong) = (0, Vec::new());
    for start in read().all() {
        let Some(role) = start.role() else {
            let known = |name: &String| balancer.contains(&format!("\"${{{name}-"));
            if start.place.contains("balancer") && !start.environment.iter().all(known) {
                wrong.push(format!("{}: haproxy.cfg lacks one of its variables", start.place));
            }
            continue;
        };
        let help = help.entry(role.to_owned()).or_insert_with(|| help_of(role));
        for word in &start.command[1..] {
            let flag = word.split('=').next().unwrap();
            flags += 1;
            // A flag stands at the start of its line, its value's name behind it.
            let known = help.lines().any(|line| line.split_whitespace().next() == Some(flag));
            if !known {
                wrong.push(format!("{}: {role} has no {flag}", start.place));
            }
        }
        for name in start.environment.iter().filter(|name| name.starts_with("PENSTOCK_")) {
            if !help.contains(&format!("[env: {name}=")) {
                wrong.push(format!("{}: {role} does not read {name}", start.place));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(flags > 400 && help.len() >= 5, "{flags} flags of {:?} were looked at", help.keys());
    figure("deploy/: flags that exist", flags);
}

fn help_of(role: &str) -> String {
    let output = Command::new(places::binary(role)).arg("--help").output().unwrap();
    assert!(output.status.success(), "{role}");
    String::from_utf8(output.stdout).unwrap()
}

impl Start {
    /// What a flag is set to.
    fn set<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let values = self.command.iter().filter_map(move |word| word.strip_prefix(flag));
        values.filter_map(|rest| rest.strip_prefix('='))
    }

    /// What a flag that has to be there once is set to.
    fn one(&self, flag: &'static str) -> &str {
        let values: Vec<&str> = self.set(flag).collect();
        let [value] = values[..] else { panic!("{}: {flag} {values:?}", self.place) };
        value
    }

    /// Its role, if it is one of ours.
    fn role(&self) -> Option<&str> {
        self.command.first().map(String::as_str).filter(|word| word.starts_with("penstock-"))
    }

    /// Whether it is an orchestrator that clients come to, and no redeemer.
    fn is_orchestrator(&self) -> bool {
        let is_redeemer = self.command.iter().any(|word| word == "--redeemer");
        self.role() == Some("penstock-orchestrator") && !is_redeemer
    }

    /// What each of its replicas is told that it is reached at.
    fn addresses(&self) -> Vec<String> {
        let address = self.one("--service-addr");
        assert!(self.replicas == 1 || address.contains("$(POD_NAME)"), "{}", self.place);
        let name = self.place.rsplit('/').next().unwrap().split(' ').next().unwrap();
        let pods = (0..self.replicas).map(|number| format!("{name}-{number}"));
        pods.map(|pod| address.replace("$(POD_NAME)", &pod)).collect()
    }

    /// Milliseconds that it drains for.
    fn drain_ms(&self) -> u64 {
        let set: Vec<&str> = self.set("--drain-timeout-ms").collect();
        match set[..] {
            [] => DRAIN_MS,
            [ms] => ms.parse().unwrap(),
            _ => panic!("{}: {set:?}", self.place),
        }
    }

    /// Where others can reach it: what its flags or its file say, beyond loopback.
    fn listens(&self) -> BTreeSet<u16> {
        let after = |text: &str, before: &str| -> BTreeSet<u16> {
            let ports = text.split(before).skip(1).map(|rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().unwrap()
            });
            ports.collect()
        };
        let file = |name: &str| fs::read_to_string(deploy().join(name)).unwrap();
        match self.command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [role, ..] if role.starts_with("penstock-") => {
                let flags = ["--http-addr", "--rtmp-addr", "--metrics-addr", "--admin-addr"];
                let set = flags.into_iter().flat_map(|flag| self.set(flag));
                let set = set.map(|text| text.parse::<SocketAddr>().expect(text));
                set.filter(|addr| !addr.ip().is_loopback()).map(|addr| addr.port()).collect()
            }
            ["sh", _, "server"] => after(&file("redis.sh"), "{SERVER_PORT:-"),
            ["sh", _, "sentinel"] => after(&file("redis.sh"), "{SENTINEL_PORT:-"),
            _ if self.place.contains("balancer") => after(&file("haproxy.cfg"), "_BIND-:"),
            _ if self.place.contains("postgres") => [5432].into(),
            _ => BTreeSet::new(),
        }
    }
}

/// Every port that is published, that a Service or a balancer leads to, or that a role is told of, is one
/// that a flag there listens on.
#[test]
fn whoever_is_named_listens() {
    let Deploy { starts, reached, .. } = read();
    let listens: BTreeMap<_, _> = starts.iter().map(|s| (s.place.as_str(), s.listens())).collect();
    let mut wrong = BTreeSet::new();
    for Reached { place, to, port } in reached {
        if !listens.get(to.as_str()).is_some_and(|ports| ports.contains(port)) {
            wrong.insert(format!(
                "{place}: {to} does not listen on {port}: {:?}",
                listens.get(to.as_str())
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Both kinds of deployment, and both doors of their gateways.
    for (kind, port) in
        [("compose", 9935), ("compose", 1935), ("kubernetes", 9935), ("kubernetes", 1935)]
    {
        let found = reached.iter().filter(|one| {
            one.to.starts_with(kind) && one.to.contains("gateway") && one.port == port
        });
        assert!(found.count() >= 3, "{kind}: gateways at {port}");
    }
    figure("deploy/: ports that are listened on", reached.len());
}

/// A gateway that others reach spends the deposit for callers whom the signer knows, and the signers have
/// accounts and know their gateways.
#[test]
fn strangers_do_not_spend() {
    let starts = &read().starts;
    let mut seen = BTreeMap::<&str, u32>::new();
    for start in starts {
        let role = start.command.first().map_or("", String::as_str);
        *seen.entry(role).or_default() += 1;
        match role {
            "penstock-gateway" => {
                let ways: Vec<&str> = start.set("--caller-auth").collect();
                assert_eq!(ways, ["signer"], "{}", start.place);
                assert_eq!(start.set("--signer-token-file").count(), 1, "{}", start.place);
            }
            "penstock-signer" => {
                assert!(start.command.contains(&"--accounts".to_owned()), "{}", start.place);
                assert_eq!(start.set("--auth-token-file").count(), 1, "{}", start.place);
                // Where accounts are made: known, and open to nobody else.
                let admin: Vec<&str> = start.set("--admin-addr").collect();
                let [admin] = admin[..] else { panic!("{}: {admin:?}", start.place) };
                assert!(admin.parse::<SocketAddr>().unwrap().ip().is_loopback());
                let told = fs::read_to_string(places::repository().join("docs/deploy.md")).unwrap();
                assert!(told.contains(&format!("--signer-admin-url http://{admin}")), "{admin}");
            }
            _ => {}
        }
    }
    // Three and two in compose, one of each in the chart, whose initContainer starts no role.
    assert_eq!((seen["penstock-gateway"], seen["penstock-signer"]), (4, 3), "{seen:?}");
}

/// Several processes are one orchestrator: key, secrets and books are the same, each has its own address, which
/// the others name, and one redeemer has what all win.
#[test]
fn several_orchestrators_are_one() {
    let starts = &read().starts;
    for kind in ["compose", "kubernetes"] {
        let of_kind = starts.iter().filter(|start| start.place.starts_with(kind));
        let of_role = |role: &'static str| {
            of_kind.clone().filter(move |start| start.command.first().is_some_and(|r| r == role))
        };
        let processes: Vec<_> =
            of_role("penstock-orchestrator").filter(|start| start.is_orchestrator()).collect();
        let mut shared = BTreeSet::new();
        let (mut own, mut named, mut expanded) = (BTreeSet::new(), BTreeSet::new(), 0);
        for process in &processes {
            let one = |flag: &'static str| process.one(flag);
            shared.insert([
                one("--key"),
                one("--ledger"),
                one("--recipient-secret-file"),
                one("--auth-token-secret-file"),
                one("--redeemer-addr"),
                one("--redeemer-secret-file"),
            ]);
            expanded += process.addresses().len();
            own.extend(process.addresses());
            named.extend(one("--nodes").split(',').map(str::to_owned));
        }
        assert!(own.len() >= 2 && own.len() == expanded, "{kind}: {own:?}");
        assert_eq!(own, named, "{kind}");
        let [shared] = &shared.into_iter().collect::<Vec<_>>()[..] else { panic!("{kind} differ") };
        assert!(shared[1].starts_with("postgres://"), "{shared:?}");
        // One of them is in the pool; the signers ask for those that it names.
        for signer in of_role("penstock-signer") {
            let asked: usize = signer.one("--extra-nodes").parse().unwrap();
            assert!(asked >= named.len(), "{}: {asked}", signer.place);
        }
        let redeemers: Vec<_> =
            of_role("penstock-orchestrator").filter(|start| !start.is_orchestrator()).collect();
        let [redeemer] = redeemers[..] else { panic!("{kind}: {} redeemers", redeemers.len()) };
        let secret = redeemer.one("--redeemer-secret-file");
        assert_eq!((redeemer.replicas, secret), (1, shared[5]), "{kind}");
        // Nobody says whose tickets they are: they are those of its own key.
        assert_eq!(redeemer.one("--key"), shared[0], "{kind}");
    }
}

/// A worker takes inputs from private places only where its orchestrator is, and inputs lie where that one is said
/// to be: both are told the same address, letter by letter. Every orchestrator has workers.
#[test]
fn workers_are_told_where_their_orchestrators_say_they_are() {
    let deploy = read();
    let mut with_workers = BTreeSet::new();
    for (name, starts) in deploy.each() {
        let orchestrators = starts.iter().filter(|start| start.is_orchestrator());
        let mut own: BTreeSet<String> = orchestrators.flat_map(|start| start.addresses()).collect();
        if name == "workers of an orchestrator elsewhere" {
            own.insert("https://orch.example:8935".to_owned());
        }
        let workers = starts.iter().filter(|start| start.role() == Some("penstock-worker"));
        let told: BTreeSet<String> =
            workers.map(|worker| worker.one("--orchestrator").to_owned()).collect();
        assert_eq!(told, own, "{name}");
        with_workers.extend((!told.is_empty()).then_some(name));
    }
    let others = ["compose", "kubernetes", "orchestrators for gateways elsewhere"];
    assert!(others.iter().all(|name| with_workers.contains(name)), "{with_workers:?}");
    // Nor is anything rendered in silence that nobody could work with.
    for (name, settings) in [
        ("ports that nobody is told", vec!["orchestrator.podService"]),
        ("workers without an orchestrator", vec!["worker.orchestrator", "worker.enabled"]),
    ] {
        let said = &deploy.refused[name];
        assert!(settings.iter().all(|setting| said.contains(setting)), "{name}: {said:?}");
    }
}

/// Whoever drains is left the time for it, also who is not told how long; and workers are there for as long as their
/// orchestrators wait for what they do.
#[test]
fn who_drains_is_waited_for() {
    let deploy = read();
    let default = format!("[default: {DRAIN_MS}]");
    let (mut roles, mut workers) = (BTreeSet::new(), 0);
    for (name, starts) in deploy.each() {
        let orchestrators = starts.iter().filter(|start| start.is_orchestrator());
        let waited_ms = orchestrators.map(|start| start.drain_ms()).max();
        for start in starts {
            let Some(role) = start.role() else { continue };
            if roles.insert(role.to_owned()) {
                let help = help_of(role);
                let flag = help.split("--drain-timeout-ms <").nth(1).expect(role);
                let told = flag.split("[default: ").nth(1).map(|rest| format!("[default: {rest}"));
                assert!(told.is_some_and(|told| told.starts_with(&default)), "{role}: {default}");
            }
            let drain_s = start.drain_ms().div_ceil(1_000);
            assert!(start.grace_s >= drain_s + 10, "{name}, {}: {} s", start.place, start.grace_s);
            if role == "penstock-worker" {
                let waited_ms = waited_ms.unwrap_or(DRAIN_MS);
                assert!(start.drain_ms() >= waited_ms, "{name}, {}: {waited_ms}", start.place);
                workers += 1;
            }
        }
    }
    assert!(roles.len() >= 5 && workers >= 7, "{roles:?}, {workers} workers");
}

/// What `prepare` leaves is what containers can read, whoever ran it, and what is there stays. `docker` is a script
/// that writes down what it is told: there is no container runtime here.
#[test]
fn prepare_makes_what_containers_can_read_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let (compose, told) = (folder.path().join("compose"), folder.path().join("told"));
    fs::create_dir(&compose).unwrap();
    fs::copy(deploy().join("compose/prepare"), compose.join("prepare")).unwrap();
    let docker = folder.path().join("docker");
    fs::write(&docker, format!("#!/bin/sh\necho \"$@\" >> {}\n", told.display())).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let prepare = |words: &[&str]| {
        let mut command = Command::new(compose.join("prepare"));
        let programs = places::binary("penstock-signer");
        command.args(words).env("PATH", &path).env("BIN", programs.parent().unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let files = fs::read_dir(compose.join("secrets")).unwrap().map(|file| {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())
        });
        files.collect::<BTreeMap<_, _>>()
    };
    let first = prepare(&["secrets"]);
    assert!(!told.exists(), "no container is needed for them");
    let deployed = fs::read_to_string(deploy().join("compose/compose.yaml")).unwrap();
    let wanted = deployed.split("\nsecrets:\n").nth(1).unwrap().lines();
    let wanted = wanted.map_while(|line| line.strip_prefix("  ")?.split(':').next());
    assert_eq!(wanted.collect::<BTreeSet<_>>(), first.keys().map(String::as_str).collect());
    assert_eq!(prepare(&[]), first);
    let secrets = compose.join("secrets");
    let owner = format!(
        "run --rm --user 0 --volume {}:/secrets penstock-signer sh -c chown 10001:10001 /secrets/*",
        secrets.display()
    );
    let told = fs::read_to_string(&told).unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), ["compose build", &owner]);
    assert_eq!(secrets.metadata().unwrap().permissions().mode() & 0o777, 0o711);
}

/// A gateway names what it keeps by the address that it was asked at, so nginx has to hand it on whole.
#[tokio::test]
async fn nginx_hands_on_the_address_with_its_port() {
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let gateway = UnixListener::bind(folder.path().join("gateway")).unwrap();
    let (heads, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for taken in gateway.incoming() {
            let mut taken = taken.unwrap();
            heads.send(head(&taken)).unwrap();
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            taken.write_all(answer).unwrap();
        }
    });
    let text = fs::read_to_string(deploy().join("nginx.conf")).unwrap();
    let text = nginx_filled(&text, |name| match name {
        "NGINX_PID" => folder.path().join("pid").display().to_string(),
        "HTTP_BIND" | "RTMP_BIND" | "SIGNER_BIND" => socket(name),
        _ => socket("gateway"),
    });
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text).unwrap();
    let mut nginx = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(places::program("nginx"))
        .args(["-g", "daemon off; master_process off;", "-c"])
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = until_some("nginx takes connections", || async {
        UnixStream::connect(folder.path().join("HTTP_BIND")).ok()
    })
    .await;
    client.set_read_timeout(Some(until::DEADLINE)).unwrap();
    for (method, path) in [("GET", "/stream/a.m3u8"), ("PUT", "/live/a/0.ts"), ("POST", "/llm")] {
        let (host, proto) = ("Host: video.example:8080", "X-Forwarded-Proto: https");
        let more = format!("{host}\r\n{proto}\r\nContent-Length: 0");
        let ask = format!("{method} {path} HTTP/1.1\r\n{more}\r\n\r\n");
        client.write_all(ask.as_bytes()).unwrap();
        let asked = asked.recv_timeout(until::DEADLINE).unwrap();
        assert!(asked[0].starts_with(&format!("{method} {path}")), "{asked:?}");
        assert!(asked.contains(&host.to_owned()), "{asked:?}");
        assert!(asked.contains(&proto.to_owned()), "{asked:?}");
        assert!(head(&client)[0].contains("204"));
    }
    nginx.kill().unwrap();
    nginx.wait().unwrap();
}

/// The lines before the empty one.
fn head(stream: &UnixStream) -> Vec<String> {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect()
}
