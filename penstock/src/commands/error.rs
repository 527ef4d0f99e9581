//! What can go wrong with a command; each text names the setting to change.

use std::path::PathBuf;

use thiserror::Error;

/// `EX_USAGE`: a setting has to change.
const EXIT_BAD_CONFIG: u8 = 64;

/// A command could not be done.
#[derive(Debug, Error)]
pub enum CommandError {
    /// Nothing says where the role is.
    #[error(
        "where is the {role}? Say {setting}, or point --data-dir at the folder of a running \
         `penstock dev` (there is no {looked_for} in it)",
        looked_for = looked_for.display()
    )]
    NoAddress {
        /// The role.
        role: &'static str,
        /// The flag that would say it.
        setting: &'static str,
        /// The file that would have said it.
        looked_for: PathBuf,
    },
    /// A setting's value cannot be used.
    #[error("{setting}: {reason}")]
    Setting {
        /// The flag.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers there.
    #[error("{url} does not answer: {reason}. Is the {role} running? Its address is {setting}")]
    Unreachable {
        /// Who.
        role: &'static str,
        /// The flag that holds the address.
        setting: &'static str,
        /// What was asked.
        url: String,
        /// The transport's words.
        reason: String,
    },
    /// The role refused.
    #[error("the {role} refused: {message} (status {status}){hint}")]
    Refused {
        /// Who.
        role: &'static str,
        /// HTTP status.
        status: u16,
        /// The envelope's message.
        message: String,
        /// What to change, if that is known.
        hint: &'static str,
    },
    /// The answer is not what this version understands.
    #[error(
        "{url} answered something else than expected ({reason}). Is it the {role}? Its address is {setting}"
    )]
    BadAnswer {
        /// Who it should be.
        role: &'static str,
        /// The flag that holds the address.
        setting: &'static str,
        /// What was asked.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

impl CommandError {
    /// 64 when a setting has to change, 1 when the network did not do it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoAddress { .. } | Self::Setting { .. } => EXIT_BAD_CONFIG,
            Self::Unreachable { .. } | Self::Refused { .. } | Self::BadAnswer { .. } => 1,
        }
    }
}
