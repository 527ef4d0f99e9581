//! `/recordings/…`: the files of a recording, and the playlists and films that are made of them
//! (ingest-playback.md section 8).

use super::{RecordingError, Recordings, film, format_of};
use crate::{
    media::{
        config_header::StoreUrl,
        recording::{Index, Recording, Run, in_store, is_part, relative, track_of},
    },
    service::Gateway,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use penstock_domain::{StreamId, keccak256};
use penstock_store::{OpenRecord, RecordFile, RecordStore};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is known of a recording is read again after so long, as its playlists say.
const FRESH: Duration = Duration::from_secs(5);
/// How long the webhook's word on a viewer's URL is remembered.
const GRANTED: Duration = Duration::from_secs(600);
/// Largest part of an index, and most text of all parts of one.
const MOST_INDEX: u64 = 4 << 20;
const MOST_TEXT: usize = 128 << 20;
/// A viewer waits so long for an index, and for the webhook.
const WAIT: Duration = Duration::from_secs(60);
/// Folders and parts of one recording that are looked at; a part is two minutes or more.
const MOST_FOLDERS: usize = 1_000;
const MOST_PARTS: usize = 20_000;
/// Asked of the store at a time.
const READS: usize = 16;

/// A viewer's request.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// The recording.
    pub id: &'a StreamId,
    /// The file in it.
    pub path: &'a str,
    /// The query, which goes on to what playlists name.
    pub query: Option<&'a str>,
    /// The whole address, for the webhook.
    pub url: &'a str,
}

/// What a viewer gets.
pub enum Answer {
    /// A playlist.
    Playlist(String),
    /// A stored file.
    File(OpenRecord),
    /// An MP4 that is made while it is sent.
    Film(BoxStream<'static, Result<Bytes, std::io::Error>>),
}

/// What the webhook says about a recording to one viewer.
#[derive(Debug, Default)]
pub(super) struct Granted {
    store: Option<StoreUrl>,
    url: Option<String>,
    previous: Vec<String>,
    since: Option<Instant>,
}

impl Granted {
    pub(super) fn bytes(&self) -> usize {
        let store = self.store.as_ref().map_or(0, |store| store.0.len());
        let text = self.previous.iter().chain(&self.url).map(String::len).sum::<usize>();
        size_of::<Self>() + store + text
    }

    fn is_fresh(&self) -> bool {
        self.since.is_none_or(|since| since.elapsed() < GRANTED)
    }
}

/// The runs of a recording, oldest first, each with its parts.
#[derive(Debug)]
pub(super) struct Runs {
    runs: Vec<Vec<Index>>,
    /// Of the parts' text.
    bytes: usize,
    read: Instant,
}

impl Runs {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_fresh(&self) -> bool {
        self.read.elapsed() < FRESH
    }
}

/// Under which name an index is remembered.
pub(super) fn place(store: Option<&StoreUrl>, id: &str) -> String {
    format!("{} {id}", store.map_or("", |url| url.0.as_str()))
}

impl Gateway {
    /// A file of a recording, stored or made.
    pub async fn recording_file(&self, viewer: Viewer<'_>) -> Result<Answer, RecordingError> {
        let Viewer { id, path, .. } = viewer;
        let (name, extension) = path.rsplit_once('.').ok_or(RecordingError::Kind)?;
        if !matches!(extension, "m3u8" | "ts" | "mp4") {
            return Err(RecordingError::Kind);
        }
        let granted = self.granted(viewer).await?;
        let store = self.recordings.store(granted.store.as_ref())?;
        let store = store.ok_or(RecordingError::NotFound)?;
        if let Some(found) = store.open(&format!("{id}/{path}")).await? {
            return Ok(Answer::File(found));
        }
        if extension == "ts" || name.contains('/') {
            return Err(RecordingError::NotFound);
        }
        let mut ids = vec![id.to_string()];
        let earlier = granted.previous.iter().rev();
        ids.extend(earlier.filter_map(|id| Some(StreamId::new(id.as_str()).ok()?.to_string())));
        let mut recording = Recording::default();
        for id in ids.iter().rev() {
            let runs = self.recordings.runs(&store, granted.store.as_ref(), id).await?;
            runs.runs.iter().for_each(|parts| recording.append(parts));
        }
        let query = viewer.query.map(|query| format!("?{query}")).unwrap_or_default();
        if (extension, name) == ("m3u8", "index") {
            let master = recording.master(&query);
            return master.map(Answer::Playlist).ok_or(RecordingError::NotFound);
        }
        let track = track_of(&recording, name).ok_or(RecordingError::NotFound)?;
        if extension == "m3u8" {
            let base = granted.url.as_deref();
            let list = recording.media(track, |uri| relative(uri, &ids, base, &query));
            return list.map(Answer::Playlist).ok_or(RecordingError::NotFound);
        }
        let segments = recording.segments(track).ok_or(RecordingError::NotFound)?;
        let files = segments.iter().filter_map(|segment| {
            let (_, name) = in_store(&segment.uri, &ids)?;
            Some(film::File { name: name.to_owned(), discontinuity: segment.discontinuity })
        });
        let seat = self.recordings.films.seats.take(Instant::now()).ok_or(RecordingError::Busy)?;
        let room = self.recordings.films.clone();
        film::make(store, files.collect(), seat, room).await.map(Answer::Film)
    }

    /// What the webhook says about a viewer's URL; without one everybody may see what there is.
    async fn granted(&self, viewer: Viewer<'_>) -> Result<Arc<Granted>, RecordingError> {
        let Some(webhook) = &self.webhook else { return Ok(Arc::default()) };
        // Whoever says something else in the query is somebody else.
        let query = hex::encode(keccak256(viewer.query.unwrap_or_default()));
        let key = format!("{}?{query}", viewer.id);
        let ask = |_| async {
            let says = webhook.ask(viewer.url).await?.unwrap_or_default();
            Ok(Some(Granted {
                store: says.record_store,
                url: says.record_url,
                previous: says.previous_sessions,
                since: Some(Instant::now()),
            }))
        };
        let known = self.recordings.granted.get_fresh(&key, Granted::is_fresh, ask);
        in_time(known).await
    }
}

/// What many ask for, if it is there before this viewer has waited for too long.
async fn in_time<T>(
    known: impl Future<Output = Result<Option<T>, RecordingError>>,
) -> Result<T, RecordingError> {
    let known = tokio::time::timeout(WAIT, known).await.map_err(|_| RecordingError::Busy)?;
    known?.ok_or(RecordingError::NotFound)
}

impl Recordings {
    /// The runs of a recording: read once for all who ask at a time.
    async fn runs(
        &self,
        store: &RecordStore,
        named: Option<&StoreUrl>,
        id: &str,
    ) -> Result<Arc<Runs>, RecordingError> {
        let read = |_| async { read(store, id).await.map(Some) };
        in_time(self.read.get_fresh(&place(named, id), Runs::is_fresh, read)).await
    }
}

async fn read(store: &RecordStore, id: &str) -> Result<Runs, RecordingError> {
    let (mut folders, _) = store.list(id).await?;
    if folders.len() > MOST_FOLDERS {
        tracing::warn!(id, folders = folders.len(), "a recording has too many folders");
        folders.sort_unstable();
        folders.truncate(MOST_FOLDERS);
    }
    let listings = folders.into_iter().map(|folder| async move {
        let (_, files) = store.list(&format!("{id}/{folder}")).await?;
        // Other nodes know no runs: all of theirs are one, the oldest.
        let run = Run::of_folder(&folder).unwrap_or_default();
        let of_part = |file: &RecordFile| file.name.rsplit('/').next().is_some_and(is_part);
        Ok::<_, RecordingError>((run, files.into_iter().filter(of_part).collect::<Vec<_>>()))
    });
    let listed: Vec<_> = stream::iter(listings).buffered(READS).try_collect().await?;
    let mut parts: Vec<_> = listed
        .into_iter()
        .flat_map(|(run, files)| files.into_iter().map(move |f| (run, f)))
        .collect();
    parts.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    if parts.len() > MOST_PARTS {
        tracing::warn!(id, parts = parts.len(), "a recording is too long: its end is not read");
        parts.truncate(MOST_PARTS);
    }
    let reads = parts.into_iter().map(|(run, file)| async move {
        let text = store.read(&file, MOST_INDEX).await?.unwrap_or_default();
        Ok::<_, RecordingError>((run, serde_json::from_slice::<Index>(&text).ok(), text.len()))
    });
    let mut reads = std::pin::pin!(stream::iter(reads).buffered(READS));
    let (mut runs, mut bytes) = (BTreeMap::<Run, Vec<Index>>::new(), 0);
    while let Some((run, index, length)) = reads.try_next().await? {
        bytes += length;
        if bytes > MOST_TEXT {
            tracing::warn!(id, "a recording has too long an index: its end is not read");
            break;
        }
        runs.entry(run).or_default().extend(index);
    }
    Ok(Runs { runs: runs.into_values().collect(), bytes, read: Instant::now() })
}

impl Answer {
    /// Of a stored file.
    pub fn content_type(path: &str) -> &'static str {
        format_of(path).map_or("application/x-mpegURL", |format| format.content_type())
    }
}
