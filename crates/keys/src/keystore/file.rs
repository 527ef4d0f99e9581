//! Keystore files on disk: complete or absent, private, never overwritten.

use super::{
    KeystoreError, ScryptCost,
    format::{MAX_FILE_BYTES, decrypt, encrypt},
};
use crate::LocalKey;
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::Path,
};
use zeroize::Zeroizing;

/// Writes a key as a keystore file of mode 0600. The file appears whole and synced, or not at
/// all; an existing one is left alone and answered with [`KeystoreError::Exists`].
pub fn create(
    path: &Path,
    key: &LocalKey,
    password: &str,
    cost: ScryptCost,
) -> Result<(), KeystoreError> {
    if path.try_exists()? {
        return Err(KeystoreError::Exists);
    }
    let text = encrypt(key, password, cost)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temporary = folder.join(format!(".keystore-{}.tmp", uuid::Uuid::new_v4()));
    let linked = write_private(&temporary, text.as_bytes())
        // A link, unlike a rename, refuses to replace a file that came into being meanwhile.
        .and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(KeystoreError::Exists),
        Err(error) => Err(error.into()),
        Ok(()) => {
            removed?;
            // Without this the name itself may be lost in a crash.
            File::open(folder)?.sync_all()?;
            Ok(())
        }
    }
}

/// Reads a keystore file.
pub fn open(path: &Path, password: &str) -> Result<LocalKey, KeystoreError> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(
        |error| match error.kind() {
            ErrorKind::InvalidData => KeystoreError::BadFile("not text"),
            _ => KeystoreError::Io(error),
        },
    )?;
    decrypt(&text, password)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: ScryptCost = ScryptCost { log2_n: 1, r: 8, p: 1 };

    #[test]
    fn creates_opens_and_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let key = LocalKey::random().unwrap();
        create(&path, &key, "pass", CHEAP).unwrap();
        assert_eq!(open(&path, "pass").unwrap().address(), key.address());
        assert!(matches!(open(&path, "other"), Err(KeystoreError::WrongPassword)));

        let before = fs::read(&path).unwrap();
        let other = LocalKey::random().unwrap();
        assert!(matches!(create(&path, &other, "pass", CHEAP), Err(KeystoreError::Exists)));
        assert_eq!(fs::read(&path).unwrap(), before);
        // Nothing half-made is left beside it.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        create(&path, &LocalKey::random().unwrap(), "pass", CHEAP).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn missing_binary_and_huge_files_have_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        assert!(matches!(open(&path, "x"), Err(KeystoreError::Io(_))));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(open(&path, "x"), Err(KeystoreError::BadFile("not text"))));
        fs::write(&path, " ".repeat(MAX_FILE_BYTES + 100)).unwrap();
        assert!(matches!(open(&path, "x"), Err(KeystoreError::BadFile("too large"))));
        let nowhere = folder.path().join("no/such/key.json");
        let made = create(&nowhere, &LocalKey::random().unwrap(), "x", CHEAP);
        assert!(matches!(made, Err(KeystoreError::Io(_))));
    }
}
