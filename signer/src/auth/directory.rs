//! All accounts of the books, in memory, ready to answer: built from the records in the order of
//! their changes. Pure; who follows the books is in `follower`.

use super::{
    Account, AuthError, Policy,
    rate::RateLimit,
    rules::{Rules, SubjectRules},
};
use penstock_domain::AuthId;
use penstock_ledger::signer::accounts::{
    AccountRecord, CredentialRecord, Record, SubjectRecord, TierRecord,
};
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::Arc,
};

/// An account that can be let in, with its bucket of requests.
pub type Open = (Arc<Account>, Arc<RateLimit>);

/// An account.
#[derive(Debug)]
struct Entry {
    record: AccountRecord,
    /// `None`: its rules cannot be read, so nothing is known of its limits and nobody gets in.
    open: Option<Open>,
}

/// What the books say, as of one change number.
#[derive(Debug, Default)]
pub struct Directory {
    latest: u64,
    tiers: BTreeMap<String, (TierRecord, Option<Rules>)>,
    accounts: BTreeMap<String, Entry>,
    credentials: BTreeMap<String, CredentialRecord>,
    by_hash: HashMap<[u8; 32], String>,
    subjects: BTreeMap<(String, AuthId), (SubjectRecord, Option<SubjectRules>)>,
    /// How many share each rate; `None`: nobody else.
    rate_replicas: Option<NonZeroU32>,
}

impl Directory {
    /// An empty one, whose rates are shared by so many.
    pub fn sharing_rates(replicas: NonZeroU32) -> Self {
        Self { rate_replicas: Some(replicas), ..Self::default() }
    }

    /// The newest change in it.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// Takes changes in, in their order.
    pub fn take(&mut self, records: Vec<Record>) {
        for record in records {
            self.latest = self.latest.max(record.stamp().changed);
            match record {
                Record::Tier(record) => self.take_tier(record),
                Record::Account(record) => self.take_account(record),
                Record::Credential(record) => {
                    self.by_hash.insert(record.hash, record.id.clone());
                    self.credentials.insert(record.id.clone(), record);
                }
                Record::Subject(record) => {
                    let rules = SubjectRules::parse(&record.policy);
                    let rules = readable("subject", record.auth_id.as_str(), rules);
                    let key = (record.account.clone(), record.auth_id.clone());
                    self.subjects.insert(key, (record, rules));
                }
            }
        }
    }

    fn take_tier(&mut self, record: TierRecord) {
        let name = record.name.clone();
        let rules = readable("tier", &name, Rules::parse(&record.policy));
        self.tiers.insert(name.clone(), (record, rules));
        // Records arrive by change number, so accounts may have come before a tier's later change.
        let of_tier: Vec<AccountRecord> = self
            .accounts
            .values()
            .filter(|entry| entry.record.tier.as_ref() == Some(&name))
            .map(|entry| entry.record.clone())
            .collect();
        for record in of_tier {
            self.take_account(record);
        }
    }

    fn take_account(&mut self, record: AccountRecord) {
        let policy = self.policy_of(&record);
        let known = self.accounts.get(&record.name).and_then(|entry| entry.open.as_ref());
        let open = policy.map(|policy| {
            let limit = match known {
                // A change of something else must not refill the bucket.
                Some((account, limit))
                    if account.policy().requests_per_second == policy.requests_per_second =>
                {
                    Arc::clone(limit)
                }
                _ => Arc::new(RateLimit::new(
                    policy.requests_per_second,
                    self.rate_replicas.unwrap_or(NonZeroU32::MIN),
                )),
            };
            (Arc::new(Account::new(record.name.clone(), policy)), limit)
        });
        self.accounts.insert(record.name.clone(), Entry { record, open });
    }

    fn policy_of(&self, record: &AccountRecord) -> Option<Policy> {
        let rules = readable("account", &record.name, Rules::parse(&record.policy))?;
        match &record.tier {
            None => Some(rules.over(None)),
            Some(name) => {
                // An absent tier has not arrived yet; its record will come with a later number.
                let (_, tier) = self.tiers.get(name)?;
                Some(rules.over(Some((name, tier.as_ref()?))))
            }
        }
    }

    /// The account of a credential's hash, if it is let in at `now_ms`.
    pub fn by_credential(&self, hash: &[u8; 32], now_ms: i64) -> Result<Open, AuthError> {
        let credential = self.by_hash.get(hash).and_then(|id| self.credentials.get(id));
        let credential = credential.ok_or(AuthError::Unauthenticated)?;
        if credential.revoked {
            return Err(AuthError::Revoked(credential.id.clone()));
        }
        if credential.expires_at_ms.is_some_and(|end| end <= now_ms) {
            return Err(AuthError::Expired(credential.id.clone()));
        }
        self.by_name(&credential.account)?.ok_or(AuthError::Unauthenticated)
    }

    /// An account by its name, if there is one, unless it is blocked.
    pub fn by_name(&self, name: &str) -> Result<Option<Open>, AuthError> {
        let Some(entry) = self.accounts.get(name) else { return Ok(None) };
        match &entry.open {
            Some(open) if !entry.record.blocked => Ok(Some(open.clone())),
            _ => Err(AuthError::Blocked(name.to_owned())),
        }
    }

    /// The policy of an account with the budgets of one of its subjects in it.
    pub fn policy_for(&self, account: &Account, subject: &AuthId) -> Result<Policy, AuthError> {
        let key = (account.name().to_owned(), subject.clone());
        match self.subjects.get(&key) {
            Some((record, _)) if record.deleted => Ok(account.policy().clone()),
            Some((record, Some(rules))) if !record.blocked => Ok(rules.over(account.policy())),
            Some(_) => Err(AuthError::BlockedSubject(subject.clone())),
            None => Ok(account.policy().clone()),
        }
    }

    /// The tiers that are not deleted, by name.
    pub fn tiers(&self) -> impl Iterator<Item = &TierRecord> {
        self.tiers.values().map(|(record, _)| record).filter(|record| !record.deleted)
    }

    /// A tier.
    pub fn tier(&self, name: &str) -> Option<&TierRecord> {
        self.tiers.get(name).map(|(record, _)| record).filter(|record| !record.deleted)
    }

    /// The accounts after a name, by name, each with the policy that counts.
    pub fn accounts_after(
        &self,
        after: &str,
    ) -> impl Iterator<Item = (&AccountRecord, Option<&Policy>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = self.accounts.range::<str, _>((Excluded(after), Unbounded));
        range.map(|(_, entry)| entry.shown())
    }

    /// An account with the policy that counts.
    pub fn account(&self, name: &str) -> Option<(&AccountRecord, Option<&Policy>)> {
        self.accounts.get(name).map(Entry::shown)
    }

    /// The credentials of an account, by id.
    pub fn credentials_of(&self, account: &str) -> impl Iterator<Item = &CredentialRecord> {
        self.credentials.values().filter(move |c| c.account == account)
    }

    /// A credential.
    pub fn credential(&self, id: &str) -> Option<&CredentialRecord> {
        self.credentials.get(id)
    }

    /// The subjects of an account that have rules of their own.
    pub fn subjects_of(&self, account: &str) -> impl Iterator<Item = &SubjectRecord> {
        let all = self.subjects.values().map(|(record, _)| record);
        all.filter(move |s| s.account == account && !s.deleted)
    }

    /// The rules of one subject.
    pub fn subject(&self, account: &str, auth_id: &AuthId) -> Option<&SubjectRecord> {
        let key = (account.to_owned(), auth_id.clone());
        self.subjects.get(&key).map(|(record, _)| record).filter(|record| !record.deleted)
    }
}

impl Entry {
    fn shown(&self) -> (&AccountRecord, Option<&Policy>) {
        (&self.record, self.open.as_ref().map(|(account, _)| account.policy()))
    }
}

/// Rules that a newer version wrote, or a hand: said, and nobody is let in by them.
fn readable<T>(kind: &str, name: &str, rules: Result<T, super::rules::BadRules>) -> Option<T> {
    match rules {
        Ok(rules) => Some(rules),
        Err(error) => {
            tracing::error!(kind, name, %error, "rules in the ledger cannot be read: blocked");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_ledger::signer::accounts::{CredentialKind, Stamp};

    fn stamp(changed: u64) -> Stamp {
        Stamp { version: 1, changed, ..Stamp::default() }
    }

    fn tier(changed: u64, policy: &str) -> Record {
        Record::Tier(TierRecord {
            name: "gold".into(),
            policy: policy.into(),
            deleted: false,
            stamp: stamp(changed),
        })
    }

    fn account(changed: u64, policy: &str) -> AccountRecord {
        AccountRecord {
            name: "a".into(),
            tier: Some("gold".into()),
            policy: policy.into(),
            note: String::new(),
            blocked: false,
            stamp: stamp(changed),
        }
    }

    fn key(changed: u64) -> CredentialRecord {
        CredentialRecord {
            id: "psk_1".into(),
            account: "a".into(),
            kind: CredentialKind::ApiKey,
            hash: [1; 32],
            note: String::new(),
            revoked: false,
            expires_at_ms: Some(100),
            stamp: stamp(changed),
        }
    }

    fn directory() -> Directory {
        let mut directory = Directory::default();
        let rate = tier(1, r#"{"requests_per_second": 1}"#);
        directory.take(vec![rate, Record::Account(account(2, "{}")), Record::Credential(key(3))]);
        directory
    }

    #[test]
    fn a_key_is_let_in_until_it_expires_or_is_taken_back() {
        let mut directory = directory();
        assert_eq!(directory.latest(), 3);
        let at =
            |d: &Directory, ms| d.by_credential(&[1; 32], ms).map(|(a, _)| a.name().to_owned());
        assert_eq!(at(&directory, 99).unwrap(), "a");
        assert_eq!(at(&directory, 100), Err(AuthError::Expired("psk_1".into())));
        let unknown = directory.by_credential(&[2; 32], 0).map(|_| ());
        assert_eq!(unknown, Err(AuthError::Unauthenticated));
        let revoked = CredentialRecord { revoked: true, ..key(4) };
        directory.take(vec![Record::Credential(revoked)]);
        assert_eq!(at(&directory, 0), Err(AuthError::Revoked("psk_1".into())));
        directory.take(vec![Record::Credential(key(5))]);
        let blocked = AccountRecord { blocked: true, ..account(6, "{}") };
        directory.take(vec![Record::Account(blocked)]);
        assert_eq!(at(&directory, 0), Err(AuthError::Blocked("a".into())));
    }

    #[test]
    fn a_changed_tier_changes_its_accounts_and_rules_that_cannot_be_read_block() {
        let mut directory = directory();
        let budget = |d: &Directory| d.by_name("a").map(|a| a.unwrap().0.policy().budget_day);
        assert_eq!(budget(&directory), Ok(None));
        directory.take(vec![tier(4, r#"{"budget_day": "5 wei"}"#)]);
        assert_eq!(budget(&directory).unwrap().unwrap().to_string(), "5 wei");
        directory.take(vec![tier(5, r#"{"from_the_future": 1}"#)]);
        assert_eq!(budget(&directory), Err(AuthError::Blocked("a".into())));
        directory.take(vec![tier(6, "{}"), Record::Account(account(7, "not json"))]);
        assert_eq!(budget(&directory), Err(AuthError::Blocked("a".into())));
    }

    #[test]
    fn a_change_of_something_else_does_not_refill_the_bucket() {
        let mut directory = directory();
        let limit = directory.by_name("a").unwrap().unwrap().1;
        while limit.take().is_ok() {}
        directory.take(vec![Record::Account(account(4, r#"{"budget_day": "1 wei"}"#))]);
        let after = directory.by_name("a").unwrap().unwrap();
        assert!(Arc::ptr_eq(&limit, &after.1));
        assert!(after.0.policy().budget_day.is_some());
        directory.take(vec![Record::Account(account(5, r#"{"requests_per_second": 2}"#))]);
        assert!(!Arc::ptr_eq(&limit, &directory.by_name("a").unwrap().unwrap().1));
    }

    #[test]
    fn subjects_have_their_own_budgets() {
        let mut directory = directory();
        directory.take(vec![Record::Account(account(4, r#"{"subject_day": "9 wei"}"#))]);
        let (account, _) = directory.by_name("a").unwrap().unwrap();
        let bob = AuthId::new("a:bob").unwrap();
        let day = |d: &Directory| {
            d.policy_for(&account, &bob).map(|p| p.subject_day.map(|b| b.to_string()))
        };
        assert_eq!(day(&directory).unwrap().unwrap(), "9 wei");
        let subject = |changed, policy: &str, blocked, deleted| {
            Record::Subject(SubjectRecord {
                account: "a".into(),
                auth_id: bob.clone(),
                policy: policy.into(),
                blocked,
                deleted,
                stamp: stamp(changed),
            })
        };
        directory.take(vec![subject(5, r#"{"budget_day": "2 wei"}"#, false, false)]);
        assert_eq!(day(&directory).unwrap().unwrap(), "2 wei");
        directory.take(vec![subject(6, "{}", true, false)]);
        assert_eq!(day(&directory), Err(AuthError::BlockedSubject(bob.clone())));
        directory.take(vec![subject(7, "{}", false, true)]);
        assert_eq!(day(&directory).unwrap().unwrap(), "9 wei");
        assert_eq!(directory.subject("a", &bob), None);
    }
}
