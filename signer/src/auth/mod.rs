//! Who is calling, and what they may spend.
//!
//! [`Accounts::authenticate`] is the only way to an [`Account`], so a function that takes one (or
//! a [`Caller`]) cannot be reached by a stranger. A credential is looked at before a body is read
//! and before anything is signed: a refused caller costs no key operation.

mod account;
mod budget;
mod error;
mod headers;
mod policy;
mod service;
mod token_file;

pub use account::{Account, Caller};
pub use budget::Budget;
pub use error::AuthError;
pub use headers::AUTH_ID_HEADER;
pub use policy::Policy;
pub use service::Accounts;
pub use token_file::TokenFile;
