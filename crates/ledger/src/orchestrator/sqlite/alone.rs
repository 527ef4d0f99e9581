//! One process at a time uses a SQLite ledger: what jobs under way hold is in its memory, and nobody
//! else redeems. A lock on a file beside the ledger says so; the system lets go of it when the process
//! ends, however it ends.

use crate::sqlite::{OpenError, path_of};
use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Mutex, PoisonError},
};

/// The lock, until it is given up or the last copy is dropped.
#[derive(Debug, Clone)]
pub struct Alone(Arc<Mutex<Option<File>>>);

impl Alone {
    /// The lock of the ledger at `url`.
    pub fn with(url: &str) -> Result<Self, OpenError> {
        let ledger = path_of(url)?;
        if let Some(folder) = ledger.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|error| OpenError::Folder(folder.to_path_buf(), error))?;
        }
        let mut path = ledger.clone().into_os_string();
        path.push(".lock");
        let opened =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|error| OpenError::File(path.into(), error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(Arc::new(Mutex::new(Some(file))))),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(ledger)),
            Err(TryLockError::Error(error)) => Err(OpenError::File(ledger, error)),
        }
    }

    /// Gives it up.
    pub fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
