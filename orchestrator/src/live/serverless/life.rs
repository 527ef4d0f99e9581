//! A session of a hosted runner while its socket is open: channels are made and closed as the runner asks, it is
//! asked whether it is there, and it may begin anew. It is over when the socket is, when its events have an end, or
//! after the longest time that a session may cost money.

use super::{
    Hosting, Place, begin,
    socket::{Received, Socket},
    words::{self, Made, Said},
};
use crate::{clock, live::shown};
use penstock_trickle::{ChannelWatch, Group};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use url::Url;

/// Between two questions whether the runner is there, and how many it may leave unanswered.
const PING_EVERY: Duration = Duration::from_secs(10);
const MOST_UNANSWERED: u32 = 3;
/// Within which time it may begin anew `--limit-serverless-restarts` times.
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);
/// A runner that begins anew is waited for so long, and its last answer to a question.
const RESTART_TIME: Duration = Duration::from_secs(60);
const LAST_ANSWER_TIME: Duration = Duration::from_millis(300);

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The socket.
    Socket,
    /// The session's channels.
    Channels,
    /// The time.
    Time,
    /// The runner says what nobody understands, or too much, or nothing.
    Runner(&'static str),
}

/// A session.
pub struct Life {
    socket: Socket<reqwest::Upgraded>,
    place: Place,
    request: String,
    runner: Url,
    events: ChannelWatch,
    hosting: Hosting,
    group: Group,
    /// Names of media channels by their URLs.
    open: BTreeMap<String, String>,
    /// Wishes for channels since the runner began.
    wishes: u64,
    restarts: VecDeque<Instant>,
    unanswered: u32,
    /// A runner that says that it begins anew is left alone until it has.
    is_asked: bool,
}

impl Life {
    /// That has begun.
    pub fn new(
        socket: Socket<reqwest::Upgraded>,
        place: Place,
        request: String,
        runner: Url,
        events: ChannelWatch,
        hosting: Hosting,
    ) -> Self {
        let group = hosting.trickle.group();
        Self {
            socket,
            place,
            request,
            runner,
            events,
            hosting,
            group,
            open: BTreeMap::new(),
            wishes: 0,
            restarts: VecDeque::new(),
            unanswered: 0,
            is_asked: true,
        }
    }

    /// To its end.
    pub async fn run(mut self) {
        let over = self.live().await;
        tracing::debug!(
            session = shown(&self.place.name),
            ?over,
            "a hosted runner's session is over"
        );
        self.close_media();
        for suffix in ["-events", "-control"] {
            // What was closed by others is closed.
            let _ = self.hosting.trickle.close(&format!("{}{suffix}", self.place.name));
        }
        self.socket.close().await;
    }

    async fn live(&mut self) -> Over {
        let ends = Instant::now() + self.hosting.longest;
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let events = self.events.clone();
            let next = tokio::select! {
                next = self.socket.next() => next,
                () = events.closed() => return Over::Channels,
                () = sleep_until(ends) => return self.time_is_over().await,
                _ = pings.tick(), if self.is_asked => {
                    if let Err(over) = self.ask().await {
                        return over;
                    }
                    continue;
                }
            };
            let heard = match next {
                Ok(Received::Ping(said)) => self.socket.pong(&said).await.map_err(|_| Over::Socket),
                Ok(Received::Message(message)) => self.hear(&message).await,
                Err(_) => Err(Over::Socket),
            };
            if let Err(over) = heard {
                return over;
            }
        }
    }

    /// Asks whether it is there.
    async fn ask(&mut self) -> Result<(), Over> {
        self.send(&words::ping(clock::now_ms())).await?;
        self.unanswered += 1;
        if self.unanswered >= MOST_UNANSWERED { Err(Over::Runner("no pong")) } else { Ok(()) }
    }

    async fn hear(&mut self, message: &[u8]) -> Result<(), Over> {
        match Said::read(message) {
            Said::Pong => self.unanswered = 0,
            Said::Ready => self.begin_anew().await?,
            Said::Restarting { request_id } => {
                self.is_asked = false;
                // An answer that comes after its new beginning would be taken for something else.
                let answered = timeout(LAST_ANSWER_TIME, self.last_answer()).await;
                answered.unwrap_or(Ok(()))?;
                self.unanswered = 0;
                self.send(&words::response(&request_id, None)).await?;
            }
            Said::Create { request_id, mime, inbound, outbound } => {
                let made = self.make(&mime, inbound, outbound)?;
                self.send(&words::response(&request_id, Some(&made))).await?;
            }
            Said::Close(urls) => {
                for url in urls {
                    if let Some(name) = self.open.remove(&url) {
                        let _ = self.hosting.trickle.close(&name);
                    }
                }
            }
            Said::Nonsense => tracing::debug!("a hosted runner said what makes no sense"),
            Said::Started | Said::Refused { .. } | Said::Unknown => {
                return Err(Over::Runner("an unknown message"));
            }
        }
        Ok(())
    }

    /// Waits until the last question is answered.
    async fn last_answer(&mut self) -> Result<(), Over> {
        while self.unanswered > 0 {
            let message = self.socket.message().await.map_err(|_| Over::Socket)?;
            if Said::read(&message) == Said::Pong {
                self.unanswered = 0;
            }
        }
        Ok(())
    }

    /// It is ready once more: what it streamed is over, and it gets the request again.
    async fn begin_anew(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        self.restarts.retain(|at| now.saturating_duration_since(*at) < RESTARTS_WITHIN);
        if self.restarts.len() >= self.hosting.limits.serverless_restarts {
            return Err(Over::Runner("too many beginnings (--limit-serverless-restarts)"));
        }
        self.restarts.push_back(now);
        self.close_media();
        self.wishes = 0;
        let begun = begin(&mut self.socket, &self.request, &self.runner);
        let begun = timeout(RESTART_TIME, begun).await;
        if !matches!(begun, Ok(Ok(()))) {
            return Err(Over::Runner("no new beginning"));
        }
        (self.is_asked, self.unanswered) = (true, 0);
        Ok(())
    }

    fn make(&mut self, mime: &str, inbound: bool, outbound: bool) -> Result<Vec<Made>, Over> {
        self.wishes += 1;
        let mut made = Vec::new();
        for (is_wanted, direction) in [(inbound, "in"), (outbound, "out")] {
            if !is_wanted {
                continue;
            }
            if self.open.len() >= self.hosting.limits.serverless_channels {
                return Err(Over::Runner("too many channels (--limit-serverless-channels)"));
            }
            let name = format!("{}-{}-{direction}", self.place.name, self.wishes);
            if let Err(refusal) = self.hosting.trickle.create_in(&self.group, &name, mime) {
                tracing::warn!(session = shown(&name), %refusal, "a hosted runner gets no channel");
                continue;
            }
            let url = self.place.url(&name);
            self.open.insert(url.clone(), name);
            made.push(Made { url, direction, mime: mime.to_owned() });
        }
        Ok(made)
    }

    fn close_media(&mut self) {
        for name in std::mem::take(&mut self.open).into_values() {
            let _ = self.hosting.trickle.close(&name);
        }
    }

    /// It is told, and has a moment.
    async fn time_is_over(&mut self) -> Over {
        if self.send(&words::closing()).await.is_ok() {
            let events = self.events.clone();
            tokio::select! {
                () = sleep(self.hosting.grace) => {}
                () = events.closed() => {}
            }
        }
        Over::Time
    }

    async fn send(&mut self, text: &str) -> Result<(), Over> {
        self.socket.send(text).await.map_err(|_| Over::Socket)
    }
}
