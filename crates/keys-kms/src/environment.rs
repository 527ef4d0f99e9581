//! Where credentials are looked for first.

use std::collections::HashMap;

/// Environment variables: the process's own, or a given set, since tests cannot change theirs.
#[derive(Clone)]
pub enum Environment {
    /// The process's.
    Process,
    /// These and no others.
    Fixed(HashMap<String, String>),
}

impl Environment {
    /// One variable, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Self::Process => std::env::var(name).ok(),
            Self::Fixed(variables) => variables.get(name).cloned(),
        };
        value.filter(|value| !value.is_empty())
    }
}
