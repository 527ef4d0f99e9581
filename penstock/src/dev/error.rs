//! Why a local network does not run, and what to do.

use std::{path::PathBuf, process::ExitStatus};

use thiserror::Error;

use super::Role;

/// A local network could not be started or broke.
#[derive(Debug, Error)]
pub enum DevError {
    /// The data folder cannot be used. Fix: another `--data-dir`, or its permissions.
    #[error("cannot use {path}: {source}; choose another --data-dir or mend its permissions")]
    DataDir {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another `penstock dev` uses the data folder.
    #[error("{path} is in use by another `penstock dev`; stop it or choose another --data-dir")]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// The data folder's ledgers are of another chain.
    #[error("{path} was made on another chain: use --chain {chain}, or another --data-dir")]
    OtherChain {
        /// The data folder.
        path: PathBuf,
        /// Its chain.
        chain: String,
    },
    /// A program that should lie beside this one is missing.
    #[error("{program} is missing or cannot be started: {source}; `cargo xtask dev` builds it")]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A one-off command of a role failed.
    #[error("{command} ended with {status}:\n{output}")]
    Command {
        /// What ran.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// A role ended and is not started again.
    #[error("the {role} ended with {status}; the end of {log}:\n{tail}", log = log.display())]
    RoleEnded {
        /// Which.
        role: Role,
        /// How.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A role runs but does not become ready.
    #[error("the {role} is not ready after {seconds} s: {reason}; its log is {log}", log = log.display())]
    NotReady {
        /// Which.
        role: Role,
        /// The limit, `--ready-timeout-s`.
        seconds: u64,
        /// What it answered last.
        reason: String,
        /// Its log file.
        log: PathBuf,
    },
    /// A request to one of the roles failed.
    #[error("{request}: {reason}")]
    Request {
        /// What was asked.
        request: String,
        /// What went wrong.
        reason: String,
    },
}
