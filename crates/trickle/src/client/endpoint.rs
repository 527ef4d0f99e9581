//! Where a channel is, and the small calls to it.

use super::{
    ClientError, Wait,
    error::{failed, success},
};
use crate::wire::{EXPECT_CONTENT, LATEST, Position, Seq, number};
use http::Method;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    http: reqwest::Client,
    channel: Url,
}

impl Endpoint {
    pub fn new(http: reqwest::Client, url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Url(url.to_owned());
        let mut channel = Url::parse(url).map_err(|_| bad())?;
        if !matches!(channel.scheme(), "http" | "https") {
            return Err(bad());
        }
        channel.path_segments_mut().map_err(|()| bad())?.pop_if_empty();
        channel.set_fragment(None);
        Ok(Self { http, channel })
    }

    fn below(&self, last: &str) -> Url {
        let mut url = self.channel.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(last);
        }
        url
    }

    pub fn get(&self, at: Position) -> reqwest::RequestBuilder {
        self.http.get(self.below(&at.to_string()))
    }

    pub fn post(&self, seq: Seq) -> reqwest::RequestBuilder {
        self.http.post(self.below(&seq.to_string()))
    }

    /// Makes the channel, or finds it.
    pub async fn create(&self, mime: &str, deadline: Duration) -> Result<(), ClientError> {
        let request = self.http.post(self.channel.clone()).header(EXPECT_CONTENT, mime);
        call(request, deadline).await.map(drop)
    }

    /// The number after the segment begun last.
    pub async fn next(&self, deadline: Duration) -> Result<u64, ClientError> {
        let answer = call(self.http.get(self.below("next")), deadline).await?;
        number(answer.headers(), &LATEST).ok_or(ClientError::NoSeq)
    }

    /// Closes the channel.
    pub async fn delete(&self, deadline: Duration) -> Result<(), ClientError> {
        let request = self.http.request(Method::DELETE, self.channel.clone());
        call(request, deadline).await.map(drop)
    }

    /// Closes one segment.
    pub async fn close_segment(&self, seq: Seq, deadline: Duration) -> Result<(), ClientError> {
        let request = self.http.delete(self.below(&seq.to_string()));
        call(request, deadline).await.map(drop)
    }
}

async fn call(
    request: reqwest::RequestBuilder,
    deadline: Duration,
) -> Result<reqwest::Response, ClientError> {
    let answered = async {
        let response = request.send().await.map_err(|error| failed(&error))?;
        success(response, "").await
    };
    timeout(deadline, answered).await.map_err(|_| ClientError::Deadline(Wait::Answer))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        penstock_http_kit::tls::install_crypto_provider();
        let http = super::super::http(Default::default(), Default::default()).unwrap();
        let below =
            |url: &str| Endpoint::new(http.clone(), url).map(|e| e.below("-1").to_string()).ok();
        assert_eq!(below("https://o:1/ai/trickle/c").unwrap(), "https://o:1/ai/trickle/c/-1");
        assert_eq!(below("http://o/c/").unwrap(), "http://o/c/-1");
        assert_eq!(below("http://o/c?token=t").unwrap(), "http://o/c/-1?token=t");
        for none in ["ftp://o/c", "o/c", "", "mailto:a@b", "unix:/x"] {
            assert_eq!(below(none), None, "{none}");
        }
    }
}
