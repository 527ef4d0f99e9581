//! The data folder of a local network: where each thing lies, and the secrets in it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{DevError, Kind, Role};

/// Paths inside one data folder.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folders. Children run elsewhere, so the path becomes absolute.
    pub fn make(data_dir: &Path) -> Result<Self, DevError> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| DevError::DataDir { path, source }
        };
        fs::create_dir_all(data_dir).map_err(fault(data_dir))?;
        let root = data_dir.canonicalize().map_err(fault(data_dir))?;
        let layout = Self { root };
        for folder in ["addrs", "logs", "secrets", "keys"] {
            let path = layout.root.join(folder);
            fs::create_dir_all(&path).map_err(fault(&path))?;
        }
        for role in Role::ALL {
            let path = layout.state(role);
            fs::create_dir_all(&path).map_err(fault(&path))?;
        }
        Ok(layout)
    }

    /// Holds the folder for this process: two networks on one ledger would fight. The lock is the
    /// kernel's, so that it ends with the process.
    pub fn lock(&self) -> Result<File, DevError> {
        let path = self.root.join("lock");
        let file = File::create(&path)
            .map_err(|source| DevError::DataDir { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(DevError::InUse { path: self.root.clone() }),
            Err(fs::TryLockError::Error(source)) => Err(DevError::DataDir { path, source }),
        }
    }

    /// Notes the chain that ledgers of this folder are of; refuses another one, which knows nothing of what they hold.
    pub fn keep_to(&self, chain: Kind) -> Result<(), DevError> {
        let path = self.root.join("chain");
        let fault = |source| DevError::DataDir { path: path.clone(), source };
        let known = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().to_owned()),
            // Folders from before there was a choice.
            Err(_) if self.key(Role::Signer).exists() => Some(Kind::Devnet.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(fault(error)),
        };
        match known {
            Some(known) if known != chain.to_string() => {
                Err(DevError::OtherChain { path: self.root.clone(), chain: known })
            }
            _ => fs::write(&path, chain.to_string()).map_err(fault),
        }
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a role keeps between starts.
    pub fn state(&self, role: Role) -> PathBuf {
        self.root.join(role.name())
    }

    /// Where a role writes its addresses.
    pub fn addrs(&self, role: Role) -> PathBuf {
        self.root.join("addrs").join(format!("{role}.json"))
    }

    /// What a role says.
    pub fn log(&self, role: Role) -> PathBuf {
        self.root.join("logs").join(format!("{role}.log"))
    }

    /// The keystore file of a role.
    pub fn key(&self, role: Role) -> PathBuf {
        self.root.join("keys").join(format!("{role}.json"))
    }

    /// The password of that keystore file.
    pub fn key_password(&self, role: Role) -> PathBuf {
        self.secret(&format!("{role}-key-password"))
    }

    /// What workers show to the orchestrator.
    pub fn worker_secret(&self) -> PathBuf {
        self.secret("workers")
    }

    /// The list of models that the worker serves.
    pub fn models_file(&self) -> PathBuf {
        self.state(Role::Worker).join("models.json")
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.root.join("secrets").join(name)
    }

    /// Makes the secrets that are missing, from the kernel's randomness, readable by the owner only.
    pub fn make_secrets(&self) -> Result<(), DevError> {
        let files = [
            self.key_password(Role::Signer),
            self.key_password(Role::Orchestrator),
            self.worker_secret(),
        ];
        for path in files {
            if !path.exists() {
                make_secret(&path).map_err(|source| DevError::DataDir { path, source })?;
            }
        }
        Ok(())
    }

    /// The end of a role's log, for an error message.
    pub fn log_tail(&self, role: Role) -> String {
        let text = fs::read(self.log(role)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().map(|line| format!("  {line}\n")).collect()
    }
}

/// A crash leaves no half secret behind.
fn make_secret(path: &Path) -> std::io::Result<()> {
    let mut random = [0u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    penstock_config::replace_secret_file(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(&folder.path().join("a/b")).unwrap();
        layout.make_secrets().unwrap();
        let first = fs::read_to_string(layout.worker_secret()).unwrap();
        assert_eq!(first.len(), 64);
        assert_ne!(first, fs::read_to_string(layout.key_password(Role::Signer)).unwrap());
        let mode = fs::metadata(layout.worker_secret()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        layout.make_secrets().unwrap();
        assert_eq!(first, fs::read_to_string(layout.worker_secret()).unwrap());
    }

    #[test]
    fn a_data_folder_keeps_its_chain() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path()).unwrap();
        layout.keep_to(Kind::Anvil).unwrap();
        layout.keep_to(Kind::Anvil).unwrap();
        let refused = layout.keep_to(Kind::Devnet).unwrap_err().to_string();
        assert!(refused.contains("--chain anvil"), "{refused}");
    }

    #[test]
    fn a_data_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::make(folder.path()).unwrap();
        let held = layout.lock().unwrap();
        assert!(matches!(layout.lock(), Err(DevError::InUse { .. })));
        drop(held);
        layout.lock().unwrap();
    }
}
