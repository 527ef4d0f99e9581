//! Creating, deleting, asking, closing (trickle.md section 2).

use crate::harness::Server;
use http::Method;

#[tokio::test]
async fn create_without_autocreate_is_404_and_so_is_publish() {
    let server = Server::start().await;
    server.post("missing", "").await.assert_error(404, "Stream not found");
    let publish = server.post("missing/0", "hello").await;
    publish.assert_error(404, "Stream not found");
    assert!(publish.closes_connection(), "wakes up preconnected publishers");
    assert_eq!(server.trickle.usage().channels, 0);
}

#[tokio::test]
async fn create_with_autocreate_is_200_and_so_is_publish() {
    let server = Server::with(|s| s.autocreate = true).await;
    let create = [("Expect-Content", "application/json")];
    server.send(Method::POST, "created", &create).await.assert(200, "");
    // Again: 200, and the media type stays.
    server.send(Method::POST, "created", &[("Expect-Content", "x/y")]).await.assert(200, "");
    server.post("created/0", "{}").await.assert(200, "");
    let read = server.get("created/0").await;
    assert_eq!(read.header("Content-Type"), Some("application/json"));

    let publish = server.post_with("published/0", &[("Content-Type", "a/b")], "hello").await;
    publish.assert(200, "");
    assert_eq!(publish.seq(), Some("0"));
    // Only the publish that made the channel says what it holds.
    server.post_with("published/1", &[("Content-Type", "c/d")], "x").await.assert(200, "");
    assert_eq!(server.get("published/1").await.header("Content-Type"), Some("a/b"));
}

#[tokio::test]
async fn an_existing_channel_is_created_again_without_autocreate() {
    let server = Server::with_channel().await;
    server.post("c", "").await.assert(200, "");
}

#[tokio::test]
async fn delete_is_400_when_missing_and_frees_the_name() {
    let server = Server::with_channel().await;
    server.delete("missing").await.assert_error(400, "Invalid stream");
    server.post("c/7", "x").await.assert(200, "");
    server.delete("c").await.assert(200, "");
    server.delete("c").await.assert_error(400, "Invalid stream");
    server.get("c/next").await.assert_error(404, "Stream not found");
    server.trickle.create("c", "text/plain").unwrap();
    server.get("c/next").await.assert(200, "0");
}

#[tokio::test]
async fn next_says_what_comes_next_in_body_and_header() {
    let server = Server::with_channel().await;
    for (number, expected) in ["0", "1", "2"].iter().enumerate() {
        let next = server.get("c/next").await;
        next.assert(200, expected);
        assert_eq!((next.latest(), next.closed()), (Some(*expected), None));
        server.post(&format!("c/{number}"), "x").await.assert(200, "");
    }
    let head = server.send(Method::HEAD, "c/next", &[]).await;
    head.assert(200, "");
    assert_eq!(head.latest(), Some("3"));
}

#[tokio::test]
async fn closing_a_segment_has_its_own_errors_and_leaves_next_alone() {
    let server = Server::with_channel().await;
    server.delete("missing/0").await.assert_error(404, "Stream not found");
    server.delete("missing/x").await.assert_error(404, "Stream not found");
    server.delete("c/x").await.assert_error(400, "Invalid idx");
    server.delete("c/next").await.assert_error(400, "Invalid idx");
    server.delete("c/0").await.assert_error(400, "Nonexistent segment");
    server.delete("c/-1").await.assert_error(400, "Nonexistent segment");
    let post = server.open("c/0").await;
    server.delete("c/5").await.assert_error(400, "Nonexistent segment");
    server.get("c/next").await.assert(200, "0");
    post.write("x").await;
    let mut reader = server.wait_or_read("c/0").await;
    server.delete("c/0").await.assert(200, "");
    server.delete("c/0").await.assert(200, "");
    server.get("c/next").await.assert(200, "1");
    crate::harness::exactly(&mut reader, "x").await;
    assert_eq!(crate::harness::rest(reader).await, "");
    post.finish().await.assert(200, "");
}

#[tokio::test]
async fn an_index_that_is_none_is_400_where_the_channel_is_there() {
    let server = Server::with(|s| s.autocreate = true).await;
    server.trickle.create("c", "text/plain").unwrap();
    for idx in ["x", "1.5", "-", "99999999999999999999", "9223372036854775807", "-3"] {
        server.get(&format!("c/{idx}")).await.assert_error(400, "Invalid idx");
        server.get(&format!("missing/{idx}")).await.assert_error(404, "Stream not found");
        server.post(&format!("c/{idx}"), "x").await.assert_error(400, "Invalid idx");
        // A publish that cannot be makes no channel either.
        server.post(&format!("missing/{idx}"), "x").await.assert_error(400, "Invalid idx");
    }
    server.post("c/-2", "x").await.assert_error(400, "Invalid idx");
    server.post("c/next", "x").await.assert_error(400, "Invalid idx");
    assert_eq!(server.trickle.usage().channels, 1);
}

#[tokio::test]
async fn other_methods_are_405() {
    let server = Server::with_channel().await;
    for path in ["c", "c/0", "c/next"] {
        let answer = server.send(Method::PUT, path, &[]).await;
        answer.assert_error(405, "Method Not Allowed");
    }
    server.get("c").await.assert_error(405, "Method Not Allowed");
}

#[tokio::test]
async fn names_are_one_decoded_path_segment() {
    let server = Server::start().await;
    server.trickle.create("a b/ü", "text/plain").unwrap();
    server.get("a%20b%2F%C3%BC/next").await.assert(200, "0");
    server.get("a%20b/%C3%BC/next").await.assert(404, "");
}

#[tokio::test]
async fn the_changefeed_is_read_and_never_written_from_outside() {
    let server = Server::with(|s| {
        s.changefeed = true;
        s.autocreate = true;
    })
    .await;
    let waiting = server.wait_on("_changes/1").await;
    server.post("new", "").await.assert(200, "");
    let told = waiting.await.unwrap();
    assert_eq!(told.headers()["content-type"], "application/json");
    assert_eq!(crate::harness::rest(told).await, r#"{"added":["new"]}"#);
    server.delete("new").await.assert(200, "");
    server.get("_changes/0").await.assert(200, r#"{"added":["_changes"]}"#);
    server.get("_changes/2").await.assert(200, r#"{"removed":["new"]}"#);
    let own = "the channel is the server's own";
    server.post("_changes/3", "{}").await.assert_error(403, own);
    server.delete("_changes/2").await.assert_error(403, own);
    server.delete("_changes").await.assert_error(403, own);
}
