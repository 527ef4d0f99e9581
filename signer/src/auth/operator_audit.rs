//! What operators do, for the audit: recorded before it is done, so that with the audit blocked
//! nothing is changed. No secret is in a record: of a key only its public name.

use penstock_domain::{AuthId, B256};
use penstock_ledger::signer::{
    AuditEntry, AuditKind,
    accounts::{Expect, Put, Record},
    audit::MAX_REFERENCE_BYTES,
};
use sha2::{Digest, Sha256};

/// Who changes things through the admin API: whoever has its one token.
pub const ADMIN: &str = "admin";
/// Who runs the program's subcommands.
pub const COMMAND_LINE: &str = "command line";

/// A change, by whom. The digest is over all of the words; the reference has as many as fit.
pub fn entry(who: &str, account: &str, auth_id: Option<AuthId>, what: &str) -> AuditEntry {
    // NUL is no text to PostgreSQL.
    let mut reference = format!("{who}: {}", what.replace('\0', ""));
    let digest = B256::from_slice(&Sha256::digest(reference.as_bytes()));
    reference.truncate(reference.floor_char_boundary(MAX_REFERENCE_BYTES));
    AuditEntry {
        kind: AuditKind::Operator,
        digest,
        account: account.to_owned(),
        auth_id,
        reference,
    }
}

/// The records of writes to the accounts.
pub fn of_puts(puts: &[Put], prefix: &str) -> Vec<AuditEntry> {
    let entry_of = |put: &Put| {
        let (account, auth_id) = match &put.record {
            Record::Tier(_) => ("", None),
            Record::Account(account) => (account.name.as_str(), None),
            Record::Credential(key) => (key.account.as_str(), None),
            Record::Subject(subject) => (subject.account.as_str(), Some(subject.auth_id.clone())),
        };
        entry(ADMIN, account, auth_id, &format!("{prefix}{}", describe(put)))
    };
    puts.iter().map(entry_of).collect()
}

fn describe(put: &Put) -> String {
    let done = match put.expect {
        Expect::Absent => "created".to_owned(),
        Expect::Version(version) => format!("changed from version {version}"),
    };
    let expires = |at: Option<i64>| at.map_or("never".to_owned(), |ms| ms.to_string());
    match &put.record {
        Record::Tier(tier) if tier.deleted => format!("tier {} deleted", tier.name),
        Record::Tier(tier) => format!("tier {} {done}: policy {}", tier.name, tier.policy),
        Record::Account(account) => format!(
            "account {} {done}: blocked {}, tier {}, policy {}",
            account.name,
            account.blocked,
            account.tier.as_deref().unwrap_or("none"),
            account.policy
        ),
        Record::Credential(key) if key.revoked => format!("key {} revoked", key.id),
        Record::Credential(key) => {
            format!("key {} {done}: expires {}", key.id, expires(key.expires_at_ms))
        }
        Record::Subject(subject) if subject.deleted => {
            format!("rules of subject {} deleted", subject.auth_id)
        }
        Record::Subject(subject) => format!(
            "subject {} {done}: blocked {}, policy {}",
            subject.auth_id, subject.blocked, subject.policy
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_ledger::signer::accounts::{
        AccountRecord, CredentialKind, CredentialRecord, Stamp,
    };

    fn account(policy: String) -> Put {
        let record = Record::Account(AccountRecord {
            name: "acme".into(),
            tier: Some("gold".into()),
            policy,
            note: "private".into(),
            blocked: true,
            stamp: Stamp::default(),
        });
        Put { record, expect: Expect::Version(3) }
    }

    #[test]
    fn a_change_says_who_what_and_of_whom() {
        let entry = of_puts(&[account("{}".into())], "").remove(0);
        assert_eq!((entry.kind, entry.account.as_str()), (AuditKind::Operator, "acme"));
        let said = "admin: account acme changed from version 3: blocked true, tier gold, policy {}";
        assert_eq!(entry.reference, said);
        let refused = of_puts(&[account("{}".into())], "not done: ").remove(0);
        assert_eq!(refused.reference, said.replace("admin: ", "admin: not done: "));
    }

    #[test]
    fn a_long_change_is_cut_and_its_digest_is_of_all_of_it() {
        let long = |end: &str| of_puts(&[account("é".repeat(400) + end)], "").remove(0);
        let (one, other) = (long("a"), long("b"));
        assert!(one.reference.len() <= MAX_REFERENCE_BYTES);
        assert_eq!(one.reference, other.reference);
        assert_ne!(one.digest, other.digest);
    }

    #[test]
    fn of_a_key_there_is_its_name_only() {
        let record = Record::Credential(CredentialRecord {
            id: "psk_0a1b2c3d".into(),
            account: "acme".into(),
            kind: CredentialKind::ApiKey,
            hash: [0xab; 32],
            note: String::new(),
            revoked: false,
            expires_at_ms: Some(7),
            stamp: Stamp::default(),
        });
        let entry = of_puts(&[Put { record, expect: Expect::Absent }], "").remove(0);
        assert_eq!(entry.reference, "admin: key psk_0a1b2c3d created: expires 7");
    }
}
