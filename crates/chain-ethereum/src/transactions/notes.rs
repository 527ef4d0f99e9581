//! What is on its way and must not be sent twice, on the disk before any endpoint has it.
//!
//! One file for an account of a chain, since one transaction is on its way at a time. A life that finds it sends nothing
//! else before it knows what became of it.

use super::{Call, fees::Fees};
use crate::rpc::wire::{Account, Data, Quantity, Word};
use penstock_chain::ChainError;
use penstock_domain::{Address, B256, U256, Wei, address_lower};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Larger than any note.
const MAX_BYTES: u64 = 1 << 20;

/// Where notes are kept.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    path: Arc<PathBuf>,
}

/// A transaction under one number, with every version of it that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub nonce: u64,
    pub gas_limit: u64,
    /// The last offer: at most, and of it for whoever makes the block.
    max_fee_per_gas_wei: Quantity,
    tip_wei: Quantity,
    to: Account,
    value_wei: Quantity,
    data: Data,
    pub versions: Vec<Version>,
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    hash: Word,
    raw: Data,
}

impl Version {
    pub(super) fn new(hash: B256, raw: Vec<u8>) -> Self {
        Self { hash: Word(hash), raw: Data(raw) }
    }

    pub(super) fn hash(&self) -> B256 {
        self.hash.0
    }

    pub(super) fn raw(&self) -> &Data {
        &self.raw
    }
}

impl Note {
    pub(super) fn of(call: &Call, nonce: u64, gas_limit: u64) -> Self {
        Self {
            nonce,
            gas_limit,
            max_fee_per_gas_wei: Quantity::from(0),
            tip_wei: Quantity::from(0),
            to: Account(call.to),
            value_wei: Quantity(call.value.0),
            data: Data(call.data.clone()),
            versions: Vec::new(),
        }
    }

    /// One more version, which offers this.
    pub(super) fn offers(&mut self, fees: Fees, version: Version) {
        self.max_fee_per_gas_wei = Quantity(U256::from(fees.max));
        self.tip_wei = Quantity(U256::from(fees.tip));
        self.versions.push(version);
    }

    /// Of every version.
    pub(super) fn hashes(&self) -> Vec<B256> {
        self.versions.iter().map(Version::hash).collect()
    }

    /// What the last version offers.
    pub(super) fn fees(&self) -> Option<Fees> {
        let (max, tip) = (self.max_fee_per_gas_wei.to_u128()?, self.tip_wei.to_u128()?);
        Some(Fees { max, tip })
    }

    /// What it was to do.
    pub(super) fn call(&self) -> Call {
        Call {
            to: self.to.0,
            value: Wei(self.value_wei.0),
            data: self.data.0.clone(),
            again: false,
        }
    }
}

impl Notes {
    /// Of this account on this chain; `folder` is there.
    pub(crate) fn new(folder: &Path, account: Address, chain_id: u64) -> Self {
        let name = format!("sending-{}-{chain_id}.json", address_lower(&account));
        Self { path: Arc::new(folder.join(name)) }
    }

    /// What an earlier life left, if it left anything.
    pub(super) async fn read(&self) -> Result<Option<Note>, ChainError> {
        self.blocking("read", |path| {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if file.metadata()?.len() > MAX_BYTES {
                return Err(io::Error::other("too long"));
            }
            Ok(Some(serde_json::from_reader(file)?))
        })
        .await
    }

    /// Durable when it returns.
    pub(super) async fn write(&self, note: &Note) -> Result<(), ChainError> {
        let bytes = serde_json::to_vec(note)
            .map_err(|error| ChainError::Refused { reason: error.to_string() })?;
        self.blocking("write", move |path| {
            let new = path.with_extension("new");
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            sync_folder(path)
        })
        .await
    }

    /// Nothing is on its way any more.
    pub(super) async fn clear(&self) -> Result<(), ChainError> {
        self.blocking("remove", |path| {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            sync_folder(path)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ChainError> {
        let path = Arc::clone(&self.path);
        let done = tokio::task::spawn_blocking(move || work(&path)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| ChainError::Unavailable {
            reason: format!(
                "cannot {what} {}, which says what of the account is on its way: {error}",
                self.path.display()
            ),
        })
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_noted_is_there_in_the_next_life_and_nonsense_is_no_empty_file() {
        let folder = tempfile::tempdir().unwrap();
        let notes = || Notes::new(folder.path(), Address::repeat_byte(7), 5);
        assert_eq!(notes().read().await.unwrap(), None);
        let value = Wei(U256::MAX);
        let call = Call { to: Address::repeat_byte(1), value, data: vec![1, 2, 3], again: false };
        let mut note = Note::of(&call, 9, 21_000);
        let fees = Fees { max: u128::MAX, tip: 3 };
        note.offers(fees, Version::new(B256::repeat_byte(3), vec![4, 5]));
        notes().write(&note).await.unwrap();
        note.offers(fees, Version::new(B256::repeat_byte(6), vec![7]));
        notes().write(&note).await.unwrap();
        let read = notes().read().await.unwrap().unwrap();
        assert_eq!(read, note);
        assert_eq!((read.call(), read.fees()), (call, Some(fees)));
        let other = Notes::new(folder.path(), Address::repeat_byte(7), 6);
        assert_eq!(other.read().await.unwrap(), None, "another chain");
        let path = notes().path;
        fs::write(&*path, "{").unwrap();
        let error = notes().read().await.unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        notes().clear().await.unwrap();
        notes().clear().await.unwrap();
        assert_eq!(notes().read().await.unwrap(), None);
    }
}
