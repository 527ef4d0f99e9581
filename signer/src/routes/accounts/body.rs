//! Reading a JSON object member by member, so that a mistake is told by its name.

use crate::{
    auth::rules::{BadRules, Rules, SubjectRules},
    error::SignerError,
};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) fn bad(field: &str, reason: &str) -> SignerError {
    SignerError::BadField(format!("{field}: {reason}"))
}

impl From<BadRules> for SignerError {
    fn from(rules: BadRules) -> Self {
        Self::BadField(rules.to_string())
    }
}

/// The members that were not read yet.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// An empty body is an empty object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, SignerError> {
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(SignerError::BadJson("expected a JSON object".to_owned())),
            Err(error) => Err(SignerError::BadJson(error.to_string())),
        }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }

    /// A text.
    pub(crate) fn text(&mut self, field: &str) -> Result<Option<String>, SignerError> {
        match self.take(field) {
            None => Ok(None),
            // PostgreSQL's text cannot hold it, and nothing here needs it.
            Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text)),
            Some(_) => Err(bad(field, "expected text")),
        }
    }

    /// A text that `null` takes away.
    pub(crate) fn nullable_text(
        &mut self,
        field: &str,
    ) -> Result<Option<Option<String>>, SignerError> {
        if matches!(self.0.get(field), Some(Value::Null)) {
            self.0.remove(field);
            return Ok(Some(None));
        }
        Ok(self.text(field)?.map(Some))
    }

    /// A whole number, 0 or more, below 2^53: what every JSON reader agrees on.
    pub(crate) fn number(&mut self, field: &str) -> Result<Option<u64>, SignerError> {
        match self.take(field) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|n| *n < 1 << 53) {
                Some(number) => Ok(Some(number)),
                None => Err(bad(field, "expected a whole number, 0 or more")),
            },
        }
    }

    /// `state`: false for the first word, true for the second.
    pub(crate) fn state(&mut self, no: &str, yes: &str) -> Result<Option<bool>, SignerError> {
        match self.text("state")? {
            None => Ok(None),
            Some(text) if text == no => Ok(Some(false)),
            Some(text) if text == yes => Ok(Some(true)),
            Some(_) => Err(bad("state", &format!("expected {no:?} or {yes:?}"))),
        }
    }

    /// Rules of an account or a tier.
    pub(crate) fn rules(&mut self, field: &str) -> Result<Option<Rules>, SignerError> {
        Ok(self.take(field).map(Rules::from_value).transpose()?)
    }

    /// Rules of a subject.
    pub(crate) fn subject_rules(
        &mut self,
        field: &str,
    ) -> Result<Option<SubjectRules>, SignerError> {
        Ok(self.take(field).map(SubjectRules::from_value).transpose()?)
    }

    /// `expires_at` (RFC 3339) or `expires_in_s`, as Unix milliseconds after `now_ms`.
    pub(crate) fn expiry(&mut self, now_ms: i64) -> Result<Option<i64>, SignerError> {
        let at = self.text("expires_at")?;
        let after = self.number("expires_in_s")?;
        let at_ms = match (at, after) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(bad("expires_at", "not together with expires_in_s")),
            (None, Some(seconds)) => {
                let ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
                now_ms.saturating_add(ms)
            }
            (Some(text), None) => moment_ms(&text)
                .ok_or_else(|| bad("expires_at", "expected a time such as 2027-01-31T00:00:00Z"))?,
        };
        if at_ms <= now_ms {
            return Err(bad("expires_at", "is in the past"));
        }
        Ok(Some(at_ms))
    }

    /// Whatever is left was meant to mean something.
    pub(crate) fn finish(self) -> Result<(), SignerError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(field) => {
                let shown: String = field.chars().take(64).collect();
                Err(bad(&shown, "there is no such field"))
            }
        }
    }
}

fn moment_ms(text: &str) -> Option<i64> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_by_name() {
        let fields = |text: &str| Fields::parse(text.as_bytes()).unwrap();
        let said = |error: SignerError| error.public_message();
        assert_eq!(said(fields(r#"{"a":1}"#).text("a").unwrap_err()), "a: expected text");
        assert_eq!(said(fields(r#"{"a":1}"#).finish().unwrap_err()), "a: there is no such field");
        assert!(fields(r#"{"state":"x"}"#).state("active", "blocked").is_err());
        for bad in ["-1", "1.5", "\"1\"", "9007199254740992", "1e400"] {
            let text = format!("{{\"n\":{bad}}}");
            assert!(said(fields(&text).number("n").unwrap_err()).starts_with("n: "), "{bad}");
        }
        assert!(fields("{\"a\":\"\\u0000\"}").text("a").is_err());
        assert!(Fields::parse(b"[]").is_err());
        assert!(Fields::parse(b"").is_ok());
    }

    #[test]
    fn an_expiry_lies_ahead() {
        let of = |text: &str| Fields::parse(text.as_bytes()).unwrap().expiry(1_000);
        assert_eq!(of("{}").unwrap(), None);
        assert_eq!(of(r#"{"expires_in_s":2}"#).unwrap(), Some(3_000));
        assert_eq!(of(r#"{"expires_at":"1970-01-01T00:00:02Z"}"#).unwrap(), Some(2_000));
        for bad in [
            r#"{"expires_in_s":0}"#,
            r#"{"expires_at":"1970-01-01T00:00:01Z"}"#,
            r#"{"expires_at":"tomorrow"}"#,
            r#"{"expires_at":"2027-01-01T00:00:00Z","expires_in_s":1}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
