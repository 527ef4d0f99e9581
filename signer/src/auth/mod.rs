//! Who is calling, and what they may spend.
//!
//! [`Accounts::authenticate`] is the only way to an [`Account`], so a function that takes one (or
//! a [`Caller`]) cannot be reached by a stranger. A credential is looked at before a body is read
//! and before anything is signed: a refused caller costs no key operation.
//!
//! `api_key`, `token_file` and the crate `penstock-oidc` know one kind of credential each; `follower` keeps the
//! accounts of the books in memory (`directory`); `rules` are what operators write and [`Policy`]
//! what counts; [`Accounts::payers`] says whose budgets a payment is charged to.

mod account;
pub mod api_key;
pub mod args;
mod budget;
pub mod directory;
mod error;
pub mod follower;
pub mod forecast;
mod headers;
pub mod manage;
pub mod operator_audit;
mod policy;
mod rate;
pub mod rules;
mod service;
mod slots;
mod token_file;
pub mod webhook;

pub use account::{Account, Caller, Payer};
pub use budget::{BadBudget, Budget};
pub use error::AuthError;
pub use headers::{AUTH_ID_HEADER, idempotency_key};
pub use policy::Policy;
pub use service::{Accounts, client_of};
pub use slots::{Slot, Slots};
pub use token_file::TokenFile;
