//! Node and runner versions, compared the lenient way of orchestrator-wire.md section 5.

use core::str::FromStr;

/// `major.minor.patch` of a semantic version. A leading `v`, a missing minor or patch and any
/// suffix are accepted; suffixes are dropped, because nodes use them for *later* builds
/// (`0.4.1-b3278dce-dirty` counts as 0.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

impl FromStr for Version {
    type Err = crate::BadNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let core_end = text.find(['-', '+']).unwrap_or(text.len());
        let (core, suffix) = text.split_at(core_end);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        if text.len() > 256 || suffix.len() == 1 || !suffix.bytes().all(plain) {
            return Err(crate::BadNumber);
        }
        let mut numbers = core.split('.').map(|part| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(crate::BadNumber);
            }
            part.parse::<u64>().map_err(|_| crate::BadNumber)
        });
        let major = numbers.next().unwrap_or(Err(crate::BadNumber))?;
        let minor = numbers.next().unwrap_or(Ok(0))?;
        let patch = numbers.next().unwrap_or(Ok(0))?;
        if numbers.next().is_some() {
            return Err(crate::BadNumber);
        }
        Ok(Self { major, minor, patch })
    }
}

/// Whether `version` is at least `minimum`. An empty or unreadable minimum accepts everything;
/// an empty, `undefined` or unreadable version fails a real minimum.
pub fn version_at_least(minimum: &str, version: &str) -> bool {
    if minimum.is_empty() {
        return true;
    }
    if version.is_empty() || version == "undefined" {
        return false;
    }
    match (minimum.parse::<Version>(), version.parse::<Version>()) {
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
        (Ok(minimum), Ok(version)) => version >= minimum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_cases() {
        for (minimum, version, expected) in [
            ("", "", true),
            ("0.4.1", "", false),
            ("0.4.1", "undefined", false),
            ("0.4.1", "0.4.1-b3278dce-dirty", true),
            ("0.4.1-alpha", "0.4.1", true),
            ("0.4.1", "0.4.0", false),
            ("v0.8", "0.8.0", true),
            ("1", "0.99.99", false),
            ("0.4.1", "0.10.0", true),
            ("nonsense", "0.1", true),
            ("nonsense", "", false),
            ("0.1", "nonsense", false),
            ("0.1", "1.2.3.4", false),
            ("0.1", "1..2", false),
            ("0.1", "1.2.3-", false),
            ("0.1", "1.2.3+build", true),
        ] {
            assert_eq!(version_at_least(minimum, version), expected, "{minimum} {version}");
        }
    }
}
