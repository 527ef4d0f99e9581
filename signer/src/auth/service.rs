//! The accounts of this signer: where a credential becomes an account.
//!
//! A bearer token is looked for in the token file, among the API keys, and at the identity
//! provider, by its shape; a client certificate counts when there is no token. Which of these are
//! asked is the operator's setting; if none is, everyone is `local`.

use super::{
    Account, AuthError, Caller, Payer, Policy, api_key, args::AuthSettings, follower::Follower,
    headers, rate::RateLimit, slots::Slots, webhook::Webhook,
};
use crate::service::Clock;
use http::HeaderMap;
use penstock_clients::EthUsd;
use penstock_domain::AuthId;
use penstock_http_kit::{CancellationToken, admin::bearer};
use penstock_ledger::signer::{AuditEntry, LedgerError, SignerLedger, accounts::AccountLedger};
use penstock_oidc::Oidc;
use std::sync::Arc;

/// Account of everyone when no account is needed.
const LOCAL: &str = "local";

/// The known accounts.
pub struct Accounts {
    settings: AuthSettings,
    local: Arc<Account>,
    follower: Follower,
    oidc: Option<Oidc>,
    webhook: Option<Webhook>,
    eth_usd: EthUsd,
    slots: Slots,
    clock: Clock,
    /// Where changes by operators are recorded.
    audit: Option<Arc<dyn SignerLedger>>,
}

/// Who a credential belongs to.
pub(super) struct Known {
    pub(super) account: Arc<Account>,
    limit: Option<Arc<RateLimit>>,
    /// Named by the token itself.
    pub(super) subject: Option<AuthId>,
    /// Whether the credential is one that only we should see.
    ours: bool,
}

impl Accounts {
    /// `ledger` is read from the first request on, or by [`Self::follow`]. The error says why
    /// there is no HTTP client for one of the others.
    pub fn new(
        settings: AuthSettings,
        ledger: Arc<dyn AccountLedger>,
        clock: Clock,
    ) -> Result<Self, String> {
        Ok(Self {
            local: Arc::new(Account::new(LOCAL, Policy::unlimited())),
            follower: Follower::new(ledger).sharing_rates(settings.rate_replicas),
            oidc: settings.oidc.clone().map(Oidc::new).transpose()?,
            webhook: settings.webhook.clone().map(Webhook::new).transpose()?,
            eth_usd: EthUsd::new(settings.eth_usd.clone())?,
            settings,
            slots: Slots::of(usize::MAX),
            clock,
            audit: None,
        })
    }

    /// Shares out the places of so many requests at once among the accounts of the books.
    pub fn sharing(mut self, max_in_flight: usize) -> Self {
        self.slots = Slots::of(max_in_flight);
        self
    }

    /// Changes by operators are recorded there before they are made.
    pub fn audited(mut self, audit: Arc<dyn SignerLedger>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Records what an operator is about to do. With the audit blocked it is not done.
    pub(super) async fn record(&self, entries: Vec<AuditEntry>) -> Result<(), LedgerError> {
        match &self.audit {
            Some(audit) => audit.record_signatures(entries, self.now_ms()).await,
            None => Ok(()),
        }
    }

    /// Whether callers without a credential are let in.
    pub fn is_open(&self) -> bool {
        self.settings.is_open()
    }

    /// Whether only the auth webhook can tell this caller from others. It is asked about payments, so
    /// that anything else is not for such callers, and what one of them says of itself is no name.
    pub fn is_stranger(&self, caller: &Caller) -> bool {
        self.webhook.is_some() && self.is_open() && Arc::ptr_eq(&caller.account, &self.local)
    }

    /// The accounts in the books, for the operator.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Who is asked before a payment, if there is somebody.
    pub fn webhook(&self) -> Option<&Webhook> {
        self.webhook.as_ref()
    }

    /// The price of ether, for budgets in dollars.
    pub fn eth_usd(&self) -> &EthUsd {
        &self.eth_usd
    }

    /// Unix milliseconds, now.
    pub fn now_ms(&self) -> i64 {
        (self.clock)().div_euclid(1_000_000)
    }

    /// Keeps accounts, the identity provider's keys and the price of ether current until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let keys = async {
            if let Some(oidc) = &self.oidc {
                oidc.follow(stop.clone()).await;
            }
        };
        tokio::join!(self.follower.follow(stop.clone()), keys, self.follow_ether(stop.clone()));
    }

    async fn follow_ether(&self, stop: CancellationToken) {
        let Some(poll) = self.eth_usd.poll() else { return };
        loop {
            if let Err(error) = self.eth_usd.refresh().await {
                metrics::counter!("signer_eth_usd_errors_total").increment(1);
                tracing::warn!(
                    error,
                    "the price of ether cannot be read (--eth-usd-file, --eth-usd-url, --eth-usd-feed-url)"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// Finds out who a request is from. `certificate` is the SHA-256 of the client certificate that
    /// the TLS handshake checked.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&[u8; 32]>,
    ) -> Result<Caller, AuthError> {
        let known = self.known(bearer(headers), certificate).await?;
        let Known { account, limit, subject, ours } = known;
        take_one(&account, limit.as_deref())?;
        // Who has a rate limit is an account of the books; others are the operator's own.
        let slot = limit.as_ref().map(|_| self.slots.take(account.name())).transpose()?;
        // Strangers' words about themselves are not even read.
        let trusted = account.policy().may_name_subjects;
        let named = if trusted { headers::auth_id(headers)? } else { None };
        let idempotency_key = headers::idempotency_key(headers)?;
        let headers = if self.webhook.is_some() {
            headers::for_webhook(headers, trusted, ours)
        } else {
            HeaderMap::new()
        };
        let auth_id = match (named, subject) {
            // The identity provider said who it is; a header does not say otherwise.
            (Some(named), Some(subject)) if named != subject => {
                return Err(AuthError::OtherSubject(subject));
            }
            (named, subject) => subject.or(named),
        };
        if let Some(auth_id) = &auth_id {
            self.check_client(&account, auth_id).await?;
        }
        Ok(Caller { account, auth_id, idempotency_key, headers: Arc::new(headers), slot })
    }

    /// Who a credential belongs to.
    pub(super) async fn known(
        &self,
        token: Option<&str>,
        certificate: Option<&[u8; 32]>,
    ) -> Result<Known, AuthError> {
        let Some(token) = token else {
            return match certificate {
                Some(hash) if self.settings.keys => self.by_hash(hash).await,
                _ if self.is_open() => Ok(self.anyone()),
                _ => Err(AuthError::Unauthenticated),
            };
        };
        if let Some(account) = self.settings.tokens.as_ref().and_then(|file| file.find(token)) {
            return Ok(Known { account, limit: None, subject: None, ours: true });
        }
        // An open signer looks at keys too, so that accounts can be tried on one.
        if (self.settings.keys || self.is_open()) && api_key::looks_like_key(token) {
            let hash = api_key::hash_of(token).ok_or(AuthError::Unauthenticated)?;
            return self.by_hash(&hash).await;
        }
        if let Some(oidc) = &self.oidc {
            return self.by_token(oidc, token).await;
        }
        if self.is_open() { Ok(self.anyone()) } else { Err(AuthError::Unauthenticated) }
    }

    fn anyone(&self) -> Known {
        Known { account: Arc::clone(&self.local), limit: None, subject: None, ours: false }
    }

    async fn by_hash(&self, hash: &[u8; 32]) -> Result<Known, AuthError> {
        let directory = self.follower.fresh().await?;
        let (account, limit) = directory.by_credential(hash, self.now_ms())?;
        Ok(Known { account, limit: Some(limit), subject: None, ours: true })
    }

    async fn by_token(&self, oidc: &Oidc, token: &str) -> Result<Known, AuthError> {
        let identity = oidc.verify(token, self.now_ms().div_euclid(1_000)).await?;
        let directory = self.follower.fresh().await?;
        let found = directory.by_name(&identity.account)?.ok_or(AuthError::NoAccount)?;
        let subject = identity.auth_id()?;
        Ok(Known { account: found.0, limit: Some(found.1), subject: Some(subject), ours: true })
    }

    /// Whose a credential is that a trusted account was shown, and what it names that caller to us.
    /// An open signer knows nobody by a word that is no key: such a token is not valid.
    pub async fn whose(&self, token: &str) -> Result<(Arc<Account>, AuthId), AuthError> {
        let known = self.known(Some(token), None).await?;
        if !known.ours {
            return Err(AuthError::Unauthenticated);
        }
        let auth_id = match known.subject {
            Some(subject) => subject,
            None => AuthId::new(known.account.name()).map_err(|_| AuthError::Unauthenticated)?,
        };
        // Subjects may be blocked one by one.
        self.follower.fresh().await?.policy_for(&known.account, &auth_id)?;
        Ok((known.account, auth_id))
    }

    /// A subject whose client part names another account of ours is under that account's rules too.
    async fn check_client(&self, account: &Account, auth_id: &AuthId) -> Result<(), AuthError> {
        let client = client_of(auth_id);
        if client == account.name() {
            return Ok(());
        }
        let found = self.follower.fresh().await?.by_name(client)?;
        match found {
            Some((client, limit)) => take_one(&client, Some(&limit)),
            None => Ok(()),
        }
    }

    /// Whose rules a payment obeys and whose budgets it is charged to: the account's, and, when the
    /// subject's client part (`client:subject`) names another account of this signer, that one's,
    /// whose subject it is then. `auth_id` is the one that the payment will be bound to.
    pub async fn payers(
        &self,
        account: &Arc<Account>,
        auth_id: Option<&AuthId>,
    ) -> Result<Vec<Payer>, AuthError> {
        let own = |subject: Option<AuthId>, policy: Policy| Payer {
            account: Arc::clone(account),
            subject,
            policy,
        };
        let Some(auth_id) = auth_id else {
            return Ok(vec![own(None, account.policy().clone())]);
        };
        let client = client_of(auth_id);
        // A name without a subject is the account itself.
        let subject = (client != auth_id.as_str()).then(|| auth_id.clone());
        let directory = self.follower.fresh().await?;
        let other = if client == account.name() { None } else { directory.by_name(client)? };
        if other.is_none() && client == account.name() && subject.is_none() {
            return Ok(vec![own(None, account.policy().clone())]);
        }
        // Whoever the client is, the asker's rules for this subject hold: that an account was made
        // for the client lifts none of them.
        let policy = directory.policy_for(account, auth_id)?;
        let mut payers = vec![own(Some(auth_id.clone()), policy)];
        if let Some((client, _)) = other {
            let policy = match &subject {
                Some(subject) => directory.policy_for(&client, subject)?,
                None => client.policy().clone(),
            };
            payers.push(Payer { account: client, subject, policy });
        }
        Ok(payers)
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.follower.close().await;
    }
}

fn take_one(account: &Account, limit: Option<&RateLimit>) -> Result<(), AuthError> {
    let Some(limit) = limit else { return Ok(()) };
    limit.take().map_err(|retry_after_s| {
        metrics::counter!("signer_rate_limited_total").increment(1);
        AuthError::RateLimited {
            account: account.name().to_owned(),
            per_second: account.policy().requests_per_second.map_or(0, |n| n.get()),
            retry_after_s,
        }
    })
}

/// The part before the first colon: `client` of `client:subject`.
pub fn client_of(auth_id: &AuthId) -> &str {
    auth_id.as_str().split_once(':').map_or(auth_id.as_str(), |(client, _)| client)
}
