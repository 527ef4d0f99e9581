//! Secrets: text that no log, error or Debug print will show.

use crate::ConfigError;
use std::{fmt, io::Read, path::Path};
use zeroize::Zeroizing;

/// A password, token or shared secret. Wiped from memory when dropped; `Debug` shows nothing.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself. Name the reason where you call this.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Longest secret file; a token or a password is far shorter.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a secret from `path`, without the line end that editors add. Empty files are refused.
/// `setting` is the flag that named the file, for the error text.
pub fn read_secret_file(path: &Path, setting: &str) -> Result<Secret, ConfigError> {
    let failed =
        |source| ConfigError::Read { setting: setting.to_owned(), path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    let trimmed = text.trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() || text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::value(
            setting,
            format!("{} must hold one non-empty secret of at most 64 KiB", path.display()),
        ));
    }
    Ok(Secret::new(trimmed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_and_trims() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "hunter2\n").unwrap();
        let secret = read_secret_file(&path, "--x-file").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        std::fs::write(&path, "\n").unwrap();
        assert!(read_secret_file(&path, "--x-file").unwrap_err().to_string().contains("--x-file"));
    }
}
