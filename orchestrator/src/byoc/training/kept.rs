//! What the ledger keeps of a training job: what was agreed, how it stands, and, once it is over, what it comes to:
//! that is written before it is charged, so that whoever goes on after a crash charges the same once.

use super::{Standing, Training, ending::Ending};
use crate::{
    byoc::{admission::account, registry::Resumed},
    clock,
    node::Node,
};
use penstock_config::Secret;
use penstock_domain::Rational;
use penstock_ledger::orchestrator::{
    LedgerError, NewTraining, OrchestratorLedger, StoredTraining, TrainingNote, Watch,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use url::Url;
use uuid::Uuid;

/// After the ledger did not take a note, how long until the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// A job's row, and the attempt of this process that watches it.
pub(super) struct Hands {
    pub ledger: Arc<dyn OrchestratorLedger>,
    pub attempt: Uuid,
}

/// What was agreed when it began. Where its worker is, is never shown.
#[derive(Serialize, Deserialize)]
struct Terms {
    model: String,
    callback: Option<String>,
    url: String,
    token: Option<String>,
    /// Wei a second: what was agreed, and what the capability asked.
    price: String,
    asked: String,
}

/// How it stands.
#[derive(Serialize, Deserialize)]
struct Noted {
    /// As clients are told.
    now: Standing,
    /// What it comes to, if it is over and perhaps not charged yet.
    ending: Option<Ending>,
}

/// A job as the ledger has it.
pub(super) struct Kept {
    pub model: String,
    pub callback: Option<String>,
    pub worker: Resumed,
    /// Wei a second.
    pub price: Rational,
    pub standing: Standing,
    pub ending: Option<Ending>,
}

impl Kept {
    /// What a row says; `None`: it makes no sense to this program.
    pub fn read(row: &StoredTraining) -> Option<Self> {
        let terms: Terms = serde_json::from_str(&row.terms).ok()?;
        let noted: Noted = serde_json::from_str(&row.standing).ok()?;
        Some(Self {
            model: terms.model,
            callback: terms.callback,
            worker: Resumed {
                name: row.account.session().to_owned(),
                url: Url::parse(&terms.url).ok()?,
                price: terms.asked.parse().ok()?,
                token: terms.token.map(Secret::new),
            },
            price: terms.price.parse().ok()?,
            standing: noted.now,
            ending: noted.ending,
        })
    }
}

fn text(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|_| LedgerError::Corrupt { what: "training job" })
}

impl Training {
    /// Writes it down before anybody hears of it.
    pub(super) async fn keep_begun(&self) -> Result<(), LedgerError> {
        let Some(Hands { ledger, attempt }) = &self.hands else { return Ok(()) };
        let terms = Terms {
            model: self.model.clone(),
            callback: self.callback.clone(),
            url: self.brought.url.to_string(),
            token: self.brought.token.as_ref().map(|token| token.expose().to_owned()),
            price: self.price.to_string(),
            asked: self.brought.price.to_string(),
        };
        let account = account(self.sender, &self.brought.name);
        let job = NewTraining {
            id: self.id.clone(),
            account: account.map_err(|_| LedgerError::Corrupt { what: "balance key" })?,
            terms: text(&terms)?,
            standing: text(&Noted { now: self.standing_now(), ending: None })?,
            attempt: *attempt,
            now_ms: self.begun_ms,
        };
        ledger.begin_training(&job).await
    }

    /// How it stands, and for how long it was watched.
    pub(super) fn standing_now(&self) -> Standing {
        let watched_ms = self.watched_ms();
        Standing { watched_ms, ..self.lock().clone() }
    }

    /// Notes how it stands. `false`: it is not this process's any more.
    pub(super) async fn keep(
        &self,
        now: Standing,
        ending: Option<Ending>,
        then: Watch,
    ) -> Result<bool, LedgerError> {
        let Some(Hands { ledger, attempt }) = &self.hands else { return Ok(true) };
        let note = TrainingNote {
            id: self.id.clone(),
            attempt: *attempt,
            standing: text(&Noted { now, ending })?,
            then,
            now_ms: clock::now_ms(),
        };
        ledger.note_training(&note).await
    }

    /// The same for what must not be lost: while the ledger cannot be reached it is tried on, until this process has to
    /// go. `false`: it goes, or the job is not its own any more.
    pub(super) async fn keep_surely(
        &self,
        node: &Node,
        now: &Standing,
        ending: Option<&Ending>,
        then: Watch,
    ) -> bool {
        loop {
            match self.keep(now.clone(), ending.cloned(), then).await {
                Ok(is_ours) => return is_ours,
                Err(error) => {
                    let job = self.shown();
                    tracing::warn!(%error, job, "how a training job stands waits for the ledger");
                }
            }
            tokio::select! {
                () = node.live_stop.cancelled() => return false,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byoc::training::Status;
    use penstock_domain::Address;
    use penstock_ledger::orchestrator::AccountKey;
    use serde_json::json;

    #[test]
    fn what_is_kept_reads_back_and_what_makes_no_sense_does_not() {
        let now = Standing {
            result: Some(json!({ "loss": 0.1 })),
            brought: Some((1_500, "x".to_owned())),
            ..Standing::begun(7)
        };
        let ending = Ending {
            standing: Standing { status: Status::Failed, ..now.clone() },
            owed_seconds: 2,
            is_delivered: true,
            is_worker_told: false,
            decided_ms: 9,
        };
        let terms = json!({
            "model": "m", "callback": null, "url": "http://w:1/base", "token": "sesame",
            "price": "7/2", "asked": "3",
        });
        let row = |terms: String, standing: String| StoredTraining {
            id: "1".to_owned(),
            account: AccountKey::new(Address::ZERO, "lora").unwrap(),
            terms,
            standing,
            created_ms: 7,
            ended_ms: None,
        };
        let noted = text(&Noted { now: now.clone(), ending: Some(ending.clone()) }).unwrap();
        let kept = Kept::read(&row(terms.to_string(), noted.clone())).unwrap();
        assert_eq!((kept.standing, kept.ending), (now, Some(ending)));
        assert_eq!(
            (kept.price.to_string(), kept.worker.price.to_string()),
            ("7/2".into(), "3".into())
        );
        assert_eq!(
            (kept.worker.name.as_str(), kept.worker.url.as_str()),
            ("lora", "http://w:1/base")
        );
        let mut bad = terms.clone();
        bad["price"] = json!("many");
        for (terms, noted) in [
            (bad.to_string(), noted.clone()),
            (terms.to_string(), "{}".to_owned()),
            (String::new(), noted),
        ] {
            assert!(Kept::read(&row(terms, noted)).is_none());
        }
    }
}
