//! Sending a request and reading its whole answer within limits of time and size.

use crate::{
    error::{CallError, CallErrorKind, Operation},
    pins::Pins,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use penstock_wire::json::ErrorEnvelope;
use std::{io::ErrorKind, time::Duration};
use tokio::time::Instant;
use url::Url;

/// How long and how large an answer may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Until the answer's head is there.
    pub head: Duration,
    /// Until its end.
    pub whole: Duration,
    /// Largest body.
    pub max_bytes: u64,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Names a call in its errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub operation: Operation,
    pub origin: &'a str,
}

impl Call<'_> {
    pub fn error(&self, kind: CallErrorKind) -> CallError {
        CallError { operation: self.operation, peer: self.origin.to_owned(), kind }
    }

    /// Sends, and reads an answer of status 200 to 299; anything else is an error with the
    /// peer's words.
    pub async fn send(
        &self,
        request: reqwest::RequestBuilder,
        bounds: Bounds,
        pins: Option<&Pins>,
    ) -> Result<Answer, CallError> {
        let deadline = Instant::now() + bounds.whole;
        let head = self.begin(request, bounds, pins).await?;
        let headers = head.headers().clone();
        let body = self.body(head, deadline, bounds.max_bytes).await?;
        Ok(Answer { headers, body })
    }

    /// The same up to the answer's head; its body is the caller's to read.
    pub async fn begin(
        &self,
        request: reqwest::RequestBuilder,
        bounds: Bounds,
        pins: Option<&Pins>,
    ) -> Result<reqwest::Response, CallError> {
        let deadline = Instant::now() + bounds.whole;
        let head = self.head(request, bounds, pins).await?;
        let status = head.status();
        if status.is_success() {
            return Ok(head);
        }
        let retry_after_s = retry_after(head.headers());
        // An error's words are worth a little reading, and never worth failing for.
        let body = self.body(head, deadline, 64 * 1024).await.unwrap_or_default();
        let envelope = ErrorEnvelope::parse(&body);
        Err(self.error(CallErrorKind::Status {
            status: status.as_u16(),
            message: envelope.message,
            code: envelope.code,
            retry_after_s,
        }))
    }

    async fn head(
        &self,
        request: reqwest::RequestBuilder,
        bounds: Bounds,
        pins: Option<&Pins>,
    ) -> Result<reqwest::Response, CallError> {
        if let Some(network) = crate::simulated::network() {
            let sent = crate::simulated::send(&network, request);
            return match tokio::time::timeout(bounds.head.min(bounds.whole), sent).await {
                Err(_) => Err(self.error(CallErrorKind::HeaderTimeout)),
                Ok(answer) => answer.map_err(|kind| self.error(kind)),
            };
        }
        let sent = request.timeout(bounds.whole).send();
        let head = match tokio::time::timeout(bounds.head.min(bounds.whole), sent).await {
            Err(_) => return Err(self.error(CallErrorKind::HeaderTimeout)),
            Ok(Err(e)) => return Err(self.error(before_head(&e))),
            Ok(Ok(head)) => head,
        };
        let certificate =
            head.extensions().get::<reqwest::tls::TlsInfo>().and_then(|t| t.peer_certificate());
        if let (Some(pins), Some(der)) = (pins, certificate) {
            pins.observe(self.origin, der);
        }
        Ok(head)
    }

    async fn body(
        &self,
        mut head: reqwest::Response,
        deadline: Instant,
        max: u64,
    ) -> Result<Bytes, CallError> {
        let too_long = || self.error(CallErrorKind::AnswerTooLong { max });
        if head.content_length().is_some_and(|n| n > max) {
            return Err(too_long());
        }
        let mut body = BytesMut::new();
        loop {
            let chunk = match tokio::time::timeout_at(deadline, head.chunk()).await {
                Err(_) => return Err(self.error(CallErrorKind::BodyTimeout)),
                Ok(Err(e)) => return Err(self.error(lost(&e, CallErrorKind::BodyTimeout))),
                Ok(Ok(None)) => return Ok(body.freeze()),
                Ok(Ok(Some(chunk))) => chunk,
            };
            if (body.len() as u64).saturating_add(chunk.len() as u64) > max {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

fn before_head(error: &reqwest::Error) -> CallErrorKind {
    if error.is_builder() {
        CallErrorKind::Request(reason(error))
    } else if error.is_connect() {
        // A connect timeout as well: nothing was sent.
        CallErrorKind::Connect(reason(error))
    } else {
        lost(error, CallErrorKind::HeaderTimeout)
    }
}

/// Why an answer that was awaited did not come. `late`: what it is called that its time was over.
pub(crate) fn lost(error: &reqwest::Error, late: CallErrorKind) -> CallErrorKind {
    if gives_no_sign_of_life(error) {
        CallErrorKind::Silent
    } else if error.is_timeout() {
        late
    } else {
        CallErrorKind::Broken(reason(error))
    }
}

/// Whether a ping (HTTP/2) or what was sent (TCP) was left without an answer.
fn gives_no_sign_of_life(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let ping = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout);
        let tcp =
            |e: &std::io::Error| e.raw_os_error().is_some() && e.kind() == ErrorKind::TimedOut;
        if ping || error.downcast_ref::<std::io::Error>().is_some_and(tcp) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost cause, which is the one that says something. Without the URL, since a query may
/// carry a secret.
pub(crate) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// `scheme://host:port` with the port spelled out, as pins and channels are kept by.
pub(crate) fn origin(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let port = url.port_or_known_default()?;
    matches!(url.scheme(), "http" | "https").then(|| format!("{}://{host}:{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let of = |u: &str| origin(&Url::parse(u).unwrap());
        assert_eq!(of("https://o/x?y").as_deref(), Some("https://o:443"));
        assert_eq!(of("http://[::1]:8935/").as_deref(), Some("http://[::1]:8935"));
        assert_eq!(of("ftp://o/"), None);
    }
}
