//! `cargo xtask deploy`: the plain Kubernetes manifests are what the Helm chart renders to.

use std::process::Command;

use crate::{command, failure::Result, places::Places, setup};

pub fn write(places: &Places) -> Result<()> {
    setup::install_deploy(places)?;
    let mut reader = Command::new(places.deploy_python());
    reader.arg(places.root.join("tests/deploy/read.py")).arg("--write");
    command::output(&mut reader, "mend what the lines above say about deploy/helm").map(|_| ())
}
