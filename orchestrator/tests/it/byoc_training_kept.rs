//! Training jobs outlive the process that watches them: its death, its end in order, and the death of one of several.

use crate::{
    byoc::{Client, read, register},
    byoc_training::{Stage, id, nonces, pay_at, status_at},
    payer::Payer,
    world::{SECRET, TICKET_EV, World},
};
use penstock_ledger::orchestrator::{LeaseTime, TrainingNote, Watch};
use penstock_testkit::{postgres, until};
use serde_json::{Value, json};
use uuid::Uuid;

/// Wei a second.
const PRICE: i128 = 10;

fn wei(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

fn result() -> Value {
    json!({ "lora_url": "https://w.example/l", "loss": 0.1 })
}

/// The fees of all jobs: units, and wei.
async fn fees(world: &World) -> Vec<(i128, i128)> {
    let invoices = world.operator("/v1/invoices/lora").await;
    let invoice = &invoices.as_array().unwrap()[0];
    assert_eq!(invoice["is_whole"], true, "{invoice}");
    let debits = invoice["debits"].as_array().unwrap().iter();
    debits.map(|line| (line["units"].as_i64().unwrap().into(), wei(&line["amount_wei"]))).collect()
}

/// One job was charged, once, whole seconds, and what its client is told.
async fn assert_charged_once(world: &World, done: &Value) {
    let cost = wei(&done["cost"]);
    assert!(cost > 0, "{done}");
    assert_eq!(fees(world).await, [(cost / PRICE, cost)], "{done}");
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], done["cost"]);
}

impl Stage {
    fn questions(&self) -> usize {
        self.worker.asked.lock().unwrap().len()
    }

    /// Its worker is at the loopback address: another process asks it when it has come there, too.
    async fn come_to(&self, world: &World) {
        let said = json!({
            "name": "lora", "url": self.server.uri, "capacity": 2, "price_per_unit": PRICE,
            "token": "sesame",
        });
        assert_eq!(register(world, SECRET, &said).await.0, 200);
    }

    async fn until_asked_again(&self) {
        let before = self.questions();
        until("somebody asks the worker", || async { self.questions() > before }).await;
    }

    /// Arms a failpoint, and the worker comes again.
    async fn arm(&mut self, failpoint: &str) -> std::path::PathBuf {
        let log = self.world.arm(failpoint).await;
        let said = json!({
            "name": "lora", "url": self.server.uri, "capacity": 2, "price_per_unit": PRICE,
        });
        assert_eq!(register(&self.world, SECRET, &said).await.0, 200);
        log
    }

    /// A job of a client that has paid for it, and more tickets of that client.
    async fn begun(&self) -> (String, String) {
        let client = Client::funded(&self.world).await;
        let begun = id(&self.begin(&client, 5, &json!({ "model_id": "m" })).await.1);
        self.until_status(&begun, "running").await;
        (begun, client.payment(&client.token("lora").await, &nonces(3)).await)
    }
}

#[tokio::test]
async fn a_job_goes_on_where_its_process_was_killed() {
    let mut stage = Stage::of_a_process(PRICE, &[]).await;
    let (job, payment) = stage.begun().await;
    stage.worker.say(json!({ "status": "running", "progress": 30, "result": result() }));
    until("there is a result", || async { stage.status(&job).await.1["result"] == result() }).await;
    stage.world.kill().await;

    // It is told of at once, paid for, and watched again: with the worker's secret, though nobody has come again.
    let (status, told) = stage.status(&job).await;
    assert_eq!((status, &told["status"], &told["model_id"]), (200, &json!("running"), &json!("m")));
    assert_eq!((&told["progress"], &told["result"]), (&json!(30), &result()));
    assert_eq!(stage.status("0123456789abcdef0123456789abcdef").await.0, 404);
    let (status, paid) = stage.pay(&job, &payment).await;
    assert_eq!((status, &paid["credited_wei"]), (200, &json!((3 * TICKET_EV).to_string())));
    let (again, nothing) = stage.pay(&job, &payment).await;
    assert_eq!((again, &nothing["credited_wei"]), (200, &json!("0")));
    stage.until_asked_again().await;
    assert!(stage.worker.asked.lock().unwrap().iter().all(|token| token == "Bearer sesame"));
    assert_eq!(stage.world.operator("/v1/capabilities").await, json!([]));

    stage.worker.say(json!({ "status": "completed", "result": result() }));
    let done = stage.until_status(&job, "completed").await;
    assert_eq!((&done["progress"], &done["reason"]), (&json!(100), &json!("completed")));
    assert_charged_once(&stage.world, &done).await;
    assert_eq!(stage.pay(&job, &payment).await.0, 409);
    assert!(stage.worker.cancelled.lock().unwrap().is_empty());
    // Nor does the end go with a process.
    stage.world.kill().await;
    assert_eq!(stage.status(&job).await, (200, done));
}

/// Whatever had become of it: what it comes to is charged once, and told as it was charged.
#[tokio::test]
async fn a_process_that_dies_around_the_end_charges_once() {
    for failpoint in ["orchestrator.training_ended", "orchestrator.training_booked"] {
        let mut stage = Stage::of_a_process(PRICE, &[]).await;
        let log = stage.arm(failpoint).await;
        let (job, _) = stage.begun().await;
        stage.worker.say(json!({ "status": "completed", "result": result() }));
        until("it dies", || async { log.exists() }).await;
        // The worker has said it once, and forgets it.
        stage.worker.say(Value::Null);
        stage.world.after_its_death().await;
        assert!(std::fs::read_to_string(log).unwrap().starts_with(failpoint));
        let done = stage.until_status(&job, "completed").await;
        assert_eq!(done["result"], result(), "{failpoint}");
        assert_charged_once(&stage.world, &done).await;
    }
}

/// One whose result nobody could read again is not taken, and not charged.
#[tokio::test]
async fn a_result_that_is_nested_too_deep_is_not_taken() {
    let stage = Stage::at(PRICE, &[]).await;
    let (job, _) = stage.begun().await;
    let deep = (0..120).fold(json!(1), |deep, _| json!({ "a": deep }));
    stage.worker.say(json!({ "status": "completed", "result": deep }));
    let ended = stage.until_status(&job, "failed").await;
    assert_eq!((&ended["reason"], &ended["result"]), (&json!("worker_failed"), &Value::Null));
    assert!(ended["error"].as_str().unwrap().contains("nested"), "{ended}");
    until("the worker hears of it", || async {
        *stage.worker.cancelled.lock().unwrap() == [job.clone()]
    })
    .await;
    assert_eq!(fees(&stage.world).await, []);
}

/// What its process had noted is not told to a worker where none may be any more.
#[tokio::test]
async fn the_end_of_a_job_is_told_to_no_worker_that_may_not_be_there() {
    let mut stage = Stage::of_a_process(PRICE, &[]).await;
    stage.arm("orchestrator.training_ended").await;
    let (job, _) = stage.begun().await;
    // It knows no such job, which ends it, and of which it is told.
    stage.worker.say(Value::Null);
    stage.world.its_death().await;
    stage.world.start_again_with("--runner-networks=public").await;
    let ended = stage.until_status(&job, "failed").await;
    assert_eq!((&ended["reason"], &ended["cost"]), (&json!("worker_lost"), &json!("0")));
    // What it still has to tell it tells before it goes.
    stage.world.terminate().await;
    assert!(stage.worker.cancelled.lock().unwrap().is_empty());
}

/// What it has set aside is free for other work once it has gone: what the worker brought is paid by then, once, also
/// where nobody noted that.
#[tokio::test]
async fn a_process_that_stops_books_what_was_brought() {
    for failpoint in [None, Some("orchestrator.training_left")] {
        let mut stage = Stage::of_a_process(PRICE, &[]).await;
        if let Some(failpoint) = failpoint {
            stage.arm(failpoint).await;
        }
        let (job, _) = stage.begun().await;
        stage.worker.say(json!({ "status": "running", "result": result() }));
        until("it is told", || async { stage.status(&job).await.1["result"] == result() }).await;
        stage.world.terminate().await;
        stage.world.start_again().await;
        let [(seconds, paid)] = fees(&stage.world).await[..] else { panic!("{failpoint:?}") };
        assert!(seconds > 0 && paid == seconds * PRICE, "{failpoint:?}: {seconds} s, {paid} wei");
        until("its time goes on", || async {
            let told = stage.status(&job).await.1;
            assert_eq!(told["status"], "running");
            wei(&told["cost"]) > paid
        })
        .await;
        stage.worker.say(json!({ "status": "completed", "result": result() }));
        let done = stage.until_status(&job, "completed").await;
        let all = fees(&stage.world).await;
        let sum: i128 = all.iter().map(|(_, wei)| wei).sum();
        assert_eq!((all.len(), sum), (2, wei(&done["cost"])), "{failpoint:?}: {done}");
        assert_eq!(stage.world.operator("/v1/summary").await["debited_wei"], done["cost"]);
    }
}

/// The journal cannot tell any more whether it was charged.
#[tokio::test]
async fn a_job_that_ended_too_long_ago_is_told_of_and_not_charged() {
    let mut stage = Stage::of_a_process(PRICE, &[]).await;
    stage.arm("orchestrator.training_ended").await;
    let (job, _) = stage.begun().await;
    stage.worker.say(json!({ "status": "completed", "result": result() }));
    stage.world.its_death().await;
    {
        let url = format!("sqlite://{}", stage.world.data("ledger.db").display());
        let ledger = penstock_ledger::orchestrator::open(&url, LeaseTime::default()).await.unwrap();
        let attempt = Uuid::new_v4();
        let [row] = &ledger.take_up_trainings(attempt, 9, &[]).await.unwrap()[..] else { panic!() };
        assert_eq!(row.id, job);
        let mut standing: Value = serde_json::from_str(&row.standing).unwrap();
        assert!(standing["ending"]["owed_seconds"].as_u64().unwrap() > 0, "{standing}");
        standing["ending"]["decided_ms"] = json!(0);
        let (standing, then) = (standing.to_string(), Watch::Left);
        let note = TrainingNote { id: row.id.clone(), attempt, standing, then, now_ms: 1 };
        assert!(ledger.note_training(&note).await.unwrap());
        ledger.close().await;
    }
    stage.world.start_again().await;
    let done = stage.until_status(&job, "completed").await;
    assert_eq!((&done["cost"], &done["result"]), (&json!("0"), &result()));
    assert_eq!(fees(&stage.world).await, []);
}

/// Its client has not heard its id, or may have: it goes on as any other.
#[tokio::test]
async fn a_process_that_dies_before_it_answers_leaves_a_job_that_goes_on() {
    let mut stage = Stage::of_a_process(PRICE, &[]).await;
    let log = stage.arm("orchestrator.training_begun").await;
    let client = Client::funded(&stage.world).await;
    let payment = client.payment(&client.token("lora").await, &nonces(5)).await;
    let signed = client.signed("job", "lora", ("{}", ""), 30).await;
    let request = stage.world.http.post(format!("{}/process/train/lora", stage.world.service));
    let request = request.header("Livepeer", signed).header("Livepeer-Payment", payment);
    assert!(request.body(r#"{"model_id":"m"}"#).send().await.is_err(), "it dies");
    drop(client);
    stage.world.after_its_death().await;
    assert!(log.exists());
    let job = stage.worker.begun.lock().unwrap()[0]["job_id"].as_str().unwrap().to_owned();
    stage.until_status(&job, "running").await;
    stage.worker.say(json!({ "status": "failed", "error": "out of memory" }));
    let ended = stage.until_status(&job, "failed").await;
    assert_eq!((&ended["cost"], &ended["reason"]), (&json!("0"), &json!("worker_refused")));
    assert_eq!(fees(&stage.world).await, []);
}

#[tokio::test]
async fn a_process_that_stops_leaves_its_jobs_and_asks_no_worker_that_may_not_be_there() {
    let mut stage = Stage::at(PRICE, &[]).await;
    let (job, _) = stage.begun().await;
    stage.world.stop().await.unwrap();
    stage.world.start_again().await;
    assert_eq!(stage.status(&job).await.0, 200);
    stage.until_asked_again().await;
    assert!(stage.worker.cancelled.lock().unwrap().is_empty(), "it goes on");
    stage.world.stop().await.unwrap();

    let before = stage.questions();
    stage.world.start_again_with("--runner-networks=public").await;
    let ended = stage.until_status(&job, "failed").await;
    assert_eq!((&ended["reason"], &ended["cost"]), (&json!("worker_lost"), &json!("0")));
    assert!(ended["error"].as_str().unwrap().contains("--runner-networks"), "{ended}");
    assert_eq!(stage.questions(), before);
    assert!(stage.worker.cancelled.lock().unwrap().is_empty());
    assert_eq!(fees(&stage.world).await, []);
}

/// At each process of a ledger a job is told of and paid for, and when the one that watches it dies, another goes on.
#[tokio::test]
async fn one_of_several_processes_goes_on_with_a_job() {
    let ledger = postgres::database().await;
    let url = format!("--ledger={}", ledger.url());
    let mut stage = Stage::of_a_process(PRICE, &[&url, "--lease-ms=1000"]).await;
    let beside = stage.world.beside().await;
    stage.come_to(&beside).await;
    let (job, payment) = stage.begun().await;
    until("the other one tells of it", || async {
        status_at(&beside, &job).await.1["status"] == "running"
    })
    .await;
    let (status, paid) = pay_at(&beside, &job, &payment).await;
    assert_eq!((status, &paid["credited_wei"]), (200, &json!((3 * TICKET_EV).to_string())));
    stage.world.kill9();
    stage.until_asked_again().await;
    stage.worker.say(json!({ "status": "completed", "result": result() }));
    until("it is done", || async { status_at(&beside, &job).await.1["status"] == "completed" })
        .await;
    let done = status_at(&beside, &job).await.1;
    assert_eq!(done["result"], result());
    assert_charged_once(&beside, &done).await;
    assert!(stage.worker.cancelled.lock().unwrap().is_empty());
}

/// Taken for dead, it comes back to find that its job is another's, and neither charges it nor ends it.
#[tokio::test]
async fn a_process_that_was_only_silent_lets_its_job_go() {
    let ledger = postgres::database().await;
    let url = format!("--ledger={}", ledger.url());
    let mut stage = Stage::of_a_process(PRICE, &[&url, "--lease-ms=1000"]).await;
    // Only the first one is ever silent for too long.
    stage.world.set("--lease-ms=60000");
    let beside = stage.world.beside().await;
    stage.come_to(&beside).await;
    let (job, _) = stage.begun().await;
    stage.world.pause();
    let before = stage.questions();
    // One of its own may be on its way.
    until("the other one asks", || async { stage.questions() > before + 2 }).await;
    stage.world.resume();
    stage.worker.say(json!({ "status": "running", "progress": 50 }));
    until("it lets go", || async {
        stage.world.operator("/v1/capabilities").await[0]["in_use"] == 0
    })
    .await;
    for world in [&stage.world, &beside] {
        until("both tell of it", || async { status_at(world, &job).await.1["progress"] == 50 })
            .await;
    }
    stage.worker.say(json!({ "status": "completed", "result": result() }));
    let done = stage.until_status(&job, "completed").await;
    assert_eq!(status_at(&beside, &job).await, (200, done.clone()));
    assert_charged_once(&beside, &done).await;
    assert!(stage.worker.cancelled.lock().unwrap().is_empty());
}

/// Without a ledger there is nobody to go on.
#[tokio::test]
async fn without_payments_a_job_ends_with_its_process() {
    let mut stage = Stage::offchain().await;
    let client = Client { payer: Payer::new(&stage.world), world: &stage.world };
    let signed = client.signed("job", "lora", ("{}", ""), 30).await;
    let request = stage.world.http.post(format!("{}/process/train/lora", stage.world.service));
    let (status, _, begun) =
        read(request.header("Livepeer", signed).body(r#"{"model_id":"m"}"#)).await;
    assert_eq!(status, 202, "{begun}");
    let job = id(&begun);
    let running = stage.until_status(&job, "running").await;
    assert_eq!((&running["cost"], &running["balance"]), (&json!("0"), &Value::Null));
    stage.world.stop().await.unwrap();
    assert_eq!(*stage.worker.cancelled.lock().unwrap(), [job]);
}
