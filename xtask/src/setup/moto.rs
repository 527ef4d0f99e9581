//! moto, in an environment of its own: the S3 server that the segment store's tests speak to.

use std::{fs, process::Command};

use super::stamp::Stamp;
use crate::{
    command,
    failure::{Doing as _, Result},
    places::Places,
    setup::python,
    term,
};

pub fn install(places: &Places) -> Result<()> {
    let requirements = places.root.join("tests/s3/requirements.txt");
    let pins =
        fs::read_to_string(&requirements).doing(format!("read {}", requirements.display()))?;
    let stamp = Stamp::new(places, "moto", pins);
    let program = places.moto_server();
    if stamp.is_fresh() && program.is_file() {
        term::note("moto ready");
        return Ok(());
    }
    term::note("installing moto");
    let fix = "check that pip reaches its index, then run the same command again";
    let venv = places.dev.join("moto-venv");
    command::run(python().args(["-m", "venv", "--clear"]).arg(&venv), fix)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
    // The list is whole: nothing else comes in.
    pip.args(["--no-deps", "--requirement"]).arg(&requirements);
    command::run(&mut pip, fix)?;
    command::run(Command::new(&program).arg("--help").stdout(std::process::Stdio::null()), fix)?;
    stamp.set()
}
