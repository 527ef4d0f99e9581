//! Which secret: the text behind `vault:`.

use penstock_keys::{Locator, LocatorError};

const KNOWN: &str = "mount, kv, field, version";
const PLACE: LocatorError =
    LocatorError::Value { name: "path", reason: "must be MOUNT/PATH, without . and .. in it" };

/// Version of the KV engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvVersion {
    /// Without versions of a secret.
    V1,
    /// With versions, and writes on condition.
    V2,
}

/// `vault:MOUNT/PATH?kv=2&field=…&version=…&mount=…`, the scheme left away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultUri {
    /// Where the KV engine is mounted: the first part of the path, or `mount=`.
    pub mount: String,
    /// The secret's path in it.
    pub path: String,
    /// `kv=1` or `kv=2` (the default).
    pub kv: KvVersion,
    /// `field=`: the one to use. Without it the caller's default.
    pub field: Option<String>,
    /// `version=` of a KV 2 secret; the newest without it.
    pub version: Option<u32>,
}

impl VaultUri {
    /// Reads the part behind `vault:`.
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        let mut found = Locator::parse(text)?;
        let place = found.place().trim_matches('/').to_owned();
        let (mount, path) = match found.take("mount") {
            Some(mount) => (mount.trim_matches('/').to_owned(), place),
            None => {
                let (mount, path) = place.split_once('/').ok_or(PLACE)?;
                (mount.to_owned(), path.to_owned())
            }
        };
        let odd = |part: &str| matches!(part, "" | "." | "..");
        if mount.split('/').chain(path.split('/')).any(odd) {
            return Err(PLACE);
        }
        let kv = match found.take("kv").as_deref() {
            None | Some("2") => KvVersion::V2,
            Some("1") => KvVersion::V1,
            Some(_) => return Err(LocatorError::Value { name: "kv", reason: "must be 1 or 2" }),
        };
        let version = match found.take("version").map(|text| text.parse()) {
            None => None,
            Some(Ok(version)) if version > 0 && kv == KvVersion::V2 => Some(version),
            Some(_) => {
                let reason = "must be a number from 1, with kv=2";
                return Err(LocatorError::Value { name: "version", reason });
            }
        };
        let field = found.take("field");
        found.finish(KNOWN)?;
        Ok(Self { mount, path, kv, field, version })
    }

    /// For messages: where it is, never what.
    pub fn place(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_part() {
        let uri = VaultUri::parse("secret/penstock/signer").unwrap();
        assert_eq!((uri.mount.as_str(), uri.path.as_str()), ("secret", "penstock/signer"));
        assert_eq!((uri.kv, uri.field, uri.version), (KvVersion::V2, None, None));
        let uri = VaultUri::parse("/signer/key?mount=team/kv/&field=hex&version=3").unwrap();
        assert_eq!((uri.mount.as_str(), uri.path.as_str()), ("team/kv", "signer/key"));
        assert_eq!((uri.field.as_deref(), uri.version), (Some("hex"), Some(3)));
        assert_eq!(VaultUri::parse("old/x?kv=1").unwrap().kv, KvVersion::V1);
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            "",
            "secret",
            "secret/",
            "secret/../sys/raw",
            "secret/a//b",
            "secret/%2e%2e/x",
            "secret/x?kv=3",
            "secret/x?version=0",
            "secret/x?kv=1&version=1",
            "secret/x?token=s.abc",
        ] {
            assert!(VaultUri::parse(bad).is_err(), "{bad}");
        }
    }
}
