//! Programs from the operating system. On Debian and Ubuntu they are installed, as root or through
//! sudo; elsewhere they are named. What is there is recognised by looking for it, not by asking the
//! package manager, so that a program from anywhere else counts too.

use std::{fs, path::Path, process::Command};

use crate::{
    command,
    failure::{Failure, Result},
    setup::Purpose,
    term,
};

/// Something the operating system must provide.
struct Need {
    /// How a person calls it.
    what: &'static str,
    /// The Debian and Ubuntu package.
    package: &'static str,
    /// Only tests need it.
    test_only: bool,
    present: fn() -> bool,
}

const NEEDS: [Need; 19] = [
    Need {
        what: "make (for librdkafka)",
        package: "make",
        test_only: false,
        present: || has("make"),
    },
    Need {
        what: "a C++ compiler (for librdkafka)",
        package: "g++",
        test_only: false,
        present: || has("c++") || has("g++"),
    },
    Need {
        what: "ffmpeg (with ffprobe)",
        package: "ffmpeg",
        test_only: false,
        present: || has("ffmpeg") && has("ffprobe"),
    },
    Need {
        what: "Python 3.11 or newer",
        package: "python3",
        test_only: false,
        present: || has("python3"),
    },
    Need {
        what: "Python's venv module",
        package: "python3-venv",
        test_only: false,
        present: || {
            command::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
        },
    },
    Need { what: "curl", package: "curl", test_only: false, present: || has("curl") },
    Need {
        what: "speech recordings with their text (pocketsphinx-testdata)",
        package: "pocketsphinx-testdata",
        test_only: false,
        present: || Path::new(super::media::LIBRIVOX).is_dir(),
    },
    Need {
        what: "redis-server",
        package: "redis-server",
        test_only: true,
        present: || has("redis-server"),
    },
    Need { what: "HAProxy", package: "haproxy", test_only: true, present: || has("haproxy") },
    Need { what: "nginx", package: "nginx", test_only: true, present: || has("nginx") },
    Need {
        what: "nginx's module for TCP",
        package: "libnginx-mod-stream",
        test_only: true,
        present: || Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").is_file(),
    },
    Need {
        what: "PostgreSQL's server programs",
        package: "postgresql",
        test_only: true,
        present: || crate::services::postgres::server_programs().is_some(),
    },
    Need {
        what: "Node.js (for the Solidity compiler)",
        package: "nodejs",
        test_only: true,
        present: || has("node"),
    },
    Need { what: "valgrind", package: "valgrind", test_only: true, present: || has("valgrind") },
    Need { what: "npm", package: "npm", test_only: true, present: || has("npm") },
    Need {
        what: "SoftHSM",
        package: "softhsm2",
        test_only: true,
        present: || has("softhsm2-util"),
    },
    Need {
        what: "promtool (of Prometheus)",
        package: "prometheus",
        test_only: true,
        present: || has("promtool"),
    },
    Need { what: "Chromium", package: "chromium", test_only: true, present: || has("chromium") },
    Need {
        what: "Chromium's WebDriver",
        package: "chromium-driver",
        test_only: true,
        present: || has("chromedriver"),
    },
];

/// Installs what is missing for `purpose`.
pub fn install(purpose: Purpose) -> Result<()> {
    install_those(|need| purpose == Purpose::Test || !need.test_only)
}

/// Installs what brings anvil and compiles its contracts.
pub fn install_for_chain() -> Result<()> {
    install_those(|need| ["nodejs", "npm"].contains(&need.package))
}

fn install_those(needed: impl Fn(&Need) -> bool) -> Result<()> {
    let missing: Vec<&Need> =
        NEEDS.iter().filter(|need| needed(need) && !(need.present)()).collect();
    if missing.is_empty() {
        term::note("system programs ready");
        return Ok(());
    }
    let names = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    term::note(format!("missing: {names}"));
    if !has("apt-get") {
        return Err(Failure::new(
            format!("missing on this machine: {names}"),
            "install them with this system's package manager (on Debian and Ubuntu it happens by itself)",
        ));
    }
    if is_root() || has("sudo") {
        apt_install(&packages)?;
    } else {
        return Err(Failure::new(
            format!("missing on this machine: {names}; this user is not root and there is no sudo"),
            format!("as root: apt-get install {}", packages.join(" ")),
        ));
    }
    match missing.iter().find(|need| !(need.present)()) {
        None => Ok(()),
        Some(need) => Err(Failure::new(
            format!(
                "{} is still missing after its package {} was installed",
                need.what, need.package
            ),
            "install it by hand so that it is found in PATH",
        )),
    }
}

/// With the package lists that are there; new lists are fetched only when that fails.
fn apt_install(packages: &[&str]) -> Result<()> {
    let fix = format!("run `apt-get install {}` by hand and read its message", packages.join(" "));
    term::note(format!("installing {}", packages.join(" ")));
    let mut install = apt();
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    if command::run(&mut install, &fix).is_ok() {
        return Ok(());
    }
    term::note("fetching new package lists");
    command::run(apt().arg("update"), "check the network, then run `apt-get update` by hand")?;
    command::run(&mut install, &fix)
}

fn apt() -> Command {
    let program = if is_root() { "env" } else { "sudo" };
    let mut command = Command::new(program);
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn has(program: &str) -> bool {
    command::find(program).is_some()
}

/// The owner of our own process is its effective user.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
