//! The text after `--key KIND:`: a place, and settings in the form of a URL's query.
//!
//! `PLACE?name=value&name=value`, percent-encoded where a value needs it. A setting that nobody asked
//! for is a mistake and not ignored: a misspelt `region` must not sign elsewhere.

use std::collections::BTreeMap;
use thiserror::Error;

/// Longest text; a resource name in a cloud has about 200 bytes.
const MAX_BYTES: usize = 4096;

/// Why the text cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LocatorError {
    /// Not of the form at all.
    #[error("expected PLACE?name=value&name=value, percent-encoded")]
    Form,
    /// A setting is needed.
    #[error("`{0}=` is missing")]
    Missing(&'static str),
    /// A setting came twice.
    #[error("`{0}=` is there twice")]
    Twice(String),
    /// A setting that this kind does not have.
    #[error("unknown setting `{name}`; there are {known}")]
    Unknown {
        /// As written.
        name: String,
        /// Those that there are.
        known: &'static str,
    },
    /// A setting's value is wrong.
    #[error("`{name}=` {reason}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it has to be.
        reason: &'static str,
    },
}

/// The parts of a locator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locator {
    place: String,
    settings: BTreeMap<String, String>,
}

impl Locator {
    /// Takes the text apart at `?` and `&`.
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let settings = split(query, '&')?;
        Self::of(place, settings, text)
    }

    /// The form of RFC 7512: attributes divided by `;` before the `?` and by `&` behind it, all in
    /// one name space here.
    pub fn parse_attributes(text: &str) -> Result<Self, LocatorError> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut settings = split(path, ';')?;
        for (name, value) in split(query, '&')? {
            if settings.insert(name.clone(), value).is_some() {
                return Err(LocatorError::Twice(name));
            }
        }
        Self::of("", settings, text)
    }

    fn of(
        place: &str,
        settings: BTreeMap<String, String>,
        text: &str,
    ) -> Result<Self, LocatorError> {
        if text.len() > MAX_BYTES || text.chars().any(char::is_control) {
            return Err(LocatorError::Form);
        }
        Ok(Self { place: decode(place)?, settings })
    }

    /// What stands before the `?`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A setting that may be left out; taken, so that [`Locator::finish`] knows.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.settings.remove(name)
    }

    /// A setting that has to be there.
    pub fn require(&mut self, name: &'static str) -> Result<String, LocatorError> {
        self.take(name).filter(|value| !value.is_empty()).ok_or(LocatorError::Missing(name))
    }

    /// Refuses what nobody took. `known` lists the settings for the message.
    pub fn finish(self, known: &'static str) -> Result<(), LocatorError> {
        match self.settings.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(LocatorError::Unknown { name, known }),
        }
    }
}

fn split(text: &str, divider: char) -> Result<BTreeMap<String, String>, LocatorError> {
    let mut out = BTreeMap::new();
    for part in text.split(divider).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or(LocatorError::Form)?;
        if out.insert(decode(name)?, decode(value)?).is_some() {
            return Err(LocatorError::Twice(name.to_owned()));
        }
    }
    Ok(out)
}

/// Percent-decoding; a plus sign is a plus sign.
fn decode(text: &str) -> Result<String, LocatorError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let (Some(high), Some(low)) = (high, low) else { return Err(LocatorError::Form) };
        out.push(u8::try_from(16 * high + low).map_err(|_| LocatorError::Form)?);
    }
    let text = String::from_utf8(out).map_err(|_| LocatorError::Form)?;
    if text.chars().any(char::is_control) { Err(LocatorError::Form) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_with_settings() {
        let mut found =
            Locator::parse("alias/deposit?region=eu-west-1&endpoint=http://[::1]:1").unwrap();
        assert_eq!(found.place(), "alias/deposit");
        assert_eq!(found.require("region").unwrap(), "eu-west-1");
        assert_eq!(found.take("endpoint").as_deref(), Some("http://[::1]:1"));
        assert_eq!(found.take("endpoint"), None);
        assert_eq!(found.clone().require("x"), Err(LocatorError::Missing("x")));
        assert_eq!(found.finish(""), Ok(()));
    }

    #[test]
    fn attributes_before_and_after_the_question_mark() {
        let text = "token=My%20token;object=deposit?module-path=/lib/x.so&pin-source=file:/run/pin";
        let mut found = Locator::parse_attributes(text).unwrap();
        assert_eq!(found.require("token").unwrap(), "My token");
        assert_eq!(found.require("module-path").unwrap(), "/lib/x.so");
        let error = found.finish("token, object").unwrap_err();
        assert!(
            matches!(error, LocatorError::Unknown { ref name, .. } if name == "object"),
            "{error}"
        );
        let twice = Locator::parse_attributes("token=a?token=b");
        assert_eq!(twice, Err(LocatorError::Twice("token".into())));
    }

    #[test]
    fn mistakes_have_names() {
        for bad in ["x?a", "x?a=%", "x?a=%zz", "x?a=%ff", "x?a=%00", "x\n", &"x".repeat(5000)] {
            assert_eq!(Locator::parse(bad), Err(LocatorError::Form), "{bad:?}");
        }
        assert_eq!(Locator::parse("x?a=1&a=2"), Err(LocatorError::Twice("a".into())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_text_is_answered(bytes in proptest::collection::vec(proptest::sample::select(b"a=&;?%41+\xc3\xa9\n".to_vec()), 0..24)) {
            let text = String::from_utf8_lossy(&bytes);
            let parsed = [Locator::parse(&text), Locator::parse_attributes(&text)];
            for found in parsed.into_iter().flatten() {
                prop_assert!(found.place().len() <= text.len());
                prop_assert!(found.settings.len() <= text.len());
            }
        }
    }
}
