//! A Python environment of its own, filled from a whole list of pinned packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{python, stamp::Stamp};
use crate::{
    command,
    failure::{Doing as _, Result},
    places::Places,
    term,
};

const FIX: &str = "check that pip reaches its index, then run the same command again";

/// What an environment is made from.
pub struct Venv<'a> {
    /// As people know it.
    pub title: &'a str,
    /// `NAME-venv` below the folder of installed things, and its stamp.
    pub name: &'a str,
    /// The list, from the root.
    pub requirements: &'a str,
    /// What is there afterwards.
    pub program: PathBuf,
    /// A call of it that succeeds once everything is in.
    pub proof: &'a [&'a str],
}

impl Venv<'_> {
    /// Makes it, unless it is there.
    pub fn install(&self, places: &Places) -> Result<()> {
        let requirements = places.root.join(self.requirements);
        let pins =
            fs::read_to_string(&requirements).doing(format!("read {}", requirements.display()))?;
        let stamp = Stamp::new(places, self.name, pins);
        if stamp.is_fresh() && self.program.is_file() {
            term::note(format!("{} ready", self.title));
            return Ok(());
        }
        term::note(format!("installing {}", self.title));
        let venv = places.dev.join(format!("{}-venv", self.name));
        make(&venv)?;
        let mut pip = pip(&venv);
        // The list is whole: nothing else comes in.
        pip.args(["--no-deps", "--requirement"]).arg(&requirements);
        command::run(&mut pip, FIX)?;
        command::run(Command::new(&self.program).args(self.proof).stdout(Stdio::null()), FIX)?;
        stamp.set()
    }
}

/// An empty environment.
pub fn make(venv: &Path) -> Result<()> {
    command::run(python().args(["-m", "venv", "--clear"]).arg(venv), FIX)
}

/// `pip install` in an environment, quiet.
pub fn pip(venv: &Path) -> Command {
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
    pip
}

/// `pip install`, as prepared.
pub fn run(pip: &mut Command) -> Result<()> {
    command::run(pip, FIX)
}

/// Holds a running service to its OpenAPI document.
pub fn schemathesis(places: &Places) -> Venv<'static> {
    Venv {
        title: "schemathesis",
        name: "schemathesis",
        requirements: "tests/api/requirements.txt",
        program: places.schemathesis(),
        proof: &["--version"],
    }
}

/// The SDKs of applications, as published: a test runs their calls against the gateway.
pub fn ai_sdks(places: &Places) -> Venv<'static> {
    Venv {
        title: "AI SDKs",
        name: "ai-sdks",
        requirements: "tests/sdk/ai-requirements.txt",
        program: places.ai_sdks_python(),
        proof: &["-c", "import openai, livepeer_ai"],
    }
}

/// The S3 server that the segment store's tests speak to.
pub fn moto(places: &Places) -> Venv<'static> {
    Venv {
        title: "moto",
        name: "moto",
        requirements: "tests/s3/requirements.txt",
        program: places.moto_server(),
        proof: &["--help"],
    }
}

/// Helm's engine and Kubernetes' schemas: tests read `deploy/` with them.
pub fn deploy(places: &Places) -> Venv<'static> {
    Venv {
        title: "Helm's engine",
        name: "deploy",
        requirements: "tests/deploy/requirements.txt",
        program: places.deploy_python(),
        proof: &["-c", "import helm_python, kubernetes_validate"],
    }
}
