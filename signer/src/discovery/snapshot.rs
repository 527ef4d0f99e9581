//! The list as it is answered: every entry written once, found by capability, and with a tag that
//! changes when the answer does.

use axum::body::Bytes;
use http::HeaderValue;
use penstock_wire::json::DiscoveryEntry;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// A body with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A JSON list.
    pub body: Bytes,
    /// A strong `ETag`: same tag, same bytes.
    pub etag: HeaderValue,
}

/// One state of the list. Never changed, only replaced.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// JSON of each entry.
    entries: Vec<String>,
    /// Places of the entries that have a capability, in the order of the list.
    by_capability: HashMap<String, Vec<usize>>,
    all: Answer,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Snapshot {
    pub fn new(list: &[DiscoveryEntry]) -> Self {
        let mut by_capability: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, entry) in list.iter().enumerate() {
            for capability in &entry.capabilities {
                by_capability.entry(capability.clone()).or_default().push(place);
            }
        }
        let entries: Vec<String> = list.iter().map(|e| e.to_json().to_string()).collect();
        let all = answer(entries.iter());
        Self { entries, by_capability, all }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Those with any wanted capability, in the order of `wanted`, without repeats; all if nothing
    /// is wanted. Costs what the answer costs, not what the list does.
    pub fn find(&self, wanted: &[String]) -> Answer {
        if wanted.is_empty() {
            return self.all.clone();
        }
        let (mut asked, mut seen) = (HashSet::new(), HashSet::new());
        let mut found = Vec::new();
        for capability in wanted.iter().filter(|c| asked.insert(c.as_str())) {
            for place in self.by_capability.get(capability).into_iter().flatten() {
                if seen.insert(*place) {
                    found.extend(self.entries.get(*place));
                }
            }
        }
        answer(found.into_iter())
    }
}

fn answer<'a>(entries: impl Iterator<Item = &'a String>) -> Answer {
    let mut body = String::from("[");
    for entry in entries {
        if body.len() > 1 {
            body.push(',');
        }
        body.push_str(entry);
    }
    body.push(']');
    let digest = Sha256::digest(body.as_bytes());
    let tag = format!("\"{}\"", hex::encode(digest.get(..16).unwrap_or_default()));
    // Hex digits in quotes are always a header value.
    let etag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
    Answer { body: body.into(), etag }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn entry(address: &str, capabilities: &[&str]) -> DiscoveryEntry {
        DiscoveryEntry {
            address: address.into(),
            score: 1.0,
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            ..DiscoveryEntry::default()
        }
    }

    fn addresses(answer: &Answer) -> Vec<String> {
        let list: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
        list.iter().map(|e| e["address"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn found_in_the_order_wanted_without_repeats() {
        let list = [entry("a", &["x", "y"]), entry("b", &["y"]), entry("v", &[])];
        let snapshot = Snapshot::new(&list);
        let find = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
            snapshot.find(&wanted)
        };
        assert_eq!(addresses(&find(&[])), ["a", "b", "v"]);
        assert_eq!(addresses(&find(&["y"])), ["a", "b"]);
        assert_eq!(addresses(&find(&["y", "x", "y"])), ["a", "b"]);
        assert_eq!(addresses(&find(&["z", "x"])), ["a"]);
        assert_eq!(&find(&["z"]).body[..], b"[]");
        assert_eq!(&Snapshot::default().find(&[]).body[..], b"[]");
        assert_eq!(find(&["y"]).etag, find(&["x", "y"]).etag, "same bytes, same tag");
        assert_ne!(find(&["y"]).etag, find(&["x"]).etag);
        assert_eq!(Snapshot::new(&list[..2]).find(&["y".into()]), find(&["y"]));
    }
}
