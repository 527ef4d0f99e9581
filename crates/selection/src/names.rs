//! Lists of orchestrators by name: an address (`0x…`), a service URI, a host, or `host:port`.

use crate::Facts;
use serde::{Deserialize, Serialize};

/// Such a list. Compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Names(Vec<String>);

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Self {
        let tidy = |n: &String| n.trim().trim_end_matches('/').to_lowercase();
        Self(names.iter().map(tidy).filter(|n| !n.is_empty()).collect())
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        names.0
    }
}

impl Names {
    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it names this one.
    pub fn names(&self, facts: &Facts) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let uri = facts.transcoder.trim_end_matches('/').to_lowercase();
        let authority = uri.split_once("://").map_or(uri.as_str(), |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        self.0.iter().any(|name| {
            *name == uri || *name == authority || *name == host || *name == facts.address
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_any_name() {
        let facts = Facts {
            transcoder: "https://O1.example.com:8935/".into(),
            address: "0x00000000000000000000000000000000000000aa".into(),
            ..Facts::default()
        };
        for name in [
            "https://o1.example.com:8935",
            " o1.EXAMPLE.com:8935 ",
            "o1.example.com",
            "0x00000000000000000000000000000000000000AA",
        ] {
            assert!(Names::from(vec![name.to_owned()]).names(&facts), "{name}");
        }
        for name in ["example.com", "o1", "https://o1.example.com", "0xaa", "", "8935"] {
            assert!(!Names::from(vec![name.to_owned()]).names(&facts), "{name}");
        }
        let v6 = Facts { transcoder: "https://[::1]:8935".into(), ..Facts::default() };
        assert!(Names::from(vec!["[::1]".to_owned()]).names(&v6));
    }
}
