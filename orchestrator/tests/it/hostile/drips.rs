//! Who takes an answer drop by drop, and keeps with it the connection and all behind it. Beside them, those whom
//! the least speed must not meet: a slow line, a reader to whom nobody says anything.

use super::{begun, fields, frame, http2};
use crate::{
    runner_app::App,
    runners::{ON, beat, read, said},
    world::{SECRET, World, client},
};
use futures::StreamExt as _;
use penstock_testkit::until;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpSocket},
};

/// 64 KiB/s, within what 96 KiB take at that. No other silence ends a request.
const LEAST: [&str; 4] = [
    "--min-read-bytes-per-second=65536",
    "--min-read-window-ms=1500",
    "--peer-stall-ms=86400000",
    "--live-runner-idle-ms=86400000",
];
/// What a line brings at once, and the pause behind it.
type Pace = (usize, Duration);
const DRIP: Pace = (1, Duration::from_millis(50));
/// Ten times what there has to be.
const SLOW: Pace = (64 * 1024, Duration::from_millis(100));
/// Before a line gets slow: a handshake, the head of an answer.
const FREE_BYTES: usize = 16 * 1024;
/// More than lies anywhere on the way once the server has gone.
const MORE_BYTES: usize = 1024 * 1024;

/// A line to a service for one connection, that brings its answers at a pace. Says where it begins.
async fn line(service: &str, pace: Pace) -> String {
    let service = service.split_once("://").unwrap().1.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begin = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let (mut from, mut to) = socket.connect(service).await.unwrap().into_split();
        let (mut asked, mut told) = client.into_split();
        let up = async move { copy(&mut asked, &mut to).await.map(drop) };
        let down = async move {
            let (mut free, mut piece) = (FREE_BYTES, vec![0; FREE_BYTES.max(pace.0)]);
            loop {
                let most = if free > 0 { free } else { pace.0 };
                let bytes = from.read(&mut piece[..most]).await?;
                if bytes == 0 {
                    return Ok(());
                }
                told.write_all(&piece[..bytes]).await?;
                match free {
                    0 => tokio::time::sleep(pace.1).await,
                    _ => free -= bytes,
                }
            }
        };
        // Both, so that neither side's end closes the other's.
        let _: (std::io::Result<()>, std::io::Result<()>) = tokio::join!(up, down);
    });
    begin.to_string()
}

/// Where the flood of an app's session is, and how many requests it has.
async fn session(world: &World, app: &App) -> String {
    assert_eq!(beat(world, SECRET, &said("r", &app.url())).await.0, 200);
    let (_, session) = read(world.http.post(format!("{}/apps/r/session", world.service))).await;
    session["app_url"].as_str().unwrap()[world.service.len()..].to_owned()
}

async fn open_requests(world: &World) -> u64 {
    world.operator("/v1/runner-sessions").await[0]["open_requests"].as_u64().unwrap()
}

#[tokio::test]
async fn a_drip_is_too_little_and_a_slow_line_and_silence_are_not() {
    let world = World::offchain(&[&ON[..], &LEAST].concat()).await;
    let app = App::start().await;
    let at = session(&world, &app).await;
    // HTTP/2 with so much room that what is not taken waits in the connection.
    let room = 1 << 30;
    let http2 = client().http2_initial_stream_window_size(room);
    let http2 = http2.http2_initial_connection_window_size(room).build().unwrap();
    let http1 = client().http1_only().build().unwrap();
    let flood = async |http: &reqwest::Client, pace| {
        let begin = line(&world.service, pace).await;
        let asked = http.get(format!("https://{begin}{at}/flood")).send().await.unwrap();
        assert_eq!(asked.status(), 200);
        asked
    };

    app.gate.add_permits(1);
    let silent = http1.get(format!("{}{at}/events", world.service)).send().await.unwrap();
    let mut silent = silent.bytes_stream();
    assert_eq!(silent.next().await.unwrap().unwrap(), "data: 0\n\n");
    let upgrade = http1.get(format!("{}{at}/socket", world.service));
    let upgrade = upgrade.header("Connection", "upgrade").header("Upgrade", "shout").send().await;
    let mut socket = upgrade.unwrap().upgrade().await.unwrap();
    let taken = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut honest = Vec::new();
    for (place, http) in [&http1, &http2].into_iter().enumerate() {
        let mut body = flood(http, SLOW).await.bytes_stream();
        let taken = Arc::clone(&taken);
        honest.push(tokio::spawn(async move {
            while let Some(Ok(piece)) = body.next().await {
                taken[place].fetch_add(piece.len(), Relaxed);
            }
        }));
    }
    let kept = open_requests(&world).await;
    let drips = [flood(&http1, DRIP).await, flood(&http2, DRIP).await];
    assert_eq!(
        drips.each_ref().map(reqwest::Response::version),
        [http::Version::HTTP_11, http::Version::HTTP_2]
    );
    until("both drips are cut off", || async { open_requests(&world).await == kept }).await;

    let before = [0, 1].map(|place| taken[place].load(Relaxed));
    until("slow lines bring more", || async {
        (0..2).all(|place| taken[place].load(Relaxed) > before[place] + MORE_BYTES)
    })
    .await;
    app.gate.add_permits(1);
    assert_eq!(silent.next().await.unwrap().unwrap(), "data: 1\n\n");
    socket.write_all(b"still here").await.unwrap();
    let mut shouted = [0; 10];
    socket.read_exact(&mut shouted).await.unwrap();
    assert_eq!(&shouted, b"STILL HERE");
    assert_eq!(open_requests(&world).await, kept);
    honest.iter().for_each(tokio::task::JoinHandle::abort);
}

/// No request is under way on such a connection, and no answer: only what its socket takes tells.
#[tokio::test]
async fn a_drip_of_another_protocol_is_too_little() {
    let world = World::offchain(&[&ON[..], &LEAST].concat()).await;
    let app = App::start().await;
    let at = session(&world, &app).await;
    let begin = line(&world.service, DRIP).await;
    let http1 = client().http1_only().build().unwrap();
    let upgrade = http1.get(format!("https://{begin}{at}/socket?pour"));
    let upgrade = upgrade.header("Connection", "upgrade").header("Upgrade", "shout").send().await;
    let mut heard = upgrade.unwrap().upgrade().await.unwrap();
    assert_eq!(open_requests(&world).await, 1);
    let taking = tokio::spawn(async move { copy(&mut heard, &mut tokio::io::sink()).await });
    until("it is cut off", || async { open_requests(&world).await == 0 }).await;
    taking.abort();
}

#[tokio::test]
async fn a_stream_whose_room_grows_byte_by_byte_is_cut_off() {
    let clear = ["--service-addr=http://127.0.0.1:0"];
    let world = World::offchain(&[&ON[..], &LEAST, &clear].concat()).await;
    let app = App::start().await;
    let at = session(&world, &app).await;
    // The connection has room for everything, its one stream for what is given here.
    let asked = [
        http2(Some(0)),
        frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()),
        frame(1, 5, 1, &fields(&format!("{at}/flood"))),
    ]
    .concat();
    let room = |bytes: usize| frame(8, 0, 1, &u32::try_from(bytes).unwrap().to_be_bytes());
    let taken = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut clients = Vec::new();
    for (place, (bytes, pause)) in [SLOW, DRIP].into_iter().enumerate() {
        let (mut from, mut to) = begun(&world.service, &asked).await.into_split();
        let taken = Arc::clone(&taken);
        clients.push(tokio::spawn(async move {
            let taking = async {
                let mut piece = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from.read(&mut piece).await {
                    taken[place].fetch_add(read, Relaxed);
                }
            };
            let giving = async {
                while to.write_all(&room(bytes)).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            };
            tokio::join!(taking, giving);
        }));
    }
    let (drip, slow) = (clients.pop().unwrap(), clients.pop().unwrap());
    tokio::time::timeout(penstock_testkit::until::DEADLINE, drip).await.expect("cut").unwrap();
    assert!(taken[1].load(Relaxed) < FREE_BYTES);
    let before = taken[0].load(Relaxed);
    until("the slow one is served", || async { taken[0].load(Relaxed) > before + MORE_BYTES })
        .await;
    assert_eq!(open_requests(&world).await, 1);
    slow.abort();
}
