//! A vault that one is logged in to: retries, a token that is kept alive, a login when it is gone.

use crate::{
    VaultAuth, VaultError,
    auth::{Login, renew},
    http::{Ask, Http},
};
use penstock_config::Secret;
use rand::Rng;
use serde::de::DeserializeOwned;
use std::{path::PathBuf, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Attempts at one request, the first included.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Between two attempts to renew while the vault is away.
const RENEW_PAUSE: Duration = Duration::from_secs(5);

/// Which vault, and as whom.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// `https://vault.example:8200`.
    pub address: Url,
    /// Namespace (Vault Enterprise, OpenBao).
    pub namespace: Option<String>,
    /// Authorities to trust instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How to log in.
    pub auth: VaultAuth,
}

/// A vault and a token for it.
pub struct Vault {
    http: Http,
    auth: VaultAuth,
    session: Mutex<Session>,
}

struct Session {
    token: Secret,
    /// When to renew: at two thirds of its life. `None` is never.
    renew_at: Option<Instant>,
    renewable: bool,
    /// Counts logins, so that one that failed is not repeated by everybody.
    generation: u64,
}

impl Session {
    fn new(login: Login, generation: u64) -> Self {
        let renew_at = (!login.ttl.is_zero()).then(|| Instant::now() + login.ttl * 2 / 3);
        Self { token: login.token, renew_at, renewable: login.renewable, generation }
    }
}

impl Vault {
    /// Logs in.
    pub async fn connect(config: &VaultConfig) -> Result<Self, VaultError> {
        let http = Http::new(config)?;
        let login = retried(|| config.auth.login(&http)).await?;
        let session = Mutex::new(Session::new(login, 0));
        Ok(Self { http, auth: config.auth.clone(), session })
    }

    /// Renews the token at two thirds of its life until `stop`, and logs in again when it cannot be
    /// renewed any more. A vault that is away is asked again and again; nothing else waits for it.
    pub async fn keep_alive(&self, stop: CancellationToken) {
        loop {
            let renew_at = self.session.lock().await.renew_at;
            let Some(renew_at) = renew_at else { return stop.cancelled().await };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(renew_at) => {}
            }
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the vault token was not renewed");
                self.session.lock().await.renew_at = Some(Instant::now() + RENEW_PAUSE);
            }
        }
    }

    async fn renew(&self) -> Result<(), VaultError> {
        let (token, renewable, generation) = self.token().await;
        if renewable {
            match renew(&self.http, &token).await {
                // At the end of the longest life the vault gives next to nothing.
                Ok(login) if login.ttl >= Duration::from_secs(1) => {
                    let mut session = self.session.lock().await;
                    *session = Session::new(login, generation);
                    return Ok(());
                }
                Err(error @ VaultError::Unavailable(_)) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        self.login_again(generation).await
    }

    /// A request with the token. Tried again while the vault is away, and with a new token once when
    /// this one is refused: it may have been revoked.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        make: impl Fn() -> Result<Ask, VaultError> + Send + Sync,
    ) -> Result<T, VaultError> {
        let (token, _, generation) = self.token().await;
        match self.ask_as(&token, &make).await {
            Err(VaultError::Denied { status: 403, .. }) => {
                self.login_again(generation).await?;
                self.ask_as(&self.token().await.0, &make).await
            }
            done => done,
        }
    }

    async fn ask_as<T: DeserializeOwned>(
        &self,
        token: &Secret,
        make: &(impl Fn() -> Result<Ask, VaultError> + Send + Sync),
    ) -> Result<T, VaultError> {
        retried(|| {
            let ask = make().map(|ask| Ask { token: Some(token.clone()), ..ask });
            async move { self.http.ask(&ask?).await }
        })
        .await
    }

    async fn token(&self) -> (Secret, bool, u64) {
        let session = self.session.lock().await;
        (session.token.clone(), session.renewable, session.generation)
    }

    async fn login_again(&self, generation: u64) -> Result<(), VaultError> {
        let mut session = self.session.lock().await;
        if session.generation == generation {
            let login = retried(|| self.auth.login(&self.http)).await?;
            *session = Session::new(login, generation.wrapping_add(1));
            tracing::info!("logged in to the vault again");
        }
        Ok(())
    }
}

/// Repeats what failed because the vault was away, with growing pauses.
async fn retried<T, F: Future<Output = Result<T, VaultError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, VaultError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(VaultError::Unavailable(reason)) => {
                tracing::warn!(reason, "the vault did not answer; trying again");
                let part = rand::rng().random_range(0.5..1.0);
                sleep(pause.mul_f64(part)).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    attempt().await
}
