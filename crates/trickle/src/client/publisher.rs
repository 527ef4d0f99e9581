//! Publishes segment after segment, one request ahead.

use super::{ClientError, Deadlines, Then, endpoint::Endpoint, writer::SegmentWriter};
use crate::wire::Seq;
use bytes::Bytes;

/// Where a publisher begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this number, without asking (Go node: 0).
    At(Seq),
    /// Where the channel is, and whatever was left open there is closed (SDK): for a publisher that
    /// was started again.
    Join,
}

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// Where it begins.
    pub start: Start,
    /// Media type of what it sends, and of a channel that it makes.
    pub mime: String,
    /// Deadlines.
    pub deadlines: Deadlines,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            start: Start::At(Seq::ZERO),
            mime: "video/MP2T".to_owned(),
            deadlines: Deadlines::default(),
        }
    }
}

/// Publishes into one channel.
#[derive(Debug)]
pub struct Publisher {
    endpoint: Endpoint,
    options: PublisherOptions,
    next: Option<Seq>,
    /// The request for `next`, which waits for its first byte.
    ahead: Option<SegmentWriter>,
}

impl Publisher {
    /// Opens the first segment's request. Whether the channel is there is learned with its first
    /// bytes, except with [`Start::Join`], which asks. `http` should be from
    /// [`http`](super::http()).
    pub async fn open(
        http: reqwest::Client,
        url: &str,
        options: PublisherOptions,
    ) -> Result<Self, ClientError> {
        let endpoint = Endpoint::new(http, url)?;
        let (seq, reset) = match options.start {
            Start::At(seq) => (seq, false),
            Start::Join => {
                let next = endpoint.next(options.deadlines.call).await?;
                (Seq::new(next).ok_or(ClientError::NoNumberLeft)?, true)
            }
        };
        let mut publisher = Self { endpoint, options, next: Some(seq), ahead: None };
        publisher.ahead = Some(publisher.request(seq, reset));
        Ok(publisher)
    }

    /// Makes the channel, or finds it. Servers allow it to those who may.
    pub async fn create(
        http: reqwest::Client,
        url: &str,
        options: &PublisherOptions,
    ) -> Result<(), ClientError> {
        Endpoint::new(http, url)?.create(&options.mime, options.deadlines.call).await
    }

    fn request(&self, seq: Seq, reset: bool) -> SegmentWriter {
        let PublisherOptions { mime, deadlines, .. } = &self.options;
        SegmentWriter::new(self.endpoint.clone(), seq, mime.clone(), reset, *deadlines)
    }

    /// The number of the segment that [`next_segment`](Self::next_segment) will open.
    pub fn next_seq(&self) -> Option<Seq> {
        self.next
    }

    /// The next segment to write, with the request for the one after it under way. What failed while
    /// it waited is told by its first write. Several may be written at once.
    pub fn next_segment(&mut self) -> Result<SegmentWriter, ClientError> {
        let seq = self.next.ok_or(ClientError::NoNumberLeft)?;
        let segment = self.ahead.take().unwrap_or_else(|| self.request(seq, false));
        self.next = seq.next();
        self.ahead = self.next.map(|next| self.request(next, false));
        Ok(segment)
    }

    /// Publishes one whole segment; returns when the server has it. A failure before the server
    /// had a byte was tried again once. After any other the segment is closed at the server, also if
    /// it never began there: its readers wait on its number, and this publisher goes on to the next.
    pub async fn write(&mut self, payload: Bytes) -> Result<Seq, ClientError> {
        let mut segment = self.next_segment()?;
        let seq = segment.seq();
        let written = match segment.write(payload).await {
            Ok(()) => segment.finish().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &written
            && error.then() != Then::Stop
        {
            let closed = segment.abandon().await;
            tracing::debug!(%error, ?closed, %seq, "a segment was abandoned");
        }
        written
    }

    /// Lets the waiting request go and closes the channel for everybody. A channel that is gone
    /// already is closed.
    pub async fn close(self) -> Result<(), ClientError> {
        let deadline = self.options.deadlines.call;
        let closed = self.endpoint.delete(deadline).await;
        drop(self.ahead);
        match closed {
            Err(ClientError::NoChannel | ClientError::Status { status: 400, .. }) => Ok(()),
            closed => closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_testkit::until;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
    };

    /// Refuses every POST before it has a byte, takes every DELETE, and tells of their heads.
    async fn full_server() -> (String, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/c", listener.local_addr().unwrap());
        let (tell, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let status = if head.starts_with(b"POST") { "413 Full" } else { "200 OK" };
                let end = "Content-Length: 0\r\nConnection: close";
                let _ = stream
                    .write_all(format!("HTTP/1.1 {status}\r\n{end}\r\n\r\n").as_bytes())
                    .await;
                let _ = tell.send(String::from_utf8_lossy(&head).into_owned());
            }
        });
        (url, heads)
    }

    #[tokio::test]
    async fn a_segment_that_failed_before_its_first_byte_is_closed_too() {
        penstock_http_kit::tls::install_crypto_provider();
        let (url, mut heads) = full_server().await;
        let http = super::super::http(Default::default(), Default::default()).unwrap();
        let mut publisher = Publisher::open(http, &url, PublisherOptions::default()).await.unwrap();
        until("the waiting request was refused", || {
            let refused = publisher.ahead.as_ref().is_some_and(|ahead| !ahead.is_open());
            async move { refused }
        })
        .await;
        let error = publisher.write(Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, ClientError::Status { status: 413, .. }), "{error:?}");
        let closed = async { while !heads.recv().await.unwrap().starts_with("DELETE /c/0 ") {} };
        tokio::time::timeout(std::time::Duration::from_secs(30), closed).await.unwrap();
    }
}
