//! Keystore files on disk: complete or absent, private, never overwritten.

use super::{
    KeystoreError, ScryptCost,
    format::{MAX_FILE_BYTES, decrypt, encrypt},
};
use crate::LocalKey;
use penstock_config::{create_secret_file, replace_secret_file};
use penstock_domain::Address;
use std::{
    fs::File,
    io::{ErrorKind, Read},
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
    create_secret_file(path, text.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => KeystoreError::Exists,
        _ => error.into(),
    })
}

/// Encrypts a keystore file anew under another password. The old text is replaced in one step, and
/// only after the new one was opened and gave the same key.
pub fn rotate(
    path: &Path,
    old_password: &str,
    new_password: &str,
    cost: ScryptCost,
) -> Result<Address, KeystoreError> {
    let key = open(path, old_password)?;
    let text = encrypt(&key, new_password, cost)?;
    if decrypt(&text, new_password)?.secret() != key.secret() {
        return Err(KeystoreError::WrongAccount);
    }
    replace_secret_file(path, text.as_bytes())?;
    Ok(key.address())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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

    #[test]
    fn rotated_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let key = LocalKey::random().unwrap();
        create(&path, &key, "old", CHEAP).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(rotate(&path, "other", "new", CHEAP), Err(KeystoreError::WrongPassword)));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(rotate(&path, "old", "new", CHEAP).unwrap(), key.address());
        assert!(matches!(open(&path, "old"), Err(KeystoreError::WrongPassword)));
        assert_eq!(open(&path, "new").unwrap().secret(), key.secret());
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
        let nowhere = Path::new("/proc/no/such/key.json");
        let made = create(nowhere, &LocalKey::random().unwrap(), "x", CHEAP);
        assert!(matches!(made, Err(KeystoreError::Io(_))));
    }
}
