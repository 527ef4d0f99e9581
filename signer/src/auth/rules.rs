//! What operators write about an account, a tier or a subject: rules in JSON, where what is absent
//! is taken from the tier (or is no limit), and `"none"` lifts a limit that the tier sets.
//!
//! Messages name the field, because an operator reads them.

use super::{Budget, Policy};
use penstock_domain::Rational;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::num::{NonZeroU32, NonZeroU64};
use thiserror::Error;

/// Longest rules text.
pub const MAX_RULES_BYTES: usize = 16 * 1024;
/// Most capabilities in a list.
const MAX_CAPABILITIES: usize = 200;
/// Longest name of a capability.
const MAX_CAPABILITY_BYTES: usize = 256;
/// More requests a second than a process can answer are a typing mistake.
const MAX_RATE: u32 = 100_000;
/// Most requests a day: as many as that rate would be.
const MAX_A_DAY: u64 = 86_400 * MAX_RATE as u64;

/// Rules that cannot be taken; says which field and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct BadRules {
    /// The JSON member.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

fn bad(field: &str, reason: impl Into<String>) -> BadRules {
    BadRules { field: field.to_owned(), reason: reason.into() }
}

/// A limit, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit<T> {
    /// No limit, whatever the tier says.
    None,
    /// This one.
    At(T),
}

impl<T: Serialize> Serialize for Limit<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => s.serialize_str("none"),
            Self::At(limit) => limit.serialize(s),
        }
    }
}

/// An exact number of wei: JSON text, `n`, `n/d` or a decimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeiText(pub Rational);

impl Serialize for WeiText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WeiText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let number = (text.len() <= 96)
            .then(|| text.parse().ok().or_else(|| Rational::from_decimal(&text).ok()))
            .flatten()
            .filter(Rational::is_positive);
        number.map(Self).ok_or_else(|| {
            serde::de::Error::custom(
                "expected wei above 0 as text, such as \"12\", \"0.5\" or \"1/3\"",
            )
        })
    }
}

/// Rules as they are written. Absent: as in the tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Spend of the account in a UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_day: Option<Limit<Budget>>,
    /// Spend of the account in a UTC calendar month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_month: Option<Limit<Budget>>,
    /// Spend of each subject in a UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_day: Option<Limit<Budget>>,
    /// Spend of each subject in a UTC calendar month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_month: Option<Limit<Budget>>,
    /// `pipeline/model`, `pipeline/*`, or names of applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_capabilities: Option<Limit<Vec<String>>>,
    /// Highest price, wei per unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_price_wei_per_unit: Option<Limit<WeiText>>,
    /// Highest expected value of one ticket, wei.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ticket_ev_wei: Option<Limit<WeiText>>,
    /// Requests a second at each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<Limit<NonZeroU32>>,
    /// Requests in 24 hours of each of the account's callers, counted by gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<Limit<NonZeroU64>>,
    /// Whether `Signer-Auth-Id` is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_name_subjects: Option<bool>,
}

/// Takes one member out of an object; `null` is absent.
fn member<T: DeserializeOwned>(
    object: &mut Map<String, Value>,
    field: &str,
) -> Result<Option<Limit<T>>, BadRules> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "none" => Ok(Some(Limit::None)),
        Some(value) => {
            let limit = serde_json::from_value(value).map_err(|e| bad(field, e.to_string()))?;
            Ok(Some(Limit::At(limit)))
        }
    }
}

fn nothing_left(object: &Map<String, Value>) -> Result<(), BadRules> {
    match object.keys().next() {
        None => Ok(()),
        Some(field) => {
            let shown: String = field.chars().take(64).collect();
            Err(bad(&shown, "there is no such rule"))
        }
    }
}

impl Rules {
    /// Reads and checks a JSON object.
    pub fn from_value(value: Value) -> Result<Self, BadRules> {
        let Value::Object(mut object) = value else {
            return Err(bad("policy", "expected an object"));
        };
        let rules = Self {
            budget_day: member(&mut object, "budget_day")?,
            budget_month: member(&mut object, "budget_month")?,
            subject_day: member(&mut object, "subject_day")?,
            subject_month: member(&mut object, "subject_month")?,
            allowed_capabilities: member(&mut object, "allowed_capabilities")?,
            max_price_wei_per_unit: member(&mut object, "max_price_wei_per_unit")?,
            max_ticket_ev_wei: member(&mut object, "max_ticket_ev_wei")?,
            requests_per_second: member(&mut object, "requests_per_second")?,
            requests_per_day: member(&mut object, "requests_per_day")?,
            may_name_subjects: match object.remove("may_name_subjects") {
                None | Some(Value::Null) => None,
                Some(Value::Bool(may)) => Some(may),
                Some(_) => return Err(bad("may_name_subjects", "expected true or false")),
            },
        };
        nothing_left(&object)?;
        rules.check()?;
        Ok(rules)
    }

    fn check(&self) -> Result<(), BadRules> {
        if let Some(Limit::At(names)) = &self.allowed_capabilities {
            let field = "allowed_capabilities";
            if names.len() > MAX_CAPABILITIES {
                return Err(bad(field, format!("at most {MAX_CAPABILITIES} names")));
            }
            let fits = |n: &String| {
                (1..=MAX_CAPABILITY_BYTES).contains(&n.len())
                    && n.bytes().all(|b| b.is_ascii_graphic())
            };
            if !names.iter().all(fits) {
                return Err(bad(
                    field,
                    format!(
                        "a name has 1 to {MAX_CAPABILITY_BYTES} printable ASCII characters without spaces"
                    ),
                ));
            }
        }
        if matches!(&self.requests_per_second, Some(Limit::At(n)) if n.get() > MAX_RATE) {
            return Err(bad("requests_per_second", format!("at most {MAX_RATE}")));
        }
        if matches!(&self.requests_per_day, Some(Limit::At(n)) if n.get() > MAX_A_DAY) {
            return Err(bad("requests_per_day", format!("at most {MAX_A_DAY}")));
        }
        Ok(())
    }

    /// Reads what the ledger holds.
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        if text.len() > MAX_RULES_BYTES {
            return Err(bad("policy", format!("at most {MAX_RULES_BYTES} bytes")));
        }
        let value = serde_json::from_str(text).map_err(|e| bad("policy", e.to_string()))?;
        Self::from_value(value)
    }

    /// As the ledger holds it.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// These rules over a tier's, as the policy that counts.
    pub fn over(&self, tier: Option<(&str, &Self)>) -> Policy {
        let none = Self::default();
        let (tier, base) = tier.unwrap_or(("", &none));
        Policy {
            tier: tier.to_owned(),
            budget_day: pick(&self.budget_day, &base.budget_day),
            budget_month: pick(&self.budget_month, &base.budget_month),
            subject_day: pick(&self.subject_day, &base.subject_day),
            subject_month: pick(&self.subject_month, &base.subject_month),
            allowed_capabilities: pick(&self.allowed_capabilities, &base.allowed_capabilities),
            max_price: pick(&self.max_price_wei_per_unit, &base.max_price_wei_per_unit)
                .map(|w| w.0),
            max_ticket_ev_wei: pick(&self.max_ticket_ev_wei, &base.max_ticket_ev_wei).map(|w| w.0),
            requests_per_second: pick(&self.requests_per_second, &base.requests_per_second),
            requests_per_day: pick(&self.requests_per_day, &base.requests_per_day),
            may_name_subjects: self.may_name_subjects.or(base.may_name_subjects).unwrap_or(false),
        }
    }
}

fn pick<T: Clone>(own: &Option<Limit<T>>, base: &Option<Limit<T>>) -> Option<T> {
    match own.as_ref().or(base.as_ref()) {
        Some(Limit::At(limit)) => Some(limit.clone()),
        Some(Limit::None) | None => None,
    }
}

/// Rules for one subject. Absent: as the account says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SubjectRules {
    /// Its spend in a UTC day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_day: Option<Limit<Budget>>,
    /// Its spend in a UTC calendar month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_month: Option<Limit<Budget>>,
}

impl SubjectRules {
    /// Reads and checks a JSON object.
    pub fn from_value(value: Value) -> Result<Self, BadRules> {
        let Value::Object(mut object) = value else {
            return Err(bad("policy", "expected an object"));
        };
        let rules = Self {
            budget_day: member(&mut object, "budget_day")?,
            budget_month: member(&mut object, "budget_month")?,
        };
        nothing_left(&object)?;
        Ok(rules)
    }

    /// Reads what the ledger holds.
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        let value = serde_json::from_str(text).map_err(|e| bad("policy", e.to_string()))?;
        Self::from_value(value)
    }

    /// As the ledger holds it.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// The account's policy, with this subject's budgets in it.
    pub fn over(&self, account: &Policy) -> Policy {
        let wrap = |b: &Option<Budget>| b.map(Limit::At);
        Policy {
            subject_day: pick(&self.budget_day, &wrap(&account.subject_day)),
            subject_month: pick(&self.budget_month, &wrap(&account.subject_month)),
            ..account.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Wei;
    use proptest::prelude::*;
    use serde_json::json;

    fn wei(n: u64) -> Budget {
        Budget::Wei(Wei::from_u64(n))
    }

    #[test]
    fn own_rules_come_before_the_tiers_and_none_lifts_a_limit() {
        let tier = Rules::from_value(json!({
            "budget_day": "100 wei", "budget_month": "3 usd", "requests_per_second": 5,
            "requests_per_day": 1000,
            "allowed_capabilities": ["a/*"], "max_price_wei_per_unit": "1/3", "subject_day": "7 wei",
        }))
        .unwrap();
        let own = json!({"budget_day": "9 wei", "budget_month": "none", "may_name_subjects": true});
        let policy = Rules::from_value(own).unwrap().over(Some(("gold", &tier)));
        assert_eq!(policy.tier, "gold");
        assert_eq!(policy.budget_day, Some(wei(9)));
        assert_eq!(policy.budget_month, None);
        assert_eq!(policy.requests_per_second.unwrap().get(), 5);
        assert_eq!(policy.requests_per_day.unwrap().get(), 1_000);
        assert_eq!(policy.allowed_capabilities.as_deref(), Some(&["a/*".to_owned()][..]));
        assert_eq!(policy.max_price.as_ref().unwrap().to_string(), "1/3");
        assert!(policy.may_name_subjects);
        assert_eq!(
            Rules::default().over(None),
            Policy::default(),
            "trusts nobody to name subjects"
        );
        let subject = SubjectRules::from_value(json!({"budget_month": "4 wei"})).unwrap();
        let of_subject = subject.over(&policy);
        assert_eq!(of_subject.subject_day, Some(wei(7)));
        assert_eq!(of_subject.subject_month, Some(wei(4)));
        let lifted = SubjectRules::from_value(json!({"budget_day": "none"})).unwrap();
        assert_eq!(lifted.over(&policy).subject_day, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (rules, field) in [
            (json!({"budget_day": "5"}), "budget_day"),
            (json!({"budget_day": 5}), "budget_day"),
            (json!({"budget_hour": "5 wei"}), "budget_hour"),
            (json!({"requests_per_second": 0}), "requests_per_second"),
            (json!({"requests_per_second": 200_000}), "requests_per_second"),
            (json!({"requests_per_day": 0}), "requests_per_day"),
            (json!({"requests_per_day": 9_000_000_000_000_u64}), "requests_per_day"),
            (json!({"max_price_wei_per_unit": "0"}), "max_price_wei_per_unit"),
            (json!({"max_ticket_ev_wei": "-1"}), "max_ticket_ev_wei"),
            (json!({"max_ticket_ev_wei": 3}), "max_ticket_ev_wei"),
            (json!({"allowed_capabilities": ["a b"]}), "allowed_capabilities"),
            (json!({"allowed_capabilities": vec!["x"; 201]}), "allowed_capabilities"),
            (json!({"may_name_subjects": "yes"}), "may_name_subjects"),
            (json!([]), "policy"),
        ] {
            assert_eq!(Rules::from_value(rules.clone()).unwrap_err().field, field, "{rules}");
        }
        assert!(SubjectRules::from_value(json!({"may_name_subjects": true})).is_err());
        assert!(Rules::parse(&" ".repeat(MAX_RULES_BYTES + 1)).is_err());
    }

    fn limit() -> impl Strategy<Value = Option<Limit<Budget>>> {
        prop_oneof![
            Just(None),
            Just(Some(Limit::None)),
            any::<u64>().prop_map(|n| Some(Limit::At(wei(n)))),
            any::<u64>().prop_map(|n| Some(Limit::At(Budget::MicroUsd(n)))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn reads_back_what_it_writes(
            day in limit(), month in limit(), may: Option<bool>, rate in 0u32..=MAX_RATE,
            ev in 1u64.., names in prop::option::of(prop::collection::vec("[!-~]{1,8}", 0..3)),
        ) {
            let rules = Rules {
                budget_day: day.clone(),
                subject_month: month.clone(),
                may_name_subjects: may,
                requests_per_second: NonZeroU32::new(rate).map(Limit::At),
                requests_per_day: NonZeroU64::new(rate.into()).map(Limit::At),
                max_ticket_ev_wei: Some(Limit::At(WeiText(Rational::from(ev)))),
                allowed_capabilities: names.map(Limit::At),
                ..Rules::default()
            };
            prop_assert_eq!(Rules::parse(&rules.to_text()), Ok(rules));
            let subject = SubjectRules { budget_day: day, budget_month: month };
            prop_assert_eq!(SubjectRules::parse(&subject.to_text()), Ok(subject));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}", field in "[a-z_]{1,12}") {
            let _ = Rules::parse(&text);
            let _ = Rules::parse(&format!("{{\"{field}\":{text}}}"));
            let _ = SubjectRules::parse(&format!("{{\"budget_day\":\"{text}\"}}"));
        }
    }
}
