//! A request on its way to a runner, and its answer on the way back, piece by piece as they come
//! (live-runner.md section 7.3). Redirects are passed on, not followed; nobody waits for who is silent.

use super::{
    error::RunnerError,
    headers::{self, Session},
    once::Once,
    path,
    relay::{Movement, Over, relay},
    sessions::Visit,
};
use crate::{
    error::JobError,
    node::Node,
    release::Reason,
    runner_networks::{RunnerHttp, RunnerNetworks},
    signs::LastSign,
};
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use penstock_clients::{BuildError, HttpOptions};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

/// The client for runners. Each request has a connection of its own: a kept one that is just being
/// closed would look like a runner that has failed.
pub fn client(networks: &Arc<RunnerNetworks>) -> Result<RunnerHttp, BuildError> {
    let options = HttpOptions {
        // Silence is measured here, both ways together.
        read_timeout: Duration::from_secs(7 * 24 * 3600),
        total_timeout: None,
        http1_only: true,
        // An application may let an upload wait for longer than that.
        unacknowledged: None,
        idle_per_host: 0,
        ..HttpOptions::default()
    };
    RunnerHttp::new(networks, &options)
}

/// What a request keeps until its answer is through.
struct Under {
    visit: Visit,
    once: Option<Once>,
    _running: TaskTrackerToken,
}

impl Under {
    fn failed(&mut self) {
        self.voided(Reason::RunnerFailed);
    }

    fn voided(&mut self, why: Reason) {
        self.visit.has_failed();
        if let Some(once) = &mut self.once {
            once.voided(why);
        }
    }

    /// The session has ended before the answer has. A runner that ends it in order need not wait for the rest of a request:
    /// a session is judged by all that was asked in it, a single call by whether anything of it was delivered.
    fn cut(&mut self, fault: &Fault) -> RunnerError {
        let is_in_order = self.visit.why() == Some(Reason::RunnerStopped);
        if !is_in_order || !fault.waits.load(Relaxed) {
            return self.over();
        }
        if let Some(once) = &mut self.once {
            match self.visit.delivered.is_cancelled() {
                true => once.done(),
                false => once.voided(Reason::RunnerStopped),
            }
        }
        self.visit.over()
    }

    /// The session is over; whoever ended it.
    fn over(&mut self) -> RunnerError {
        let over = self.visit.over();
        match over {
            RunnerError::NoSession(Some(why)) if why.spares_client() => self.voided(why),
            _ => {}
        }
        over
    }

    fn done(&mut self) {
        if let Some(once) = &mut self.once {
            once.done();
        }
    }

    /// To be cancelled when the first of an answer of this status is delivered: a failure of the application's delivers
    /// nothing.
    fn delivered(&mut self, status: StatusCode) -> CancellationToken {
        if status.is_server_error() {
            self.visit.has_failed();
            return CancellationToken::new();
        }
        self.visit.delivered.clone()
    }
}

impl Node {
    /// Passes a request on to below `visit`'s target; `rest` is the path as it came. Clients find the
    /// application at `public`.
    pub async fn forward(
        &self,
        visit: Visit,
        once: Option<Once>,
        rest: &str,
        public: &str,
        mut request: Request,
    ) -> Result<Response, JobError> {
        let runners = Arc::clone(self.runners()?);
        let bounds = &runners.registry.bounds;
        let target = path::target(&visit.target, rest, request.uri().query())?;
        let control = runners.registry.runner_control_url(&visit.route, &visit.name);
        let (route, name, token) = (&visit.route, &visit.name, &visit.token);
        let session =
            Session { route: &super::path::segment(route), name, token, control: &control };
        let outgoing = headers::for_runner(request.headers(), &session);
        let fault = Arc::new(Fault::default());
        if length(request.headers()).is_some_and(|length| length > bounds.body_bytes) {
            return Err(RunnerError::BodyTooLarge(bounds.body_bytes).into());
        }
        let client_side =
            headers::upgrade(request.headers()).is_some().then(|| hyper::upgrade::on(&mut request));
        let moved = Arc::new(Movement::new());
        let http = runners.http.to(&target);
        let mut sending = http.request(request.method().clone(), target.clone()).headers(outgoing);
        let method = request.method().clone();
        let body = request.into_body();
        if !axum::body::HttpBody::is_end_stream(&body) {
            let body = bounded(body, bounds.body_bytes, &moved, &fault);
            sending = sending.body(reqwest::Body::wrap_stream(body));
        }
        let mut under = Under { visit, once, _running: self.jobs.token() };
        let idle = bounds.idle;
        under.visit.is_sent();
        if let Some(once) = &mut under.once {
            once.sent();
        }
        let answer = tokio::select! {
            answer = sending.send() => answer,
            () = moved.stops(idle) => {
                if under.visit.why().is_some() {
                    return Err(under.cut(&fault).into());
                }
                if fault.waits.load(Relaxed) {
                    return Err(RunnerError::BodySilent(idle.as_millis()).into());
                }
                under.failed();
                return Err(RunnerError::Silent(idle.as_millis()).into());
            }
            () = under.visit.cut() => {
                return Err(under.cut(&fault).into());
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if fault.too_large.load(Relaxed) => {
                return Err(RunnerError::BodyTooLarge(bounds.body_bytes).into());
            }
            Err(_) if fault.is_any() => return Err(RunnerError::BodyBroken.into()),
            Err(error) => {
                let is_gone = error.is_connect();
                tracing::warn!(error = %error.without_url(), runner = under.visit.route,
                    "a live runner does not answer");
                under.failed();
                // One that broke a single request off may be well otherwise.
                if is_gone {
                    under.visit.broke();
                }
                return Err(RunnerError::Unreachable.into());
            }
        };
        under.visit.is_heard();
        let told = headers::for_client(answer.headers(), &target, &under.visit.target, public);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(under, answer, told, client_side, idle);
        }
        Ok(response(
            answer,
            told,
            &method,
            under,
            Watch { moved, idle, fault },
            bounds.waiting_pieces,
        ))
    }

    /// Both sides speak another protocol from here on.
    fn switch(
        &self,
        mut under: Under,
        answer: reqwest::Response,
        told: HeaderMap,
        client_side: Option<hyper::upgrade::OnUpgrade>,
        idle: Duration,
    ) -> Result<Response, JobError> {
        // A runner that switches when nobody has asked for it.
        let Some(client_side) = client_side else {
            under.failed();
            return Err(RunnerError::Unreachable.into());
        };
        tokio::spawn(async move {
            let ended = under.visit.ended.clone();
            let both = async {
                let (Ok(client), Ok(runner)) = tokio::join!(client_side, answer.upgrade()) else {
                    return Over::Broke;
                };
                under.visit.delivered.cancel();
                let is_heard = || under.visit.is_heard();
                relay(TokioIo::new(client), runner, idle, is_heard).await
            };
            let over = tokio::select! {
                over = both => over,
                () = ended.cancelled() => Over::Done,
            };
            tracing::debug!(
                ?over,
                runner = under.visit.route,
                "a connection with a live runner ended"
            );
            under.done();
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = told;
        Ok(response)
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What a client did to its request: no failure of the runner's.
#[derive(Default)]
struct Fault {
    too_large: AtomicBool,
    broke: AtomicBool,
    /// It is the client's turn: the rest of the request has not come.
    waits: AtomicBool,
}

impl Fault {
    fn is_any(&self) -> bool {
        self.too_large.load(Relaxed) || self.broke.load(Relaxed)
    }
}

/// A request's body, piece by piece, at most so many bytes.
fn bounded(
    body: Body,
    most: u64,
    moved: &Arc<Movement>,
    fault: &Arc<Fault>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let (moved, fault) = (Arc::clone(moved), Arc::clone(fault));
    let (mut body, asked) = (body.into_data_stream(), Arc::clone(&fault));
    let pieces = stream::poll_fn(move |cx| {
        let polled = body.poll_next_unpin(cx);
        asked.waits.store(polled.is_pending(), Relaxed);
        polled
    });
    let mut so_far = 0_u64;
    pieces.map(move |piece| {
        moved.note();
        let piece = piece.map_err(|error| {
            fault.broke.store(true, Relaxed);
            std::io::Error::other(error)
        })?;
        so_far = so_far.saturating_add(piece.len() as u64);
        if so_far > most {
            fault.too_large.store(true, Relaxed);
            return Err(std::io::Error::other("the body is too large"));
        }
        Ok(piece)
    })
}

fn response(
    answer: reqwest::Response,
    headers: HeaderMap,
    method: &Method,
    mut under: Under,
    watch: Watch,
    most_waiting: usize,
) -> Response {
    let status = answer.status();
    let delivered = under.delivered(status);
    let bodyless = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodyless {
        under.done();
        delivered.cancel();
        Body::empty()
    } else {
        let (pieces, waiting) = mpsc::channel(most_waiting);
        tokio::spawn(pump(answer, under, pieces, watch, delivered));
        Body::from_stream(ReceiverStream::new(waiting))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// By what an exchange is judged.
struct Watch {
    /// A byte of the request, or of the answer.
    moved: Arc<Movement>,
    idle: Duration,
    fault: Arc<Fault>,
}

type Pieces = mpsc::Sender<std::io::Result<Bytes>>;

/// An answer, piece by piece, in a task of its own: a client that does not read keeps neither the
/// session nor its room.
async fn pump(
    mut answer: reqwest::Response,
    mut under: Under,
    pieces: Pieces,
    Watch { moved, idle, fault }: Watch,
    delivered: CancellationToken,
) {
    let came = Came { there: &under.visit.there, delivered: &delivered };
    let passed = tokio::select! {
        passed = pass_all(&mut answer, &pieces, &moved, idle, came) => passed,
        () = under.visit.cut() => Passed::Cut,
    };
    let why = match passed {
        Passed::Whole => {
            under.done();
            delivered.cancel();
            None
        }
        Passed::ClientGone => None,
        Passed::Unread => Some("nobody reads the answer"),
        // The runner's answer ends with the request that it is to.
        Passed::Broken if fault.is_any() => Some("the request broke off"),
        Passed::Silent if under.visit.why().is_some() => {
            under.cut(&fault);
            Some("the session ended")
        }
        // It was the client's turn.
        Passed::Silent if fault.waits.load(Relaxed) => Some("the rest of the request did not come"),
        Passed::Broken | Passed::Silent => {
            under.failed();
            Some("the runner broke off")
        }
        Passed::Cut => {
            under.cut(&fault);
            Some("the session ended")
        }
    };
    drop((answer, under));
    if let Some(why) = why {
        // What was cut off must not look whole. Whoever does not read does not hear of it.
        let _ = tokio::time::timeout(idle, pieces.send(Err(std::io::Error::other(why)))).await;
    }
}

/// What became of an answer.
enum Passed {
    /// The client has all of it.
    Whole,
    /// The client went away.
    ClientGone,
    /// The client does not read it.
    Unread,
    /// The runner broke off.
    Broken,
    /// Neither side says anything.
    Silent,
    /// The session ended.
    Cut,
}

/// What a piece of an answer says: that its runner is there, and, once its client has it, that something was delivered.
struct Came<'a> {
    there: &'a LastSign,
    delivered: &'a CancellationToken,
}

async fn pass_all(
    answer: &mut reqwest::Response,
    pieces: &Pieces,
    moved: &Movement,
    idle: Duration,
    came: Came<'_>,
) -> Passed {
    // A client that knows the length goes when it has all, without waiting for the end.
    let mut left = answer.content_length();
    loop {
        let piece = tokio::select! {
            piece = answer.chunk() => piece,
            // An upload that goes on beside the answer counts as well.
            () = moved.stops(idle) => return Passed::Silent,
            () = pieces.closed() => return Passed::ClientGone,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return Passed::Whole,
            Err(_) => return Passed::Broken,
        };
        moved.note();
        came.there.note(Instant::now());
        left = left.map(|left| left.saturating_sub(piece.len() as u64));
        match tokio::time::timeout(idle, pieces.send(Ok(piece))).await {
            Ok(Ok(())) => came.delivered.cancel(),
            Ok(Err(_)) => return Passed::ClientGone,
            Err(_) => return Passed::Unread,
        }
        if left == Some(0) {
            return Passed::Whole;
        }
        // It was the client's turn; the runner's begins now.
        moved.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_upload_beside_the_answer_is_movement() {
        let silent =
            reqwest::Body::wrap_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        let mut answer = reqwest::Response::from(http::Response::new(silent));
        let (pieces, _waiting) = mpsc::channel(8);
        let moved = Arc::new(Movement::new());
        let uploading = Arc::clone(&moved);
        let upload = tokio::spawn(async move {
            for _ in 0..5 {
                advance(IDLE - Duration::from_secs(1)).await;
                uploading.note();
            }
        });
        let begun = Instant::now();
        let delivered = CancellationToken::new();
        let came = Came { there: &LastSign::now(), delivered: &delivered };
        let passed = pass_all(&mut answer, &pieces, &moved, IDLE, came).await;
        assert!(!delivered.is_cancelled(), "not a byte of the answer");
        assert!(matches!(passed, Passed::Silent), "nothing moves any more");
        assert!(begun.elapsed() > 5 * (IDLE - Duration::from_secs(1)), "{:?}", begun.elapsed());
        upload.await.unwrap();
    }
}
