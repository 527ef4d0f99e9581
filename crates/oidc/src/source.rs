//! Where a provider's keys come from: a URL or a file, read in the background and kept. When it
//! fails, the last good keys stay.

use super::keys::{KeySet, MAX_JWKS_BYTES};
use penstock_clients::{HttpOptions, http};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Between two regular readings.
const REFRESH: Duration = Duration::from_secs(300);
/// Between two readings because of a key that is not known. Strangers can cause these.
const REFRESH_UNKNOWN: Duration = Duration::from_secs(10);
/// For one fetch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A JWKS document on the web.
    Url(Url),
    /// The same in a file.
    File(PathBuf),
}

/// Keys with the means to get newer ones.
pub struct KeySource {
    source: Source,
    client: Option<reqwest::Client>,
    keys: RwLock<Option<Arc<KeySet>>>,
    tried: Mutex<Option<Instant>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl KeySource {
    /// Knows no keys yet. The error says why there is no HTTP client.
    pub fn new(source: Source) -> Result<Self, String> {
        let options = HttpOptions {
            total_timeout: Some(TIMEOUT),
            connect_timeout: TIMEOUT,
            idle_per_host: 1,
            ..HttpOptions::default()
        };
        let client = match &source {
            Source::Url(_) => Some(http(&options).map_err(|e| e.to_string())?),
            Source::File(_) => None,
        };
        Ok(Self {
            source,
            client,
            keys: RwLock::default(),
            tried: Mutex::default(),
            turn: Arc::default(),
        })
    }

    /// The newest good keys.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads anew, unless that was tried a moment ago. Who comes while it goes on waits for it.
    pub async fn refresh_if_due(&self) {
        if self.is_due() {
            let _turn = self.turn.lock().await;
            if self.is_due() {
                self.refresh().await;
            }
        }
    }

    /// Has them read anew by a task of its own, unless that is going on or was tried a moment ago.
    pub fn refresh_soon(self: &Arc<Self>) {
        if !self.is_due() {
            return;
        }
        // Whoever has the turn is reading.
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return };
        let source = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = turn;
            if source.is_due() {
                source.refresh().await;
            }
        });
    }

    fn is_due(&self) -> bool {
        let tried = *self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.is_none_or(|at| at.elapsed() >= REFRESH_UNKNOWN)
    }

    async fn refresh(&self) {
        let read = self.read().await;
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let read = read.and_then(|text| KeySet::parse(&text).map_err(|e| e.to_string()));
        match read {
            Ok(keys) => {
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
            }
            Err(error) => {
                metrics::counter!("oidc_key_errors_total").increment(1);
                tracing::warn!(source = %self, error, "the identity provider's keys cannot be read; the last good ones stay");
            }
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        match (&self.source, &self.client) {
            (Source::Url(url), Some(client)) => fetch(client, url).await,
            (Source::File(path), _) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || {
                    use std::io::Read as _;
                    let mut text = Vec::new();
                    let limit = u64::try_from(MAX_JWKS_BYTES).unwrap_or(u64::MAX);
                    std::fs::File::open(path)?.take(limit).read_to_end(&mut text).map(|_| text)
                });
                read.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
            }
            (Source::Url(_), None) => Err("no HTTP client".to_owned()),
        }
    }

    /// Reads at once and then regularly, until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        loop {
            {
                let _turn = self.turn.lock().await;
                self.refresh().await;
            }
            // Without any keys nobody gets in: worth asking more often.
            let pause = if self.current().is_some() { REFRESH } else { REFRESH_UNKNOWN };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Source::Url(url) => f.write_str(url.as_str()),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &Url) -> Result<Vec<u8>, String> {
    let mut response = client.get(url.clone()).send().await.map_err(|e| e.to_string())?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
        if text.len().saturating_add(chunk.len()) > MAX_JWKS_BYTES {
            return Err(format!("the document has more than {MAX_JWKS_BYTES} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

#[cfg(test)]
impl KeySource {
    /// As if the last reading were long ago.
    pub(super) fn grow_old(&self) {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
