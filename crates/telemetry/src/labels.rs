//! Labels of metrics that name peers and models: as many as there really are, and not as many as somebody
//! could make up.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// What the names beyond the most are called together.
pub const OTHER: &str = "other";
/// Longest name.
const MAX_BYTES: usize = 256;

/// The names of one kind, of which the first so many are labels.
#[derive(Debug)]
pub struct Names {
    most: usize,
    seen: Mutex<BTreeSet<String>>,
}

impl Names {
    /// At most so many.
    pub const fn at_most(most: usize) -> Self {
        Self { most, seen: Mutex::new(BTreeSet::new()) }
    }

    /// Whether it is one of them, or has just become one. Long ones do not.
    pub fn admit(&self, name: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(name) {
            return true;
        }
        let fits = name.len() <= MAX_BYTES && seen.len() < self.most;
        fits && seen.insert(name.to_owned())
    }

    /// The name as a label: itself, or [`OTHER`] if it is long or one too many.
    pub fn label(&self, name: &str) -> String {
        let label = if self.admit(name) { name } else { OTHER };
        label.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named_and_the_rest_are_one() {
        let names = Names::at_most(2);
        let labels = ["a", &"x".repeat(500), "b", "c", "a"].map(|name| names.label(name));
        assert_eq!(labels, ["a", "other", "b", "other", "a"]);
        assert_eq!(names.seen.lock().unwrap().len(), 2);
    }
}
