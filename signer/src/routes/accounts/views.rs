//! JSON shapes of accounts and what belongs to them.

use crate::{auth::Policy, routes::views::moment};
use penstock_ledger::signer::accounts::{
    AccountRecord, CredentialKind, CredentialRecord, SubjectRecord, TierRecord,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The own rules, as they were written; what cannot be read is shown as text.
fn rules(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// The policy that counts, every rule with its value or null.
pub(crate) fn effective(policy: &Policy) -> Value {
    json!({
        "tier": (!policy.tier.is_empty()).then_some(&policy.tier),
        "budget_day": policy.budget_day,
        "budget_month": policy.budget_month,
        "subject_day": policy.subject_day,
        "subject_month": policy.subject_month,
        "allowed_capabilities": policy.allowed_capabilities,
        "max_price_wei_per_unit": policy.max_price.as_ref().map(ToString::to_string),
        "max_ticket_ev_wei": policy.max_ticket_ev_wei.as_ref().map(ToString::to_string),
        "requests_per_second": policy.requests_per_second,
        "requests_per_day": policy.requests_per_day,
        "may_name_subjects": policy.may_name_subjects,
    })
}

/// No limit, whatever the tier says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum NoLimit {
    None,
}

/// Names, or no limit.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum NamesRule {
    Names(Vec<String>),
    NoLimit(NoLimit),
}

/// A whole number, 1 or more, or no limit.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum RateRule {
    PerSecond(u32),
    NoLimit(NoLimit),
}

/// A whole number, 1 or more, or no limit.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum QuotaRule {
    PerDay(u64),
    NoLimit(NoLimit),
}

/// Rules as an operator writes them. Absent: as the tier says; `"none"`: no limit.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct PolicyRules {
    /// Spend of the account in a UTC day, for example `25 usd`, `0.5 eth` or `1000000 wei`.
    budget_day: Option<String>,
    /// Spend of the account in a UTC calendar month.
    budget_month: Option<String>,
    /// Spend of each subject in a UTC day.
    subject_day: Option<String>,
    /// Spend of each subject in a UTC calendar month.
    subject_month: Option<String>,
    /// `pipeline/model`, `pipeline/*`, or names of applications.
    allowed_capabilities: Option<NamesRule>,
    /// Highest price, wei per unit: `n`, `n/d` or a decimal.
    max_price_wei_per_unit: Option<String>,
    /// Highest expected value of one ticket, wei.
    max_ticket_ev_wei: Option<String>,
    /// Requests a second: at each process, or of all that share them (`--rate-replicas`).
    requests_per_second: Option<RateRule>,
    /// Requests in 24 hours of each of the account's callers, counted by gateways over all their replicas.
    requests_per_day: Option<QuotaRule>,
    /// Whether `Signer-Auth-Id` is believed.
    may_name_subjects: Option<bool>,
}

/// Rules of a subject. Absent: as the account says; `"none"`: no limit.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct SubjectPolicyRules {
    /// Its spend in a UTC day.
    budget_day: Option<String>,
    /// Its spend in a UTC calendar month.
    budget_month: Option<String>,
}

/// A new account.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct NewAccount {
    /// 1 to 64 letters, digits, `-`, `_` or `.`.
    name: String,
    tier: Option<String>,
    policy: Option<PolicyRules>,
    /// The operator's words, at most 256 bytes.
    note: Option<String>,
    /// `active` or `blocked`.
    state: Option<String>,
}

/// Changes of an account.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct AccountPatch {
    /// The version that is to be changed.
    version: Option<u64>,
    tier: Option<String>,
    policy: Option<PolicyRules>,
    note: Option<String>,
    /// `active` or `blocked`.
    state: Option<String>,
}

/// A tier's rules.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct TierPut {
    policy: PolicyRules,
    /// The version that is to be replaced; absent for a new tier.
    version: Option<u64>,
}

/// Terms of a new key.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct KeyTerms {
    /// The operator's words.
    note: Option<String>,
    /// RFC 3339.
    expires_at: Option<String>,
    /// Instead: seconds from now.
    expires_in_s: Option<u64>,
}

/// Terms of a key in place of another.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct RotateTerms {
    /// How long the old key goes on, seconds; a day when absent.
    overlap_s: Option<u64>,
    note: Option<String>,
    expires_at: Option<String>,
    expires_in_s: Option<u64>,
}

/// A client certificate.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct NewCertificate {
    /// SHA-256 of its DER form, 64 hex digits, with colons or without.
    sha256: String,
    note: Option<String>,
    expires_at: Option<String>,
    expires_in_s: Option<u64>,
}

/// A subject's rules.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct SubjectPut {
    policy: Option<SubjectPolicyRules>,
    /// `active` or `blocked`.
    state: Option<String>,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountView {
    name: String,
    tier: Option<String>,
    state: &'static str,
    /// Its own rules.
    #[schema(value_type = Object)]
    policy: Value,
    /// What counts, its tier's rules included; null if its rules cannot be read (nobody gets in).
    #[schema(value_type = Option<Object>)]
    effective_policy: Option<Value>,
    note: String,
    version: u64,
    created_at: String,
    updated_at: String,
}

impl AccountView {
    pub(super) fn of(record: &AccountRecord, policy: Option<&Policy>) -> Self {
        Self {
            name: record.name.clone(),
            tier: record.tier.clone(),
            state: if record.blocked { "blocked" } else { "active" },
            policy: rules(&record.policy),
            effective_policy: policy.map(effective),
            note: record.note.clone(),
            version: record.stamp.version,
            created_at: moment(record.stamp.created_at_ms),
            updated_at: moment(record.stamp.updated_at_ms),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountList {
    pub(super) accounts: Vec<AccountView>,
    /// Ask again with `after` = this; null at the end.
    pub(super) next: Option<String>,
}

/// A tier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TierView {
    name: String,
    #[schema(value_type = Object)]
    policy: Value,
    version: u64,
    created_at: String,
    updated_at: String,
}

impl From<&TierRecord> for TierView {
    fn from(record: &TierRecord) -> Self {
        Self {
            name: record.name.clone(),
            policy: rules(&record.policy),
            version: record.stamp.version,
            created_at: moment(record.stamp.created_at_ms),
            updated_at: moment(record.stamp.updated_at_ms),
        }
    }
}

/// A key or certificate, without what is secret about it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// Its public name; of a key the visible beginning.
    id: String,
    account: String,
    /// `api_key` or `certificate`
    kind: &'static str,
    /// `active`, `expired` or `revoked`
    state: &'static str,
    expires_at: Option<String>,
    note: String,
    created_at: String,
}

impl CredentialView {
    pub(super) fn of(record: &CredentialRecord, now_ms: i64) -> Self {
        let expired = record.expires_at_ms.is_some_and(|end| end <= now_ms);
        Self {
            id: record.id.clone(),
            account: record.account.clone(),
            kind: match record.kind {
                CredentialKind::ApiKey => "api_key",
                CredentialKind::Certificate => "certificate",
            },
            state: match (record.revoked, expired) {
                (true, _) => "revoked",
                (false, true) => "expired",
                (false, false) => "active",
            },
            expires_at: record.expires_at_ms.map(moment),
            note: record.note.clone(),
            created_at: moment(record.stamp.created_at_ms),
        }
    }
}

/// A key that was just made; this is the only time that it is shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKeyView {
    /// For `Authorization: Bearer`. It is stored nowhere.
    pub(super) key: String,
    #[serde(flatten)]
    pub(super) credential: CredentialView,
}

/// Rules of one subject.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubjectView {
    account: String,
    auth_id: String,
    state: &'static str,
    #[schema(value_type = Object)]
    policy: Value,
    version: u64,
    updated_at: String,
}

impl From<&SubjectRecord> for SubjectView {
    fn from(record: &SubjectRecord) -> Self {
        Self {
            account: record.account.clone(),
            auth_id: record.auth_id.to_string(),
            state: if record.blocked { "blocked" } else { "active" },
            policy: rules(&record.policy),
            version: record.stamp.version,
            updated_at: moment(record.stamp.updated_at_ms),
        }
    }
}
