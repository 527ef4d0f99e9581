//! Where `cargo xtask test` put things. Each has a default for a plain `cargo test` in a checkout
//! that was set up before.

use std::{
    env,
    path::{Path, PathBuf},
};

const FIX: &str = "run `cargo xtask test`, which installs and builds it";

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `path` if it is there; the end of the test if not.
fn present(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: {FIX}", path.display());
    path
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/testkit").to_owned()
}

/// A role's binary, built by the same build as this test.
pub fn binary(name: &str) -> PathBuf {
    let folder = set("PENSTOCK_BIN_DIR").unwrap_or_else(|| {
        // target/debug/deps/it-… → target/debug
        let test = env::current_exe().expect("the test's own path");
        test.ancestors().nth(2).expect("target/debug/deps").to_owned()
    });
    present(folder.join(name))
}

/// A program of the operating system, also from the folders that a plain user's PATH lacks.
pub fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: {FIX}"))
}

/// The folder of films and speech.
pub fn media() -> PathBuf {
    present(set("PENSTOCK_TEST_MEDIA_DIR").unwrap_or_else(|| repository().join(".dev/media")))
}

/// The film: 1280×720, 25 frames a second, 132 frames, H.264 and AAC.
pub fn film() -> PathBuf {
    present(media().join("bigbuckbunny.mp4"))
}

/// The models that runners load.
pub fn models() -> PathBuf {
    present(set("PENSTOCK_MODELS_DIR").unwrap_or_else(|| repository().join(".dev/models")))
}

/// The Python that has the runner's packages.
pub fn runner_python() -> PathBuf {
    present(
        set("PENSTOCK_RUNNER_PYTHON")
            .unwrap_or_else(|| repository().join(".dev/runner-venv/bin/python")),
    )
}

/// The Python that has the official SDK.
pub fn sdk_python() -> PathBuf {
    present(
        set("PENSTOCK_TEST_SDK_PYTHON")
            .unwrap_or_else(|| repository().join(".dev/sdk-venv/bin/python")),
    )
}

/// The Python that has the openai and livepeer-ai SDKs.
pub fn ai_sdks_python() -> PathBuf {
    present(
        set("PENSTOCK_TEST_AI_SDKS_PYTHON")
            .unwrap_or_else(|| repository().join(".dev/ai-sdks-venv/bin/python")),
    )
}

/// The Python that reads `deploy/` as Helm and Kubernetes do.
pub fn deploy_python() -> PathBuf {
    present(
        set("PENSTOCK_TEST_DEPLOY_PYTHON")
            .unwrap_or_else(|| repository().join(".dev/deploy-venv/bin/python")),
    )
}

/// The program that tests a service by its OpenAPI document.
pub fn schemathesis() -> PathBuf {
    present(
        set("PENSTOCK_TEST_SCHEMATHESIS")
            .unwrap_or_else(|| repository().join(".dev/schemathesis-venv/bin/schemathesis")),
    )
}

/// The program that plays S3.
pub fn moto_server() -> PathBuf {
    present(
        set("PENSTOCK_TEST_MOTO_SERVER")
            .unwrap_or_else(|| repository().join(".dev/moto-venv/bin/moto_server")),
    )
}

/// The program that plays Ethereum.
pub fn anvil() -> PathBuf {
    present(set("PENSTOCK_TEST_ANVIL").unwrap_or_else(|| repository().join(".dev/chain/anvil")))
}

/// The test contracts' creation code, in hexadecimal digits.
pub fn contracts() -> PathBuf {
    present(
        set("PENSTOCK_TEST_CONTRACTS")
            .unwrap_or_else(|| repository().join(".dev/chain/Network.bin")),
    )
}

/// The URL of a server that `cargo xtask test` started for this run.
pub fn server_url(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: {FIX}"))
}
