//! Where things lie: the repository, what set-up installs (`.dev/`), what cargo builds.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::failure::{Doing as _, Failure, Result};

/// Absolute paths of everything that tasks touch.
#[derive(Debug, Clone)]
pub struct Places {
    /// The repository's root.
    pub root: PathBuf,
    /// What set-up installs; never committed.
    pub dev: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Places {
    pub fn find() -> Result<Self> {
        let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest_dir.parent().map(Path::to_path_buf).ok_or_else(|| {
            Failure::new("xtask lies outside a workspace", "run `cargo xtask` in the repository")
        })?;
        let root = root.canonicalize().doing(format!("open {}", root.display()))?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { dev: root.join(".dev"), target, root })
    }

    /// Binaries of the dev profile: what `cargo build` just made.
    pub fn bin(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Binaries of the release profile.
    pub fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Test films and speech.
    pub fn media(&self) -> PathBuf {
        self.dev.join("media")
    }

    /// The models that runners load.
    pub fn models(&self) -> PathBuf {
        self.dev.join("models")
    }

    /// The runner's Python.
    pub fn runner_python(&self) -> PathBuf {
        self.dev.join("runner-venv/bin/python")
    }

    /// A server with S3's interface.
    pub fn moto_server(&self) -> PathBuf {
        self.dev.join("moto-venv/bin/moto_server")
    }

    /// What makes the chain that tests run on.
    pub fn chain(&self) -> PathBuf {
        self.dev.join("chain")
    }

    /// The program that plays Ethereum.
    pub fn anvil(&self) -> PathBuf {
        self.chain().join("anvil")
    }

    /// The test contracts' creation code.
    pub fn contracts(&self) -> PathBuf {
        self.chain().join("Network.bin")
    }

    /// The program that tests a service by its OpenAPI document.
    pub fn schemathesis(&self) -> PathBuf {
        self.dev.join("schemathesis-venv/bin/schemathesis")
    }

    /// A Python with Helm's engine and Kubernetes' schemas.
    pub fn deploy_python(&self) -> PathBuf {
        self.dev.join("deploy-venv/bin/python")
    }

    /// A Python with the openai and livepeer-ai SDKs in it.
    pub fn ai_sdks_python(&self) -> PathBuf {
        self.dev.join("ai-sdks-venv/bin/python")
    }

    /// A Python with the official SDK in it.
    pub fn sdk_python(&self) -> PathBuf {
        self.dev.join("sdk-venv/bin/python")
    }
}
