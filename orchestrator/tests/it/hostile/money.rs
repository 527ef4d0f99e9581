//! Who lies about money. Whatever is forged, replayed, stolen or meant for somebody else, no work is done
//! and no book changes; the same orchestrator then serves who pays.

use crate::{
    payer::{Headers, Payer, answer, empty, post, segment, token},
    runner_sessions::{CHEAP, Client, price, registered},
    runners::{ON, read},
    scripted_worker::{Transcoder, renditions, upload},
    world::World,
};
use penstock_domain::{U256, keccak256};
use penstock_wire::{PaymentFields, header, net, net::orchestrator_client::OrchestratorClient};
use prost::Message as _;
use serde_json::{Value, json};

const DATA: &[u8] = b"a segment of video, more or less";

fn request(world: &World, headers: &Headers) -> reqwest::RequestBuilder {
    let request = post(world, "/segment", headers);
    request.header("Content-Type", header::CONTENT_SEGMENT).body(DATA.to_vec())
}

async fn books(world: &World) -> (Value, Value) {
    (world.operator("/v1/summary").await, world.operator("/v1/accounts").await)
}

/// A paid segment from begin to end, once; the worker has nothing else to do.
async fn served(world: &World, worker: &mut Transcoder, headers: &Headers, seq: i64) {
    let response = request(world, headers).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let job = worker.next().await;
    assert_eq!(job.seg_data.unwrap().seq, seq, "nothing else was given to the worker");
    let parts = renditions(&[(DATA, 1), (DATA, 1)]);
    assert_eq!(answer(upload(world, job.task_id, parts)).await.0, 200);
    let result = net::TranscodeResult::decode(response.bytes().await.unwrap()).unwrap();
    assert!(matches!(result.result, Some(net::transcode_result::Result::Data(_))));
}

#[tokio::test]
async fn nobody_is_served_unpaid() {
    let world = World::paid(100_000).await;
    let elsewhere = World::paid(100_000).await;
    let mut worker = Transcoder::register(&world, 4).await;
    let (payer, thief) = (Payer::funded(&world).await, Payer::funded(&world).await);
    let info = payer.info(&world, None).await.unwrap();
    let own = thief.info(&world, None).await.unwrap();
    let payment = payer.payment(&info, &[1, 2]).await;
    let good = payer.headers(&payment, &segment(&info, 1, DATA)).await;
    served(&world, &mut worker, &good, 1).await;

    let before = books(&world).await;
    let stranger = Payer::funded(&elsewhere).await;
    let foreign = stranger.info(&elsewhere, None).await.unwrap();
    let mut pinched = payment.clone();
    pinched.sender = Some(thief.signer.address());
    let signed_again = thief.payment(&info, &[3]).await;
    let mut unsigned = payer.payment(&info, &[4]).await;
    unsigned.tickets[0].sig = vec![0; 65];
    let mut short = payer.payment(&info, &[5]).await;
    short.tickets[0].sig.truncate(64);
    let mut beyond = payer.payment(&info, &[6]).await;
    beyond.tickets[0].sig[32..64].copy_from_slice(&[0xff; 32]);
    // Each is refused for what is wrong with it.
    let seen = (400, "invalid ticket senderNonce: already seen ");
    let (no_offer, no_signature) = (
        (400, "invalid recipientRand for ticket recipientRandHash"),
        (400, "invalid ticket signature"),
    );
    let (not_his, no_money) = (
        (403, "ErrSegSig"),
        (400, "Insufficient balance: 0 wei of 1000 wei are free in this account"),
    );
    let not_ours = format!("orchestrator {} is inactive in round ", elsewhere.recipient);
    let attempts = [
        (
            ("the very same again", seen),
            payment.clone(),
            payer.sign(&segment(&info, 1, DATA)).await,
        ),
        (
            ("the same tickets for more work", seen),
            payment.clone(),
            payer.sign(&segment(&info, 2, DATA)).await,
        ),
        (
            ("somebody's tickets", not_his),
            payment.clone(),
            thief.sign(&segment(&info, 3, DATA)).await,
        ),
        (
            ("somebody's tickets in one's own name", no_offer),
            pinched,
            thief.sign(&segment(&own, 1, DATA)).await,
        ),
        (("somebody's offer", no_offer), signed_again, thief.sign(&segment(&own, 1, DATA)).await),
        (("no signature", no_signature), unsigned, payer.sign(&segment(&info, 4, DATA)).await),
        (
            ("too short a signature", no_signature),
            short,
            payer.sign(&segment(&info, 5, DATA)).await,
        ),
        (
            ("no curve's signature", no_signature),
            beyond,
            payer.sign(&segment(&info, 6, DATA)).await,
        ),
        (
            ("another orchestrator's tickets", (400, not_ours.as_str())),
            payer.payment(&foreign, &[1]).await,
            payer.sign(&segment(&info, 7, DATA)).await,
        ),
        (
            ("another orchestrator's session", (403, "invalid auth token")),
            payer.payment(&info, &[7]).await,
            payer.sign(&segment(&foreign, 1, DATA)).await,
        ),
        (
            ("nothing at all", no_money),
            thief.nothing(&own),
            thief.sign(&segment(&own, 1, DATA)).await,
        ),
        (
            ("nothing, on somebody's account", not_his),
            payer.nothing(&info),
            thief.sign(&segment(&info, 8, DATA)).await,
        ),
    ];
    for ((what, refused), payment, credential) in attempts {
        let headers = Headers {
            payment: header::encode_payment(&payment.to_message()),
            segment: header::encode_segment(&credential),
        };
        let (status, said) = answer(request(&world, &headers)).await;
        assert_eq!((status, said.starts_with(refused.1)), (refused.0, true), "{what}: {said}");
        assert_eq!(books(&world).await, before, "{what}");
    }
    // Somebody's session is nobody else's money: a thief in it pays for himself.
    let paid = thief.payment(&own, &[1]).await;
    let headers = thief.headers(&paid, &segment(&info, 9, DATA)).await;
    let balance = world.balance(payer.signer.address(), &token(&info).session_id).await;
    served(&world, &mut worker, &headers, 9).await;
    assert_eq!(world.balance(payer.signer.address(), &token(&info).session_id).await, balance);
    // Nor can he end it with what he makes up, or with another orchestrator's token.
    let mut client = OrchestratorClient::new(world.grpc().await);
    for other in [&foreign, &net::OrchestratorInfo::default()] {
        let auth_token = other.auth_token.clone().map(|mut theirs| {
            theirs.session_id = token(&info).session_id;
            theirs
        });
        let request = net::EndTranscodingSessionRequest { auth_token };
        assert!(client.end_transcoding_session(request).await.is_err());
    }
    let next = payer.headers(&payer.nothing(&info), &segment(&info, 10, DATA)).await;
    served(&world, &mut worker, &next, 10).await;
}

/// The order of the curve's group.
const ORDER: &str = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// The same signature as the curve allows it to be written once more: the other root, and `v` for it. Whoever sees a
/// ticket can make it.
fn twin(sig: &[u8]) -> Vec<u8> {
    let order: U256 = ORDER.parse().unwrap();
    let s = U256::try_from_be_slice(&sig[32..64]).unwrap();
    let other = (order - s).to_be_bytes::<32>();
    [&sig[..32], &other, &[27 + 28 - sig[64]]].concat()
}

#[tokio::test]
async fn a_ticket_counts_once_however_its_signature_is_written() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let pay = async |payment: &PaymentFields| {
        let headers = payer.headers(payment, &empty(&info, "manifest")).await;
        answer(post(&world, "/payment", &headers)).await
    };
    let twin_of = |payment: &PaymentFields| {
        let mut twins = payment.clone();
        for ticket in &mut twins.tickets {
            ticket.sig = twin(&ticket.sig);
        }
        twins
    };
    let (first, second) = (payer.payment(&info, &[1, 2]).await, payer.payment(&info, &[3]).await);
    let sig = &first.tickets[0].sig;
    assert_eq!((&twin(&twin(sig)), &twin(sig) == sig), (sig, false));
    let refused = (400, "invalid ticket signature".to_owned());
    let tickets = async || world.operator("/v1/summary").await["tickets"].as_u64().unwrap();
    // After the ticket itself: neither twice by itself, nor once more by its twin.
    assert_eq!((pay(&first).await.0, tickets().await), (200, 2));
    let before = books(&world).await;
    assert_eq!(pay(&twin_of(&first)).await, refused);
    assert_eq!(books(&world).await, before);
    // Before it: nor does the twin use up the ticket's number.
    assert_eq!(pay(&twin_of(&second)).await, refused);
    assert_eq!(books(&world).await, before);
    assert_eq!((pay(&second).await.0, tickets().await), (200, 3));
    // Both in one payment.
    let mut both = payer.payment(&info, &[4]).await;
    both.tickets.extend(twin_of(&both).tickets);
    assert_eq!(pay(&both).await, refused);
    assert_eq!(tickets().await, 4);
}

#[tokio::test]
async fn a_flood_of_forged_tickets_and_one_who_pays() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let good = payer.payment(&info, &[1]).await;
    let credential = empty(&info, "manifest");
    let before = books(&world).await;
    let forged = (0..200_u32).map(|n| {
        let mut forged = good.clone();
        forged.tickets[0].sender_nonce = n;
        forged.tickets[0].sig[..4].copy_from_slice(&keccak256(n.to_be_bytes())[..4]);
        forged
    });
    let mut asked = Vec::new();
    for forged in forged {
        let headers = payer.headers(&forged, &credential).await;
        asked.push(answer(post(&world, "/payment", &headers)));
    }
    for (status, said) in futures::future::join_all(asked).await {
        assert_eq!((status, said.as_str()), (400, "invalid ticket signature"));
    }
    assert_eq!(books(&world).await, before, "and none of its nonces is used up");
    let headers = payer.headers(&good, &credential).await;
    assert_eq!(answer(post(&world, "/payment", &headers)).await.0, 200);
    assert_eq!(world.operator("/v1/summary").await["tickets"], 1);
}

#[tokio::test]
async fn sessions_of_live_runners_are_for_who_pays() {
    let settings = [&ON[..], &["--max-runner-sessions=2"]].concat();
    let world = World::paid_with(1000, &settings).await;
    let facts = json!({ "price_info": price(CHEAP, "hour"), "capacity": 2 });
    let app = registered(&world, facts).await;
    let (client, thief) = (Client::new(&world).await, Client::new(&world).await);
    let session = "/apps/r/session";
    // To ask what it costs takes no room, of which there is little, however often.
    let asked = (0..1000).map(|_| read(thief.ask(session)));
    let mut asked = futures::stream::StreamExt::buffer_unordered(futures::stream::iter(asked), 32);
    while let Some((status, _)) = futures::StreamExt::next(&mut asked).await {
        assert_eq!(status, 402);
    }
    drop(asked);
    // Those that ended are told of for a while.
    let sessions = async || {
        let all = world.operator("/v1/runner-sessions").await;
        all.as_array().unwrap().iter().filter(|session| session["reason"].is_null()).count()
    };
    assert_eq!(sessions().await, 0);

    let due = client.challenged(session).await;
    let headers = client.headers(&due, 1..20).await;
    let (status, begun) = read(post(&world, session, &headers)).await;
    assert_eq!(status, 200, "{begun}");
    // The same tickets open no second session, nor do somebody's, nor a challenge that was somebody's.
    let next = client.challenged(session).await;
    let of_next = empty(&next.info, &next.manifest);
    let payment = headers.payment.clone();
    let signed = client.payer.sign(&of_next).await;
    let again = Headers { payment, segment: header::encode_segment(&signed) };
    let exists = (409, "session already exists");
    for (what, refused, headers) in [
        ("again", exists, &headers),
        (
            "the same tickets for another session",
            (400, "invalid ticket senderNonce: already seen "),
            &again,
        ),
        ("somebody's challenge", exists, &thief.headers(&due, 30..50).await),
        (
            "nothing",
            (400, "Insufficient balance: 0 wei of 5000 wei for the first seconds"),
            &thief.headers(&thief.challenged(session).await, 0..0).await,
        ),
    ] {
        let (status, said) = read(post(&world, session, headers)).await;
        let said = said.as_str().unwrap();
        assert_eq!((status, said.starts_with(refused.1)), (refused.0, true), "{what}: {said}");
        assert_eq!(sessions().await, 1, "{what}");
    }
    // What is not paid is not passed on.
    for (path, refused) in [
        ("/apps/r/session/made-up/app/x", (404, json!("runner session not found"))),
        ("/apps/r/app/x", (400, json!("runner is not single-shot"))),
        ("/run/made-up/x", (404, json!("live runner proxy not found"))),
    ] {
        let said = read(world.http.get(format!("{}{path}", world.service))).await;
        assert_eq!(said, refused, "{path}");
    }
    let at = begun["app_url"].as_str().unwrap();
    assert_eq!(read(world.http.get(format!("{at}/x"))).await.1["path"], "/base/x");
    drop(app);
}
