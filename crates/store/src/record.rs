//! Where recordings lie: plain files in a folder, or plain objects of a bucket, that other programs
//! may read as well. Unlike the segment store nothing here ends by itself: what keeps it small is the
//! owner's retention, or a lifecycle rule of the bucket.

use crate::{S3Options, StoreError, UnixMs, s3};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    Attribute, Attributes, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutOptions,
    client::{HttpClient, HttpConnector},
    local::LocalFileSystem,
    path::Path,
};
use std::sync::Arc;

/// See the module. Names are relative paths whose elements are made of letters, digits, `-`, `_`, `.`
/// and `=`; any other character is kept, in a coded form, and none leads out of the store.
#[derive(Debug, Clone)]
pub struct RecordStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Whether what is stored has a content type.
    typed: bool,
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFile {
    /// Its name.
    pub name: String,
    /// When it was last written, by the store's clock.
    pub modified: UnixMs,
    path: Path,
}

/// What is stored under a name, not yet read.
pub struct OpenRecord {
    /// Bytes.
    pub size: u64,
    /// The bytes.
    pub chunks: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl OpenRecord {
    /// All of it; more than `most` bytes are an error.
    pub async fn whole(self, most: u64) -> Result<Bytes, StoreError> {
        if self.size > most {
            let limit_bytes = usize::try_from(most).unwrap_or(usize::MAX);
            return Err(StoreError::TooLarge { what: "a recorded file", limit_bytes });
        }
        let chunks: Vec<Bytes> = self.chunks.try_collect().await?;
        Ok(match <[Bytes; 1]>::try_from(chunks) {
            Ok([one]) => one,
            Err(many) => many.concat().into(),
        })
    }
}

/// Makes a bucket use a client that was made elsewhere, with that client's limits.
#[derive(Debug)]
struct Given(reqwest::Client);

impl HttpConnector for Given {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn unavailable(error: &Error) -> StoreError {
    let text: String = error.to_string().chars().take(200).collect();
    StoreError::Unavailable(format!("record store: {text}"))
}

impl RecordStore {
    /// In a folder, which is made if needed. What is written is on the disk when a call returns.
    pub fn folder(path: &std::path::Path) -> Result<Self, StoreError> {
        let bad = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("record store: {}: {error}", path.display()))
        };
        std::fs::create_dir_all(path).map_err(|e| bad(&e))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|e| bad(&e))?.with_fsync(true);
        Ok(Self { store: Arc::new(store), prefix: Path::default(), typed: false })
    }

    /// In a bucket; connects to nothing yet. `client`, if given, makes the requests: its owner decides
    /// where they may go, and the environment is not asked for keys.
    pub fn bucket(
        options: &S3Options,
        client: Option<reqwest::Client>,
    ) -> Result<Self, StoreError> {
        let mut builder = s3::builder(options, client.is_none());
        if let Some(client) = client {
            builder = builder.with_http_connector(Given(client));
        }
        let store = builder.build().map_err(|e| unavailable(&e))?;
        let prefix = Path::from(options.prefix.as_str());
        Ok(Self { store: Arc::new(store), prefix, typed: true })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from_iter(name.split('/')).parts()).collect()
    }

    fn found(&self, meta: ObjectMeta) -> RecordFile {
        let skip = self.prefix.parts().count();
        let parts: Vec<_> =
            meta.location.parts().skip(skip).map(|part| part.as_ref().to_owned()).collect();
        let modified = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
        RecordFile { name: parts.join("/"), modified: UnixMs(modified), path: meta.location }
    }

    /// Stores a file; an older one of that name is replaced, and never half.
    pub async fn put(
        &self,
        name: &str,
        data: Bytes,
        content_type: &'static str,
    ) -> Result<(), StoreError> {
        let mut options = PutOptions::default();
        if self.typed {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, content_type)]);
        }
        let put = self.store.put_opts(&self.path(name), data.into(), options).await;
        put.map(drop).map_err(|e| unavailable(&e))
    }

    /// Begins to read a file, if it is there.
    pub async fn open(&self, name: &str) -> Result<Option<OpenRecord>, StoreError> {
        self.open_path(&self.path(name)).await
    }

    async fn open_path(&self, path: &Path) -> Result<Option<OpenRecord>, StoreError> {
        match self.store.get(path).await {
            Ok(found) => {
                let size = found.meta.size;
                let chunks = found.into_stream().map_err(|e| unavailable(&e)).boxed();
                Ok(Some(OpenRecord { size, chunks }))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// A whole file, if it is there; one larger than `most` bytes is an error.
    pub async fn get(&self, name: &str, most: u64) -> Result<Option<Bytes>, StoreError> {
        whole(self.open(name).await?, most).await
    }

    /// The same for one that was found.
    pub async fn read(&self, file: &RecordFile, most: u64) -> Result<Option<Bytes>, StoreError> {
        whole(self.open_path(&file.path).await?, most).await
    }

    /// The folders directly in a folder, and the files directly in it, neither in any order. Empty if
    /// there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<(Vec<String>, Vec<RecordFile>), StoreError> {
        let listed = self.store.list_with_delimiter(Some(&self.path(folder))).await;
        let listed = listed.map_err(|e| unavailable(&e))?;
        let last = |path: &Path| path.parts().next_back().map(|part| part.as_ref().to_owned());
        let folders = listed.common_prefixes.iter().filter_map(last).collect();
        Ok((folders, listed.objects.into_iter().map(|meta| self.found(meta)).collect()))
    }

    /// Every file there is.
    pub fn all(&self) -> BoxStream<'_, Result<RecordFile, StoreError>> {
        let listed = self.store.list(Some(&self.prefix));
        listed.map(|one| one.map(|meta| self.found(meta)).map_err(|e| unavailable(&e))).boxed()
    }

    /// Deletes a file that was found.
    pub async fn remove(&self, file: &RecordFile) -> Result<(), StoreError> {
        match self.store.delete(&file.path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

async fn whole(found: Option<OpenRecord>, most: u64) -> Result<Option<Bytes>, StoreError> {
    match found {
        None => Ok(None),
        Some(found) => found.whole(most).await.map(Some),
    }
}
