//! Columns to values and back. What cannot be read is damage, not a panic.

use super::StoreError;
use penstock_domain::{Address, B256, Wei, parse_address, parse_b256};
use sqlx::{Row, sqlite::SqliteRow};

/// A column's value, or which column is damaged.
pub(super) trait Columns {
    fn wei(&self, column: &'static str) -> Result<Wei, StoreError>;
    fn address(&self, column: &'static str) -> Result<Address, StoreError>;
    fn hash(&self, column: &'static str) -> Result<B256, StoreError>;
    fn number(&self, column: &'static str) -> Result<u64, StoreError>;
}

impl Columns for SqliteRow {
    fn wei(&self, column: &'static str) -> Result<Wei, StoreError> {
        let text: &str = self.try_get(column)?;
        text.parse().map_err(|_| StoreError::Damaged { what: column })
    }

    fn address(&self, column: &'static str) -> Result<Address, StoreError> {
        parse_address(self.try_get(column)?).ok_or(StoreError::Damaged { what: column })
    }

    fn hash(&self, column: &'static str) -> Result<B256, StoreError> {
        parse_b256(self.try_get(column)?).ok_or(StoreError::Damaged { what: column })
    }

    fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        let number: i64 = self.try_get(column)?;
        u64::try_from(number).map_err(|_| StoreError::Damaged { what: column })
    }
}

/// For an INTEGER column. Blocks, rounds and nonces stay far below 2^63; a larger one is refused.
pub(super) fn int(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Damaged { what: "a number above 2^63" })
}
