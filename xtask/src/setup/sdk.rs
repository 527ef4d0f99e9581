//! The network's official Python SDK, unmodified, in an environment of its own: tests run it against
//! our signer and orchestrator.

use std::{fs, process::Command};

use super::stamp::Stamp;
use crate::{
    command,
    failure::{Doing as _, Result},
    places::Places,
    setup::python,
    term,
};

/// The SDK's release notes ask for Python 3.12; its code runs on 3.11 too.
const SDK: &str = "livepeer-gateway==1.0.0 \
    --hash=sha256:bbcc96415014fdbf1c5806a4eb9da91bf5fa9e2281e10f5bf4e53f1b5a3a429e\n";

pub fn install(places: &Places) -> Result<()> {
    let requirements = places.root.join("tests/sdk/requirements.txt");
    let pins =
        fs::read_to_string(&requirements).doing(format!("read {}", requirements.display()))?;
    let stamp = Stamp::new(places, "sdk", format!("{SDK}{pins}"));
    let python_of_sdk = places.sdk_python();
    if stamp.is_fresh() && python_of_sdk.is_file() {
        term::note("Python SDK ready");
        return Ok(());
    }
    term::note("installing the Python SDK");
    let fix = "check that pip reaches its index, then run the same command again";
    let venv = places.dev.join("sdk-venv");
    command::run(python().args(["-m", "venv", "--clear"]).arg(&venv), fix)?;
    let pip = || {
        let mut pip = Command::new(&python_of_sdk);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
        pip
    };
    command::run(pip().arg("--requirement").arg(&requirements), fix)?;
    let sdk = places.dev.join("downloads/sdk.txt");
    fs::write(&sdk, SDK).doing(format!("write {}", sdk.display()))?;
    command::run(
        pip()
            .args(["--ignore-requires-python", "--no-deps", "--require-hashes", "--requirement"])
            .arg(&sdk),
        fix,
    )?;
    command::run(Command::new(&python_of_sdk).args(["-c", "import livepeer_gateway"]), fix)?;
    stamp.set()
}
