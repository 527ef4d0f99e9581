//! A connection for reads of a row or two on the caller's own thread: what is in memory is read sooner
//! than another thread is awake.

use super::{OpenError, writer::connect};
use crate::DatabaseError;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

/// The connection; one read at a time.
#[derive(Debug)]
pub struct Reader(Mutex<Option<Connection>>);

impl Reader {
    /// Opens a file that is there and of the present schema.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(Mutex::new(Some(connect(path)?))))
    }

    /// Reads what is committed. Nothing long: it holds up the thread that asks, and who else does.
    pub fn read<T, E: From<DatabaseError>>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read(connection.as_ref().ok_or(DatabaseError::Closed)?)
    }

    /// Ends the connection; later reads fail.
    pub fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
