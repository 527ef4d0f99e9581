//! The chain that tests run on: anvil and the Solidity compiler, from packages by the hashes of their lock file, and the
//! test contracts, compiled.

use std::{env::consts, fs, os::unix::fs::symlink, process::Command};

use super::stamp::Stamp;
use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    places::Places,
    term,
};

const FIX: &str = "check that npm reaches its registry, then run the same command again";

pub fn install(places: &Places) -> Result<()> {
    let sources = places.root.join("tests/contracts");
    let mut names = Vec::new();
    for entry in fs::read_dir(&sources).doing(format!("read {}", sources.display()))? {
        names.push(entry.doing("read a folder")?.path());
    }
    names.sort();
    let mut inputs = String::new();
    for path in &names {
        inputs += &fs::read_to_string(path).doing(format!("read {}", path.display()))?;
    }
    let stamp = Stamp::new(places, "contracts", inputs);
    if stamp.is_fresh() && places.anvil().exists() && places.contracts().is_file() {
        term::note("test chain ready");
        return Ok(());
    }
    term::note("installing the test chain and compiling its contracts");
    let folder = places.chain();
    fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(name), folder.join(name)).doing(format!("copy {name}"))?;
    }
    let mut npm = Command::new("npm");
    // The programs are in the packages: nobody's script has to run. `npm ci` refuses a lock file without the anvil of
    // every platform, and no platform can be had from a mirror that has only its own.
    npm.current_dir(&folder).args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]);
    command::run(&mut npm, FIX)?;
    let program = folder.join(anvil_package()?).join("bin/anvil");
    let _ = fs::remove_file(places.anvil());
    symlink(&program, places.anvil()).doing(format!("link {}", program.display()))?;
    command::output(Command::new(places.anvil()).arg("--version"), FIX)?;
    let mut compile = Command::new("node");
    compile.arg(sources.join("compile.cjs")).arg(folder.join("node_modules")).arg(&folder);
    command::run(&mut compile, "mend what the Solidity compiler says above")?;
    stamp.set()
}

/// Where the package manager puts the program for this machine.
fn anvil_package() -> Result<String> {
    let system = match consts::OS {
        "linux" => "linux",
        "macos" => "darwin",
        other => {
            return Err(Failure::new(format!("no anvil for {other}"), "test on Linux or macOS"));
        }
    };
    let processor = match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => {
            return Err(Failure::new(format!("no anvil for {other}"), "test on x86-64 or ARM"));
        }
    };
    Ok(format!("node_modules/@foundry-rs/anvil-{system}-{processor}"))
}
