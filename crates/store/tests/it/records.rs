//! The record store: a folder and a bucket.

use bytes::Bytes;
use futures::TryStreamExt;
use penstock_store::{RecordStore, S3Options, StoreError};
use penstock_testkit::s3::S3Server;

async fn conforms(store: &RecordStore) {
    let put = async |name: &str, text: &'static str| {
        store.put(name, Bytes::from_static(text.as_bytes()), "video/mp2t").await.unwrap();
    };
    for (name, text) in [
        ("show/1-0-a/source/0-ab.ts", "old"),
        ("show/1-0-a/source/0-ab.ts", "0"),
        ("show/1-0-a/playlist_1.json", "{}"),
        ("show/1-0-b/playlist_1.json", "{}"),
        ("show/b c/%41/../x", "odd"),
        ("showing/1-0-a/x.ts", "other"),
    ] {
        put(name, text).await;
    }
    let get = async |name: &str| store.get(name, 3).await.unwrap();
    assert_eq!(get("show/1-0-a/source/0-ab.ts").await.unwrap(), "0");
    assert_eq!(get("show/b c/%41/../x").await.unwrap(), "odd");
    for other in ["show/b c/A/../x", "show/b c/x", "show/1-0-a", "none", "", "../x", "/"] {
        assert_eq!(store.get(other, 3).await.unwrap_or(None), None, "{other}");
    }
    let large = store.get("show/1-0-a/playlist_1.json", 1).await;
    assert!(matches!(large, Err(StoreError::TooLarge { limit_bytes: 1, .. })));
    // One folder, not those that begin like it.
    let (mut folders, files) = store.list("show").await.unwrap();
    folders.sort();
    assert_eq!((folders.len(), files.len()), (3, 0), "{folders:?}");
    assert_eq!(folders[..2], ["1-0-a", "1-0-b"]);
    let (folders, files) = store.list("show/1-0-a").await.unwrap();
    assert_eq!(folders, ["source"]);
    assert_eq!(files[0].name, "show/1-0-a/playlist_1.json");
    assert_eq!(store.read(&files[0], 10).await.unwrap().unwrap(), "{}");
    assert_eq!(store.list("none").await.unwrap(), (vec![], vec![]));
    let all: Vec<_> = store.all().try_collect().await.unwrap();
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all.iter().all(|file| file.modified.0 > 1_600_000_000_000));
    for file in &all {
        store.remove(file).await.unwrap();
        store.remove(file).await.unwrap();
    }
    assert_eq!(store.all().try_collect::<Vec<_>>().await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = RecordStore::folder(&folder.path().join("a/b")).unwrap();
    conforms(&store).await;
    assert!(!folder.path().join("x").exists() && !folder.path().join("a/x").exists());
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(RecordStore::folder(file.path()).is_err());
}

#[tokio::test]
async fn a_bucket_conforms() {
    penstock_http_kit::tls::install_crypto_provider();
    let mut server = S3Server::start().await;
    let address = server.url().replace("http://", "s3+http://id:sec%2Fret@");
    for prefix in ["", "/some/prefix"] {
        let address = format!("{address}/{}{prefix}", S3Server::BUCKET);
        let store = RecordStore::bucket(&S3Options::with_keys(&address).unwrap(), None).unwrap();
        conforms(&store).await;
        let limit = std::time::Duration::from_secs(60);
        let client = reqwest::Client::builder().timeout(limit).build().ok();
        let store = RecordStore::bucket(&S3Options::with_keys(&address).unwrap(), client).unwrap();
        conforms(&store).await;
    }
    let store = S3Options::with_keys(&format!("{address}/{}", S3Server::BUCKET)).unwrap();
    let store = RecordStore::bucket(&store, None).unwrap();
    server.kill9();
    assert!(matches!(store.get("x", 1).await, Err(StoreError::Unavailable(_))));
}

#[test]
fn addresses() {
    let keys = |options: &S3Options| options.keys.clone().unwrap();
    let aws = S3Options::with_keys("s3://K:S%2F@eu-central-1/bucket/a/b").unwrap();
    assert_eq!(keys(&aws), ("K".to_owned(), "S/".to_owned()));
    assert_eq!((aws.bucket.as_str(), aws.prefix.as_str(), aws.endpoint), ("bucket", "a/b", None));
    assert_eq!(aws.region.as_deref(), Some("eu-central-1"));
    let own = S3Options::with_keys("s3+http://K:S@127.0.0.1:9000/bucket/").unwrap();
    assert_eq!(own.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(own.region.as_deref(), Some("us-east-1"));
    let long = S3Options::with_keys("s3+https://K:S@x.r1.p.example/b").unwrap();
    assert_eq!(long.region.as_deref(), Some("r1"));
    for bad in [
        "",
        "s3",
        "gs://K:S@h/b",
        "s3://K:S@r",
        "s3://r/b",
        "s3://K@r/b",
        "s3://:S@r/b",
        "s3://K:%ff@r/b",
        "s3://K:S@evil.example/b",
        "s3+ftp://K:S@h/b",
    ] {
        assert!(S3Options::with_keys(bad).is_err(), "{bad}");
    }
}
