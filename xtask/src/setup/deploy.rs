//! Helm's engine and Kubernetes' schemas, as Python packages in an environment of their own: tests read
//! `deploy/` with them.

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
    let requirements = places.root.join("tests/deploy/requirements.txt");
    let pins =
        fs::read_to_string(&requirements).doing(format!("read {}", requirements.display()))?;
    let stamp = Stamp::new(places, "deploy", pins);
    let program = places.deploy_python();
    if stamp.is_fresh() && program.is_file() {
        term::note("Helm's engine ready");
        return Ok(());
    }
    term::note("installing Helm's engine");
    fs::create_dir_all(&places.dev).doing(format!("make {}", places.dev.display()))?;
    let fix = "check that pip reaches its index, then run the same command again";
    command::run(
        python().args(["-m", "venv", "--clear"]).arg(places.dev.join("deploy-venv")),
        fix,
    )?;
    let mut pip = Command::new(&program);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-compile"]);
    // The list is whole: nothing else comes in.
    pip.args(["--no-deps", "--only-binary=:all:", "--requirement"]).arg(&requirements);
    command::run(&mut pip, fix)?;
    command::run(
        Command::new(&program).args(["-c", "import helm_python, kubernetes_validate"]),
        fix,
    )?;
    stamp.set()
}
