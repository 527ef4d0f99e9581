//! Who may begin a stream, and what it is then. The operator's webhook is asked once for a stream;
//! its answer is in the session store while the stream lives, so that other replicas need not ask.

use super::{Gateway, push::PushError};
use crate::{
    clock,
    front::caller::Caller,
    media::{
        config_header::{self, StoreUrl, TranscodeConfig},
        path,
    },
};
use bytes::Bytes;
use futures::StreamExt;
use penstock_clients::{HttpOptions, http};
use penstock_domain::{AuthId, StreamId, VideoProfile};
use penstock_store::{
    Cas, DocKey, StreamOwner, StreamRecord, UnixMs, Version, Versioned, pack, unpack,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use thiserror::Error;
use url::Url;

/// How long an answer is remembered after the stream's last push.
const TTL_MS: u64 = super::push::STREAM_TTL_MS;
/// It is written anew when it is so old: not with each push.
const RENEW_MS: u64 = TTL_MS / 5;
/// Most bytes of an answer.
const MAX_ANSWER: usize = config_header::MAX_BYTES;

/// In the errors of the store.
const ADMISSION: &str = "stream admission";

/// A stream as it was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingest {
    /// The name in the URL that it is pushed to; recordings go by it.
    pub external: String,
    /// The name that it is played by.
    pub stream: StreamId,
    /// Whose it is.
    pub owner: AuthId,
    /// Hash of the publish key that its publisher knows.
    #[serde(default)]
    pub key: Option<String>,
    /// Its renditions, each in the container of the first segment.
    pub profiles: Vec<VideoProfile>,
    /// Stretches time limits.
    pub timeout_multiplier: u32,
    /// Each segment begins with a new decoder.
    pub force_session_reinit: bool,
    /// Where its segments are put as well.
    #[serde(default)]
    pub object_store: Option<StoreUrl>,
    /// Where it is recorded, if not where all are.
    pub record_store: Option<StoreUrl>,
    /// By which address recordings are read.
    pub record_url: Option<String>,
    /// Streams whose recordings come before this one's.
    pub previous_sessions: Vec<String>,
    /// When this was last written.
    pub confirmed_at: UnixMs,
}

/// A stream that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAdmitted {
    /// The webhook says no, or it is somebody else's.
    #[error("authentication denied")]
    Denied,
    /// Header and webhook contradict each other.
    #[error("Received auth header with profiles that don't match those in callback URL response")]
    Mismatch,
    /// An id that is not safe as a path element and a store key.
    #[error("the id {0:?} cannot be used")]
    Id(String),
    /// An object store, for segments or a recording, that cannot be used.
    #[error("the object store {0}")]
    RecordStore(String),
    /// The webhook cannot be asked now.
    #[error("the stream webhook does not answer: {0}")]
    Webhook(String),
}

/// The webhook.
#[derive(Debug, Clone)]
pub struct StreamWebhook {
    url: Url,
    client: reqwest::Client,
}

impl StreamWebhook {
    /// For the operator's URL, which may lead anywhere; redirects are not followed.
    pub fn new(url: Url, timeout: Duration) -> Result<Self, penstock_clients::BuildError> {
        let options = HttpOptions {
            connect_timeout: timeout.min(Duration::from_secs(2)),
            read_timeout: timeout,
            total_timeout: Some(timeout),
            ..HttpOptions::default()
        };
        Ok(Self { url, client: http(&options)? })
    }

    /// Asks about an incoming URL. `None`: yes, with defaults.
    pub async fn ask(&self, incoming: &str) -> Result<Option<TranscodeConfig>, NotAdmitted> {
        let away = |error: reqwest::Error| NotAdmitted::Webhook(error.without_url().to_string());
        let question = serde_json::json!({ "url": incoming });
        let answer = self.client.post(self.url.clone()).json(&question).send().await;
        let answer = answer.map_err(away)?;
        let status = answer.status();
        if status.is_server_error() {
            return Err(NotAdmitted::Webhook(status.to_string()));
        }
        if status != http::StatusCode::OK {
            let url = for_logs(incoming);
            tracing::info!(%status, url, "the stream webhook refuses a stream");
            return Err(NotAdmitted::Denied);
        }
        let mut body = Vec::new();
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(away)?);
            if body.len() > MAX_ANSWER {
                return Err(NotAdmitted::Webhook("the answer is too long".to_owned()));
            }
        }
        if body.is_empty() {
            return Ok(None);
        }
        // An answer that cannot be used refuses the stream, as in the reference.
        let text = String::from_utf8_lossy(&body);
        let config = config_header::parse_header(&text).map_err(|error| {
            let url = for_logs(incoming);
            tracing::warn!(%error, url, "the stream webhook's answer cannot be used");
            NotAdmitted::Denied
        })?;
        if config.manifest_id.is_none() {
            let url = for_logs(incoming);
            tracing::warn!(url, "the stream webhook's answer lacks a manifestID");
            return Err(NotAdmitted::Denied);
        }
        Ok(Some(config))
    }
}

/// What a push or a publisher brings along.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The name in the URL.
    pub external: &'a str,
    /// The whole URL, for the webhook.
    pub url: &'a str,
    /// Who.
    pub caller: &'a Caller,
    /// What it asks for.
    pub wishes: &'a TranscodeConfig,
}

/// A stream's record, as last read.
pub type Seen = Option<Versioned<StreamRecord>>;

impl Gateway {
    /// The stream that a push belongs to: as it was admitted, or admitted now.
    pub async fn admitted(&self, who: Applicant<'_>) -> Result<(Ingest, Seen), PushError> {
        let now = clock::now();
        let known = self.store.doc(&key(who.external), now).await?;
        let version = known.as_ref().map(|known| known.version);
        let known = known.and_then(|known| unpack::<Ingest>(&known.value, ADMISSION).ok());
        if let Some(mut known) = known {
            let seen = self.store.stream(&known.stream, now).await?;
            if self.is_live(&seen, now) {
                if known.owner != who.caller.auth_id {
                    return Err(NotAdmitted::Denied.into());
                }
                if let Some(version) =
                    version.filter(|_| now.since_ms(known.confirmed_at) >= RENEW_MS)
                {
                    known.confirmed_at = now;
                    // Whoever was first has renewed it as well.
                    self.remember(&known, Some(version), now).await?;
                }
                return Ok((known, seen));
            }
        } else if self.video_is_open(who.caller)
            && let Ok(stream) = StreamId::new(who.external)
        {
            let seen = self.store.stream(&stream, now).await?;
            if self.is_live(&seen, now) {
                return Ok((self.unremarkable(who, stream), seen));
            }
        }
        let ingest = self.admit(who, version).await?;
        let seen = self.store.stream(&ingest.stream, clock::now()).await?;
        Ok((ingest, seen))
    }

    /// Decides about a new stream and remembers the decision.
    pub async fn admit(
        &self,
        who: Applicant<'_>,
        version: Option<Version>,
    ) -> Result<Ingest, PushError> {
        let decided = self.decide(who).await?;
        let nothing_special = decided.stream.as_str() == who.external
            && decided.object_store.is_none()
            && decided.record_store.is_none()
            && decided.previous_sessions.is_empty()
            && self.video_is_open(who.caller);
        if nothing_special && version.is_none() {
            // The stream's own record says enough.
            return Ok(decided);
        }
        let now = clock::now();
        // What leads into another's stream is not worth remembering.
        let there = self.store.stream(&decided.stream, now).await?;
        if there.is_some_and(|there| !self.may_join(&there.value, &decided, now)) {
            return Err(NotAdmitted::Denied.into());
        }
        let decided = Ingest { confirmed_at: now, ..decided };
        match self.remember(&decided, version, now).await? {
            // Several first pushes at a time: what one of them was told counts for all.
            Some(other) if other.owner == decided.owner => Ok(other),
            Some(_) => Err(NotAdmitted::Denied.into()),
            None => Ok(decided),
        }
    }

    /// Decides about a new stream, after asking the webhook if there is one.
    pub async fn decide(&self, who: Applicant<'_>) -> Result<Ingest, PushError> {
        let says = match &self.webhook {
            Some(webhook) => webhook.ask(who.url).await?,
            None => None,
        };
        let decided = decide(who, says.as_ref(), &self.settings.video.profiles)?;
        // One that cannot be used refuses the stream, before it begins.
        self.recordings.store(decided.record_store.as_ref())?;
        self.recordings.store(decided.object_store.as_ref())?;
        Ok(decided)
    }

    /// Stores it; what another stored first.
    async fn remember(
        &self,
        ingest: &Ingest,
        version: Option<Version>,
        now: UnixMs,
    ) -> Result<Option<Ingest>, PushError> {
        let value = pack(ingest, ADMISSION)?;
        let key = key(&ingest.external);
        match self.store.put_doc(&key, version, Bytes::from(value), TTL_MS, now).await? {
            Cas::Stored(_) => Ok(None),
            Cas::Conflict(Some(other)) => Ok(Some(unpack(&other.value, ADMISSION)?)),
            // It expired in this very moment; the next push asks again.
            Cas::Conflict(None) => Ok(None),
        }
    }

    /// Whether anybody may push without being asked who he is.
    fn video_is_open(&self, caller: &Caller) -> bool {
        self.webhook.is_none() && caller.auth_id == self.settings.auth_id
    }

    fn unremarkable(&self, who: Applicant<'_>, stream: StreamId) -> Ingest {
        let wishes = who.wishes;
        Ingest {
            external: who.external.to_owned(),
            stream,
            owner: who.caller.auth_id.clone(),
            key: None,
            profiles: wishes.profiles.as_ref().unwrap_or(&self.settings.video.profiles).clone(),
            timeout_multiplier: wishes.timeout_multiplier,
            force_session_reinit: false,
            // Had its first segment named a store, it would be remembered.
            object_store: None,
            record_store: None,
            record_url: None,
            previous_sessions: Vec::new(),
            confirmed_at: UnixMs(0),
        }
    }

    /// Whether a push may go on with a stream, or begin it anew if it is over. Names in URLs are no
    /// proof: several of them may lead into one stream.
    pub fn may_join(&self, there: &StreamRecord, who: &Ingest, now: UnixMs) -> bool {
        let live = !self.is_over(there.last_used_at, now);
        there.owner.as_ref().is_none_or(|owner| may_join(owner, who, live, self.webhook.is_some()))
    }

    /// Whether a stream was pushed to within `--stream-idle-ms`; else it is over, and a push begins
    /// it anew.
    pub fn is_live(&self, seen: &Seen, now: UnixMs) -> bool {
        seen.as_ref().is_some_and(|found| !self.is_over(found.value.last_used_at, now))
    }

    /// Whether a stream that was last used then is over.
    pub fn is_over(&self, last_used_at: UnixMs, now: UnixMs) -> bool {
        now.since_ms(last_used_at) >= self.settings.video.stream_idle_ms
    }
}

fn key(external: &str) -> DocKey {
    DocKey::new("ingest", external)
}

/// An address as logs may have it. By RTMP all of the path after the application may be what only its
/// publisher and the webhook know; queries are nobody's business.
fn for_logs(url: &str) -> String {
    let address = url.split('?').next().unwrap_or_default();
    match address.starts_with("rtmp") {
        true => address.split('/').take(4).chain(["…"]).collect::<Vec<_>>().join("/"),
        false => address.to_owned(),
    }
}

/// A stream is its caller's while it lives. A publish key is asked for while the stream is remembered:
/// its publisher may be away for a while. Where there is a webhook, its word counts and no key.
fn may_join(owner: &StreamOwner, who: &Ingest, live: bool, webhook: bool) -> bool {
    let same_key = webhook || owner.key == who.key;
    match live {
        true => owner.auth_id == who.owner && same_key,
        false => owner.key.is_none() || same_key,
    }
}

/// What a stream is, by what its pusher and the webhook say. Without a webhook, or if its answer is
/// empty, the pusher's header decides. Else the webhook does: the header may repeat its renditions
/// and not contradict them, and neither names a place nor a store (in the reference it replaces the
/// webhook's answer, so that any pusher could take another's stream).
fn decide(
    who: Applicant<'_>,
    says: Option<&TranscodeConfig>,
    defaults: &[VideoProfile],
) -> Result<Ingest, NotAdmitted> {
    let wishes = who.wishes;
    if let Some(says) = says
        && *wishes != TranscodeConfig::default()
        && wishes.own_profiles != says.own_profiles
    {
        return Err(NotAdmitted::Mismatch);
    }
    let rules = says.unwrap_or(wishes);
    let stream = match rules.manifest_id.as_deref() {
        // As the reference reads it: like a path.
        Some(named) => path::split_name(named),
        None => who.external,
    };
    let unusable = || NotAdmitted::Id(stream.chars().take(128).collect());
    Ok(Ingest {
        external: who.external.to_owned(),
        stream: StreamId::new(stream).map_err(|_| unusable())?,
        owner: who.caller.auth_id.clone(),
        key: None,
        profiles: rules.profiles.as_deref().unwrap_or(defaults).to_vec(),
        timeout_multiplier: rules.timeout_multiplier.max(wishes.timeout_multiplier),
        force_session_reinit: rules.force_session_reinit,
        object_store: rules.object_store.clone(),
        record_store: rules.record_store.clone(),
        record_url: rules.record_url.clone(),
        previous_sessions: rules.previous_sessions.clone(),
        confirmed_at: UnixMs(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(header: &str, webhook: Option<&str>) -> Result<Ingest, NotAdmitted> {
        let wishes = config_header::parse_header(header).unwrap();
        let says = webhook.map(|text| config_header::parse_header(text).unwrap());
        let caller = Caller {
            auth_id: AuthId::new("a:b").unwrap(),
            tier: None,
            max_price: None,
            capabilities: None,
            idempotency_key: None,
            requests_per_second: None,
            requests_per_day: None,
        };
        let who = Applicant { external: "show", url: "", caller: &caller, wishes: &wishes };
        decide(who, says.as_ref(), &VideoProfile::defaults())
    }

    #[test]
    fn logs_keep_secrets() {
        assert_eq!(for_logs("rtmp://h:1935/live/show/key?token=psk"), "rtmp://h:1935/live/…");
        assert_eq!(for_logs("http://h/live/show/0.ts?token=psk"), "http://h/live/show/0.ts");
    }

    #[test]
    fn who_decides() {
        let profile = r#"{"profiles":[{"name":"p","width":16,"height":16,"bitrate":1}]"#;
        // Nobody says anything.
        let plain = decided("{}", None).unwrap();
        assert_eq!((plain.stream.as_str(), plain.profiles.len()), ("show", 2));
        // The header alone.
        let named = decided(r#"{"manifestID":"other","presets":[]}"#, None).unwrap();
        assert_eq!((named.stream.as_str(), named.profiles.len()), ("other", 0));
        // The webhook's word on id and store stands.
        let webhook =
            format!(r#"{profile},"manifestID":"/stream/mine/x","recordObjectStore":"s3://a"}}"#);
        let header =
            format!(r#"{profile},"manifestID":"stolen","recordObjectStore":"file:///etc"}}"#);
        let both = decided(&header, Some(&webhook)).unwrap();
        assert_eq!((both.stream.as_str(), both.profiles[0].name.as_str()), ("mine", "p"));
        assert_eq!(both.record_store.unwrap().0, "s3://a");
        // Renditions have to agree.
        let other = r#"{"manifestID":"mine"}"#;
        assert_eq!(decided(&header, Some(other)), Err(NotAdmitted::Mismatch));
        assert!(decided("{}", Some(&webhook)).is_ok(), "a header that says nothing");
        assert!(matches!(decided(r#"{"manifestID":"a b"}"#, None), Err(NotAdmitted::Id(_))));
    }
}
