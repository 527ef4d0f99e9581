//! Secrets that outlive the process: 32 random bytes each, in the data directory.
//!
//! They must survive a restart, or every outstanding offer and token dies with the process
//! (payments.md section 5). A secret is complete on disk before its first use.

use penstock_config::create_secret_file;
use rand::{TryRngCore, rngs::OsRng};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A secret could not be read or made. An operator has to look.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold 64 hex digits.
    #[error("{path} must hold 64 hex digits; move it away to have a new secret made (outstanding offers are lost then)", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read it.
    #[error("{path} is readable by others (mode {mode:o}); chmod 600 it", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The operating system gave no random numbers.
    #[error("no random numbers from the operating system: {0}")]
    Random(String),
}

/// Reads the secret at `path`, or makes one there: mode 0600, written and synced under another
/// name, then linked, so that two processes starting together agree on one.
pub fn load_or_create(path: &Path) -> Result<[u8; 32], SecretError> {
    match read(path) {
        Err(SecretError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            create(path)?;
            read(path)
        }
        other => other,
    }
}

fn read(path: &Path) -> Result<[u8; 32], SecretError> {
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(128).read_to_string(&mut text).map_err(failed)?;
    hex::decode(text.trim())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| SecretError::Malformed { path: path.to_owned() })
}

fn create(path: &Path) -> Result<(), SecretError> {
    let bytes: [u8; 32] = random()?;
    match create_secret_file(path, hex::encode(bytes).as_bytes()) {
        // If another process was first, its secret is the one.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| SecretError::Io { path: path.to_owned(), source }),
    }
}

/// Bytes of the operating system's generator.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0_u8; N];
    if penstock_failpoint::simulated::fill(&mut bytes) {
        return Ok(bytes);
    }
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| SecretError::Random(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipient.secret");
        let first = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap(), first);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        assert_ne!(load_or_create(&dir.path().join("other")).unwrap(), first);
    }

    #[test]
    fn a_broken_or_open_file_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        load_or_create(&path).unwrap();
        std::fs::write(&path, "zz").unwrap();
        assert!(matches!(load_or_create(&path), Err(SecretError::Malformed { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "zz");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_create(&path), Err(SecretError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn simultaneous_starts_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..2).map(|_| scope.spawn(|| read_or_wait(&path))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(secrets[0], secrets[1]);
    }

    /// Threads of one process share the temporary name; a lost race there is an I/O error that a
    /// second try settles, as a supervisor's restart would.
    fn read_or_wait(path: &Path) -> [u8; 32] {
        loop {
            if let Ok(secret) = load_or_create(path) {
                return secret;
            }
        }
    }
}
