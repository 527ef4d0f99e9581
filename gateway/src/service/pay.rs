//! Credit for a job: reserved in the store; when there is too little, bought first (module `purchase`).

use super::{
    Gateway,
    at_work::Working,
    error::TryError,
    purchase::Purchase,
    session::{Account, Purpose, SESSION_TTL_MS, Session, SessionLease},
    units::{Terms, Wanted},
};
use crate::{clock, front::caller::Caller, trace};
use penstock_clients::PaymentContext;
use penstock_store::{CreditKey, HoldId, Reserve, SessionRecord, StoreError};
use penstock_telemetry::step;
use penstock_wire::{OrchestratorOffer, PaymentFields, WireError, header, json::PaymentState, net};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tracing::Instrument;

/// Payments that one job may take: a job needs at most so many times what one payment may hold.
const MAX_PURCHASES: u32 = 40;

/// Seconds bought beyond what a brought job needs: two minutes together with the least, as the
/// reference keeps there (byoc.md section 6).
const BROUGHT_AHEAD_S: u64 = 60;

/// What credit is bought for, and how much a job is estimated at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    /// A job that waits for it.
    Job(u64),
    /// Those to come, while there is credit left.
    Ahead(u64),
}

/// A session with credit set aside for one job.
#[derive(Debug, Clone)]
pub struct Funded {
    /// The session, as of now.
    pub session: Session,
    credit: CreditKey,
    hold: HoldId,
    estimate_units: u64,
    /// Off-chain there is no credit, and nothing to settle.
    free: bool,
    /// What it used is known: whoever says so first has the last word.
    is_settled: Arc<AtomicBool>,
    /// Counted while there is any clone of this.
    _working: Arc<Working>,
}

impl Funded {
    /// On whose account.
    pub fn auth_id(&self) -> &penstock_domain::AuthId {
        &self.credit.auth_id
    }

    /// What was set aside.
    pub fn estimate_units(&self) -> u64 {
        self.estimate_units
    }
}

impl Gateway {
    /// Sets credit aside for a job of so many units, buying what is missing.
    pub async fn fund(
        &self,
        purpose: &Purpose,
        session: Session,
        estimate_units: u64,
    ) -> Result<Funded, TryError> {
        let mut session = self.within_price(purpose, session).await?;
        let hold = HoldId(uuid::Uuid::new_v4().simple().to_string());
        // A price that a renewal found is paid.
        let is_free = purpose.account.is_free() && session.offer.price.is_none();
        if self.settings.front.offchain || is_free {
            let credit = self.credit_key(&purpose.caller, &session).await?;
            return Ok(self.funded(session, credit, hold, estimate_units, true));
        }
        let mut deadline = tokio::time::Instant::now() + self.lease_patience();
        let mut purchases = 0;
        loop {
            let credit = self.credit_key(&purpose.caller, &session).await?;
            let terms = terms(&session)?;
            let (floor, now) = (terms.floor_units, clock::now());
            // A state that was lost with the store cannot sign; then credit alone is not enough.
            let have_units = if session.record.payment_state.is_some() {
                match self.store.reserve(&credit, &hold, estimate_units, floor, now).await? {
                    Reserve::Granted { left_units } => {
                        self.paces.took(&session.key, estimate_units, clock::instant());
                        self.look_ahead(purpose, &session, &terms, estimate_units, left_units);
                        return Ok(self.funded(session, credit, hold, estimate_units, false));
                    }
                    Reserve::Short { have_units } => have_units,
                }
            } else {
                self.store.credit(&credit, now).await?.min(0)
            };
            // Buying without ever reaching the estimate would only give money away.
            if purchases == MAX_PURCHASES
                || !terms.is_within_reach(estimate_units, have_units, MAX_PURCHASES)
            {
                return Err(TryError::TooDear { units: estimate_units });
            }
            let _waiting = self.demand.wait(&session.key, estimate_units);
            let found = match self.turns.take(&session.key) {
                // What somebody here buys may be enough for this job too.
                Err(others) => {
                    let end = tokio::time::timeout_at(deadline, others.end()).await;
                    end.map_err(|_| TryError::LeaseBusy)?;
                    self.session_again(session).await?
                }
                Ok(turn) => {
                    purchases += 1;
                    let lease = self.lease_in_turn(&turn).await?;
                    let need = Need::Job(estimate_units);
                    let bought = self.buy(purpose, &session, &terms, need, lease).await?;
                    self.paces.bought(&session.key);
                    deadline = tokio::time::Instant::now() + self.lease_patience();
                    bought
                }
            };
            session = self.within_price(purpose, found).await?;
        }
    }

    /// A session that somebody else may have changed. One that is gone is opened when it is bought for.
    async fn session_again(&self, old: Session) -> Result<Session, TryError> {
        Ok(match self.store.session(&old.key, clock::now()).await? {
            Some(record) => Session::read(old.key, record, old.via)?,
            None => old,
        })
    }

    /// Buys with the session's lease in hand, and gives it back.
    pub(super) async fn buy(
        &self,
        purpose: &Purpose,
        seen: &Session,
        terms: &Terms,
        need: Need,
        lease: SessionLease,
    ) -> Result<Session, TryError> {
        let bought = tokio::select! {
            bought = self.buy_under_lease(purpose, seen, terms, need, &lease) => bought,
            never = self.keep_lease(&seen.key, &lease) => match never {},
        };
        lease.claim.give_back().await;
        bought
    }

    fn funded(
        &self,
        session: Session,
        credit: CreditKey,
        hold: HoldId,
        estimate_units: u64,
        free: bool,
    ) -> Funded {
        let account = session.record.manifest_id.as_str();
        let _working = self.at_work.begin(&session.key.orchestrator, account);
        let is_settled = Arc::default();
        Funded { session, credit, hold, estimate_units, free, is_settled, _working }
    }

    /// The session if its offer is within `--max-price` and what the caller pays at most: it may be dearer than the one that was chosen
    /// by. The orchestrator is asked once more, because a stored offer may be outdated.
    async fn within_price(&self, purpose: &Purpose, session: Session) -> Result<Session, TryError> {
        if self.price_is_fine(purpose, &session) {
            return Ok(session);
        }
        let fresh = self.refresh_session(purpose, &session).await?;
        if self.price_is_fine(purpose, &fresh) { Ok(fresh) } else { Err(TryError::PriceAboveLimit) }
    }

    pub(super) fn price_is_fine(&self, purpose: &Purpose, session: &Session) -> bool {
        let (caller, models) = (&purpose.caller, purpose.models());
        let price = session.offer.price.map(|p| p.rational());
        // A session that was paid for already may go a little above it.
        let most = match session.record.payment_state {
            Some(_) => self.tolerated_price(caller, &models),
            None => self.price_ceiling(caller, &models),
        };
        match (most, price) {
            (Ok(Some(most)), Some(price)) => price <= most,
            // Nobody knows what is too dear.
            (Err(_), _) => false,
            _ => true,
        }
    }

    /// Ends the job's hold with what it really used. Never fails the job: the store's own
    /// forgetting of holds is on the safe side.
    pub async fn settle(&self, funded: &Funded, used_units: u64) {
        // A job that used what it used and fails on the way back is settled twice: first with that.
        if funded.free || funded.is_settled.swap(true, Ordering::Relaxed) {
            return;
        }
        if used_units == funded.estimate_units {
            // Nothing comes back and nothing more is taken.
            self.afterwards.spent(&funded.credit, &funded.hold);
            return;
        }
        let done = self.store.settle(&funded.credit, &funded.hold, used_units, clock::now());
        if let Err(error) = done.await {
            tracing::warn!(%error, used_units, "a job was not settled; its estimate stays spent");
        }
    }

    /// The orchestrator has less than we thought: forget what we thought, and end the payment session.
    /// The signer counts what its last tickets were worth beyond what was asked for; if the
    /// orchestrator lost that too, the next tickets of the same session would be too few.
    ///
    /// A purchase under way is finished first, by whoever buys next: its tickets may be signed, and what
    /// the signer said of them is found by the state that they were asked with.
    pub async fn forfeit(&self, funded: &Funded) -> Result<(), TryError> {
        if funded.free {
            return Ok(());
        }
        tracing::info!(
            orchestrator = funded.credit.orchestrator,
            session = funded.credit.session,
            "the orchestrator has no credit of ours; buying anew"
        );
        let key = &funded.session.key;
        let lease = self.lease(key).await?;
        let now = clock::now();
        let forgotten = async {
            let record = self.store.session(key, now).await?;
            // Another job may have met the same refusal and begun anew already: what it bought
            // since then is there.
            let same = |r: &SessionRecord| {
                r.payment_state == funded.session.record.payment_state
                    && r.manifest_id == funded.session.record.manifest_id
            };
            if record.as_ref().is_none_or(same) {
                self.store.forfeit(&funded.credit, now).await?;
            }
            if let Some(mut record) = record.filter(|r| same(r) && r.purchase.is_none()) {
                record.payment_state = None;
                self.store.save_session(key, lease.fence, &record, SESSION_TTL_MS, now).await?;
            }
            Ok::<_, StoreError>(())
        }
        .await;
        lease.claim.give_back().await;
        Ok(forgotten?)
    }

    async fn buy_under_lease(
        &self,
        purpose: &Purpose,
        seen: &Session,
        terms: &Terms,
        need: Need,
        lease: &SessionLease,
    ) -> Result<Session, TryError> {
        let now = clock::now();
        let Some(record) = self.store.session(&seen.key, now).await? else {
            return match need {
                Need::Job(_) => self.renew(purpose, &seen.key, seen.via, lease.fence).await,
                Need::Ahead(_) => Ok(seen.clone()),
            };
        };
        let session = Session::read(seen.key.clone(), record, seen.via)?;
        let credit = self.credit_key(&purpose.caller, &session).await?;
        let have = self.store.credit(&credit, now).await?;
        let (key, now) = (&seen.key, clock::instant());
        let pace = self.units_ahead(&session, now);
        let has_state = session.record.payment_state.is_some();
        let (estimate_units, enough) = match need {
            Need::Job(units) => (units, i64::try_from(terms.required(units)).unwrap_or(i64::MAX)),
            Need::Ahead(units) => (units, terms.enough_ahead(units, pace)),
        };
        if session.record.purchase.is_none() && has_state && have >= enough {
            // Whoever had the lease before us bought it.
            return Ok(session);
        }
        if matches!(need, Need::Ahead(_)) && !(has_state && self.price_is_fine(purpose, &session)) {
            // A payment session begins, or goes on at another price, with a job that asked for it.
            return Ok(session);
        }
        let repeat = session.record.purchase.is_some();
        let wanted = match &purpose.account {
            // A brought job's estimate is the longest that it may take, and mostly far too much.
            Account::Brought { .. } => {
                let more = estimate_units.saturating_add(BROUGHT_AHEAD_S);
                Wanted { waiting: self.demand.of(key).max(more), ahead: 0 }
            }
            _ => {
                let jobs = self.settings.args.prepay_jobs.saturating_sub(1);
                let ahead = estimate_units.saturating_mul(jobs.into()).max(pace);
                Wanted { waiting: self.demand.of(key), ahead }
            }
        };
        let most = self.paces.most(key, now).max(1);
        let units = terms.purchase(estimate_units, wanted, have).min(most);
        let (least, units) = match need {
            Need::Job(_) => {
                let least = terms.purchase(estimate_units, Wanted::default(), have);
                (least, units.max(least))
            }
            // Nobody needs less.
            Need::Ahead(_) => (units, units),
        };
        let (fence, owner) = (lease.fence, &lease.owner);
        let mut purchase = Purchase { gateway: self, purpose, session, fence, owner, least };
        purchase.begin(units).await?;
        purchase.issue_and_deliver(terms, repeat).await?;
        Ok(purchase.session)
    }
}

impl Gateway {
    /// The signed credential of a job, a ready value of `Livepeer-Segment`: by the signer, within the
    /// payment session. Off-chain nobody signs.
    pub(super) async fn sign_credential(
        &self,
        caller: &Caller,
        session: &Session,
        unsigned: &net::SegData,
    ) -> Result<String, TryError> {
        if self.settings.front.offchain {
            return Ok(header::encode_segment(unsigned));
        }
        let state = session.record.payment_state.as_deref().ok_or(WireError::Missing("state"))?;
        let state = read_state(state)?;
        let signing = async {
            let trace = trace::outgoing();
            let context = PaymentContext {
                auth_id: Some(&caller.auth_id),
                traceparent: trace.as_deref(),
                ..PaymentContext::default()
            };
            self.signer.sign_segment_credentials(&state, unsigned, context).await
        };
        Ok(signing.instrument(step!("sign_credential", otel.kind = "client")).await?)
    }
}

/// The value of `Livepeer-Payment` for a job whose credit is there already: who pays and at what
/// price, no tickets. Nothing at all where nobody pays.
pub fn empty_payment(sender: penstock_domain::Address, offer: &OrchestratorOffer) -> String {
    if sender.is_zero() {
        return String::new();
    }
    let fields = PaymentFields {
        sender: Some(sender),
        expected_price: offer.price,
        ..PaymentFields::default()
    };
    header::encode_payment(&fields.to_message())
}

/// The state as stored.
pub fn read_state(text: &str) -> Result<PaymentState, WireError> {
    let wrong = |e: serde_json::Error| WireError::Json { what: "state", reason: e.to_string() };
    PaymentState::new(serde_json::from_str(text).map_err(wrong)?)
}

fn terms(session: &Session) -> Result<Terms, TryError> {
    let terms = session.offer.terms()?;
    Terms::of(terms.price, terms.ticket_params).ok_or(TryError::Offer(WireError::Invalid {
        what: "offer",
        reason: "must have a price and a ticket value",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Args, Settings},
        front::workload::Workload,
        service::peers::Via,
    };
    use penstock_domain::{Address, ManifestId};
    use penstock_store::{MemorySegments, MemoryStore, SessionKey};
    use penstock_wire::AuthToken;

    fn session() -> Session {
        let offer = OrchestratorOffer {
            transcoder: Some("https://o:8935".into()),
            address: None,
            price: None,
            ticket_params: None,
            capabilities: None,
            auth_token: Some(AuthToken {
                token: vec![1],
                session_id: "5e551011".into(),
                expiration_s: 1,
            }),
            storage: None,
            capabilities_prices: Vec::new(),
            hardware: Vec::new(),
            nodes: Vec::new(),
        };
        let key =
            SessionKey { scope: "stream:a".into(), orchestrator: "https://o:8935".to_owned() };
        let record = SessionRecord {
            info: offer.encode(),
            info_at: clock::now(),
            manifest_id: ManifestId::new("5e551011").unwrap(),
            payment_state: None,
            credential: None,
            purchase: None,
        };
        Session::read(key, record, Via { workload: Workload::Video, foreign: false }).unwrap()
    }

    /// As when a segment was done and charged, and its renditions cannot be fetched.
    #[tokio::test]
    async fn what_was_used_is_not_given_back_by_what_fails_later() {
        penstock_http_kit::tls::install_crypto_provider();
        let args: Args = penstock_config::try_parse_from(["penstock-gateway"]).unwrap();
        let (settings, store) =
            (Settings::from_args(args).unwrap(), Arc::new(MemoryStore::default()));
        let gateway =
            Gateway::new(settings, store.clone(), Arc::new(MemorySegments::new(1))).unwrap();
        let credit = CreditKey {
            auth_id: penstock_domain::AuthId::new("a").unwrap(),
            sender: Address::ZERO,
            orchestrator: "https://o:8935".into(),
            session: "5e551011".into(),
        };
        let (store, now): (&dyn penstock_store::SessionStore, _) = (&*store, clock::now());
        store.book_purchase(&credit, "p", 10, 60_000, now).await.unwrap();
        for (estimate_units, used, left) in [(4, 4, 6), (5, 3, 3)] {
            let hold = HoldId(used.to_string());
            store.reserve(&credit, &hold, estimate_units, 0, now).await.unwrap();
            let funded = gateway.funded(session(), credit.clone(), hold, estimate_units, false);
            gateway.settle(&funded, used).await;
            gateway.settle(&funded, 0).await;
            assert_eq!(store.credit(&credit, now).await.unwrap(), left, "{estimate_units}");
        }
        gateway.jobs.close();
        gateway.jobs.wait().await;
        assert_eq!(store.credit(&credit, now).await.unwrap(), 3);
    }
}
