//! Opens the stores that the settings name.

use crate::config::stores::{SegmentStoreKind, SessionStoreKind, StoresSettings};
use penstock_store::{
    DiskSegments, MemorySegments, MemoryStore, RedisSegments, RedisStore, S3Segments, SegmentStore,
    SessionStore, StoreError,
};
use std::sync::Arc;

/// Both. A server that is away is no error: readiness says so, and requests get 503 until it is
/// there. A folder that cannot be used is one.
pub async fn open(
    settings: &StoresSettings,
) -> Result<(Arc<dyn SessionStore>, Arc<dyn SegmentStore>), StoreError> {
    let redis = match &settings.session {
        SessionStoreKind::Memory => None,
        SessionStoreKind::Redis(options) => Some(RedisStore::open(options.clone()).await),
    };
    let segments: Arc<dyn SegmentStore> = match (&settings.segments, &redis) {
        (SegmentStoreKind::Memory { bytes }, _) => Arc::new(MemorySegments::new(*bytes)),
        (SegmentStoreKind::Disk { path, bytes }, _) => {
            Arc::new(DiskSegments::open(path, *bytes, crate::clock::now()).await?)
        }
        (SegmentStoreKind::S3(options), _) => Arc::new(S3Segments::new(options)?),
        (SegmentStoreKind::Redis { other: Some(options), file_bytes }, _) => {
            Arc::new(RedisSegments::open(options.clone(), *file_bytes).await)
        }
        (SegmentStoreKind::Redis { other: None, file_bytes }, Some(redis)) => {
            Arc::new(redis.segments(*file_bytes).await)
        }
        // Settings refuse this.
        (SegmentStoreKind::Redis { other: None, .. }, None) => {
            return Err(StoreError::Unavailable("there is no Redis".to_owned()));
        }
    };
    let session: Arc<dyn SessionStore> = match redis {
        Some(redis) => Arc::new(redis),
        None => Arc::new(MemoryStore::default()),
    };
    Ok((session, segments))
}
