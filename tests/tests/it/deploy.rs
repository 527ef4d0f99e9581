//! What `deploy/` says is what the programs understand: the load balancers' files are read by the
//! load balancers, and every flag that a deployment sets is one that its role has.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use penstock_testkit::{figure, places};
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

/// What a deployment starts: where it says so, the command line, the variables that it sets.
struct Start {
    place: String,
    command: Vec<String>,
    environment: Vec<String>,
}

/// From compose, and from the chart as Helm renders it; everything there is valid for Kubernetes.
fn starts() -> Vec<Start> {
    let output = Command::new(places::deploy_python())
        .arg(places::repository().join("tests/deploy/read.py"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let starts: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    starts
        .iter()
        .map(|start| Start {
            place: start["where"].as_str().unwrap().to_owned(),
            command: words(&start["command"]),
            environment: words(&start["environment"]),
        })
        .collect()
}

#[test]
fn every_flag_that_a_deployment_sets_exists() {
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    let balancer = fs::read_to_string(deploy().join("haproxy.cfg")).unwrap();
    let (mut flags, mut wrong) = (0, Vec::new());
    for start in starts() {
        let Some(role) = start.command.first().filter(|word| word.starts_with("penstock-")) else {
            let known = |name: &String| balancer.contains(&format!("\"${{{name}-"));
            if start.place.contains("balancer") && !start.environment.iter().all(known) {
                wrong.push(format!("{}: haproxy.cfg lacks one of its variables", start.place));
            }
            continue;
        };
        let help = help.entry(role.clone()).or_insert_with(|| help_of(role));
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
    assert!(flags > 80 && help.len() >= 5, "{flags} flags of {:?} were looked at", help.keys());
    figure("deploy/: flags that exist", flags);
}

fn help_of(role: &str) -> String {
    let output = Command::new(places::binary(role)).arg("--help").output().unwrap();
    assert!(output.status.success(), "{role}");
    String::from_utf8(output.stdout).unwrap()
}
