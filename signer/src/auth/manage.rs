//! What operators do with accounts: checked, written by compare-and-swap, and known here when the
//! answer is given. Everything else that writes accounts goes through here.

use super::{
    Accounts,
    api_key::NewKey,
    operator_audit,
    rules::{BadRules, Rules, SubjectRules},
};
use penstock_domain::AuthId;
use penstock_ledger::signer::{
    LedgerError,
    accounts::{
        AccountRecord, Applied, CredentialKind, CredentialRecord, Expect, Put, Record, Refusal,
        Stamp, SubjectRecord, TierRecord,
    },
};
use thiserror::Error;

/// Longest note.
const MAX_NOTE_BYTES: usize = 256;
/// Names that mean something else already.
const RESERVED: [&str; 2] = ["local", "default"];

/// Why something was not done. Each text names what is in the way.
#[derive(Debug, Error)]
pub enum ManageError {
    /// A value that cannot be taken.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: String,
        /// Why.
        reason: String,
    },
    /// There is no such thing.
    #[error("there is no {kind} {name:?}")]
    Absent {
        /// Tier, account, key or subject.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Somebody else wrote meanwhile, or it exists already.
    #[error("{0}")]
    Conflict(String),
    /// The books.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<BadRules> for ManageError {
    fn from(bad: BadRules) -> Self {
        Self::Field { field: bad.field, reason: bad.reason }
    }
}

fn field(field: &str, reason: impl Into<String>) -> ManageError {
    ManageError::Field { field: field.to_owned(), reason: reason.into() }
}

/// What may be a name of an account or a tier: a path element, a word in logs, and no `:`, which
/// parts a client from its subject.
pub fn check_name(what: &str, name: &str) -> Result<(), ManageError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !first || !rest || name.len() > 64 {
        let rule = "1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit";
        return Err(field(what, rule));
    }
    if RESERVED.contains(&name) {
        return Err(field(what, format!("{name:?} is the signer's own")));
    }
    Ok(())
}

fn check_note(note: &str) -> Result<(), ManageError> {
    let fits = note.len() <= MAX_NOTE_BYTES && !note.chars().any(char::is_control);
    if fits {
        Ok(())
    } else {
        Err(field("note", format!("at most {MAX_NOTE_BYTES} bytes, no control characters")))
    }
}

/// Changes to an account; absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    /// Refuse if the account has another version by now.
    pub version: Option<u64>,
    /// `Some(None)`: no tier.
    pub tier: Option<Option<String>>,
    /// All own rules, as they shall be.
    pub rules: Option<Rules>,
    /// The operator's words.
    pub note: Option<String>,
    /// Let in no more, or again.
    pub blocked: Option<bool>,
}

/// What a new credential has besides itself.
#[derive(Debug, Clone, Default)]
pub struct CredentialTerms {
    /// The operator's words.
    pub note: String,
    /// Unix milliseconds.
    pub expires_at_ms: Option<i64>,
}

impl Accounts {
    /// Makes an account.
    pub async fn create_account(
        &self,
        name: &str,
        change: AccountChange,
    ) -> Result<AccountRecord, ManageError> {
        check_name("name", name)?;
        let blank = AccountRecord {
            name: name.to_owned(),
            tier: None,
            policy: "{}".to_owned(),
            note: String::new(),
            blocked: false,
            stamp: Stamp::default(),
        };
        let record = self.changed(blank, change)?;
        let put = Put { record: Record::Account(record), expect: Expect::Absent };
        account_of(self.put(put, "account", name).await?)
    }

    /// Changes an account.
    pub async fn change_account(
        &self,
        name: &str,
        change: AccountChange,
    ) -> Result<AccountRecord, ManageError> {
        let known = self.follower().fresh().await?.account(name).map(|(record, _)| record.clone());
        let known = known.ok_or_else(|| absent("account", name))?;
        let expect = Expect::Version(change.version.unwrap_or(known.stamp.version));
        let record = self.changed(known, change)?;
        account_of(
            self.put(Put { record: Record::Account(record), expect }, "account", name).await?,
        )
    }

    fn changed(
        &self,
        mut record: AccountRecord,
        change: AccountChange,
    ) -> Result<AccountRecord, ManageError> {
        if let Some(tier) = change.tier {
            if let Some(name) = &tier {
                check_name("tier", name)?;
            }
            record.tier = tier;
        }
        if let Some(rules) = change.rules {
            self.check_dollars(&rules.to_text())?;
            record.policy = rules.to_text();
        }
        if let Some(note) = change.note {
            check_note(&note)?;
            record.note = note;
        }
        record.blocked = change.blocked.unwrap_or(record.blocked);
        Ok(record)
    }

    /// A budget that could never be compared would only refuse.
    fn check_dollars(&self, rules: &str) -> Result<(), ManageError> {
        if rules.contains(" usd\"") && !self.eth_usd().is_set() {
            let reason = "a budget in usd needs a price of ether: --eth-usd, --eth-usd-file, --eth-usd-url or --eth-usd-feed-url";
            return Err(field("policy", reason));
        }
        Ok(())
    }

    /// Makes a tier, or replaces its rules. Without `version` there must be none of that name.
    pub async fn put_tier(
        &self,
        name: &str,
        rules: &Rules,
        version: Option<u64>,
    ) -> Result<TierRecord, ManageError> {
        check_name("name", name)?;
        self.check_dollars(&rules.to_text())?;
        let record = TierRecord {
            name: name.to_owned(),
            policy: rules.to_text(),
            deleted: false,
            stamp: Stamp::default(),
        };
        let expect = version.map_or(Expect::Absent, Expect::Version);
        match self.put(Put { record: Record::Tier(record), expect }, "tier", name).await? {
            Record::Tier(record) => Ok(record),
            _ => Err(LedgerError::Misuse("another record came back").into()),
        }
    }

    /// Takes a tier away that no account has.
    pub async fn delete_tier(&self, name: &str) -> Result<(), ManageError> {
        let known = self.follower().fresh().await?.tier(name).cloned();
        let mut record = known.ok_or_else(|| absent("tier", name))?;
        let expect = Expect::Version(record.stamp.version);
        record.deleted = true;
        self.put(Put { record: Record::Tier(record), expect }, "tier", name).await.map(|_| ())
    }

    /// Makes an API key. The key itself is nowhere but in the answer.
    pub async fn create_key(
        &self,
        account: &str,
        terms: CredentialTerms,
    ) -> Result<(NewKey, CredentialRecord), ManageError> {
        check_note(&terms.note)?;
        self.must_exist(account).await?;
        let key = NewKey::random();
        let record = CredentialRecord {
            id: key.id().to_owned(),
            account: account.to_owned(),
            kind: CredentialKind::ApiKey,
            hash: key.hash(),
            note: terms.note,
            revoked: false,
            expires_at_ms: terms.expires_at_ms,
            stamp: Stamp::default(),
        };
        let record = self.put_credential(record, Expect::Absent, account).await?;
        Ok((key, record))
    }

    /// Lets a client certificate in, by the SHA-256 of its DER form.
    pub async fn create_certificate(
        &self,
        account: &str,
        sha256: [u8; 32],
        terms: CredentialTerms,
    ) -> Result<CredentialRecord, ManageError> {
        check_note(&terms.note)?;
        self.must_exist(account).await?;
        let digits = hex::encode(sha256);
        let record = CredentialRecord {
            id: format!("cert_{}", digits.get(..16).unwrap_or_default()),
            account: account.to_owned(),
            kind: CredentialKind::Certificate,
            hash: sha256,
            note: terms.note,
            revoked: false,
            expires_at_ms: terms.expires_at_ms,
            stamp: Stamp::default(),
        };
        self.put_credential(record, Expect::Absent, account).await
    }

    async fn put_credential(
        &self,
        record: CredentialRecord,
        expect: Expect,
        account: &str,
    ) -> Result<CredentialRecord, ManageError> {
        match self.put(Put { record: Record::Credential(record), expect }, "key", account).await? {
            Record::Credential(record) => Ok(record),
            _ => Err(LedgerError::Misuse("another record came back").into()),
        }
    }

    /// A key in place of another one, which goes on for `overlap_ms`: both at once, or neither.
    pub async fn rotate_key(
        &self,
        id: &str,
        overlap_ms: i64,
        terms: CredentialTerms,
    ) -> Result<(NewKey, CredentialRecord), ManageError> {
        check_note(&terms.note)?;
        let mut old = self.credential(id).await?;
        if old.kind != CredentialKind::ApiKey {
            return Err(field("id", "is a certificate: register the new one, then revoke this"));
        }
        let now_ms = self.now_ms();
        if old.revoked || old.expires_at_ms.is_some_and(|end| end <= now_ms) {
            return Err(ManageError::Conflict(format!(
                "the key {id} is at its end: create a new one"
            )));
        }
        let end = now_ms.saturating_add(overlap_ms);
        old.expires_at_ms = Some(old.expires_at_ms.map_or(end, |was| was.min(end)));
        let expect = Expect::Version(old.stamp.version);
        let key = NewKey::random();
        let new = CredentialRecord {
            id: key.id().to_owned(),
            account: old.account.clone(),
            kind: CredentialKind::ApiKey,
            hash: key.hash(),
            note: if terms.note.is_empty() { old.note.clone() } else { terms.note },
            revoked: false,
            expires_at_ms: terms.expires_at_ms,
            stamp: Stamp::default(),
        };
        let puts = vec![
            Put { record: Record::Credential(new), expect: Expect::Absent },
            Put { record: Record::Credential(old), expect },
        ];
        match self.apply(puts, "key", id).await?.into_iter().next() {
            Some(Record::Credential(record)) => Ok((key, record)),
            _ => Err(LedgerError::Misuse("another record came back").into()),
        }
    }

    /// Takes a key or certificate back, for good.
    pub async fn revoke(&self, id: &str) -> Result<CredentialRecord, ManageError> {
        let mut record = self.credential(id).await?;
        if record.revoked {
            return Ok(record);
        }
        let expect = Expect::Version(record.stamp.version);
        record.revoked = true;
        self.put_credential(record, expect, id).await
    }

    /// Names come from paths: one that is not known is not taken to the books, which could not even
    /// compare some of them.
    async fn must_exist(&self, account: &str) -> Result<(), ManageError> {
        let known = self.follower().fresh().await?.account(account).is_some();
        if known { Ok(()) } else { Err(absent("account", account)) }
    }

    async fn credential(&self, id: &str) -> Result<CredentialRecord, ManageError> {
        let known = self.follower().fresh().await?.credential(id).cloned();
        known.ok_or_else(|| absent("key", id))
    }

    /// Rules for one subject of an account, in place of those there are.
    pub async fn put_subject(
        &self,
        account: &str,
        auth_id: &AuthId,
        rules: &SubjectRules,
        blocked: bool,
    ) -> Result<SubjectRecord, ManageError> {
        self.check_dollars(&rules.to_text())?;
        self.must_exist(account).await?;
        let known = self.follower().fresh().await?.subject(account, auth_id).map(|s| s.stamp);
        let record = SubjectRecord {
            account: account.to_owned(),
            auth_id: auth_id.clone(),
            policy: rules.to_text(),
            blocked,
            deleted: false,
            stamp: Stamp::default(),
        };
        let expect = known.map_or(Expect::Absent, |stamp| Expect::Version(stamp.version));
        match self.put(Put { record: Record::Subject(record), expect }, "subject", account).await? {
            Record::Subject(record) => Ok(record),
            _ => Err(LedgerError::Misuse("another record came back").into()),
        }
    }

    /// The account's own rules hold for the subject again.
    pub async fn delete_subject(&self, account: &str, auth_id: &AuthId) -> Result<(), ManageError> {
        let known = self.follower().fresh().await?.subject(account, auth_id).cloned();
        let mut record = known.ok_or_else(|| absent("subject", auth_id.as_str()))?;
        let expect = Expect::Version(record.stamp.version);
        record.deleted = true;
        let put = Put { record: Record::Subject(record), expect };
        self.put(put, "subject", auth_id.as_str()).await.map(|_| ())
    }

    async fn put(&self, put: Put, kind: &'static str, name: &str) -> Result<Record, ManageError> {
        let done = self.apply(vec![put], kind, name).await?;
        done.into_iter().next().ok_or(LedgerError::Misuse("nothing came back").into())
    }

    async fn apply(
        &self,
        puts: Vec<Put>,
        kind: &'static str,
        name: &str,
    ) -> Result<Vec<Record>, ManageError> {
        self.record(operator_audit::of_puts(&puts, "")).await?;
        match self.follower().apply(puts.clone(), self.now_ms()).await? {
            Applied::Done(records) => {
                tracing::info!(kind, name, "accounts changed by the operator");
                Ok(records)
            }
            Applied::Refused(_, refusal) => {
                self.record(operator_audit::of_puts(&puts, "not done: ")).await?;
                Err(refused(refusal, kind, name))
            }
        }
    }
}

fn account_of(record: Record) -> Result<AccountRecord, ManageError> {
    match record {
        Record::Account(record) => Ok(record),
        _ => Err(LedgerError::Misuse("another record came back").into()),
    }
}

fn absent(kind: &'static str, name: &str) -> ManageError {
    ManageError::Absent { kind, name: name.chars().take(128).collect() }
}

fn refused(refusal: Refusal, kind: &'static str, name: &str) -> ManageError {
    match refusal {
        Refusal::Exists(version) => {
            ManageError::Conflict(format!("the {kind} {name} exists already (version {version})"))
        }
        Refusal::Absent => absent(kind, name),
        Refusal::Version(version) => ManageError::Conflict(format!(
            "the {kind} {name} was changed meanwhile (version {version})"
        )),
        Refusal::NoParent if kind == "account" => field("tier", "there is no such tier"),
        Refusal::NoParent => absent("account", name),
        Refusal::InUse => ManageError::Conflict(format!("the {kind} {name} still has accounts")),
        Refusal::HashTaken => {
            ManageError::Conflict("the certificate is registered already".to_owned())
        }
        Refusal::Full => {
            ManageError::Conflict(format!("there are too many records of this kind ({kind})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for good in ["a", "acme-1", "9.x_y", &"n".repeat(64)] {
            assert!(check_name("name", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a:b", "a/b", "a b", "é", "local", "default", &"n".repeat(65), "a\n"]
        {
            let error = check_name("name", bad).unwrap_err().to_string();
            assert!(error.starts_with("name: "), "{bad}: {error}");
        }
    }
}
