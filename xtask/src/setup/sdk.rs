//! The network's official Python SDK, unmodified, in an environment of its own: tests run it against
//! our signer and orchestrator.

use std::{fs, process::Command};

use super::{stamp::Stamp, venv};
use crate::{
    failure::{Doing as _, Result},
    places::Places,
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
    let venv = places.dev.join("sdk-venv");
    venv::make(&venv)?;
    venv::run(venv::pip(&venv).arg("--requirement").arg(&requirements))?;
    let sdk = places.dev.join("downloads/sdk.txt");
    fs::write(&sdk, SDK).doing(format!("write {}", sdk.display()))?;
    venv::run(
        venv::pip(&venv)
            .args(["--ignore-requires-python", "--no-deps", "--require-hashes", "--requirement"])
            .arg(&sdk),
    )?;
    venv::run(Command::new(&python_of_sdk).args(["-c", "import livepeer_gateway"]))?;
    stamp.set()
}
