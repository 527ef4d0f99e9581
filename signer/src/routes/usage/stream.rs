//! The report as it is read: some lines at a time, however many there are.

use super::{CSV_HEADINGS, UsageView, csv_line};
use crate::error::SignerError;
use axum::body::{Body, Bytes};
use futures::stream;
use http::HeaderValue;
use penstock_ledger::signer::{LedgerError, SignerLedger, Usage, UsageQuery};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Lines that wait for the client.
const LINES: usize = 256;
/// Bytes sent at once, about.
const PIECE: usize = 16 * 1024;
/// How long a client is waited for: the reading holds one of the ledger's few connections.
const PATIENCE: Patience =
    Patience { piece: Duration::from_secs(30), in_all: Duration::from_secs(60) };

/// Who takes longer is not waited for any more.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For a piece: one has gone who does not take it.
    piece: Duration,
    /// For all of them: one who takes each a moment before would hold the connection for hours.
    in_all: Duration,
}

impl Patience {
    /// Whether the client took it.
    async fn send(&mut self, pieces: &mpsc::Sender<Said>, piece: Said) -> bool {
        let began = Instant::now();
        let taken = pieces.send_timeout(piece, self.piece.min(self.in_all)).await;
        self.in_all = self.in_all.saturating_sub(began.elapsed());
        taken.is_ok()
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

impl Format {
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        })
    }

    fn begin(self) -> &'static str {
        match self {
            Self::Json => "[",
            Self::Csv => CSV_HEADINGS,
        }
    }

    fn line(self, first: bool, view: &UsageView) -> Result<String, SignerError> {
        match self {
            Self::Csv => Ok(csv_line(view)),
            Self::Json => {
                let text = serde_json::to_string(view);
                let text = text.map_err(|_| SignerError::Internal("a line of usage"))?;
                Ok(if first { text } else { format!(",\n{text}") })
            }
        }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Json => "]",
            Self::Csv => "",
        }
    }
}

/// A part of the body.
enum Piece {
    More(Bytes),
    Last(Bytes),
}

type Said = Result<Piece, SignerError>;

/// Returns once there is a first piece, so that a ledger that is away is a 503. If it goes away later
/// the body breaks off without its end, which every client can tell.
pub(super) async fn body(
    ledger: Arc<dyn SignerLedger>,
    query: UsageQuery,
    client: Option<String>,
    format: Format,
) -> Result<Body, SignerError> {
    let (lines, read) = mpsc::channel(LINES);
    let reading = tokio::spawn(async move { ledger.usage(query, lines).await });
    let (pieces, mut said) = mpsc::channel(1);
    tokio::spawn(write(read, reading, client, format, pieces, PATIENCE));
    let first = said.recv().await.unwrap_or(Err(SignerError::Internal("no report")))?;
    let rest = stream::unfold((Some(Ok(first)), said), |(next, mut said)| async move {
        match next? {
            Ok(Piece::Last(bytes)) => Some((Ok(bytes), (None, said))),
            Ok(Piece::More(bytes)) => {
                let next = said.recv().await;
                // Without a last piece whoever wrote gave up.
                let next = next.unwrap_or(Err(SignerError::Internal("the client is too slow")));
                Some((Ok(bytes), (Some(next), said)))
            }
            Err(error) => {
                tracing::warn!(%error, "a usage report was broken off");
                Some((Err(std::io::Error::other("broken off")), (None, said)))
            }
        }
    });
    Ok(Body::from_stream(rest))
}

async fn write(
    mut lines: mpsc::Receiver<Usage>,
    reading: JoinHandle<Result<(), LedgerError>>,
    client: Option<String>,
    format: Format,
    pieces: mpsc::Sender<Said>,
    mut patience: Patience,
) {
    let (mut text, mut first) = (format.begin().to_owned(), true);
    while let Some(line) = lines.recv().await {
        let view = UsageView::from(line);
        if client.is_some() && view.client != client {
            continue;
        }
        let line = format.line(first, &view);
        first = false;
        let full = match line {
            Ok(line) => {
                text.push_str(&line);
                text.len() >= PIECE
            }
            Err(error) => {
                patience.send(&pieces, Err(error)).await;
                return;
            }
        };
        if full {
            let piece = Ok(Piece::More(std::mem::take(&mut text).into()));
            if !patience.send(&pieces, piece).await {
                // Nobody takes it. The reading ends because nobody takes its lines.
                return;
            }
        }
    }
    let last = match reading.await {
        Ok(Ok(())) => Ok(Piece::Last((text + format.end()).into())),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(SignerError::Internal("the report ended badly")),
    };
    // Whoever has gone needs no end.
    patience.send(&pieces, last).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Rational, Wei};
    use penstock_ledger::signer::Day;

    fn line() -> Usage {
        Usage {
            account: "a".repeat(64),
            auth_id: None,
            day: Day::of_ms(0),
            payments: 1,
            tickets: 1,
            charged_wei: Wei::ZERO,
            ticket_ev_wei: Rational::ZERO,
            fee_wei: Rational::ZERO,
            fee_rounding_wei: 0,
        }
    }

    /// Each piece within its time, and never all of them.
    #[tokio::test]
    async fn who_takes_little_at_a_time_gives_the_connection_back() {
        let (lines, read) = mpsc::channel(LINES);
        // A ledger without end; it ends when nobody takes its lines.
        let reading = tokio::spawn(async move {
            while lines.send(line()).await.is_ok() {}
            Ok(())
        });
        let ended = reading.abort_handle();
        let hour = Duration::from_secs(3_600);
        let patience = Patience { piece: hour, in_all: Duration::from_millis(50) };
        let (pieces, mut said) = mpsc::channel(1);
        tokio::spawn(write(read, reading, None, Format::Csv, pieces, patience));
        let took = async {
            while let Some(piece) = said.recv().await {
                assert!(matches!(piece, Ok(Piece::More(_))), "it has no end");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            while !ended.is_finished() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), took).await.expect("it is broken off");
    }
}
