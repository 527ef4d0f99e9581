//! `/recordings/…`: the files of a recording, and the playlists and films that are made of them
//! (ingest-playback.md section 8).

use super::{RecordingError, Recordings, film, format_of};
use crate::{
    clock,
    media::{
        config_header::StoreUrl,
        recording::{Index, Recording, Run, in_store, is_part, relative, track_of},
    },
    service::Gateway,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use penstock_domain::{StreamId, keccak256};
use penstock_store::{DocKey, OpenRecord, RecordFile, RecordStore};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is known of a recording is read again after so long, as its playlists say.
const FRESH: Duration = Duration::from_secs(5);
/// How long the webhook's word on a viewer's URL is remembered.
const GRANTED_MS: u64 = 600_000;
/// Largest part of an index.
const MOST_INDEX: u64 = 4 << 20;
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

/// What the webhook says about a recording.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Granted {
    store: Option<StoreUrl>,
    url: Option<String>,
    previous: Vec<String>,
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
            runs.iter().for_each(|parts| recording.append(parts));
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
        let place = Arc::clone(&self.recordings.films).try_acquire_owned();
        let place = place.map_err(|_| RecordingError::Busy)?;
        let room = Arc::clone(&self.recordings.films_room);
        film::make(store, files.collect(), place, room).await.map(Answer::Film)
    }

    /// What the webhook says about a viewer's URL; without one everybody may see what there is.
    async fn granted(&self, viewer: Viewer<'_>) -> Result<Granted, RecordingError> {
        let Some(webhook) = &self.webhook else { return Ok(Granted::default()) };
        // Whoever says something else in the query is somebody else.
        let query = hex::encode(keccak256(viewer.query.unwrap_or_default()));
        let key = DocKey::new("recording", format!("{}?{query}", viewer.id));
        let now = clock::now();
        let known = self.store.doc(&key, now).await?;
        let version = known.as_ref().map(|known| known.version);
        if let Some(granted) = known.and_then(|known| serde_json::from_slice(&known.value).ok()) {
            return Ok(granted);
        }
        let says = webhook.ask(viewer.url).await?.unwrap_or_default();
        let granted = Granted {
            store: says.record_store,
            url: says.record_url,
            previous: says.previous_sessions,
        };
        if let Ok(value) = serde_json::to_vec(&granted) {
            self.store.put_doc(&key, version, value.into(), GRANTED_MS, now).await?;
        }
        Ok(granted)
    }
}

impl Recordings {
    /// The runs of a recording, oldest first, each with its parts.
    async fn runs(
        &self,
        store: &RecordStore,
        named: Option<&StoreUrl>,
        id: &str,
    ) -> Result<Arc<Vec<Vec<Index>>>, RecordingError> {
        let place = place(named, id);
        if let Some(known) = self.read.get(&place, Some(FRESH), Instant::now()) {
            return Ok(known);
        }
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
            let text = store.read(&file, MOST_INDEX).await?;
            let index = text.and_then(|text| serde_json::from_slice::<Index>(&text).ok());
            Ok::<_, RecordingError>((run, index))
        });
        let indexes: Vec<_> = stream::iter(reads).buffered(READS).try_collect().await?;
        let mut runs = BTreeMap::<Run, Vec<Index>>::new();
        for (run, index) in indexes {
            runs.entry(run).or_default().extend(index);
        }
        let runs = Arc::new(runs.into_values().collect::<Vec<_>>());
        self.read.put(&place, Arc::clone(&runs), Instant::now());
        Ok(runs)
    }
}

impl Answer {
    /// Of a stored file.
    pub fn content_type(path: &str) -> &'static str {
        format_of(path).map_or("application/x-mpegURL", |format| format.content_type())
    }
}
