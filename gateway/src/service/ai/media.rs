//! Results that are files: fetched where the orchestrator says they are, kept in the segment store, and
//! named to the client by an address of ours (ai-pipelines.md section 3).

use crate::{
    clock,
    service::{Gateway, error::JobError, error::TryError, patience::patiently, peers::Via},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use penstock_store::{SegmentKey, StoredSegment};
use penstock_wire::{WireError, json::ImageAnswer, json::SpeechAnswer};
use std::time::Duration;
use url::Url;

/// Where clients find results.
pub const RESULTS_PATH: &str = "/ai/results";

/// What a result's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
}

impl MediaKind {
    fn extension(self) -> &'static str {
        match self {
            Self::Image => "png",
            Self::Video => "mp4",
            Self::Audio => "wav",
        }
    }
}

/// A result's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// A file name that is safe in paths; unique within its result.
    pub name: String,
    /// The bytes.
    pub data: Bytes,
}

/// What a job gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// Pictures, or a film: the files in the order of `answer.images`.
    Images {
        /// As the orchestrator said.
        answer: ImageAnswer,
        /// Their content.
        files: Vec<Media>,
    },
    /// Speech.
    Speech {
        /// As the orchestrator said.
        answer: SpeechAnswer,
        /// Its content.
        file: Media,
    },
    /// A JSON document without files, its shape checked.
    Json(Bytes),
}

impl Gateway {
    /// Fetches one file of a result. `home`: the orchestrator, whose own host is called as its jobs
    /// are: wherever it is if the operator listed it, at public addresses only if another named it.
    pub(super) async fn fetch_media(
        &self,
        url: &str,
        (home, via): (&str, Via),
        kind: MediaKind,
        index: usize,
        max_bytes: u64,
    ) -> Result<Media, TryError> {
        if let Some(data) = url.strip_prefix("data:") {
            let (extension, data) = data_url(data, kind, max_bytes)?;
            let name = format!("{}.{extension}", uuid::Uuid::new_v4().simple());
            return Ok(Media { name, data });
        }
        let parsed = Url::parse(url).ok();
        let origin = Url::parse(home).ok().map(|u| u.origin());
        let at_home = parsed.as_ref().is_some_and(|u| Some(u.origin()) == origin);
        let client = if at_home { self.peers.of(via) } else { &self.elsewhere };
        let limit = Duration::from_millis(self.settings.ai.job_timeout_ms.min(60_000));
        let data = client.download(url, max_bytes, limit).await?;
        if data.is_empty() {
            return Err(TryError::BadResult("an empty file"));
        }
        Ok(Media { name: file_name(parsed.as_ref(), kind, index), data })
    }

    /// Keeps a result's files and gives its JSON, with addresses below `base`.
    pub async fn deliver(&self, made: Made, base: &str) -> Result<Bytes, JobError> {
        // Who knows the address may fetch it: it has to be unguessable.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let address = |name: &str| format!("{base}{RESULTS_PATH}/{id}/{name}");
        let document = match made {
            Made::Json(body) => return Ok(body),
            Made::Images { mut answer, files } => {
                for (image, file) in answer.images.iter_mut().zip(&files) {
                    self.keep(&id, file).await?;
                    image.url = address(&file.name);
                }
                serde_json::to_vec(&answer)
            }
            Made::Speech { mut answer, file } => {
                self.keep(&id, &file).await?;
                answer.audio.url = address(&file.name);
                serde_json::to_vec(&answer)
            }
        };
        let document = document.map_err(|e| JobError::Internal(e.to_string()))?;
        Ok(document.into())
    }

    /// Stores a file, with patience: it is paid for.
    async fn keep(&self, id: &str, file: &Media) -> Result<(), JobError> {
        let key = result_key(id, &file.name);
        // The store knows two containers of video only; what a file is, its name says.
        let stored = StoredSegment { data: file.data.clone(), format: SegmentFormat::Mp4 };
        let ttl_ms = self.settings.ai.result_ttl_ms;
        let put = || self.segments.put(&key, stored.clone(), ttl_ms, clock::now());
        Ok(patiently(put).await?)
    }

    /// A result's file, while it is kept.
    pub async fn result_file(&self, id: &str, name: &str) -> Result<Option<Bytes>, JobError> {
        let plain = |text: &str| !text.is_empty() && safe_name(text, text.len()) == text;
        if !plain(id) || !plain(name) {
            return Ok(None);
        }
        let found = self.segments.get(&result_key(id, name), clock::now()).await?;
        Ok(found.map(|segment| segment.data))
    }
}

fn result_key(id: &str, name: &str) -> SegmentKey {
    SegmentKey(format!("ai/{id}/{name}"))
}

/// Extension and content of what follows `data:`.
fn data_url(text: &str, kind: MediaKind, max: u64) -> Result<(&'static str, Bytes), TryError> {
    let (head, data) = text.split_once(',').ok_or(TryError::BadResult("a broken data URL"))?;
    let Some(mime) = head.strip_suffix(";base64") else {
        return Err(TryError::BadResult("a data URL that is not base64"));
    };
    if data.len() as u64 > max.saturating_mul(4) / 3 + 4 {
        return Err(WireError::Invalid { what: "data URL", reason: "is too large" }.into());
    }
    let data = BASE64.decode(data).map_err(|_| TryError::BadResult("a broken data URL"))?;
    if data.is_empty() {
        return Err(TryError::BadResult("an empty file"));
    }
    let extension = match mime.split(';').next().unwrap_or_default() {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "audio/mpeg" => "mp3",
        "audio/wav" | "audio/x-wav" => "wav",
        "video/mp4" => "mp4",
        _ => kind.extension(),
    };
    Ok((extension, data.into()))
}

/// The last part of the URL's path if it is a sane file name, else one made up. The index keeps the
/// names of one result apart.
fn file_name(url: Option<&Url>, kind: MediaKind, index: usize) -> String {
    let last = url.and_then(|u| u.path_segments()?.next_back()).unwrap_or_default();
    let name = safe_name(last, 100);
    let name = if content_type(&name).is_some() && name == last {
        name
    } else {
        format!("{}.{}", uuid::Uuid::new_v4().simple(), kind.extension())
    };
    if index == 0 { name } else { format!("{index}-{name}") }
}

fn safe_name(text: &str, most: usize) -> String {
    let safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.trim_start_matches('.').chars().filter(safe).take(most).collect()
}

/// The content type of a result's file, by its name. Nothing that a browser would run.
pub fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "mp4" => "video/mp4",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Args, Settings},
        front::workload::Workload,
    };
    use penstock_store::{MemorySegments, MemoryStore};
    use std::sync::Arc;

    /// The name of an orchestrator that another named led to a public address when it was chosen, and
    /// leads into our own network now.
    #[tokio::test]
    async fn a_name_that_leads_into_our_network_by_now_is_not_followed() {
        penstock_http_kit::tls::install_crypto_provider();
        let file = || async { "a picture" };
        let router = axum::Router::new().route("/a.png", axum::routing::get(file));
        let server = penstock_testkit::sim::Server::clear(router).await;
        let home = server.uri.replace("127.0.0.1", "localhost");
        let argv = ["penstock-gateway", "--signer-url=http://127.0.0.1:9"].map(str::to_owned);
        let args: Args = penstock_config::try_parse_from(argv).unwrap();
        let settings = Settings::from_args(args).unwrap();
        let (store, segments) =
            (Arc::new(MemoryStore::default()), Arc::new(MemorySegments::new(1 << 20)));
        let gateway = Gateway::new(settings, store, segments).unwrap();
        let url = format!("{home}/a.png");
        let fetch = async |foreign| {
            let via = Via { workload: Workload::Ai, foreign };
            gateway.fetch_media(&url, (&home, via), MediaKind::Image, 0, 100).await
        };
        assert!(fetch(true).await.is_err());
        assert_eq!(fetch(false).await.unwrap().data, "a picture");
    }

    #[test]
    fn names_are_safe() {
        let name = |url: &str| file_name(Url::parse(url).ok().as_ref(), MediaKind::Image, 0);
        assert_eq!(name("https://o/stream/x/a1-b.png?sig=1"), "a1-b.png");
        for odd in ["https://o/x/page.html", "https://o/", "https://o/..%2fetc.png", "no url"] {
            let name = name(odd);
            assert!(name.len() == 36 && name.ends_with(".png"), "{odd}: {name}");
        }
        let second = file_name(Url::parse("https://o/a.png").ok().as_ref(), MediaKind::Image, 1);
        assert_eq!(second, "1-a.png");
    }

    #[test]
    fn data_urls() {
        let of = |text: &str| data_url(text, MediaKind::Audio, 3).map(|(e, d)| (e, d.to_vec()));
        assert_eq!(of("image/png;base64,AQID").unwrap(), ("png", vec![1, 2, 3]));
        assert_eq!(of("image/jpeg;charset=x;base64,AQID").unwrap().0, "jpg");
        assert_eq!(of("application/x;base64,AQID").unwrap().0, "wav");
        for bad in [
            "image/png,AQID",
            "image/png;base64,",
            "image/png;base64,%",
            "x",
            ";base64,AQIDAQIDAQID",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
