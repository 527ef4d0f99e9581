//! A session with one orchestrator for one purpose: its newest offer, its account, its payment
//! state. What is here is read from the store at each use and written back under a lease.

use super::{
    Gateway,
    choose::Chosen,
    claimed::Claimed,
    error::TryError,
    identity::offer_request,
    peers::Via,
    policy::models_of,
    turns::{Others, Turn},
};
use crate::{
    clock,
    front::{caller::Caller, workload::Workload},
};
use penstock_domain::{Capabilities, Capability, ManifestId, PriceInfo};
use penstock_store::{
    CreditKey, Fence, Lease, OwnerId, Saved, SessionKey, SessionRecord, UnixMs, scope_of,
};
use penstock_telemetry::step;
use penstock_wire::{AuthToken, OrchestratorOffer, WireError, limits};
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tracing::Instrument;
use uuid::Uuid;

/// How names of purchases begin that follow from a job's `Idempotency-Key`.
pub(super) const JOB_PURCHASE: &str = "job-";
/// How long a session is kept after its last change. Orchestrators forget balances after 10 min.
pub const SESSION_TTL_MS: u64 = 1_800_000;
/// For a short change of a record.
pub const LEASE_MS: u64 = 4_000;
/// Longest offer of a session that is kept for a moment.
const WARM_INFO_BYTES: usize = 16 * 1024;
/// How long to wait for a lease beyond one that a dead holder left; and how often to look.
const LEASE_PATIENCE_MS: u64 = 2_000;
const LEASE_LOOK: Duration = Duration::from_millis(20);

/// Whose account at the orchestrator a session pays into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// That of the auth token's session id: video. A new token is a new account.
    TokenSession,
    /// A fixed one: batch AI, `{capability}_{model}` (orchestrator-wire.md section 7).
    Fixed(ManifestId),
    /// That of a brought capability, which is named after it. Its terms are those of the capability's
    /// token, and not of the orchestrator's offer.
    Brought {
        /// Its name.
        name: ManifestId,
        /// What the orchestrator said it costs a second, just now; `None`: nothing. A session at
        /// another price is not used any more.
        price: Option<PriceInfo>,
    },
}

impl Account {
    /// Whose connections are used.
    pub fn workload(&self) -> Workload {
        match self {
            Self::TokenSession => Workload::Video,
            Self::Fixed(_) | Self::Brought { .. } => Workload::Ai,
        }
    }

    /// Whether an offer is on the terms that this account knows of.
    fn is_current(&self, offer: &OrchestratorOffer) -> bool {
        match self {
            Self::Brought { price, .. } => offer.price == *price,
            _ => true,
        }
    }

    /// Whether a session that was read a moment ago will do: an AI job takes nothing from it but the offer
    /// and the credential, which are good for minutes, while its credit is counted in the store. A
    /// segment is signed within the payment state, and a brought capability's price is asked each time.
    fn may_be_warm(&self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Whether nothing is paid.
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Brought { price: None, .. })
    }
}

/// What a session is for.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// On whose account. Callers share neither credit nor payment states: the signer binds a state
    /// to the account that it was made for.
    pub caller: Caller,
    /// `stream:…` or `ai:…`, see [`Purpose::new`].
    pub scope: String,
    /// Account rule.
    pub account: Account,
    /// What the job asks for: goes into offers and credentials.
    pub job: Capabilities,
    /// Payment sessions that this job has begun.
    begun: Arc<AtomicU32>,
}

impl Purpose {
    /// The models that are paid for, by capability; of video none.
    pub fn models(&self) -> Vec<(u32, &str)> {
        match &self.account {
            Account::Brought { name, .. } => vec![(Capability::Byoc.number(), name.as_str())],
            _ => models_of(&self.job),
        }
    }

    /// A purpose of one caller: `scope` (a stream, a model) is theirs alone.
    pub fn new(caller: &Caller, scope: &str, account: Account, job: Capabilities) -> Self {
        let scope = scope_of(scope, &caller.auth_id);
        Self { caller: caller.clone(), scope, account, job, begun: Arc::default() }
    }

    /// The same for what is bought for no job in particular.
    pub(super) fn of_no_job(&self) -> Self {
        let mut purpose = self.clone();
        purpose.caller.idempotency_key = None;
        purpose
    }

    /// Names a purchase, at the signer and of the credit booked. The first of a payment session, for a
    /// job with an `Idempotency-Key`, is named after caller, key, place, price and how many sessions
    /// the job has begun: should the store forget that it was bought, whoever does the job again asks
    /// the signer for the same payment and not for another one. A later one is named by its state at
    /// the signer, and at random here.
    pub(super) fn purchase_id(&self, session: &Session) -> String {
        let key = self.caller.idempotency_key.as_deref();
        // A segment's key is its stream, number and content: `/live` ignores the header.
        let key = key.filter(|_| self.account != Account::TokenSession);
        let key = key.filter(|_| session.record.payment_state.is_none());
        let Some(key) = key else { return random_id() };
        let count = self.begun.fetch_add(1, Ordering::Relaxed).to_string();
        let price = session.offer.price.map(|price| price.rational().to_string());
        let mut hash = Sha256::new();
        let parts = [
            self.caller.auth_id.as_str(),
            key,
            session.key.orchestrator.as_str(),
            session.record.manifest_id.as_str(),
            price.as_deref().unwrap_or_default(),
            &count,
        ];
        for part in parts {
            // No part has a zero byte.
            hash.update(part);
            hash.update([0]);
        }
        format!("{JOB_PURCHASE}{}", hex::encode(hash.finalize()))
    }
}

/// The name of a purchase that no job's key decides.
pub(super) fn random_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A session as read, checked.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where it is stored.
    pub key: SessionKey,
    /// As stored.
    pub record: SessionRecord,
    /// `record.info`, decoded.
    pub offer: OrchestratorOffer,
    /// How its orchestrator is reached.
    pub via: Via,
}

impl Session {
    /// Puts a record and its offer together; a record without a token is none.
    pub fn read(key: SessionKey, record: SessionRecord, via: Via) -> Result<Self, WireError> {
        let offer = OrchestratorOffer::decode(&record.info)?;
        // Whether it can be paid on is looked at before it is paid.
        offer.auth_token.as_ref().ok_or(WireError::Missing("auth token"))?;
        Ok(Self { key, record, offer, via })
    }

    /// The token, which [`Self::read`] made sure of.
    pub fn token(&self) -> Result<&AuthToken, WireError> {
        self.offer.auth_token.as_ref().ok_or(WireError::Missing("auth token"))
    }

    /// Whether a job with credit in hand only has to be sent.
    fn needs_nothing(&self, offchain: bool) -> bool {
        let record = &self.record;
        let is_paid = offchain || record.payment_state.is_some();
        // An ordinary offer has less than 2 KB; what is kept for a moment must not add up.
        let is_small = record.info.len() <= WARM_INFO_BYTES;
        is_small && is_paid && record.credential.is_some() && record.purchase.is_none()
    }

    /// Whether the orchestrator has to be asked again before it is used.
    pub fn is_stale(&self, now: UnixMs) -> bool {
        self.token().is_ok_and(|t| t.needs_refresh(clock::seconds(now)))
    }
}

/// Under which name a session is kept for a moment; neither part has a line end.
fn warm_name(key: &SessionKey) -> String {
    format!("{}\n{}", key.scope, key.orchestrator)
}

/// The right to change a session. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct SessionLease {
    /// Goes with every write.
    pub(super) fence: Fence,
    /// In whose name.
    pub(super) owner: OwnerId,
    /// The lease itself.
    pub(super) claim: Claimed,
}

impl Gateway {
    /// The session at `orchestrator`, opened or refreshed if needed.
    pub async fn open_session(&self, purpose: &Purpose, at: &Chosen) -> Result<Session, TryError> {
        let key = SessionKey { scope: purpose.scope.clone(), orchestrator: at.uri.clone() };
        let via = Via { workload: purpose.account.workload(), foreign: at.foreign };
        let (name, began) = (warm_name(&key), clock::instant());
        if purpose.account.may_be_warm()
            && let Some(session) = self.sessions.fresh(&name, began)
            && !session.is_stale(clock::now())
        {
            return Ok(Session::clone(&session));
        }
        if let Some(session) = self.usable_session(purpose, &key, via).await? {
            if purpose.account.may_be_warm() && session.needs_nothing(self.settings.front.offchain)
            {
                self.sessions.keep(&name, &Arc::new(session.clone()), began);
            }
            return Ok(session);
        }
        let lease = self.lease(&key).await?;
        // Whoever had the lease before us may have done it.
        let opened = match self.usable_session(purpose, &key, via).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) => self.renew_kept(purpose, &key, via, &lease).await,
            Err(error) => Err(error),
        };
        lease.claim.give_back().await;
        opened
    }

    /// Asks the orchestrator for a new offer although the stored one looks usable: it, or the
    /// signer, said that it is not. `seen` is the offer that was refused; if the store has another
    /// one by now, that is taken instead.
    pub async fn refresh_session(
        &self,
        purpose: &Purpose,
        seen: &Session,
    ) -> Result<Session, TryError> {
        let lease = self.lease(&seen.key).await?;
        let current = self.usable_session(purpose, &seen.key, seen.via).await;
        let renewed = match current {
            Ok(Some(session)) if session.record.info != seen.record.info => Ok(session),
            Ok(_) => self.renew_kept(purpose, &seen.key, seen.via, &lease).await,
            Err(error) => Err(error),
        };
        lease.claim.give_back().await;
        renewed
    }

    /// [`Self::renew`], which may take longer than a lease lasts.
    async fn renew_kept(
        &self,
        purpose: &Purpose,
        key: &SessionKey,
        via: Via,
        lease: &SessionLease,
    ) -> Result<Session, TryError> {
        tokio::select! {
            renewed = self.renew(purpose, key, via, lease.fence) => renewed,
            never = self.keep_lease(key, lease) => match never {},
        }
    }

    async fn usable_session(
        &self,
        purpose: &Purpose,
        key: &SessionKey,
        via: Via,
    ) -> Result<Option<Session>, TryError> {
        let now = clock::now();
        let Some(record) = self.store.session(key, now).await? else { return Ok(None) };
        let session = Session::read(key.clone(), record, via).ok();
        Ok(session.filter(|s| !s.is_stale(now) && purpose.account.is_current(&s.offer)))
    }

    /// How long a lease lasts unless it is renewed: so long a dead holder blocks the others.
    pub(super) fn lease_ms(&self) -> u64 {
        self.settings.selection.session_lease_ms
    }

    /// Renews a lease until dropped, for work that outlasts it. Losing it is no error here: whoever
    /// writes with the old fence is refused. One that somebody else had since is not taken again: nothing
    /// could be written with it.
    pub(super) async fn keep_lease(&self, key: &SessionKey, lease: &SessionLease) -> Infallible {
        let lease_ms = self.lease_ms();
        loop {
            tokio::time::sleep(Duration::from_millis(lease_ms / 3)).await;
            let renewed = self.store.lease_session(key, &lease.owner, lease_ms, clock::now()).await;
            match renewed {
                Ok(Lease::Granted { fence, .. }) if fence == lease.fence => {}
                Ok(Lease::Granted { .. }) => {
                    self.lease_claim(key, &lease.owner).give_back().await;
                    break;
                }
                Ok(Lease::Held { .. }) => break,
                Err(error) => tracing::debug!(%error, "a payment lease was not renewed"),
            }
        }
        tracing::warn!(orchestrator = key.orchestrator, "a payment lease was lost");
        std::future::pending().await
    }

    /// The lease that is about to be asked for in this name.
    pub(super) fn lease_claim(&self, key: &SessionKey, owner: &OwnerId) -> Claimed {
        let (store, key, owner) = (Arc::clone(&self.store), key.clone(), owner.clone());
        let undo = move || {
            let (store, key, owner) = (Arc::clone(&store), key.clone(), owner.clone());
            async move { store.release_session(&key, &owner, clock::now()).await }
        };
        let lasts = Duration::from_millis(self.lease_ms());
        Claimed::new("a payment session", lasts, &self.give_backs, undo)
    }

    /// The right to change a session, if nobody has it.
    pub(super) async fn lease_if_free(
        &self,
        key: &SessionKey,
    ) -> Result<Option<SessionLease>, TryError> {
        let owner = self.owner();
        let claim = self.lease_claim(key, &owner);
        match self.store.lease_session(key, &owner, self.lease_ms(), clock::now()).await? {
            Lease::Granted { fence, .. } => {
                // Nothing is changed before.
                self.sessions.forget(&warm_name(key));
                Ok(Some(SessionLease { fence, owner, claim }))
            }
            Lease::Held { .. } => {
                claim.is_over();
                Ok(None)
            }
        }
    }

    /// How long to wait until somebody else has changed a session.
    pub(super) fn lease_patience(&self) -> Duration {
        Duration::from_millis(self.lease_ms().saturating_add(LEASE_PATIENCE_MS))
    }

    /// Waits for the right to change a session. If a job here is buying, its end is waited for.
    pub(super) async fn lease(&self, key: &SessionKey) -> Result<SessionLease, TryError> {
        self.lease_when(key, || self.turns.running(key)).await
    }

    /// The same for whoever buys: it waits for other replicas only.
    pub(super) async fn lease_in_turn(&self, turn: &Turn) -> Result<SessionLease, TryError> {
        self.lease_when(turn.key(), || None).await
    }

    async fn lease_when(
        &self,
        key: &SessionKey,
        running: impl Fn() -> Option<Others>,
    ) -> Result<SessionLease, TryError> {
        // Whoever changes it has the lease first.
        self.sessions.forget(&warm_name(key));
        let owner = self.owner();
        let claim = self.lease_claim(key, &owner);
        let lease_ms = self.lease_ms();
        let deadline = tokio::time::Instant::now() + self.lease_patience();
        loop {
            let here = running();
            match self.store.lease_session(key, &owner, lease_ms, clock::now()).await? {
                Lease::Granted { fence, .. } => return Ok(SessionLease { fence, owner, claim }),
                Lease::Held { .. } if tokio::time::Instant::now() >= deadline => {
                    claim.is_over();
                    return Err(TryError::LeaseBusy);
                }
                // Somebody else's may have been it, and be over before the one here is.
                Lease::Held { .. } => match here {
                    // Late is as good as never: the deadline is looked at above.
                    Some(here) => drop(tokio::time::timeout_at(deadline, here.end()).await),
                    None => tokio::time::sleep(LEASE_LOOK).await,
                },
            }
        }
    }

    /// `GetOrchestrator`, and a record made of its answer. Called with the lease held.
    pub(super) async fn renew(
        &self,
        purpose: &Purpose,
        key: &SessionKey,
        via: Via,
        fence: Fence,
    ) -> Result<Session, TryError> {
        let payer = self.identity.payer(&self.signer).await?;
        let asking = async {
            let request = offer_request(&payer, &purpose.job);
            self.peers.of(via).get_orchestrator(&key.orchestrator, &request, None).await
        };
        let step = step!("get_orchestrator", otel.kind = "client", orchestrator = key.orchestrator);
        let offered = asking.instrument(step).await?;
        let offered = match &purpose.account {
            Account::Brought { name, .. } => self.on_tokens_terms(name, key, via, offered).await?,
            _ => offered,
        };
        let now = clock::now();
        // What was free a moment ago may cost something now: then it is paid, or not used.
        let is_free = purpose.account.is_free() && offered.offer.price.is_none();
        if !self.settings.front.offchain && !is_free {
            offered.offer.terms()?;
        }
        let token = offered.offer.auth_token.as_ref().ok_or(WireError::Missing("auth token"))?;
        let manifest_id = match &purpose.account {
            Account::Fixed(id) | Account::Brought { name: id, .. } => id.clone(),
            Account::TokenSession => ManifestId::new(token.session_id.clone()).map_err(|_| {
                WireError::Invalid { what: "session id", reason: "must be printable" }
            })?,
        };
        let old = self.store.session(key, now).await?.filter(|r| r.manifest_id == manifest_id);
        // The account decides: with another one the payment state begins anew as well.
        let (payment_state, purchase) =
            old.map(|r| (r.payment_state, r.purchase)).unwrap_or_default();
        let info = offered.encoded;
        let record = SessionRecord {
            info,
            info_at: now,
            manifest_id,
            payment_state,
            credential: None,
            purchase,
        };
        if self.store.save_session(key, fence, &record, SESSION_TTL_MS, now).await? == Saved::Fenced
        {
            return Err(TryError::LeaseBusy);
        }
        Ok(Session::read(key.clone(), record, via)?)
    }

    /// Keeps a fresher offer that came with an answer; losing it is harmless.
    pub async fn keep_offer(
        &self,
        session: &Session,
        fresh: Option<&(OrchestratorOffer, Vec<u8>)>,
    ) {
        let Some((offer, encoded)) = fresh else { return };
        // Answers repeat the request's token. One with another token would be another account.
        let same = |t: &AuthToken| session.token().is_ok_and(|old| old.session_id == t.session_id);
        let usable = offer.terms().is_ok_and(|terms| same(terms.auth_token));
        if encoded.len() > limits::ORCHESTRATOR_INFO_BYTES || !usable {
            return;
        }
        let kept = self.store.refresh_session_info(
            &session.key,
            &session.record.manifest_id,
            encoded,
            clock::now(),
        );
        if let Err(error) = kept.await {
            tracing::warn!(%error, "a fresher offer was not kept");
        }
    }

    /// The credit account of a session.
    pub(super) async fn credit_key(
        &self,
        caller: &Caller,
        session: &Session,
    ) -> Result<CreditKey, TryError> {
        let payer = self.identity.payer(&self.signer).await?;
        Ok(CreditKey {
            auth_id: caller.auth_id.clone(),
            sender: payer.address,
            orchestrator: session.key.orchestrator.clone(),
            session: session.record.manifest_id.to_string(),
        })
    }
}
