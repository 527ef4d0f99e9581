//! Reading a JSON object member by member, so that a mistake is told by its name.
//!
//! Which members there are is said once: by the type whose schema is in the OpenAPI document. A member
//! that is not in there is refused; reading one that is not in there, or leaving one of them unread, is
//! a bug of ours and answered as one.

use crate::{
    auth::rules::{BadRules, Rules, SubjectRules},
    error::SignerError,
};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, marker::PhantomData};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{
    PartialSchema,
    openapi::{RefOr, Schema},
};

pub(crate) fn bad(field: &str, reason: &str) -> SignerError {
    SignerError::BadField(format!("{field}: {reason}"))
}

impl From<BadRules> for SignerError {
    fn from(rules: BadRules) -> Self {
        Self::BadField(rules.to_string())
    }
}

/// The members of an object, by the document.
pub(crate) fn members<T: PartialSchema>() -> BTreeSet<String> {
    match T::schema() {
        RefOr::T(Schema::Object(object)) => object.properties.keys().cloned().collect(),
        _ => BTreeSet::new(),
    }
}

/// A body of the shape `T`: the members that were not read yet.
pub(crate) struct Fields<T> {
    left: Map<String, Value>,
    /// Members of `T` that were not asked for yet.
    unread: BTreeSet<String>,
    shape: PhantomData<T>,
}

impl<T: PartialSchema> Fields<T> {
    /// An empty body is an empty object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, SignerError> {
        let left = match body {
            [] => Map::new(),
            body => match serde_json::from_slice(body) {
                Ok(Value::Object(object)) => object,
                Ok(_) => return Err(SignerError::BadJson("expected a JSON object".to_owned())),
                Err(error) => return Err(SignerError::BadJson(error.to_string())),
            },
        };
        let unread = members::<T>();
        if let Some(field) = left.keys().find(|field| !unread.contains(*field)) {
            // Whatever else there is was meant to mean something.
            let shown: String = field.chars().take(64).collect();
            return Err(bad(&shown, "there is no such field"));
        }
        Ok(Self { left, unread, shape: PhantomData })
    }

    fn ask(&mut self, field: &str) -> Result<(), SignerError> {
        let known = self.unread.remove(field);
        known.then_some(()).ok_or(SignerError::Internal("a member that is in no document"))
    }

    fn take(&mut self, field: &str) -> Result<Option<Value>, SignerError> {
        self.ask(field)?;
        Ok(self.left.remove(field).filter(|value| !value.is_null()))
    }

    /// A text.
    pub(crate) fn text(&mut self, field: &str) -> Result<Option<String>, SignerError> {
        match self.take(field)? {
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
        if matches!(self.left.get(field), Some(Value::Null)) {
            self.ask(field)?;
            return Ok(Some(None));
        }
        Ok(self.text(field)?.map(Some))
    }

    /// A whole number, 0 or more, below 2^53: what every JSON reader agrees on.
    pub(crate) fn number(&mut self, field: &str) -> Result<Option<u64>, SignerError> {
        match self.take(field)? {
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
        Ok(self.take(field)?.map(Rules::from_value).transpose()?)
    }

    /// Rules of a subject.
    pub(crate) fn subject_rules(
        &mut self,
        field: &str,
    ) -> Result<Option<SubjectRules>, SignerError> {
        Ok(self.take(field)?.map(SubjectRules::from_value).transpose()?)
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

    /// Everything was read.
    pub(crate) fn finish(self) -> Result<(), SignerError> {
        let all = self.unread.is_empty();
        all.then_some(()).ok_or(SignerError::Internal("a documented member that is not read"))
    }
}

fn moment_ms(text: &str) -> Option<i64> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::rules::{Limit, WeiText},
        routes::accounts::views::{PolicyRules, SubjectPolicyRules},
    };
    use penstock_domain::Rational;
    use std::num::NonZeroU32;
    use utoipa::ToSchema;

    #[derive(ToSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Shape {
        a: Option<String>,
        n: Option<u64>,
        state: Option<String>,
        expires_at: Option<String>,
        expires_in_s: Option<u64>,
    }

    fn fields(text: &str) -> Fields<Shape> {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn mistakes_are_told_by_name() {
        let said = |error: SignerError| error.public_message();
        let refused = |text: &str| said(Fields::<Shape>::parse(text.as_bytes()).err().unwrap());
        assert_eq!(said(fields(r#"{"a":1}"#).text("a").unwrap_err()), "a: expected text");
        assert_eq!(refused(r#"{"b":1}"#), "b: there is no such field");
        assert!(fields(r#"{"state":"x"}"#).state("active", "blocked").is_err());
        for bad in ["-1", "1.5", "\"1\"", "9007199254740992", "1e400"] {
            let text = format!("{{\"n\":{bad}}}");
            assert!(said(fields(&text).number("n").unwrap_err()).starts_with("n: "), "{bad}");
        }
        assert!(fields("{\"a\":\"\\u0000\"}").text("a").is_err());
        assert!(Fields::<Shape>::parse(b"[]").is_err());
        assert!(Fields::<Shape>::parse(b"").is_ok());
    }

    #[test]
    fn the_document_and_the_reader_cannot_differ() {
        let mut read = fields("{}");
        assert!(matches!(read.text("b"), Err(SignerError::Internal(_))), "in no document");
        for text in ["a", "expires_at"] {
            read.text(text).unwrap();
        }
        assert!(matches!(read.finish(), Err(SignerError::Internal(_))), "three are not read");
    }

    #[test]
    fn rules_are_those_of_the_document() {
        let rules = Rules {
            budget_day: Some(Limit::None),
            budget_month: Some(Limit::None),
            subject_day: Some(Limit::None),
            subject_month: Some(Limit::None),
            allowed_capabilities: Some(Limit::None),
            max_price_wei_per_unit: Some(Limit::None),
            max_ticket_ev_wei: Some(Limit::At(WeiText(Rational::ONE))),
            requests_per_second: Some(Limit::At(NonZeroU32::MIN)),
            requests_per_day: Some(Limit::None),
            may_name_subjects: Some(true),
        };
        let keys = |text: &str| -> BTreeSet<String> {
            let object: Map<String, Value> = serde_json::from_str(text).unwrap();
            object.keys().cloned().collect()
        };
        assert_eq!(keys(&rules.to_text()), members::<PolicyRules>());
        let rules = SubjectRules { budget_day: Some(Limit::None), budget_month: Some(Limit::None) };
        assert_eq!(keys(&rules.to_text()), members::<SubjectPolicyRules>());
    }

    #[test]
    fn an_expiry_lies_ahead() {
        let of = |text: &str| fields(text).expiry(1_000);
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
