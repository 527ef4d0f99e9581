//! Payments that leave the books are announced in the audit before they do. The books' own mark counts no
//! further than that: else whoever can write to them could call any payment old.

use super::PAGE;
use crate::auth::operator_audit;
use penstock_ledger::signer::{AuditEntry, AuditKind, LedgerError, SignerLedger};

/// Who announces.
const WHO: &str = "retention";
const WORDS: &str = "payments leave that are older than ";

/// The record that payments made before this are about to leave, Unix milliseconds.
pub fn announcement(before_ms: i64) -> AuditEntry {
    operator_audit::entry(WHO, "", None, &format!("{WORDS}{before_ms}"))
}

/// What a record announces.
fn announced(entry: &AuditEntry) -> Option<i64> {
    let words = entry.reference.strip_prefix(WHO)?.strip_prefix(": ")?.strip_prefix(WORDS)?;
    (entry.kind == AuditKind::Operator).then(|| words.parse().ok())?
}

/// How far back payments are all there, Unix milliseconds; 0: none ever left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// As the books say.
    pub said_ms: i64,
    /// As far as it was announced, too.
    pub before_ms: i64,
}

impl Mark {
    /// As it is now. Reads all records, if anything ever left.
    pub async fn now(ledger: &dyn SignerLedger) -> Result<Self, LedgerError> {
        // First: it was announced before it was written.
        let said_ms = ledger.pruned().await?.before_ms;
        let mut announced_ms = 0;
        if said_ms > 0 {
            for chain in ledger.audit_chains().await? {
                let mut next = 1;
                while next <= chain.seq {
                    let page = ledger.audit_records(&chain.name, next, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    next = last.seq.saturating_add(1);
                    let here = page.iter().filter_map(|record| announced(&record.entry)).max();
                    announced_ms = here.map_or(announced_ms, |ms| ms.max(announced_ms));
                }
            }
        }
        Ok(Self { said_ms, before_ms: said_ms.min(announced_ms) })
    }

    /// The same, later; reads the records again only if the books say something else.
    pub async fn again(&mut self, ledger: &dyn SignerLedger) -> Result<(), LedgerError> {
        if ledger.pruned().await?.before_ms != self.said_ms {
            *self = Self::now(ledger).await?;
        }
        Ok(())
    }

    /// What is wrong with it.
    pub fn fault(&self) -> Option<String> {
        (self.said_ms > self.before_ms).then(|| {
            let Self { said_ms, before_ms } = self;
            format!(
                "the books say that payments before {said_ms} left them; the audit announces it of \
                 those before {before_ms}"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_reads_back() {
        let entry = announcement(86_400_000);
        assert_eq!(announced(&entry), Some(86_400_000));
        let other = AuditEntry { kind: AuditKind::Ticket, ..entry.clone() };
        assert_eq!(announced(&other), None);
        let admin = operator_audit::entry(operator_audit::ADMIN, "", None, &entry.reference);
        assert_eq!(announced(&admin), None);
    }
}
