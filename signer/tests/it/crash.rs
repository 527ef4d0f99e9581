//! The process dies between any two steps of a payment, and by `kill -9` under load. Afterwards no
//! nonce was used twice, what was answered is in the books, and the books add up.

use crate::{
    startup::spec,
    world::{b64, check_tickets, devnet, keystore_in, r, reply, request},
};
use penstock_domain::{Address, U256, be_bytes};
use penstock_testkit::{Process, until, until::DEADLINE};
use penstock_wire::{header, net};
use prost::Message;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

pub fn offer(recipient: Address, ev: u64) -> net::OrchestratorInfo {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    net::OrchestratorInfo {
        transcoder: "https://o:8935".into(),
        address: vec![7; 20],
        price_info: Some(net::PriceInfo {
            price_per_unit: 1,
            pixels_per_unit: 1,
            ..Default::default()
        }),
        ticket_params: Some(net::TicketParams {
            recipient: recipient.to_vec(),
            face_value: be_bytes(U256::from(ev * 3)),
            win_prob: be_bytes(U256::MAX / U256::from(3)),
            recipient_rand_hash: vec![6; 32],
            seed: vec![1],
            expiration_block: be_bytes(U256::from(1_000_000)),
            expiration_params: None,
        }),
        auth_token: Some(net::AuthToken {
            token: vec![9; 32],
            session_id: "a1b2c3d4".into(),
            expiration: i64::try_from(now).unwrap() + 3600,
        }),
        ..Default::default()
    }
}

pub struct Killable {
    pub process: Process,
    pub client: reqwest::Client,
    pub account: Address,
}

impl Killable {
    fn url(&self) -> String {
        format!("http://{}/generate-live-payment", self.process.addr("http"))
    }

    /// The answer's body, or `None` if the process did not live to give one.
    pub async fn pay(&self, body: &Value) -> Option<Value> {
        let response = self.client.post(self.url()).body(body.to_string()).send().await.ok()?;
        let status = response.status();
        let bytes = response.bytes().await.ok()?;
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(status, 200, "{text}");
        Some(serde_json::from_str(&text).unwrap())
    }

    pub async fn ready(&self) {
        let url = format!("http://{}/readyz", self.process.addr("metrics"));
        until("the signer is ready", || async {
            self.client.get(&url).send().await.is_ok_and(|r| r.status() == 200)
        })
        .await;
    }

    fn nonces(&self, answer: &Value) -> Vec<u32> {
        let payment = header::decode_payment(answer["payment"].as_str().unwrap()).unwrap();
        check_tickets(&payment, self.account).iter().map(|t| t.sender_nonce).collect()
    }

    pub async fn admin(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.process.addr("admin"));
        reply(self.client.get(url)).await.json()
    }
}

#[tokio::test]
async fn it_dies_at_every_step_and_no_nonce_comes_twice() {
    for (failpoint, stored) in [
        ("signer.after_reserve", false),
        ("signer.after_sign", false),
        ("signer.after_commit", true),
        ("signer.before_reply", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let key = keystore_in(folder.path());
        let net = devnet(key.address()).await;
        let log = folder.path().join("failpoints.log");
        let mut spec = spec(folder.path(), &net.chain_url);
        spec.env.insert("PENSTOCK_FAILPOINTS".into(), format!("{failpoint}=abort@2"));
        spec.env.insert("PENSTOCK_FAILPOINT_LOG".into(), log.display().to_string());
        let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
        let process = Process::start(spec, folder.path()).await;
        let mut signer = Killable { process, client, account: key.address() };
        signer.ready().await;
        let offer = offer(net.recipient, 10);
        let start = request(&offer, json!({"inPixels": 30, "ManifestID": "m"}));
        let first = signer.pay(&start).await.unwrap();
        assert_eq!(signer.nonces(&first), [1, 2, 3]);
        let next =
            request(&offer, json!({"inPixels": 30, "ManifestID": "m", "state": first["state"]}));
        assert_eq!(signer.pay(&next).await, None, "{failpoint}: it died before answering");
        signer.process.ended().await;
        let hits = std::fs::read_to_string(&log).unwrap();
        assert_eq!(hits, format!("{failpoint} abort\n"), "the failpoint was reached, once");
        signer.process.env_mut().clear();
        signer.process.restart().await;
        signer.ready().await;
        let summary = signer.admin("/v1/summary").await;
        assert_eq!(summary["payments"], if stored { 2 } else { 1 }, "{failpoint}");
        let second = signer.pay(&next).await.unwrap();
        let expected = if stored { [4, 5, 6] } else { [7, 8, 9] };
        assert_eq!(signer.nonces(&second), expected, "{failpoint}: skipped, never reused");
        assert_eq!(signer.pay(&next).await.unwrap(), second, "{failpoint}: and given again");
        let third =
            request(&offer, json!({"inPixels": 30, "ManifestID": "m", "state": second["state"]}));
        let third = signer.pay(&third).await.unwrap();
        assert!(signer.nonces(&third)[0] > expected[2]);
        let summary = signer.admin("/v1/summary").await;
        assert_eq!((&summary["payments"], &summary["tickets"]), (&json!(3), &json!(9)));
        assert_eq!(summary["balance_total_wei"], "0", "9 × 10 − 3 × 30");
        net.stop.cancel();
    }
}

#[tokio::test]
async fn kill_nine_under_load() {
    const KILLS: u32 = 5;
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let net = devnet(key.address()).await;
    let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    let process = Process::start(spec(folder.path(), &net.chain_url), folder.path()).await;
    let mut signer = Killable { process, client, account: key.address() };
    // What clients were told, in the order of each.
    let answers: Arc<Mutex<Vec<Value>>> = Arc::default();
    let mut offered = offer(net.recipient, 1);
    for kill in 0..KILLS {
        signer.ready().await;
        // The same hash in two lives: what the dead process had reserved must stay used.
        offered.ticket_params.as_mut().unwrap().recipient_rand_hash =
            vec![u8::try_from(kill).unwrap() / 2; 32];
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for c in 0..4 {
            let (client, url, stop, answers, mut offered) = (
                signer.client.clone(),
                signer.url(),
                Arc::clone(&stop),
                Arc::clone(&answers),
                offered.clone(),
            );
            clients.spawn(async move {
                let mut state = Value::Null;
                while !stop.load(Ordering::SeqCst) {
                    let ask = json!({
                        "orchestrator": b64(offered.encode_to_vec()), "inPixels": 2,
                        "ManifestID": format!("m{c}"), "state": state,
                    });
                    let Ok(response) = client.post(&url).body(ask.to_string()).send().await else {
                        return;
                    };
                    let status = response.status().as_u16();
                    let Ok(bytes) = response.bytes().await else { return };
                    if status == 480 {
                        // Its 600 nonces are used up: what an orchestrator answers to a refresh.
                        let fresh = rand::random::<[u8; 32]>().to_vec();
                        offered.ticket_params.as_mut().unwrap().recipient_rand_hash = fresh;
                        continue;
                    }
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
                    let answer: Value = serde_json::from_slice(&bytes).unwrap();
                    state = answer["state"].clone();
                    answers.lock().unwrap().push(answer);
                }
            });
        }
        let wanted = answers.lock().unwrap().len() + 15;
        until("the clients were served for a while", || {
            let enough = answers.lock().unwrap().len() >= wanted;
            async move { enough }
        })
        .await;
        signer.process.kill9();
        stop.store(true, Ordering::SeqCst);
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
        signer.process.restart().await;
    }
    signer.ready().await;
    let mut seen = HashSet::new();
    for answer in answers.lock().unwrap().iter() {
        let payment = header::decode_payment(answer["payment"].as_str().unwrap()).unwrap();
        for ticket in check_tickets(&payment, signer.account) {
            let key = (ticket.recipient_rand_hash, ticket.sender_nonce);
            assert!(seen.insert(key), "nonce {} twice", ticket.sender_nonce);
        }
    }
    // Everything that was answered is stored; what is stored beyond that died before its answer.
    let payments = signer.admin("/v1/payments?limit=10000").await;
    let mut stored = HashSet::new();
    let mut balance = r("0");
    for row in payments.as_array().unwrap() {
        let hash = row["recipient_rand_hash"].as_str().unwrap().parse().unwrap();
        for nonce in row["first_nonce"].as_u64().unwrap()..=row["last_nonce"].as_u64().unwrap() {
            assert!(stored.insert((hash, u32::try_from(nonce).unwrap())));
        }
        let worth = r(row["ticket_ev_wei"].as_str().unwrap());
        balance += &(worth * r(&row["num_tickets"].to_string()));
        balance -= &r(row["fee_wei"].as_str().unwrap());
    }
    assert!(seen.is_subset(&stored), "an acknowledged ticket is lost");
    let summary = signer.admin("/v1/summary").await;
    assert_eq!(r(summary["balance_total_wei"].as_str().unwrap()), balance);
    net.stop.cancel();
}
