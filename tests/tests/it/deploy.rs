//! What `deploy/` says is what the programs understand: the load balancers' files are read by the
//! load balancers, and every flag that a deployment sets is one that its role has.

use std::{fs, path::PathBuf, process::Command};

use penstock_testkit::places;

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
