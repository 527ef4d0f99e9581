//! Subscribing (trickle.md section 4).

use crate::harness::{Answer, Server, exactly, rest};
use http::Method;
use penstock_trickle::{Attendance, LocalRead, Position};

/// TestTrickle_Close, the reading half
#[tokio::test]
async fn written_segments_carry_their_number_type_and_what_comes_next() {
    let server = Server::with_channel().await;
    for (idx, text) in ["first", "second"].into_iter().enumerate() {
        server.post(&format!("c/{idx}"), text).await.assert(200, "");
    }
    for (idx, text) in ["first", "second"].into_iter().enumerate() {
        let read = server.get(&format!("c/{idx}")).await;
        read.assert(200, text);
        assert_eq!(read.seq(), Some(idx.to_string().as_str()));
        assert_eq!(read.latest(), Some("2"));
        assert_eq!(read.header("Content-Type"), Some("text/plain"));
    }
}

#[tokio::test]
async fn a_reader_at_the_live_edge_hears_no_latest() {
    let server = Server::with_channel().await;
    let waiting = server.wait_on("c/-1").await;
    server.post("c/0", "x").await.assert(200, "");
    let read = Answer::read(waiting.await.unwrap()).await;
    read.assert(200, "x");
    assert_eq!((read.seq(), read.latest()), (Some("0"), None));
}

#[tokio::test]
async fn starting_points() {
    let server = Server::with_channel().await;
    // Nothing written: -2 is segment 0, and 1 may be waited for as well.
    let (current, one) = (server.wait_on("c/-2").await, server.wait_on("c/1").await);
    server.post("c/0", "zeroth").await.assert(200, "");
    server.post("c/1", "first").await.assert(200, "");
    assert_eq!(rest(current.await.unwrap()).await, "zeroth");
    assert_eq!(rest(one.await.unwrap()).await, "first");
    let read = server.get("c/-2").await;
    read.assert(200, "first");
    assert_eq!((read.seq(), read.latest()), (Some("1"), Some("2")));
    let next = server.wait_on("c/-1").await;
    server.post("c/2", "second").await.assert(200, "");
    assert_eq!(next.await.unwrap().headers()["lp-trickle-seq"], "2");
}

/// TestTrickle_SetSubStart, its last part
#[tokio::test]
async fn five_segments_and_a_waiting_sixth_leave_four() {
    let server = Server::with_channel().await;
    for idx in 0..5 {
        server.post(&format!("c/{idx}"), "x").await.assert(200, "");
    }
    server.get("c/0").await.assert(200, "x");
    let sixth = server.open("c/5").await;
    let gone = server.get("c/0").await;
    gone.assert(470, "Entry not found");
    assert_eq!((gone.seq(), gone.latest(), gone.closed()), (Some("0"), Some("5"), None));
    for idx in 1..5 {
        server.get(&format!("c/{idx}")).await.assert(200, "x");
    }
    sixth.finish().await.assert(200, "");
}

#[tokio::test]
async fn too_far_ahead_is_470_with_the_index_as_asked() {
    let server = Server::with_channel().await;
    for _ in 0..3 {
        server.post("c/-1", "x").await.assert(200, "");
    }
    let ahead = server.get("c/+4").await;
    ahead.assert(470, "Entry not found");
    assert_eq!((ahead.seq(), ahead.latest()), (Some("4"), Some("3")));
    assert_eq!(ahead.header("Content-Type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn a_reader_keeps_its_segment_when_the_ring_goes_on() {
    let server = Server::with_channel().await;
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut reader = server.wait_or_read("c/0").await;
    exactly(&mut reader, "Hello").await;
    server.post("c/5", "x").await.assert(200, "");
    // Evicted, so closed: the reader ends with what was written.
    assert_eq!(rest(reader).await, "");
    server.get("c/0").await.assert(470, "Entry not found");
    post.finish().await.assert(200, "");
}

#[tokio::test]
async fn any_number_of_readers_each_from_the_first_byte() {
    let server = Server::with_channel().await;
    let mut early = Vec::new();
    for _ in 0..20 {
        early.push(server.wait_on("c/0").await);
    }
    let post = server.open("c/0").await;
    post.write("Hello").await;
    let mut late = server.wait_or_read("c/0").await;
    exactly(&mut late, "Hello").await;
    post.write("World").await;
    post.finish().await.assert(200, "");
    assert_eq!(rest(late).await, "World");
    for reader in early {
        assert_eq!(rest(reader.await.unwrap()).await, "HelloWorld");
    }
    server.subscribers(0).await;
}

#[tokio::test]
async fn a_reader_that_hangs_up_while_it_waits_is_forgotten() {
    let server = Server::with_channel().await;
    let waiting = server.wait_on("c/0").await;
    waiting.abort();
    server.subscribers(0).await;
    server.post("c/0", "x").await.assert(200, "");
}

#[tokio::test]
async fn a_waiting_reader_learns_that_the_channel_is_closed() {
    let server = Server::with_channel().await;
    server.post("c/0", "x").await.assert(200, "");
    let waiting = server.wait_on("c/1").await;
    server.delete("c").await.assert(200, "");
    let end = Answer::read(waiting.await.unwrap()).await;
    end.assert(200, "");
    assert_eq!((end.seq(), end.latest()), (Some("1"), Some("1")));
    assert_eq!(end.closed(), Some("terminated"));
    assert_eq!(end.header("Content-Type"), None);
    server.get("c/0").await.assert_error(404, "Stream not found");
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let server = Server::with_channel().await;
    server.post("c/0", "x").await.assert(200, "");
    let head = server.send(Method::HEAD, "c/0", &[]).await;
    head.assert(200, "");
    assert_eq!(head.seq(), Some("0"));
    server.subscribers(0).await;
}

/// TestTrickle_SetSeq
#[tokio::test]
async fn segments_are_read_in_any_order() {
    let server = Server::with_channel().await;
    let texts = ["first", "second", "third", "fourth"];
    for text in texts {
        server.post("c/-1", text).await.assert(200, "");
    }
    let forwards = (0..4).flat_map(|from| from..4);
    for idx in forwards.chain((0..4).rev()) {
        server.get(&format!("c/{idx}")).await.assert(200, texts[idx]);
    }
}

/// TestLocalSubscriber_OverrunSeq
#[tokio::test]
async fn a_local_subscriber_that_fell_behind_joins_again() {
    let server = Server::with_channel().await;
    let mut local = server.trickle.subscriber("c");
    let text = async |local: &mut penstock_trickle::LocalSubscriber| {
        let mut segment = local.read()?;
        let mut text = Vec::new();
        while let Some(chunk) = segment.chunk().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        Ok::<_, LocalRead>(String::from_utf8(text).unwrap())
    };
    for _ in 0..6 {
        server.post("c/-1", "before").await.assert(200, "");
    }
    let mut next = local.read().unwrap();
    server.post("c/-1", "abc").await.assert(200, "");
    server.post("c/-1", "def").await.assert(200, "");
    assert_eq!(next.chunk().await.unwrap().unwrap(), "abc");
    assert_eq!(text(&mut local).await.unwrap(), "def");
    for payload in ["0", "1", "2", "3", "4", "5"] {
        server.post("c/-1", payload).await.assert(200, "");
    }
    assert_eq!(text(&mut local).await, Err(LocalRead::NoSegment { latest: 14 }));
    local.set_position(Position::Current);
    assert_eq!(text(&mut local).await.unwrap(), "5");
    server.post("c/-1", "ghi").await.assert(200, "");
    assert_eq!(text(&mut local).await.unwrap(), "ghi");
    local.set_position(Position::Next);
    let mut next = local.read().unwrap();
    server.post("c/-1", "jkl").await.assert(200, "");
    server.post("c/-1", "mno").await.assert(200, "");
    assert_eq!(next.chunk().await.unwrap().unwrap(), "jkl");
    assert_eq!(text(&mut local).await.unwrap(), "mno");
}

/// TestLocalSubscriber_PreconnectOnEmpty
#[tokio::test]
async fn a_write_and_a_close_are_two_segments_and_the_end() {
    let server = Server::with_channel().await;
    let mut local = server.trickle.subscriber("c");
    let mut zero = local.read().unwrap();
    let (first, second) = (server.open("c/0").await, server.open("c/1").await);
    first.write("hello").await;
    first.finish().await.assert(200, "");
    assert_eq!((zero.seq().get(), zero.drain().await), (0, Ok(5)));
    local.set_position(Position::Next);
    let mut one = local.read().unwrap();
    server.delete("c").await.assert(200, "");
    assert_eq!((one.seq().get(), one.drain().await), (1, Ok(0)));
    assert_eq!(second.answer().await.closed(), Some("terminated"));
    local.set_position(Position::Next);
    assert_eq!(local.read().unwrap_err(), LocalRead::NoChannel);
}

#[tokio::test]
async fn a_watch_tells_who_is_done_from_who_broke_off() {
    let server = Server::with_channel().await;
    let watch = server.trickle.watch("c").unwrap();
    let both = || [watch.reading(), watch.writing()];
    assert_eq!(both(), [Attendance::Never; 2]);
    for (idx, breaks) in [("c/0", false), ("c/1", true)] {
        let reader = server.wait_on("c/-1").await;
        let post = server.open(idx).await;
        assert_eq!(both(), [Attendance::Here; 2]);
        if breaks {
            reader.abort();
            post.abort();
        } else {
            post.write("x").await;
            post.finish().await.assert(200, "");
            assert_eq!(rest(reader.await.unwrap()).await, "x");
        }
        server.subscribers(0).await;
        server.publishers(0).await;
        for one in both() {
            assert!(matches!(one, Attendance::Gone { broke, .. } if broke == breaks), "{one:?}");
        }
    }
    // Whoever waits when it is closed is done.
    let reader = server.wait_on("c/-1").await;
    server.delete("c").await.assert(200, "");
    assert_eq!(rest(reader.await.unwrap()).await, "");
    server.subscribers(0).await;
    assert!(matches!(watch.reading(), Attendance::Gone { broke: false, .. }));
}
