//! The RTMP listener: sockets around [`Session`], with every wait and every size bounded.

use super::{
    room::Room,
    segmenter::{Cut, Segmenter},
    session::{Broken, Event, Session},
};
use crate::{
    front::{auth::Refused, caller::Caller},
    service::{
        Gateway,
        publish::{Publication, STORE_PATIENCE, Unpublished},
    },
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// From connecting to `publish`.
const GREETING_TIME: Duration = Duration::from_secs(10);
/// An encoder sends many times a second; one that sends nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// A peer that does not take our few bytes is gone as well.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// How often the store hears that a publisher is there.
const RENEW: Duration = Duration::from_secs(1);
/// Segments in work before nothing more is read from the publisher.
const IN_WORK: usize = 4;
/// A share of the memory for bodies is for what publishers have sent, until their segments are done.
const MEMORY_SHARE: usize = 4;

/// Why a publication ended, for the log and for the encoder's.
#[derive(Debug, Error)]
enum Ended {
    #[error("the connection: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Unusable(#[from] super::segmenter::Unusable),
    #[error(transparent)]
    Unpublished(#[from] Unpublished),
    #[error("nothing was sent for a while")]
    Silent,
    #[error("too much is being published here: try again")]
    Memory,
    #[error("this replica is stopping: connect again")]
    Stopping,
    #[error("the publisher left")]
    Left,
}

/// Serves until `stop`, then lets publishers finish their segments.
pub async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    stop: CancellationToken,
    drain: Duration,
) {
    let settings = &gateway.settings;
    let places = Arc::new(Semaphore::new(settings.video.rtmp_max_connections));
    let kib = settings.front.max_buffered_bytes / 1024 / MEMORY_SHARE;
    let memory = Arc::new(Semaphore::new(kib.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: others may close meanwhile.
                tracing::warn!(%error, "cannot accept an RTMP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metrics::counter!("penstock_gateway_rtmp_refused_total").increment(1);
            continue;
        };
        let connection = Connection {
            gateway: Arc::clone(&gateway),
            socket,
            session: Session::default(),
            out: Vec::new(),
            memory: Arc::clone(&memory),
            stop: stop.clone(),
        };
        connections.spawn(async move {
            let _place = place;
            let ended = connection.run().await;
            tracing::info!(%peer, reason = %ended, "an RTMP connection ended");
        });
    }
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!("RTMP publishers did not finish in time");
    }
}

struct Connection {
    gateway: Arc<Gateway>,
    socket: TcpStream,
    session: Session,
    out: Vec<u8>,
    memory: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Connection {
    async fn run(mut self) -> Ended {
        let _ = self.socket.set_nodelay(true);
        let asked = tokio::time::timeout(GREETING_TIME, self.greet()).await;
        let (path, url) = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Silent,
        };
        let token = self.token(&url);
        let publishing = async {
            let caller = self.caller(token.as_deref()).await?;
            let url = match self.gateway.callers.tells_apart() {
                // An API key is for us alone.
                true => without_token(&url),
                false => url,
            };
            self.gateway.publish(&path, url, caller).await
        };
        let mut publication = match publishing.await {
            Ok(publication) => publication,
            Err(refused) => {
                let code = match refused {
                    Unpublished::Taken => "NetStream.Publish.BadName",
                    _ => "NetStream.Publish.Denied",
                };
                self.session.refuse(&mut self.out, code, &refused.to_string());
                let _ = self.send().await;
                return refused.into();
            }
        };
        metrics::gauge!("penstock_gateway_rtmp_publishers").increment(1.0);
        self.session.accept(&mut self.out);
        let limit = self.gateway.settings.video.rtmp_max_bitrate;
        let mut media = Media {
            segmenter: Segmenter::new(limit),
            in_work: FuturesUnordered::new(),
            room: Room::new(Arc::clone(&self.memory)),
        };
        let ended = self.publish(&mut publication, &mut media, token.as_deref()).await;
        // What was sent is shown, however the publication ended, if it is still ours.
        if !matches!(ended, Ended::Unpublished(_))
            && let Some(cut) = media.segmenter.finish()
        {
            let held = media.room.hand_on(cut.data.len());
            let _ = media.push(&self.gateway, &mut publication, cut, held).await;
        }
        self.gateway.end_publication(publication).await;
        if !matches!(ended, Ended::Left | Ended::Io(_)) {
            let why = ended.to_string();
            self.session.refuse(&mut self.out, "NetStream.Publish.Failed", &why);
            let _ = self.send().await;
        }
        metrics::gauge!("penstock_gateway_rtmp_publishers").decrement(1.0);
        ended
    }

    /// What says whose publication this is: `?token=…`, where callers are told apart.
    fn token(&self, url: &str) -> Option<String> {
        let token = || parameters(url).find_map(|pair| pair.strip_prefix(TOKEN));
        self.gateway.callers.tells_apart().then(token)?.map(str::to_owned)
    }

    /// Whose publication this is.
    async fn caller(&self, token: Option<&str>) -> Result<Caller, Unpublished> {
        let (callers, settings) = (&self.gateway.callers, &self.gateway.settings);
        if !callers.tells_apart() {
            return Ok(Caller::of_settings(settings));
        }
        match token {
            Some(token) => callers.bearer(token).await.map_err(not_let_in),
            None if settings.front.auth.publish_open => Ok(Caller::of_settings(settings)),
            None => Err(Unpublished::Refused(Refused::Missing.to_string())),
        }
    }

    /// Up to the wish to publish: path and whole address.
    async fn greet(&mut self) -> Result<(String, String), Ended> {
        loop {
            let event = self.session.next(&mut self.out);
            self.send().await?;
            match event? {
                Some(Event::Publish { app, name, address }) => {
                    let path = name.split('?').next().unwrap_or_default();
                    let local = self.socket.local_addr()?;
                    let base = match address {
                        Some(address) => address.trim_end_matches('/').to_owned(),
                        None => format!("rtmp://{local}/{app}"),
                    };
                    return Ok((format!("/{app}/{path}"), format!("{base}/{name}")));
                }
                Some(_) => {}
                None => self.receive().await?,
            }
        }
    }

    /// Media, until something ends it.
    async fn publish(
        &mut self,
        publication: &mut Publication,
        media: &mut Media,
        token: Option<&str>,
    ) -> Ended {
        let gateway = Arc::clone(&self.gateway);
        let mut look = tokio::time::interval(gateway.settings.video.rtmp_look_again);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looking = FuturesUnordered::new();
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut store_away: Option<Instant> = None;
        loop {
            // Everything that has arrived, as long as there is room for segments.
            let mut room = true;
            while media.in_work.len() < IN_WORK {
                room = media.room.hold(media.segmenter.held() + self.session.held());
                if !room && media.in_work.is_empty() {
                    return Ended::Memory;
                }
                if !room {
                    break;
                }
                let event = match self.session.next(&mut self.out) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(broken) => return broken.into(),
                };
                match media.take(event) {
                    Ok(Some(cut)) => {
                        let held = media.room.hand_on(cut.data.len());
                        let pushed = media.push(&self.gateway, publication, cut, held);
                        if let Err(ended) = pushed.await {
                            return ended;
                        }
                    }
                    Ok(None) => {}
                    Err(ended) => return ended,
                }
            }
            if let Err(error) = self.send().await {
                return error.into();
            }
            let may_read = room && media.in_work.len() < IN_WORK;
            if !may_read {
                // He is not silent: we do not listen.
                heard = Instant::now();
            }
            tokio::select! {
                read = receive(&mut self.socket, &mut self.session, &mut self.out), if may_read => {
                    match read {
                        Ok(()) => heard = Instant::now(),
                        Err(ended) => return ended,
                    }
                }
                Some(()) = media.in_work.next() => {}
                _ = look.tick(), if looking.is_empty() => {
                    looking.extend(token.map(|token| gateway.callers.bearer(token)));
                }
                Some(known) = looking.next() => {
                    let goes_on = match known.map_err(not_let_in) {
                        Ok(caller) => publication.goes_on_as(caller),
                        // Nobody can tell: it goes on.
                        Err(Unpublished::Later(_)) => Ok(()),
                        Err(refused) => Err(refused),
                    };
                    if let Err(refused) = goes_on {
                        return refused.into();
                    }
                }
                _ = renew.tick() => {
                    if may_read && heard.elapsed() >= SILENCE {
                        return Ended::Silent;
                    }
                    // A publisher that has fallen silent may have come back elsewhere already.
                    if may_read && heard.elapsed() >= RENEW * 2 {
                        continue;
                    }
                    match self.gateway.keep_publication(publication).await {
                        Ok(()) => store_away = None,
                        Err(Unpublished::Later(error)) => {
                            let since = *store_away.get_or_insert_with(Instant::now);
                            if since.elapsed() > STORE_PATIENCE {
                                return Unpublished::Later(error).into();
                            }
                        }
                        Err(lost) => return lost.into(),
                    }
                }
                () = self.stop.cancelled() => return Ended::Stopping,
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Ended> {
        receive(&mut self.socket, &mut self.session, &mut self.out).await
    }

    async fn send(&mut self) -> Result<(), std::io::Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = tokio::time::timeout(WRITE_TIME, self.socket.write_all(&self.out)).await;
        self.out.clear();
        sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }
}

fn not_let_in(refused: Refused) -> Unpublished {
    match refused {
        Refused::Unavailable(why) => Unpublished::Later(why),
        other => Unpublished::Refused(other.to_string()),
    }
}

/// How a publisher says his API key.
const TOKEN: &str = "token=";

/// What an address says after its path, wherever an encoder has put its question marks.
fn parameters(url: &str) -> impl Iterator<Item = &str> {
    url.split(['?', '&']).skip(1)
}

fn without_token(url: &str) -> String {
    let address = url.split(['?', '&']).next().unwrap_or_default();
    let rest: Vec<_> = parameters(url).filter(|pair| !pair.starts_with(TOKEN)).collect();
    match rest.is_empty() {
        true => address.to_owned(),
        false => format!("{address}?{}", rest.join("&")),
    }
}

async fn receive(
    socket: &mut TcpStream,
    session: &mut Session,
    out: &mut Vec<u8>,
) -> Result<(), Ended> {
    let mut buffer = [0; 16 * 1024];
    match socket.read(&mut buffer).await? {
        0 => Err(Ended::Left),
        read => Ok(session.input(buffer.get(..read).unwrap_or_default(), out)?),
    }
}

/// What a publisher has sent and what became of it.
struct Media {
    segmenter: Segmenter,
    in_work: FuturesUnordered<BoxFuture<'static, ()>>,
    room: Room,
}

impl Media {
    /// One message; a segment when it finishes one.
    fn take(&mut self, event: Event) -> Result<Option<Cut>, Ended> {
        match event {
            Event::Video(at, body) => Ok(self.segmenter.video(at, &body)?),
            Event::Audio(at, body) => {
                self.segmenter.audio(at, &body)?;
                Ok(None)
            }
            Event::End => Err(Ended::Left),
            Event::Publish { .. } => Ok(None),
        }
    }

    /// Hands a segment on with its room; a store that is away for a moment is waited for.
    async fn push(
        &mut self,
        gateway: &Arc<Gateway>,
        publication: &mut Publication,
        cut: Cut,
        held: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Ended> {
        let held: Arc<dyn Send + Sync> = Arc::new(held);
        let began = Instant::now();
        let mut counted = false;
        loop {
            let pushed = async {
                if !counted {
                    gateway.count_segment(publication).await?;
                    counted = true;
                }
                gateway.publish_segment(publication, cut.clone(), held.clone()).await
            };
            match pushed.await {
                Ok(work) => {
                    self.in_work.push(Box::pin(work));
                    return Ok(());
                }
                Err(Unpublished::Later(_)) if began.elapsed() < STORE_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
