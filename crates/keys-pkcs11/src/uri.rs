//! Where a key is: a URI in the manner of RFC 7512.

use penstock_keys::{Locator, LocatorError};
use std::path::PathBuf;

const KNOWN: &str = "token, object, serial, module-path, pin-source, sessions";

/// Signatures made at once, unless `sessions=` says otherwise. Hardware does one or a few at a time;
/// more sessions only queue inside it.
const SESSIONS: usize = 8;
/// No token has more to give to one process.
const MAX_SESSIONS: usize = 256;

/// `pkcs11:token=…;object=…?module-path=…&pin-source=file:…`, the scheme left away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Uri {
    /// `token`: the token's label (`CK_TOKEN_INFO`).
    pub token: String,
    /// `serial`: its serial number, when labels are not unique.
    pub serial: Option<String>,
    /// `object`: label of the private and of the public key (`CKA_LABEL`).
    pub object: String,
    /// `module-path`: the vendor's shared library.
    pub module: PathBuf,
    /// `pin-source`: the file with the user's PIN; the caller has a default.
    pub pin_file: Option<PathBuf>,
    /// `sessions`: how many signatures are asked for at once.
    pub sessions: usize,
}

impl Pkcs11Uri {
    /// Reads the part behind `pkcs11:`.
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        let mut found = Locator::parse_attributes(text)?;
        let pin_file = found.take("pin-source").map(|source| {
            let path = source.strip_prefix("file:").unwrap_or(&source);
            PathBuf::from(path.strip_prefix("//").unwrap_or(path))
        });
        if pin_file.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(LocatorError::Value { name: "pin-source", reason: "names no file" });
        }
        let sessions = match found.take("sessions") {
            None => SESSIONS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|count| (1..=MAX_SESSIONS).contains(count))
                .ok_or(LocatorError::Value { name: "sessions", reason: "must be 1 to 256" })?,
        };
        let uri = Self {
            token: found.require("token")?,
            serial: found.take("serial"),
            object: found.require("object")?,
            module: found.require("module-path")?.into(),
            pin_file,
            sessions,
        };
        found.finish(KNOWN)?;
        Ok(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const FULL: &str = "token=My%20HSM;serial=1234;object=deposit?module-path=/lib/p11.so&pin-source=file:/run/pin&sessions=3";

    #[test]
    fn reads_every_part() {
        let uri = Pkcs11Uri::parse(FULL).unwrap();
        assert_eq!(uri.token, "My HSM");
        assert_eq!(uri.serial.as_deref(), Some("1234"));
        assert_eq!(uri.object, "deposit");
        assert_eq!(uri.module, Path::new("/lib/p11.so"));
        assert_eq!(uri.pin_file.as_deref(), Some(Path::new("/run/pin")));
        assert_eq!(uri.sessions, 3);
        let short = Pkcs11Uri::parse("token=a;object=b?module-path=c").unwrap();
        assert_eq!((short.pin_file, short.sessions), (None, 8));
        let slashes = FULL.replace("file:/", "file:///");
        assert_eq!(Pkcs11Uri::parse(&slashes).unwrap(), uri);
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            "object=b?module-path=c",
            "token=a?module-path=c",
            "token=a;object=b",
            "token=;object=b?module-path=c",
            "token=a;object=b?module-path=c&sessions=0",
            "token=a;object=b?module-path=c&sessions=257",
            "token=a;object=b?module-path=c&pin-source=file:",
            // The PIN itself is never in the URI: it would be in every process list.
            "token=a;object=b?module-path=c&pin-value=1234",
            "token=a;token=b;object=b?module-path=c",
        ] {
            assert!(Pkcs11Uri::parse(bad).is_err(), "{bad}");
        }
    }
}
