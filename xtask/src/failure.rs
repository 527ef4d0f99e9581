//! Why a task stopped and what to do about it. There is no failure without a next step.

use std::fmt;

/// A task that could not finish.
#[derive(Debug)]
pub struct Failure {
    what: String,
    fix: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  to fix: {}", self.what, self.fix)
    }
}

/// Names what was being done when the file system or the operating system said no.
pub trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            Failure::new(
                format!("could not {what}: {error}"),
                "check permissions and free disk space, then run the same command again",
            )
        })
    }
}
