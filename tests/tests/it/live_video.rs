//! Live video across the whole system: a worker's process has brought the runner, the orchestrator's relays and charges,
//! the signer's pays, while the gateway's sends segments of a film to the same orchestrator. The runner behind the worker
//! is simulated; the client is this test, in the network's own requests. At the end all books agree, to the wei.

use crate::{
    books::Books,
    jobs::push,
    network::{Needs, Network, SignerOn},
};
use penstock::dev::Role;
use penstock_clients::{OfferRequest, OrchestratorClient, OrchestratorOptions, Trust};
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_testkit::{hostile, sim::SimLiveRunner, until, until::DEADLINE, until_ok};
use penstock_wire::header::{self, to_base64};
use serde_json::{Value, json};

/// Between two charges of live video, as in a network that is in use but for the number.
const INTERVAL_MS: u64 = 200;

/// A client of live video, whose payments the signer makes.
struct Client<'a> {
    network: &'a Network,
    offer: Vec<u8>,
    state: Option<Value>,
}

impl<'a> Client<'a> {
    async fn with_offer(network: &'a Network) -> Self {
        let signs = format!("{}/sign-orchestrator-info", network.url(Role::Signer));
        let signed = network.http.post(signs).json(&json!({})).send().await.unwrap();
        let signed: Value = signed.json().await.unwrap();
        let text = |name: &str| signed[name].as_str().unwrap();
        let request = OfferRequest {
            address: text("address").parse().unwrap(),
            sig: hex::decode(text("signature").trim_start_matches("0x")).unwrap(),
            capabilities: Some(Capabilities::ai_job(Capability::LiveVideoToVideo, "noop", false)),
            ignore_capacity_check: false,
            traceparent: None,
        };
        let options = OrchestratorOptions {
            trust: Trust::AcceptAny,
            connect_timeout: DEADLINE,
            grpc_connect_timeout: DEADLINE,
            info_timeout: DEADLINE,
            ..OrchestratorOptions::default()
        };
        let orchestrators = OrchestratorClient::new(options).unwrap();
        let at = network.url(Role::Orchestrator);
        let offer = orchestrators.get_orchestrator(&at, &request, None).await.unwrap();
        Self { network, offer: offer.encoded, state: None }
    }

    /// What the signer answers: its status, and both headers if it pays. By the time that has passed; the first one
    /// buys a minute.
    async fn buy(&mut self, manifest: Option<&str>) -> (u16, Option<(String, String)>) {
        let mut body = json!({ "orchestrator": to_base64(&self.offer), "type": "lv2v" });
        if let Some(manifest) = manifest {
            body["ManifestID"] = json!(manifest);
        }
        if let Some(state) = &self.state {
            body["state"] = state.clone();
        }
        let url = format!("{}/generate-live-payment", self.network.url(Role::Signer));
        let answer = self.network.http.post(url).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        if status != 200 {
            return (status, None);
        }
        let answer: Value = answer.json().await.unwrap();
        let field = |name: &str| answer[name].as_str().unwrap().to_owned();
        let headers = (field("payment"), field("segCreds"));
        self.state = Some(answer["state"].clone());
        (status, Some(headers))
    }

    async fn post(&self, path: &str, headers: &(String, String), body: &Value) -> (u16, Vec<u8>) {
        let url = format!("{}{path}", self.network.url(Role::Orchestrator));
        let request = self.network.http.post(url).json(body);
        let request =
            request.header(header::PAYMENT, &headers.0).header(header::SEGMENT, &headers.1);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }
}

fn wei(value: &Value) -> Rational {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn live_video_of_a_worker_is_paid_and_all_books_agree_to_the_wei() {
    penstock_http_kit::tls::install_crypto_provider();
    let orchestrator = [
        format!("--live-payment-interval-ms={INTERVAL_MS}"),
        "--live-health-interval-ms=200".to_owned(),
    ];
    let network = Network::start_with(Needs::VIDEO, SignerOn::default(), &orchestrator).await;
    let operator = async |path: &str| {
        network.get(&format!("{}{path}", network.admin(Role::Orchestrator))).await
    };
    let runner = SimLiveRunner::start(Some("sesame")).await;
    let models = json!([{
        "pipeline": "live-video-to-video", "model_id": "noop", "url": runner.uri(), "token": "sesame",
        "capacity": 1,
    }]);
    let _worker = network.worker_of("live-worker", &models).await;
    until("its runner is brought", || async {
        operator("/v1/live-runners").await[0]["model"] == "noop"
    })
    .await;

    // Without money nothing begins, and with a minute's worth it does.
    let mut client = Client::with_offer(&network).await;
    let start = json!({ "model_id": "noop", "stream_id": "s", "gateway_request_id": "r" });
    let nothing = (String::new(), String::new());
    let (status, _) = client.post("/live-video-to-video", &nothing, &start).await;
    assert!(matches!(status, 402 | 403), "{status}");
    assert!(runner.requests.lock().unwrap().is_empty());
    let (_, first) = client.buy(None).await;
    let (status, begun) = client.post("/live-video-to-video", &first.unwrap(), &start).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&begun));
    let begun: Value = serde_json::from_slice(&begun).unwrap();
    let url = |key: &str| begun[key].as_str().unwrap().to_owned();
    let manifest = url("manifest_id");
    let account = async || {
        let invoices = operator(&format!("/v1/invoices/{manifest}")).await;
        assert_eq!(invoices.as_array().unwrap().len(), 1, "{invoices}");
        invoices[0].clone()
    };
    let paid_first = account().await;
    assert!(wei(&paid_first["credited_wei"]).is_positive() && paid_first["debits"] == json!([]));

    // Frames go in and come out; meanwhile the gateway has a film's segment made by the same orchestrator.
    let film = hostile::tiny_ts(network.scratch());
    let gateway = network.url(Role::Gateway);
    let filming = until_ok("a segment of the film is made", || {
        push(&network.http, &gateway, "film", 0, film.clone(), None)
    });
    let living = async {
        let mut number = 0;
        while account().await["debits"].as_array().unwrap().len() < 2 {
            let frame = format!("frame {number}");
            let sent = network.http.post(format!("{}/{number}", url("publish_url")));
            assert_eq!(sent.body(frame.clone()).send().await.unwrap().status(), 200);
            let came = network.http.get(format!("{}/{number}", url("subscribe_url")));
            assert_eq!(came.send().await.unwrap().text().await.unwrap(), frame);
            number += 1;
        }
    };
    let (renditions, ()) = tokio::join!(filming, living);
    assert!(!renditions.is_empty());

    // Paid on, once the signer finds that the minute is used up by enough, or not yet.
    let (status, more) = client.buy(Some(&manifest)).await;
    if let Some(more) = more {
        assert_eq!(client.post("/payment", &more, &json!({})).await.0, 200);
    } else {
        assert_eq!(status, 482, "no tickets are due yet");
    }

    assert_eq!(network.http.delete(url("publish_url")).send().await.unwrap().status(), 200);
    until("the session has ended everywhere", || async {
        operator("/v1/live-sessions").await == json!([])
            && operator("/v1/live-runners").await[0]["in_use"] == 0
            && runner.sessions() == 0
    })
    .await;

    // Every wei of the session is units times price, and what was paid and not used is still there.
    let end = account().await;
    assert_eq!(end["is_whole"], true);
    let price = wei(&end["fixed_price_wei_per_unit"]);
    let mut charged = Rational::ZERO;
    for line in end["debits"].as_array().unwrap() {
        assert_eq!(wei(&line["price_wei_per_unit"]), price, "{line}");
        let fee = &Rational::from(line["units"].as_u64().unwrap()) * &price;
        assert_eq!(wei(&line["amount_wei"]), fee, "{line}");
        charged += &fee;
    }
    assert!(charged.is_positive());
    let credits = end["credits"].as_array().unwrap().iter().map(|line| wei(&line["amount_wei"]));
    let credited = credits.fold(Rational::ZERO, |sum, one| sum + one);
    assert_eq!((wei(&end["debited_wei"]), wei(&end["credited_wei"])), (charged, credited));
    let left = &wei(&end["credited_wei"]) - &wei(&end["debited_wei"]);
    assert_eq!(wei(&end["balance_wei"]), left);
    assert!(!left.is_negative());

    // What the signer signed, of the film and of live video, is what the orchestrator credited. The gateway may be
    // paying ahead at this moment.
    let signer = format!("{}/v1/summary", network.admin(Role::Signer));
    until("what was signed is credited", || async {
        let signed = wei(&network.get(&signer).await["ticket_ev_total_wei"]);
        signed == wei(&operator("/v1/summary").await["credited_wei"])
    })
    .await;
    let books = Books::read(&network).await;
    books.assert_settled();
    assert!(books.debited_wei > wei(&end["debited_wei"]), "the film was charged as well");
    let accounts = operator("/v1/accounts").await;
    let sum = |key: &str| {
        let each = accounts.as_array().unwrap().iter().map(|account| wei(&account[key]));
        each.fold(Rational::ZERO, |sum, one| sum + one)
    };
    let (credited, debited) = (sum("credited_wei"), sum("debited_wei"));
    assert_eq!((credited, debited), (books.credited_wei, books.debited_wei));
}
