//! Records of other kinds.

use super::*;

fn stored<T: std::fmt::Debug>(outcome: Cas<T>) -> Version {
    match outcome {
        Cas::Stored(version) => version,
        conflict => panic!("expected to write: {conflict:?}"),
    }
}

pub async fn docs(s: &impl SessionStore) {
    let (key, ttl) = (DocKey::new("job", "a"), 1_000);
    let text = |t: &'static str| Bytes::from_static(t.as_bytes());
    assert_eq!(s.doc(&key, at(0)).await.unwrap(), None);
    assert_eq!(
        s.put_doc(&key, Some(Version(1)), text("x"), ttl, at(0)).await.unwrap(),
        Cas::Conflict(None)
    );
    let v1 = stored(s.put_doc(&key, None, text("one"), ttl, at(0)).await.unwrap());
    assert_eq!(
        s.put_doc(&key, None, text("again"), ttl, at(1)).await.unwrap(),
        Cas::Conflict(Some(Versioned { version: v1, value: text("one") }))
    );
    let v2 = stored(s.put_doc(&key, Some(v1), text("two"), ttl, at(500)).await.unwrap());
    assert!(v2 > v1);
    let seen = Versioned { version: v2, value: text("two") };
    assert_eq!(
        s.put_doc(&key, Some(v1), text("late"), ttl, at(501)).await.unwrap(),
        Cas::Conflict(Some(seen.clone()))
    );
    assert!(!s.remove_doc(&key, v1, at(502)).await.unwrap());
    assert_eq!(s.doc(&key, at(1_499)).await.unwrap(), Some(seen));
    assert_eq!(s.doc(&key, at(1_500)).await.unwrap(), None, "expired");
    assert!(!s.remove_doc(&key, v2, at(1_500)).await.unwrap());
    // A new record under the old key has nothing to do with the old versions.
    let v3 = stored(s.put_doc(&key, None, text("three"), ttl, at(1_500)).await.unwrap());
    assert!(s.remove_doc(&key, v3, at(1_501)).await.unwrap());
    let v4 = stored(s.put_doc(&key, None, text("four"), ttl, at(1_502)).await.unwrap());
    assert!(v4 > v3);
    assert!(!s.remove_doc(&key, v3, at(1_503)).await.unwrap());
    assert!(matches!(
        s.put_doc(&key, Some(v3), text("late"), ttl, at(1_503)).await.unwrap(),
        Cas::Conflict(Some(_))
    ));
    // Ids are anything, and kinds are apart.
    let odd =
        ["", "{a}", "a}b{c", "a:b", "a/b", "../..", "*", "a\r\nDEL x", "\0", "é", " ", "%61", "~"];
    let long = ["x".repeat(DocKey::MAX_ID_BYTES), format!("{}y", "x".repeat(511))];
    let ids: Vec<&str> = odd.into_iter().chain(long.iter().map(String::as_str)).collect();
    for id in &ids {
        let value = Bytes::copy_from_slice(id.as_bytes());
        stored(s.put_doc(&DocKey::new("odd", *id), None, value, ttl, at(2_000)).await.unwrap());
    }
    for id in &ids {
        let found = s.doc(&DocKey::new("odd", *id), at(2_001)).await.unwrap().unwrap();
        assert_eq!(found.value, id.as_bytes());
        assert_eq!(s.doc(&DocKey::new("other", *id), at(2_001)).await.unwrap(), None);
    }
    // Sizes are bounded; the largest comes back whole, and so does nothing at all.
    let most = Bytes::from(vec![0xa5; DocKey::MAX_VALUE_BYTES]);
    for (id, value) in [("most", most.clone()), ("empty", Bytes::new())] {
        let key = DocKey::new("size", id);
        stored(s.put_doc(&key, None, value.clone(), ttl, at(3_000)).await.unwrap());
        assert_eq!(s.doc(&key, at(3_001)).await.unwrap().unwrap().value, value);
    }
    let more = Bytes::from(vec![0; DocKey::MAX_VALUE_BYTES + 1]);
    let (key, long) = (DocKey::new("size", "more"), DocKey::new("size", "x".repeat(513)));
    for (key, value) in [(&key, more), (&long, Bytes::new())] {
        let refused = s.put_doc(key, None, value, ttl, at(3_000)).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    }
    assert!(matches!(s.doc(&long, at(3_000)).await, Err(StoreError::TooLarge { .. })));
}

pub async fn one_doc_is_created_once(s: Arc<impl SessionStore>) {
    let tasks = (0..32).map(|n: u8| {
        let s = s.clone();
        async move {
            let (key, value) = (DocKey::new("idem", "x"), Bytes::from(vec![n]));
            matches!(s.put_doc(&key, None, value, 1_000, at(0)).await.unwrap(), Cas::Stored(_))
        }
    });
    assert_eq!(join_all(tasks).await.into_iter().filter(|won| *won).count(), 1);
}
