//! schemathesis, in an environment of its own: it holds a running service to its OpenAPI document.

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
    let requirements = places.root.join("tests/api/requirements.txt");
    let pins =
        fs::read_to_string(&requirements).doing(format!("read {}", requirements.display()))?;
    let stamp = Stamp::new(places, "schemathesis", pins);
    let program = places.schemathesis();
    if stamp.is_fresh() && program.is_file() {
        term::note("schemathesis ready");
        return Ok(());
    }
    term::note("installing schemathesis");
    let fix = "check that pip reaches its index, then run the same command again";
    let venv = places.dev.join("schemathesis-venv");
    command::run(python().args(["-m", "venv", "--clear"]).arg(&venv), fix)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
    // The list is whole: nothing else comes in.
    pip.args(["--no-deps", "--requirement"]).arg(&requirements);
    command::run(&mut pip, fix)?;
    command::run(Command::new(&program).arg("--version"), fix)?;
    stamp.set()
}
