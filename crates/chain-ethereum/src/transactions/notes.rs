//! What of an operation is on its way or on the chain, as it is noted before any endpoint has it.

use super::{Call, fees::Fees};
use crate::rpc::wire::{Account, Data, Quantity, Word};
use penstock_chain::{ChainError, Notes};
use penstock_domain::{B256, U256, Wei, keccak256};
use serde::{Deserialize, Serialize};

/// The transactions of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    /// Those that came to their end before the last one, a few at most.
    pub landed: Vec<Landed>,
    pub on_its_way: Option<Note>,
}

/// A transaction in its block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Landed {
    /// What it did, as a digest.
    call: Word,
    tx_hash: Word,
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
    /// Whether the contract refuses it once it was done.
    #[serde(default)]
    again: bool,
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
            again: call.again,
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
            again: self.again,
            gas: None,
            least: Vec::new(),
        }
    }
}

impl Book {
    /// Empty where there is none.
    pub(super) async fn read(notes: &dyn Notes) -> Result<Self, ChainError> {
        let Some(bytes) = notes.read().await? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| ChainError::Unavailable {
            reason: format!("the note of what is on its way cannot be read: {error}"),
        })
    }

    /// Durable when it returns.
    pub(super) async fn write(&self, notes: &dyn Notes) -> Result<(), ChainError> {
        if self.landed.is_empty() && self.on_its_way.is_none() {
            return notes.clear().await;
        }
        let bytes = serde_json::to_vec(self)
            .map_err(|error| ChainError::Refused { reason: error.to_string() })?;
        notes.write(bytes).await
    }

    /// The transaction that did this, if it is one of those in their blocks.
    pub(super) fn landed_as(&self, call: &Call) -> Option<B256> {
        let digest = digest(call);
        self.landed.iter().find(|landed| landed.call.0 == digest).map(|landed| landed.tx_hash.0)
    }

    /// One more is in its block.
    pub(super) fn land(&mut self, call: &Call, tx_hash: B256) {
        self.landed.push(Landed { call: Word(digest(call)), tx_hash: Word(tx_hash) });
    }
}

/// Tells calls apart.
fn digest(call: &Call) -> B256 {
    let mut bytes = call.to.to_vec();
    bytes.extend(call.value.0.to_be_bytes::<32>());
    bytes.extend(&call.data);
    keccak256(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_chain::NotesInMemory;
    use penstock_domain::Address;

    #[tokio::test]
    async fn what_was_noted_is_there_in_the_next_life_and_nonsense_is_no_empty_note() {
        let notes = NotesInMemory::default();
        assert_eq!(Book::read(&notes).await.unwrap(), Book::default());
        let value = Wei(U256::MAX);
        let (to, data) = (Address::repeat_byte(1), vec![1, 2, 3]);
        let call = Call { to, value, data, again: false, gas: None, least: Vec::new() };
        let mut note = Note::of(&call, 9, 21_000);
        let fees = Fees { max: u128::MAX, tip: 3 };
        note.offers(fees, Version::new(B256::repeat_byte(3), vec![4, 5]));
        note.offers(fees, Version::new(B256::repeat_byte(6), vec![7]));
        let mut book = Book { landed: Vec::new(), on_its_way: Some(note) };
        let other = Call { value: Wei::ZERO, ..call.clone() };
        book.land(&other, B256::repeat_byte(8));
        book.write(&notes).await.unwrap();
        let read = Book::read(&notes).await.unwrap();
        assert_eq!(read, book);
        assert_eq!(read.landed_as(&other), Some(B256::repeat_byte(8)));
        assert_eq!(read.landed_as(&call), None);
        let note = read.on_its_way.unwrap();
        assert_eq!((note.call(), note.fees()), (call, Some(fees)));
        notes.write(b"{".to_vec()).await.unwrap();
        Book::read(&notes).await.unwrap_err();
        Book::default().write(&notes).await.unwrap();
        assert_eq!(notes.read().await.unwrap(), None, "an empty one is none");
    }
}
