//! Fetches job inputs from addresses that a peer supplied: http(s) only, no redirects, bounded in
//! size and time, and no private address unless it is the orchestrator's own or allowed.

use super::{channel, upload::without_url};
use futures::{StreamExt, TryStreamExt};
use penstock_clients::{BuildError, Reach};
use std::path::Path;
use thiserror::Error;
use tokio::{io::AsyncWriteExt, time::Instant};
use url::Url;

/// An input could not be had; the text goes to the orchestrator.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// Not an http(s) URL.
    #[error("download error: bad URL")]
    BadUrl,
    /// An address of a private network.
    #[error("download error: {0} is a private address; see --allow-private-urls")]
    Private(String),
    /// The server's answer was not 200.
    #[error("download error: status {0}")]
    Status(u16),
    /// More than the limit.
    #[error("download error: more than {0} bytes")]
    TooLarge(u64),
    /// Took too long.
    #[error("download error: timed out")]
    TimedOut,
    /// Connection trouble.
    #[error("download error: {0}")]
    Transport(String),
    /// Disk trouble.
    #[error("download error: {0}")]
    Io(#[from] std::io::Error),
}

/// Fetches inputs.
#[derive(Debug, Clone)]
pub struct Downloader {
    orchestrator: Url,
    allow_private: bool,
    trusted: reqwest::Client,
    guarded: reqwest::Client,
}

impl Downloader {
    /// `orchestrator` may be anywhere; other hosts only in public unless `allow_private`.
    pub fn new(orchestrator: Url, allow_private: bool) -> Result<Self, BuildError> {
        let trusted = channel::http(Reach::Anywhere)?;
        let guarded = channel::http(Reach::PublicOnly)?;
        Ok(Self { orchestrator, allow_private, trusted, guarded })
    }

    /// Saves at most `limit` bytes of `url` as `path`.
    pub async fn to_file(
        &self,
        url: &str,
        path: &Path,
        limit: u64,
        deadline: Instant,
    ) -> Result<(), DownloadError> {
        let work = async {
            let mut file = tokio::fs::File::create(path).await?;
            let mut chunks = self.open(url, limit).await?.bytes_stream();
            let mut size = 0u64;
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(transport)?;
                size = size.saturating_add(chunk.len() as u64);
                if size > limit {
                    return Err(DownloadError::TooLarge(limit));
                }
                file.write_all(&chunk).await?;
            }
            Ok(file.flush().await?)
        };
        tokio::time::timeout_at(deadline, work).await.map_err(|_| DownloadError::TimedOut)?
    }

    /// At most `limit` bytes of `url`.
    pub async fn to_memory(
        &self,
        url: &str,
        limit: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, DownloadError> {
        let work = async {
            let chunks = self.open(url, limit).await?.bytes_stream().map_err(transport);
            chunks
                .try_fold(Vec::new(), |mut all, chunk| async move {
                    if (all.len() + chunk.len()) as u64 > limit {
                        return Err(DownloadError::TooLarge(limit));
                    }
                    all.extend_from_slice(&chunk);
                    Ok(all)
                })
                .await
        };
        tokio::time::timeout_at(deadline, work).await.map_err(|_| DownloadError::TimedOut)?
    }

    async fn open(&self, url: &str, limit: u64) -> Result<reqwest::Response, DownloadError> {
        let url = Url::parse(url).map_err(|_| DownloadError::BadUrl)?;
        let answer = self.client_for(&url)?.get(url).send().await.map_err(transport)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(DownloadError::Status(answer.status().as_u16()));
        }
        if answer.content_length().is_some_and(|n| n > limit) {
            return Err(DownloadError::TooLarge(limit));
        }
        Ok(answer)
    }

    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, DownloadError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(DownloadError::BadUrl);
        }
        if self.allow_private || url.origin() == self.orchestrator.origin() {
            return Ok(&self.trusted);
        }
        // Numbers are looked at here, names by the client when it resolves them.
        if !Reach::PublicOnly.allows(url) {
            return Err(DownloadError::Private(url.host_str().unwrap_or_default().to_owned()));
        }
        Ok(&self.guarded)
    }
}

fn transport(error: reqwest::Error) -> DownloadError {
    DownloadError::Transport(without_url(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_asked() {
        penstock_http_kit::tls::install_crypto_provider();
        let d = Downloader::new("https://127.0.0.1:8935".parse().unwrap(), false).unwrap();
        let ask = |url: &str| {
            d.client_for(&Url::parse(url).unwrap()).map(drop).map_err(|e| e.to_string())
        };
        assert!(ask("https://127.0.0.1:8935/stream/x").is_ok());
        assert!(ask("https://example.com/x").is_ok());
        for refused in [
            "http://127.0.0.1:8935/x",
            "https://127.0.0.1:9999/x",
            "http://[::1]/x",
            "http://2130706433/x",
            "http://0x7f.1/x",
            "file:///etc/passwd",
            "ftp://1.1.1.1/x",
        ] {
            assert!(ask(refused).is_err(), "{refused}");
        }
    }
}
