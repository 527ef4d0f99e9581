//! A separate redeemer and an orchestrator that hands over to it, over real TLS and gRPC, with a real chain
//! and real books; and one that answers as the Go node's does.

use crate::{
    payer::{Payer, answer, empty, post, token},
    world::{TICKET_EV, World, open_chain},
};
use penstock_chain::Chain;
use penstock_clients::{RedeemerClient, RedeemerOptions, Trust};
use penstock_domain::{Address, B256, U256, Wei, address_lower, keccak256};
use penstock_http_kit::CancellationToken;
use penstock_keys::{LocalKey, keystore, keystore::ScryptCost};
use penstock_orchestrator::{Args, RedeemerApp};
use penstock_payments::{ExpirationParams, Ticket};
use penstock_testkit::{until, until_some};
use penstock_wire::{
    net::{
        self,
        ticket_redeemer_client::TicketRedeemerClient,
        ticket_redeemer_server::{TicketRedeemer, TicketRedeemerServer},
    },
    redeemer::WinnerFields,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response, Status, transport::Channel};

/// A redeemer in this process, with its own key, books and certificate.
struct Redeemer {
    folder: TempDir,
    flags: Vec<String>,
    listen: SocketAddr,
    admin: String,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Redeemer {
    /// Redeems for the world's orchestrator.
    async fn of(world: &World, extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.json");
        let cost = ScryptCost { log2_n: 2, r: 1, p: 1 };
        keystore::create(&key, &LocalKey::random().unwrap(), "password", cost).unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "password\n").unwrap();
        let mut flags = vec![
            "penstock-orchestrator".to_owned(),
            "--redeemer".to_owned(),
            format!("--redeemer-recipient={}", world.recipient),
            format!("--key=keystore:{}", key.display()),
            format!("--key-password-file={}", password.display()),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--chain={}", world.chain_flag()),
        ];
        if !extra.iter().any(|flag| flag.starts_with("--chain-poll-ms")) {
            flags.push("--chain-poll-ms=20".to_owned());
        }
        flags.extend(extra.iter().map(|flag| (*flag).to_owned()));
        let mut redeemer = Self {
            folder,
            flags,
            listen: "127.0.0.1:0".parse().unwrap(),
            admin: String::new(),
            stop: CancellationToken::new(),
            running: None,
        };
        redeemer.start().await;
        redeemer
    }

    async fn start(&mut self) {
        let mut flags = self.flags.clone();
        flags.push(format!("--http-addr={}", self.listen));
        let args: Args = penstock_config::try_parse_from(flags).unwrap();
        let app = RedeemerApp::build(&args, open_chain).await.unwrap();
        self.listen = app.addresses()["service"].parse().unwrap();
        self.admin = format!("http://{}", app.addresses()["admin"]);
        self.stop = CancellationToken::new();
        let running = app.run(self.stop.clone(), None);
        self.running = Some(tokio::spawn(async { running.await.unwrap() }));
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        self.running.take().unwrap().await.unwrap();
    }

    fn url(&self) -> String {
        format!("https://{}", self.listen)
    }

    async fn client(&self) -> TicketRedeemerClient<Channel> {
        let url = self.url().parse().unwrap();
        let channel =
            penstock_clients::channel(&url, &Trust::AcceptAny, Duration::from_secs(10)).unwrap();
        TicketRedeemerClient::new(channel)
    }

    async fn operator(&self, world: &World, path: &str) -> Value {
        let answer = world.http.get(format!("{}{path}", self.admin)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// The statuses of what it was brought.
    async fn statuses(&self, world: &World) -> Vec<String> {
        statuses(&self.operator(world, "/v1/winners").await)
    }
}

impl Drop for Redeemer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn statuses(winners: &Value) -> Vec<String> {
    let text = |winner: &Value| winner["status"].as_str().unwrap().to_owned();
    winners.as_array().unwrap().iter().map(text).collect()
}

async fn kept(world: &World) -> Vec<String> {
    statuses(&world.operator("/v1/winners").await)
}

/// An orchestrator of which every ticket wins, which from now on hands over to a redeemer.
async fn handing_over(world: &mut World, url: &str) {
    world.stop().await.unwrap();
    world.start_again_with(&format!("--redeemer-addr={url}")).await;
    world.see_the_chain().await;
}

/// A payment of winners.
async fn win(world: &World, payer: &Payer, nonces: &[u32]) {
    let info = payer.info(world, None).await.unwrap();
    let payment = payer.payment(&info, nonces).await;
    let headers = payer.headers(&payment, &empty(&info, &token(&info).session_id)).await;
    assert_eq!(answer(post(world, "/payment", &headers)).await.0, 200);
}

/// A ticket for the world's orchestrator that wins (almost) whatever it draws.
async fn winner(world: &World, payer: &Payer, nonce: u32) -> WinnerFields {
    let rounds = world.chain().rounds().await.unwrap();
    let rand = U256::from(7);
    let ticket = Ticket {
        recipient: world.recipient,
        sender: payer.signer.address(),
        face_value: Wei::from_u64(1_000),
        win_prob: U256::MAX,
        sender_nonce: nonce,
        recipient_rand_hash: keccak256(rand.to_be_bytes::<32>()),
        expiration_params: ExpirationParams {
            creation_round: rounds.last_initialized_round,
            creation_round_block_hash: rounds.l1_block_hash,
        },
    };
    signed(payer, &ticket, rand, rounds.last_seen_l1_block + 40).await
}

async fn signed(payer: &Payer, ticket: &Ticket, rand: U256, expiration: u64) -> WinnerFields {
    WinnerFields {
        recipient: ticket.recipient,
        sender: ticket.sender,
        face_value: ticket.face_value,
        win_prob: ticket.win_prob,
        sender_nonce: ticket.sender_nonce,
        recipient_rand_hash: ticket.recipient_rand_hash,
        recipient_rand: rand,
        expiration_block: U256::from(expiration),
        expiration_params: penstock_wire::ExpirationFields {
            creation_round: ticket.expiration_params.creation_round,
            creation_round_block_hash: ticket.expiration_params.creation_round_block_hash,
        },
        sig: payer.signer.sign_ticket(ticket).await.unwrap().as_bytes().to_vec(),
    }
}

#[tokio::test]
async fn winners_are_handed_over_at_once_and_redeemed_once_by_the_redeemer() {
    let mut world = World::paid(TICKET_EV).await;
    let redeemer = Redeemer::of(&world, &[]).await;
    handing_over(&mut world, &redeemer.url()).await;
    win(&world, &Payer::funded(&world).await, &[1, 2]).await;
    until("both are handed over", || async { kept(&world).await == ["handed_over"; 2] }).await;
    assert_eq!(redeemer.statuses(&world).await, ["queued"; 2], "their offer still lives");
    let summary = world.operator("/v1/summary").await;
    assert_eq!((&summary["handed_over"], &summary["redeemed"]), (&2.into(), &0.into()));

    world.mine(Some(41), None).await;
    until("the redeemer redeems them", || async {
        redeemer.statuses(&world).await == ["redeemed"; 2]
    })
    .await;
    let paid = world.chain().redemptions(10).await.unwrap();
    assert_eq!(paid.len(), 2);
    assert!(paid.iter().all(|p| p.recipient == world.recipient && p.paid() == p.face_value));

    // When the chain takes such tickets no more, the orchestrator asks it what became of them.
    assert_eq!(kept(&world).await, ["handed_over"; 2]);
    world.mine(None, Some(3)).await;
    until("the orchestrator knows that they are paid", || async {
        kept(&world).await == ["redeemed"; 2]
    })
    .await;
    assert_eq!(world.chain().redemptions(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn while_the_redeemer_is_away_winners_wait_and_offers_are_cautious() {
    let mut world = World::paid(TICKET_EV).await;
    let mut redeemer = Redeemer::of(&world, &[]).await;
    handing_over(&mut world, &redeemer.url()).await;
    let ready = async |world: &World| -> Value {
        let answer = world.http.get(format!("{}/readyz", world.service)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "work goes on");
        answer.json().await.unwrap()
    };
    until("the redeemer is known", || async { ready(&world).await["degraded"].is_null() }).await;

    // A reserve for two tickets and a half, of which one is out and one is on its way.
    let payer = Payer::new(&world);
    let (deposit, reserve) = (Wei::from_u64(1_000_000), Wei::from_u64(2_500));
    let sender = payer.signer.address();
    world.chain().fund_deposit_and_reserve_for(sender, deposit, reserve).await.unwrap();
    until("the funds are seen", || async { payer.info(&world, None).await.is_ok() }).await;
    win(&world, &payer, &[1]).await;
    until("it is handed over", || async { kept(&world).await == ["handed_over"] }).await;
    redeemer.stop().await;
    until("the redeemer is missed", || async {
        ready(&world).await["degraded"][0]["dependency"] == "redeemer"
    })
    .await;
    win(&world, &payer, &[1]).await;
    let refused = until_some("no more is offered than is certain", || async {
        payer.info(&world, None).await.err()
    })
    .await;
    assert!(refused.message().contains("insufficient sender reserve"), "{refused:?}");
    assert_eq!(kept(&world).await, ["queued", "handed_over"]);

    redeemer.start().await;
    until("what waited is handed over", || async { kept(&world).await == ["handed_over"; 2] })
        .await;
    until("the redeemer's word counts again", || async { payer.info(&world, None).await.is_ok() })
        .await;
    assert_eq!(redeemer.statuses(&world).await, ["queued"; 2]);
    assert!(ready(&world).await["degraded"].is_null());
}

#[tokio::test]
async fn a_redeemer_takes_winners_of_its_recipient_and_nothing_else() {
    let world = World::paid(TICKET_EV).await;
    let limits = ["--redeemer-max-sender-tickets=2", "--redeemer-max-tickets=3"];
    let redeemer = Redeemer::of(&world, &limits).await;
    let mut client = redeemer.client().await;
    let payer = Payer::funded(&world).await;
    let good = winner(&world, &payer, 1).await;
    let mut queue = async |winner: &net::Ticket| match client.queue_ticket(winner.clone()).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    };

    let other = Address::repeat_byte(0x11);
    let theirs = WinnerFields { recipient: other, ..good.clone() };
    let told =
        format!("invalid ticket recipient {}, expected {}", address_lower(&other), world.recipient);
    assert_eq!(queue(&theirs.to_message()).await, (Code::PermissionDenied, told));
    let bad = |code, spoiled: &WinnerFields| (code, spoiled.to_message());
    let rounds = world.chain().rounds().await.unwrap();
    let old = ExpirationParams { creation_round: 0, creation_round_block_hash: B256::ZERO };
    let ticket = |face_value, win_prob, expiration_params| Ticket {
        recipient: world.recipient,
        sender: payer.signer.address(),
        face_value: Wei::from_u64(face_value),
        win_prob,
        sender_nonce: 5,
        recipient_rand_hash: good.recipient_rand_hash,
        expiration_params,
    };
    let now = ExpirationParams {
        creation_round: rounds.last_initialized_round,
        creation_round_block_hash: rounds.l1_block_hash,
    };
    let rand = good.recipient_rand;
    let lost = signed(&payer, &ticket(1_000, U256::from(1), now), rand, 50).await;
    let empty = signed(&payer, &ticket(0, U256::MAX, now), rand, 50).await;
    for (code, message) in [
        bad(Code::InvalidArgument, &lost),
        bad(Code::InvalidArgument, &empty),
        bad(Code::InvalidArgument, &WinnerFields { sender_nonce: 2, ..good.clone() }),
        bad(Code::InvalidArgument, &WinnerFields { sender: other, ..good.clone() }),
        bad(Code::InvalidArgument, &WinnerFields { recipient_rand: U256::from(8), ..good.clone() }),
        bad(Code::InvalidArgument, &WinnerFields { sig: vec![27; 64], ..good.clone() }),
        (Code::InvalidArgument, net::Ticket::default()),
    ] {
        assert_eq!(queue(&message).await.0, code, "{message:?}");
    }
    assert!(redeemer.statuses(&world).await.is_empty(), "nothing of that is stored");

    for _ in 0..3 {
        assert_eq!(queue(&good.to_message()).await.0, Code::Ok, "as often as it is brought");
    }
    assert_eq!(redeemer.statuses(&world).await, ["queued"]);
    let [two, three] = [2, 3].map(|nonce| winner(&world, &payer, nonce));
    assert_eq!(queue(&two.await.to_message()).await.0, Code::Ok);
    assert_eq!(queue(&three.await.to_message()).await.0, Code::ResourceExhausted);
    let another = Payer::funded(&world).await;
    assert_eq!(queue(&winner(&world, &another, 1).await.to_message()).await.0, Code::Ok);
    let third = winner(&world, &Payer::funded(&world).await, 1).await.to_message();
    assert_eq!(queue(&third).await.0, Code::ResourceExhausted);
    assert_eq!(queue(&good.to_message()).await.0, Code::Ok, "full or not, it is there");

    // What the chain takes no more is not taken here either.
    let aged = signed(&payer, &ticket(1_000, U256::MAX, old), rand, 50).await;
    world.mine(None, Some(3)).await;
    until("the redeemer sees the new round", || async {
        let mut client = redeemer.client().await;
        let sent = client.queue_ticket(aged.to_message()).await;
        sent.is_err_and(|status| status.code() == Code::FailedPrecondition)
    })
    .await;
    // Nor what would wait here for ever.
    let rounds = world.chain().rounds().await.unwrap();
    let round = rounds.last_initialized_round;
    for (creation_round, block) in [(round + 2, 50), (round, u64::MAX)] {
        let now = ExpirationParams { creation_round, ..now };
        let far = signed(&payer, &ticket(1_000, U256::MAX, now), rand, block).await;
        let status = redeemer.client().await.queue_ticket(far.to_message()).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("far in the future"), "{status}");
    }
    assert_eq!(redeemer.statuses(&world).await.len(), 3);
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_not_served() {
    let mut world = World::paid(TICKET_EV).await;
    let secrets = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("--redeemer-secret-file={}", path.display())
    };
    let (right, wrong) = (file("right", "sesame\n"), file("wrong", "sesam"));
    let redeemer = Redeemer::of(&world, &[&right]).await;
    let mut stranger = redeemer.client().await;
    let sender = vec![1; 20];
    let refused = stranger.max_float(net::MaxFloatReq { sender: sender.clone() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let refused = stranger.monitor_max_float(net::MaxFloatReq { sender }).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let payer = Payer::funded(&world).await;
    let refused = stranger.queue_ticket(winner(&world, &payer, 1).await.to_message()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);

    // An orchestrator that knows another one keeps its winners, and says why.
    world.stop().await.unwrap();
    world.set(&wrong);
    world.start_again_with(&format!("--redeemer-addr={}", redeemer.url())).await;
    world.see_the_chain().await;
    win(&world, &payer, &[1]).await;
    until("the operator is told", || async {
        let answer = world.http.get(format!("{}/readyz", world.service)).send().await.unwrap();
        let told: Value = answer.json().await.unwrap();
        let reason = told["degraded"][0]["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("--redeemer-secret-file")
    })
    .await;
    assert_eq!(kept(&world).await, ["queued"]);
    assert!(redeemer.statuses(&world).await.is_empty());
    // With the right one, and the redeemer's certificate for the only one.
    world.stop().await.unwrap();
    world.set(&right);
    let cert = redeemer.folder.path().join("data/cert.pem");
    world.start_again_with(&format!("--redeemer-cert={}", cert.display())).await;
    until("it is handed over", || async { kept(&world).await == ["handed_over"] }).await;
}

#[tokio::test]
async fn another_certificate_is_refused_where_one_is_named() {
    let mut world = World::paid(TICKET_EV).await;
    let redeemer = Redeemer::of(&world, &[]).await;
    let imposter = Redeemer::of(&world, &[]).await;
    world.stop().await.unwrap();
    let cert = redeemer.folder.path().join("data/cert.pem");
    world.set(&format!("--redeemer-cert={}", cert.display()));
    world.start_again_with(&format!("--redeemer-addr={}", imposter.url())).await;
    world.see_the_chain().await;
    win(&world, &Payer::funded(&world).await, &[1]).await;
    until("the redeemer is missed", || async {
        let answer = world.http.get(format!("{}/readyz", world.service)).send().await.unwrap();
        let told: Value = answer.json().await.unwrap();
        told["degraded"][0]["reason"].as_str().is_some_and(|why| why.contains("certificate"))
    })
    .await;
    assert_eq!(kept(&world).await, ["queued"]);
    assert!(imposter.statuses(&world).await.is_empty());
}

#[tokio::test]
async fn max_floats_are_told_and_followed() {
    let world = World::paid(TICKET_EV).await;
    let redeemer = Redeemer::of(&world, &["--redeemer-max-streams=1"]).await;
    let client = RedeemerClient::new(&redeemer.url().parse().unwrap(), RedeemerOptions::default());
    let client = client.unwrap();
    let sender = Payer::new(&world).signer.address();
    assert_eq!(client.max_float(sender).await.unwrap(), Wei::ZERO);
    let mut changes = Box::pin(client.monitor_max_float(sender));
    assert_eq!(changes.next().await.unwrap().unwrap(), Wei::ZERO, "what it is");
    let second = Box::pin(client.monitor_max_float(sender)).next().await.unwrap();
    assert!(second.unwrap_err().message().contains("--redeemer-max-streams"));
    let reserve = Wei::from_u64(7_000);
    world.chain().fund_deposit_and_reserve_for(sender, reserve, reserve).await.unwrap();
    assert_eq!(changes.next().await.unwrap().unwrap(), reserve, "what it becomes");
    until("it is the same for who asks", || async {
        client.max_float(sender).await.unwrap() == reserve
    })
    .await;
    // A stream that is let go makes room.
    drop(changes);
    until("there is room again", || async {
        let mut changes = Box::pin(client.monitor_max_float(sender));
        changes.next().await.unwrap().is_ok_and(|told| told == reserve)
    })
    .await;
    let mut raw = redeemer.client().await;
    let malformed = raw.max_float(net::MaxFloatReq { sender: vec![1; 19] }).await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
}

/// All that an orchestrator follows and asks goes over one connection.
#[tokio::test]
async fn many_senders_are_followed_at_once() {
    let world = World::paid(TICKET_EV).await;
    // At each look at the chain it is asked about each of them.
    let redeemer = Redeemer::of(&world, &["--chain-poll-ms=2000"]).await;
    let client = RedeemerClient::new(&redeemer.url().parse().unwrap(), RedeemerOptions::default());
    let client = client.unwrap();
    let mut followed = Vec::new();
    for n in 0..400_u64 {
        let sender = Address::left_padding_from(&(n + 1).to_be_bytes());
        let mut changes = Box::pin(client.monitor_max_float(sender));
        assert_eq!(changes.next().await.unwrap().unwrap(), Wei::ZERO);
        followed.push(changes);
    }
    let last = Address::left_padding_from(&400_u64.to_be_bytes());
    assert_eq!(client.max_float(last).await.unwrap(), Wei::ZERO);
    let reserve = Wei::from_u64(9);
    world.chain().fund_deposit_and_reserve_for(last, reserve, reserve).await.unwrap();
    assert_eq!(followed[399].next().await.unwrap().unwrap(), reserve);
}

#[tokio::test]
async fn the_books_of_the_one_are_not_the_others() {
    let mut world = World::paid(TICKET_EV).await;
    world.stop().await.unwrap();
    let books = format!("--ledger=sqlite://{}", world.data("ledger.db").display());
    let mut redeemer = Redeemer::of(&world, &[]).await;
    redeemer.stop().await;
    redeemer.flags.push(books);
    redeemer.flags.push("--replace-secrets".to_owned());
    let args: Args = penstock_config::try_parse_from(redeemer.flags.clone()).unwrap();
    let refused = RedeemerApp::build(&args, open_chain).await.err().unwrap();
    assert!(refused.is_config() && refused.to_string().contains("--redeemer"), "{refused}");

    // Nor does a redeemer of one orchestrator take up what was brought for another.
    redeemer.flags.truncate(redeemer.flags.len() - 2);
    let other = format!("--redeemer-recipient={}", Address::repeat_byte(3));
    redeemer.flags.retain(|flag| !flag.starts_with("--redeemer-recipient"));
    redeemer.flags.push(other);
    let args: Args = penstock_config::try_parse_from(redeemer.flags.clone()).unwrap();
    let refused = RedeemerApp::build(&args, open_chain).await.err().unwrap();
    assert!(refused.to_string().contains("--redeemer-recipient"), "{refused}");
}

/// The Go node's redeemer: nothing on a stream before the first change, not even an answer, and an error
/// of its database for a ticket that it knows.
#[derive(Clone, Default)]
struct GoNode {
    stored: Arc<Mutex<Vec<net::Ticket>>>,
    loses_answers: Arc<AtomicBool>,
    float: watch::Sender<u64>,
    broken: watch::Sender<bool>,
}

#[tonic::async_trait]
impl TicketRedeemer for GoNode {
    async fn queue_ticket(
        &self,
        request: Request<net::Ticket>,
    ) -> Result<Response<net::QueueTicketRes>, Status> {
        let ticket = request.into_inner();
        let mut stored = self.stored.lock().unwrap();
        if stored.contains(&ticket) {
            return Err(Status::internal(
                "failed inserting winning ticket sender=0x…: UNIQUE constraint failed: ticketQueue.sig",
            ));
        }
        stored.push(ticket);
        if self.loses_answers.swap(false, Ordering::SeqCst) {
            return Err(Status::unavailable("connection reset"));
        }
        Ok(Response::new(net::QueueTicketRes {}))
    }

    async fn max_float(
        &self,
        _: Request<net::MaxFloatReq>,
    ) -> Result<Response<net::MaxFloatUpdate>, Status> {
        let max_float = self.float.borrow().to_be_bytes().to_vec();
        Ok(Response::new(net::MaxFloatUpdate { max_float }))
    }

    type MonitorMaxFloatStream =
        futures::stream::BoxStream<'static, Result<net::MaxFloatUpdate, Status>>;

    async fn monitor_max_float(
        &self,
        _: Request<net::MaxFloatReq>,
    ) -> Result<Response<Self::MonitorMaxFloatStream>, Status> {
        let mut float = self.float.subscribe();
        let mut broken = self.broken.subscribe();
        tokio::select! {
            changed = float.changed() => changed.unwrap(),
            _ = broken.wait_for(|broken| *broken) => return Err(Status::cancelled("subscription closed")),
        }
        float.mark_changed();
        let floats =
            futures::stream::unfold((float, broken), |(mut float, mut broken)| async move {
                tokio::select! {
                    changed = float.changed() => changed.ok()?,
                    _ = broken.wait_for(|broken| *broken) => return None,
                }
                let max_float = float.borrow_and_update().to_be_bytes().to_vec();
                Some((Ok(net::MaxFloatUpdate { max_float }), (float, broken)))
            });
        Ok(Response::new(Box::pin(floats)))
    }
}

impl GoNode {
    /// In cleartext: what is spoken is what is tried here.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = tonic::service::Routes::new(TicketRedeemerServer::new(self.clone()));
        let router = router.prepare().into_axum_router();
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn stored(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}

#[tokio::test]
async fn the_go_nodes_redeemer_is_understood() {
    let go = GoNode::default();
    let float = |wei: i128| go.float.send_replace(wei.try_into().unwrap());
    float(TICKET_EV);
    let url = go.serve().await;
    let mut world = World::paid(10 * TICKET_EV).await;
    world.set("--redeemer-patience-ms=60000");
    handing_over(&mut world, &url).await;
    let payer = Payer::funded(&world).await;
    let face_value = async || -> U256 {
        let info = payer.info(&world, None).await.unwrap();
        penstock_domain::u256_from_be(&info.ticket_params.unwrap().face_value).unwrap()
    };
    let wei = |wei: i128| U256::from(u64::try_from(wei).unwrap());
    // Its word bounds what is offered, from the first answer on and after each change.
    assert_eq!(face_value().await, wei(TICKET_EV));
    float(3 * TICKET_EV);
    until("a change is heard", || async { face_value().await == wei(3 * TICKET_EV) }).await;
    float(TICKET_EV);
    until("and the next", || async { face_value().await == wei(TICKET_EV) }).await;

    // An acknowledgement that was lost: it is brought again, and known.
    go.loses_answers.store(true, Ordering::SeqCst);
    win(&world, &payer, &[1]).await;
    until("it is handed over", || async { kept(&world).await == ["handed_over"] }).await;
    assert_eq!(go.stored(), 1);
    let ticket = go.stored.lock().unwrap()[0].clone();
    let fields = WinnerFields::try_from(&ticket).unwrap();
    assert_eq!((fields.recipient, fields.sender), (world.recipient, payer.signer.address()));
    assert_eq!(keccak256(fields.recipient_rand.to_be_bytes::<32>()), fields.recipient_rand_hash);

    // A stream that ends leaves no number behind: the cautious rule (which here is the whole reserve
    // but for one winner), then the redeemer's word again.
    float(2 * TICKET_EV);
    until("it is heard", || async { face_value().await == wei(2 * TICKET_EV) }).await;
    go.broken.send_replace(true);
    until("the old number is forgotten", || async { face_value().await == wei(10 * TICKET_EV) })
        .await;
    go.broken.send_replace(false);
    until("it is asked again", || async { face_value().await == wei(2 * TICKET_EV) }).await;
}
