//! A token of SoftHSM, the software security module that PKCS#11 code is tried on.
//!
//! SoftHSM finds its tokens through the environment variable `SOFTHSM2_CONF`, which a process cannot
//! change for itself safely: a test gives it to the process that it starts ([`SoftHsm::env`]), be it
//! a role or the test program itself once more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Where distributions put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// Label of the token.
pub const TOKEN: &str = "penstock test";
/// The user's PIN.
pub const PIN: &str = "1234-user-pin";

/// A token in a folder of its own, which goes when this is dropped.
pub struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// Makes the folder, the configuration and an initialised token.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let hsm = Self { folder };
        fs::create_dir(hsm.tokens()).expect("a folder for tokens");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            hsm.tokens().display()
        );
        fs::write(hsm.conf(), text).expect("SoftHSM's configuration");
        fs::write(hsm.pin_file(), PIN).expect("the PIN's file");
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", TOKEN])
            .args(["--so-pin", "so-pin-5678", "--pin", PIN])
            .env("SOFTHSM2_CONF", hsm.conf())
            .output()
            .expect("softhsm2-util runs (apt-get install softhsm2)");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        hsm
    }

    /// What the process that uses the token needs in its environment.
    pub fn env(&self) -> (&'static str, PathBuf) {
        ("SOFTHSM2_CONF", self.conf())
    }

    /// The file with the PIN.
    pub fn pin_file(&self) -> PathBuf {
        self.folder.path().join("pin")
    }

    /// The folder in which the token is a folder.
    pub fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// `--key` for a key of that label.
    pub fn uri(&self, object: &str) -> String {
        uri(object, &self.pin_file())
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }
}

/// `--key` for a key of that label, with the PIN in that file.
pub fn uri(object: &str, pin_file: &Path) -> String {
    let token = TOKEN.replace(' ', "%20");
    format!(
        "pkcs11:token={token};object={object}?module-path={}&pin-source=file:{}",
        module().display(),
        pin_file.display()
    )
}

/// The module.
pub fn module() -> &'static Path {
    let found = MODULES.iter().map(Path::new).find(|path| path.is_file());
    found.expect("SoftHSM's module (apt-get install softhsm2)")
}
