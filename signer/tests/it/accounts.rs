//! Accounts by their routes: what operators write is what callers get, at once here and soon at
//! other replicas; and who is refused costs no key operation.

use crate::{
    attack::on_both_books,
    world::{Books, Reply, World, reply, request},
};
use penstock_domain::AuthId;
use penstock_ledger::signer::{
    LedgerError,
    accounts::{self, AccountLedger, Applied, Changes, Put},
};
use penstock_signer::auth::{
    Accounts, AuthError,
    args::AuthSettings,
    manage::{AccountChange, CredentialTerms},
};
use penstock_testkit::{postgres::database, until};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

const INFO: &str = "/sign-orchestrator-info";

on_both_books!(
    a_gateway_asks_whose_a_key_is,
    tiers_are_inherited_and_mistakes_are_named,
    a_key_opens_the_door_until_it_does_not,
    a_refused_caller_costs_no_key_operation,
    only_trusted_accounts_name_subjects,
    usage_and_forecast_agree_with_the_payments,
    subjects_are_stopped_at_their_budget_at_every_replica,
);

async fn ask(world: &World, method: &str, path: &str, body: Value) -> Reply {
    let method = method.parse().unwrap();
    let request = world.client.request(method, format!("{}{path}", world.admin));
    reply(if body.is_null() { request } else { request.body(body.to_string()) }).await
}

async fn done(world: &World, method: &str, path: &str, body: Value) -> Value {
    let said = ask(world, method, path, body).await;
    assert!((200..300).contains(&said.status), "{path}: {said:?}");
    if said.body.is_empty() { Value::Null } else { said.json() }
}

/// A key of an account that is made with these rules.
async fn account(world: &World, name: &str, policy: Value) -> String {
    done(world, "POST", "/v1/accounts", json!({"name": name, "policy": policy})).await;
    let key = done(world, "POST", &format!("/v1/accounts/{name}/keys"), Value::Null).await;
    key["key"].as_str().unwrap().to_owned()
}

async fn as_caller(
    world: &World,
    key: &str,
    path: &str,
    body: Value,
    more: &[(&str, &str)],
) -> Reply {
    let bearer = format!("Bearer {key}");
    let headers = [&[("authorization", bearer.as_str())], more].concat();
    world.post(path, body.to_string(), &headers).await
}

async fn status(world: &World, key: &str) -> u16 {
    as_caller(world, key, INFO, json!({}), &[]).await.status
}

async fn a_key_opens_the_door_until_it_does_not(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    assert_eq!(world.post(INFO, "{}", &[]).await.status, 401);
    let key = account(&world, "acme", json!({})).await;
    let id = &key[..12];
    assert_eq!(status(&world, &key).await, 200);
    let wrong = format!("{}{}", &key[..76], if key.ends_with('0') { '1' } else { '0' });
    for stranger in [wrong.as_str(), "psk_", "x", id, ""] {
        assert_eq!(status(&world, stranger).await, 401, "{stranger}");
    }
    // Blocked, and let in again.
    done(&world, "PATCH", "/v1/accounts/acme", json!({"state": "blocked"})).await;
    let refused = as_caller(&world, &key, INFO, json!({}), &[]).await;
    assert_eq!((refused.status, refused.message().as_str()), (403, "the account acme is blocked"));
    assert_eq!(refused.json()["error"]["code"], "forbidden");
    done(&world, "PATCH", "/v1/accounts/acme", json!({"state": "active"})).await;
    assert_eq!(status(&world, &key).await, 200);
    // A new key beside the old one, which goes on for an hour.
    let rotate = format!("/v1/keys/{id}/rotate");
    let new = done(&world, "POST", &rotate, json!({"overlap_s": 3600})).await;
    let new = new["key"].as_str().unwrap();
    assert_eq!((status(&world, &key).await, status(&world, new).await), (200, 200));
    world.pass_s(3601);
    let refused = as_caller(&world, &key, INFO, json!({}), &[]).await;
    assert_eq!((refused.status, refused.message()), (403, format!("the key {id} has expired")));
    assert_eq!(status(&world, new).await, 200);
    assert_eq!(ask(&world, "POST", &rotate, Value::Null).await.status, 409, "it is at its end");
    // Taken back.
    done(&world, "POST", &format!("/v1/keys/{}/revoke", &new[..12]), Value::Null).await;
    assert_eq!(status(&world, new).await, 403);
    let keys = done(&world, "GET", "/v1/accounts/acme/keys", Value::Null).await;
    let mut states: Vec<&str> =
        keys.as_array().unwrap().iter().map(|k| k["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["expired", "revoked"]);
    assert!(!keys.to_string().contains(&key[13..]), "no list shows a key");
}

async fn a_refused_caller_costs_no_key_operation(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let key = account(&world, "acme", json!({})).await;
    let offer = world.offer(3, 1, 35);
    let body = request(&offer, json!({"type": "live", "ManifestID": "m"}));
    let first = as_caller(&world, &key, "/generate-live-payment", body.clone(), &[]).await;
    assert_eq!(first.status, 200, "{first:?}");
    let other = account(&world, "other", json!({})).await;
    done(&world, "PATCH", "/v1/accounts/acme", json!({"state": "blocked"})).await;
    let before = world.books().await;
    let next = request(&offer, json!({"type": "live", "ManifestID": "m", "state": first.state()}));
    for (caller, expected) in [(key.as_str(), 403), ("psk_x", 401), ("", 401)] {
        for body in [&body, &next] {
            for path in ["/generate-live-payment", "/sign-segment-credentials"] {
                let said = as_caller(&world, caller, path, body.clone(), &[]).await;
                assert_eq!(said.status, expected, "{path}: {said:?}");
            }
        }
    }
    // Another tenant's state is not one's own.
    let stolen = as_caller(&world, &other, "/generate-live-payment", next, &[]).await;
    assert_eq!(stolen.status, 409, "{stolen:?}");
    assert_eq!(world.books().await, before);
}

async fn only_trusted_accounts_name_subjects(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let gateway = account(&world, "gateway", json!({"may_name_subjects": true})).await;
    let tenant = account(&world, "tenant", json!({})).await;
    let auth_id_of = async |key: &str, headers: &[(&str, &str)]| {
        let body = request(&world.offer(3, 1, 3), json!({"type": "fixed"}));
        let said = as_caller(&world, key, "/generate-live-payment", body, headers).await;
        assert_eq!(said.status, 200, "{said:?}");
        world.admin("/v1/payments?limit=1").await[0]["auth_id"].clone()
    };
    let named = [("Signer-Auth-Id", "c:s")];
    assert_eq!(auth_id_of(&gateway, &named).await, "c:s");
    assert_eq!(auth_id_of(&tenant, &named).await, Value::Null, "a stranger's word is dropped");
    let junk = [("sIgNeR-aUtH-iD", "not an id, which nobody reads")];
    assert_eq!(auth_id_of(&tenant, &junk).await, Value::Null);
    let body = request(&world.offer(3, 1, 3), json!({"type": "fixed"}));
    let said = as_caller(&world, &gateway, "/generate-live-payment", body.clone(), &junk).await;
    assert_eq!(said.status, 400);
    // A client that is an account here is under that account's rules, whoever names it.
    done(&world, "PATCH", "/v1/accounts/tenant", json!({"state": "blocked"})).await;
    let named = [("Signer-Auth-Id", "tenant:bob")];
    let said = as_caller(&world, &gateway, "/generate-live-payment", body, &named).await;
    assert_eq!((said.status, said.message().as_str()), (403, "the account tenant is blocked"));
}

#[tokio::test]
async fn requests_beyond_the_rate_are_told_when_to_come_back() {
    let world = World::with(&["--accounts"]).await;
    let key = account(&world, "slow", json!({"requests_per_second": 1})).await;
    let free = account(&world, "free", json!({})).await;
    let mut refused = None;
    // The bucket refills while a slow machine asks; it cannot refill as often as it is asked at once.
    for _ in 0..20 {
        let together = (0..8).map(|_| as_caller(&world, &key, INFO, json!({}), &[]));
        let said = futures::future::join_all(together).await;
        refused = said.into_iter().find(|r| r.status == 429);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("a 429");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.json()["error"]["code"], "rate_limited");
    assert_eq!(status(&world, &free).await, 200, "others are not affected");
}

async fn tiers_are_inherited_and_mistakes_are_named(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let gold = json!({"policy": {"budget_day": "0.5 eth", "requests_per_second": 9}});
    let tier = done(&world, "PUT", "/v1/tiers/gold", gold.clone()).await;
    assert_eq!(tier["policy"]["budget_day"], "0.5 eth");
    let made = done(
        &world,
        "POST",
        "/v1/accounts",
        json!({"name": "acme", "tier": "gold", "note": "ours", "policy": {"requests_per_second": "none"}}),
    )
    .await;
    let effective = &made["effective_policy"];
    assert_eq!(effective["budget_day"], "0.5 eth");
    assert_eq!(
        (&effective["requests_per_second"], &effective["tier"]),
        (&Value::Null, &json!("gold"))
    );
    let changed = json!({"policy": {"budget_day": "7 wei"}, "version": tier["version"]});
    done(&world, "PUT", "/v1/tiers/gold", changed.clone()).await;
    let shown = done(&world, "GET", "/v1/accounts/acme", Value::Null).await;
    assert_eq!(shown["effective_policy"]["budget_day"], "7 wei");
    for (method, path, body, status, said) in [
        ("PUT", "/v1/tiers/gold", changed, 409, "the tier gold was changed meanwhile (version 2)"),
        ("PUT", "/v1/tiers/gold", gold, 409, "the tier gold exists already (version 2)"),
        ("DELETE", "/v1/tiers/gold", Value::Null, 409, "the tier gold still has accounts"),
        ("DELETE", "/v1/tiers/none", Value::Null, 404, "there is no tier \"none\""),
        (
            "POST",
            "/v1/accounts",
            json!({"name": "acme"}),
            409,
            "the account acme exists already (version 1)",
        ),
        ("POST", "/v1/accounts", json!({"name": "a:b"}), 400, "name: "),
        ("POST", "/v1/accounts", json!({}), 400, "name: is missing"),
        (
            "POST",
            "/v1/accounts",
            json!({"name": "b", "tier": "none"}),
            400,
            "tier: there is no such tier",
        ),
        (
            "POST",
            "/v1/accounts",
            json!({"name": "b", "policy": {"budget_day": "5 usd"}}),
            400,
            "policy: a budget in usd needs",
        ),
        (
            "POST",
            "/v1/accounts",
            json!({"name": "b", "policy": {"budget_day": "5"}}),
            400,
            "budget_day: ",
        ),
        (
            "POST",
            "/v1/accounts",
            json!({"name": "b", "polcy": {}}),
            400,
            "polcy: there is no such field",
        ),
        (
            "PATCH",
            "/v1/accounts/acme",
            json!({"version": 7, "note": "x"}),
            409,
            "the account acme was changed meanwhile",
        ),
        ("PATCH", "/v1/accounts/none", json!({}), 404, "there is no account"),
        ("PATCH", "/v1/accounts/acme", json!({"state": "gone"}), 400, "state: "),
        ("POST", "/v1/accounts/none/keys", Value::Null, 404, "there is no account"),
        ("POST", "/v1/accounts/%00/keys", Value::Null, 404, "there is no account"),
        ("PUT", "/v1/accounts/%00/subjects/a:b", json!({}), 404, "there is no account"),
        ("PUT", "/v1/tiers/%00", json!({"policy": {}}), 400, "name: "),
        ("POST", "/v1/keys/%00/revoke", Value::Null, 404, "there is no key"),
        ("POST", "/v1/accounts/acme/keys", json!({"expires_at": "soon"}), 400, "expires_at: "),
        ("POST", "/v1/accounts/acme/certificates", json!({"sha256": "ab"}), 400, "sha256: "),
        ("POST", "/v1/keys/psk_none/rotate", Value::Null, 404, "there is no key"),
        ("PUT", "/v1/accounts/none/subjects/a:b", json!({}), 404, "there is no account"),
        ("PUT", "/v1/accounts/acme/subjects/a%20b", json!({}), 400, "auth_id: "),
        ("DELETE", "/v1/accounts/acme/subjects/a:b", Value::Null, 404, "there is no subject"),
        ("GET", "/v1/accounts/%FF", Value::Null, 400, ""),
        ("GET", "/v1/accounts?limit=x", Value::Null, 400, ""),
        ("GET", "/v1/usage?format=xml", Value::Null, 400, "format: "),
        ("GET", "/v1/usage?from=2020-01-01", Value::Null, 400, "to: "),
        ("GET", "/v1/forecast?account=none", Value::Null, 404, "there is no account"),
    ] {
        let reply = ask(&world, method, path, body.clone()).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {reply:?}");
        assert!(reply.message().starts_with(said), "{method} {path} {body}: {}", reply.message());
    }
    let none = json!({"tier": null});
    let freed = done(&world, "PATCH", "/v1/accounts/acme", none).await;
    assert_eq!(freed["effective_policy"]["budget_day"], Value::Null);
    assert_eq!(ask(&world, "DELETE", "/v1/tiers/gold", Value::Null).await.status, 204);
    for name in ["b1", "b2", "b3"] {
        done(&world, "POST", "/v1/accounts", json!({"name": name})).await;
    }
    let page = done(&world, "GET", "/v1/accounts?limit=2", Value::Null).await;
    assert_eq!((page["accounts"].as_array().unwrap().len(), &page["next"]), (2, &json!("b1")));
    let rest = done(&world, "GET", "/v1/accounts?after=b1", Value::Null).await;
    assert_eq!((rest["accounts"][1]["name"].as_str(), &rest["next"]), (Some("b3"), &Value::Null));
}

async fn a_gateway_asks_whose_a_key_is(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let gateway = account(&world, "gateway", json!({"may_name_subjects": true})).await;
    let tenant = account(&world, "tenant", json!({"budget_day": "9 wei"})).await;
    let before = world.books().await;
    let verify = async |key: &str, token: &str| {
        as_caller(&world, key, "/v1/verify", json!({ "token": token }), &[]).await
    };
    let said = verify(&gateway, &tenant).await.json();
    assert_eq!((&said["valid"], &said["account"]), (&json!(true), &json!("tenant")));
    assert_eq!(said["auth_id"], "tenant");
    assert_eq!(said["policy"]["budget_day"], "9 wei");
    assert_eq!(said["cache_for_ms"], 2000);
    for unknown in ["psk_no", "", "x.y.z"] {
        let said = verify(&gateway, unknown).await;
        assert_eq!((said.status, said.json()["valid"].clone()), (200, json!(false)), "{unknown}");
        assert_eq!(said.json()["code"], "unauthorized");
    }
    done(&world, "PATCH", "/v1/accounts/tenant", json!({"state": "blocked"})).await;
    let said = verify(&gateway, &tenant).await.json();
    assert_eq!((&said["valid"], &said["code"]), (&json!(false), &json!("forbidden")));
    assert_eq!(verify(&tenant, &gateway).await.status, 403);
    done(&world, "PATCH", "/v1/accounts/tenant", json!({"state": "active"})).await;
    assert_eq!(verify(&tenant, &gateway).await.status, 403, "strangers may not ask");
    assert_eq!(verify("psk_x", &gateway).await.status, 401);
    let bad = as_caller(&world, &gateway, "/v1/verify", json!({}), &[]).await;
    assert_eq!((bad.status, bad.message().as_str()), (400, "token: is missing"));
    assert_eq!(world.books().await, before);
}

async fn usage_and_forecast_agree_with_the_payments(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let gateway = account(&world, "gateway", json!({"may_name_subjects": true})).await;
    let tenant =
        account(&world, "tenant", json!({"budget_month": "1 eth", "budget_day": "40 wei"})).await;
    for (key, headers) in [
        (&gateway, &[("signer-auth-id", "else:bob")][..]),
        (&gateway, &[("signer-auth-id", "else:bob")]),
        (&tenant, &[]),
    ] {
        let body = request(&world.offer(3, 1, 3), json!({"type": "fixed"}));
        let said = as_caller(&world, key, "/generate-live-payment", body, headers).await;
        assert_eq!(said.status, 200, "{said:?}");
    }
    let usage = done(&world, "GET", "/v1/usage", Value::Null).await;
    let line = |account: &str| {
        let lines = usage.as_array().unwrap();
        lines.iter().find(|l| l["account"] == account).unwrap_or_else(|| panic!("{usage}")).clone()
    };
    let of_gateway = line("gateway");
    assert_eq!((&of_gateway["payments"], &of_gateway["tickets"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&of_gateway["auth_id"], &of_gateway["client"]),
        (&json!("else:bob"), &json!("else"))
    );
    assert_eq!(of_gateway["charged_wei"], "6");
    assert_eq!(line("tenant")["charged_wei"], "3");
    let one = done(&world, "GET", "/v1/usage?account=tenant", Value::Null).await;
    assert_eq!(one.as_array().unwrap().len(), 1);
    let one = done(&world, "GET", "/v1/usage?client=else", Value::Null).await;
    assert_eq!(one[0]["account"], "gateway");
    let csv = ask(&world, "GET", "/v1/usage?format=csv", Value::Null).await;
    assert!(csv.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    let csv = String::from_utf8(csv.body).unwrap();
    let day = of_gateway["day"].as_str().unwrap();
    assert!(csv.contains(&format!("{day},gateway,else,else:bob,2,2,6,6,6\r\n")), "{csv}");
    assert_eq!(csv.lines().count(), 3);

    let forecast = done(&world, "GET", "/v1/forecast?account=tenant", Value::Null).await;
    let (day, month) = (&forecast[0]["day"], &forecast[0]["month"]);
    assert_eq!((&day["charged_wei"], &month["charged_wei"]), (&json!("3"), &json!("3")));
    assert_eq!(
        (&day["budget_wei"], &month["budget_wei"]),
        (&json!("40"), &json!("1000000000000000000"))
    );
    let names: Vec<Value> = done(&world, "GET", "/v1/forecast", Value::Null)
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["account"].clone())
        .collect();
    assert!(names.contains(&json!("gateway")) && names.contains(&json!("tenant")), "{names:?}");
    let limits = done(&world, "GET", "/v1/limits", Value::Null).await;
    assert_eq!(limits["max_ticket_ev_wei"], "3000000000000");
}

async fn subjects_are_stopped_at_their_budget_at_every_replica(books: Books) {
    let world = World::on(books, &["--accounts", "--eth-usd=2000"]).await;
    let gateway = account(&world, "gateway", json!({"may_name_subjects": true})).await;
    account(&world, "tenant", json!({"subject_day": "7 wei", "budget_month": "10 wei"})).await;
    let twin = world.twin().await;
    let bearer = format!("Bearer {gateway}");
    let pay = async |at: &str, subject: &str| {
        let body = request(&world.offer(3, 1, 3), json!({"type": "fixed"})).to_string();
        let asked = world.client.post(format!("{at}/generate-live-payment")).body(body);
        reply(asked.header("authorization", &bearer).header("signer-auth-id", subject)).await
    };
    // Three wei each: two payments fit into a subject's seven, one at each replica.
    assert_eq!(pay(&world.http, "tenant:bob").await.status, 200);
    assert_eq!(pay(&twin, "tenant:bob").await.status, 200);
    let before = world.books().await;
    for at in [&world.http, &twin] {
        let said = pay(at, "tenant:bob").await;
        assert_eq!(
            (said.status, said.json()["error"]["code"].clone()),
            (429, json!("budget_exceeded"))
        );
        assert!(said.message().contains("tenant:bob") && said.message().contains('7'), "{said:?}");
        assert!(said.headers.contains_key("retry-after"));
    }
    assert_eq!(world.books().await, before);
    // Another subject of the tenant has its own seven, and the tenant's ten for all.
    assert_eq!(pay(&twin, "tenant:eve").await.status, 200);
    let said = pay(&world.http, "tenant:eve").await;
    assert!(said.status == 429 && said.message().contains("account tenant"), "{said:?}");
    // A subject of nobody here is on the gateway's bill alone.
    assert_eq!(pay(&world.http, "else:eve").await.status, 200);
    // The operator raises one subject's budget and the tenant's: there is room again.
    let own = json!({"policy": {"budget_day": "none"}});
    done(&world, "PUT", "/v1/accounts/tenant/subjects/tenant:bob", own).await;
    done(&world, "PATCH", "/v1/accounts/tenant", json!({"policy": {"budget_month": "1 usd"}}))
        .await;
    assert_eq!(pay(&world.http, "tenant:bob").await.status, 200);
    until("the other replica knows", || async { pay(&twin, "tenant:bob").await.status == 200 })
        .await;
}

fn bearer(key: &str) -> http::HeaderMap {
    let value = format!("Bearer {key}").parse().unwrap();
    http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
}

fn replica(ledger: Arc<dyn AccountLedger>) -> Arc<Accounts> {
    let settings = AuthSettings { keys: true, ..AuthSettings::default() };
    Arc::new(Accounts::new(settings, ledger, penstock_signer::service::system_clock()).unwrap())
}

#[tokio::test]
async fn replicas_on_one_postgresql_agree_soon() {
    let database = database().await;
    let stop = penstock_http_kit::CancellationToken::new();
    let open = async || replica(accounts::open(database.url()).await.unwrap());
    let (here, there) = (open().await, open().await);
    let following = tokio::spawn({
        let (there, stop) = (Arc::clone(&there), stop.clone());
        async move { there.follow(stop).await }
    });
    let at = async |replica: &Accounts, key: &str| {
        replica.authenticate(&bearer(key), None).await.map(|c| c.account.name().to_owned())
    };
    here.create_account("acme", AccountChange::default()).await.unwrap();
    let (key, record) = here.create_key("acme", CredentialTerms::default()).await.unwrap();
    assert_eq!(at(&here, key.expose()).await.unwrap(), "acme", "known here at once");
    until("the other replica lets it in", || async { at(&there, key.expose()).await.is_ok() })
        .await;
    // A rotation at one, a use of both at the other.
    let (new, _) =
        there.rotate_key(&record.id, 3_600_000, CredentialTerms::default()).await.unwrap();
    until("both know both", || async {
        at(&here, new.expose()).await.is_ok() && at(&here, key.expose()).await.is_ok()
    })
    .await;
    here.revoke(&record.id).await.unwrap();
    assert_eq!(at(&here, key.expose()).await, Err(AuthError::Revoked(record.id.clone())));
    until("the other replica refuses it", || async {
        at(&there, key.expose()).await == Err(AuthError::Revoked(record.id.clone()))
    })
    .await;
    let block = AccountChange { blocked: Some(true), ..AccountChange::default() };
    here.change_account("acme", block).await.unwrap();
    until("the other replica refuses the account", || async {
        at(&there, new.expose()).await == Err(AuthError::Blocked("acme".into()))
    })
    .await;
    // Two operators at once: one of them has to look again.
    let note = |text: &str| AccountChange {
        version: Some(2),
        note: Some(text.to_owned()),
        ..AccountChange::default()
    };
    let both = tokio::join!(
        here.change_account("acme", note("a")),
        there.change_account("acme", note("b"))
    );
    assert_ne!(both.0.is_ok(), both.1.is_ok(), "{both:?}");
    // Without its books nobody is let in on what was known once.
    stop.cancel();
    following.await.unwrap();
    there.close().await;
    until("what is known is too old", || async {
        matches!(at(&there, new.expose()).await, Err(AuthError::Unavailable(_)))
    })
    .await;
}

/// Counts the questions to the books.
struct Counted(Arc<dyn AccountLedger>, AtomicU64);

#[async_trait::async_trait]
impl AccountLedger for Counted {
    async fn changes(&self, after: u64, limit: u32) -> Result<Changes, LedgerError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.changes(after, limit).await
    }

    async fn apply(&self, puts: Vec<Put>, now_ms: i64) -> Result<Applied, LedgerError> {
        self.0.apply(puts, now_ms).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_does_not_reach_the_books() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/signer.db", folder.path().display());
    let counted = Arc::new(Counted(accounts::open(&url).await.unwrap(), AtomicU64::new(0)));
    let accounts = replica(Arc::clone(&counted) as Arc<dyn AccountLedger>);
    for n in 0..2_000u32 {
        let key = format!("psk_{n:08x}_{n:064x}");
        let said = accounts.authenticate(&bearer(&key), None).await;
        assert_eq!(said.unwrap_err(), AuthError::Unauthenticated);
    }
    // One question, and one more for every two seconds that this took.
    assert!(counted.1.load(Ordering::SeqCst) < 100);
}

#[tokio::test]
async fn a_client_certificate_is_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/signer.db", folder.path().display());
    let accounts = replica(accounts::open(&url).await.unwrap());
    accounts.create_account("acme", AccountChange::default()).await.unwrap();
    let made =
        accounts.create_certificate("acme", [7; 32], CredentialTerms::default()).await.unwrap();
    let none = http::HeaderMap::new();
    let caller = accounts.authenticate(&none, Some(&[7; 32])).await.unwrap();
    assert_eq!(caller.account.name(), "acme");
    assert_eq!(
        accounts.authenticate(&none, Some(&[8; 32])).await.unwrap_err(),
        AuthError::Unauthenticated
    );
    assert_eq!(accounts.authenticate(&none, None).await.unwrap_err(), AuthError::Unauthenticated);
    // A token that is wrong is not made good by a certificate.
    let wrong = accounts.authenticate(&bearer("psk_x"), Some(&[7; 32])).await;
    assert_eq!(wrong.unwrap_err(), AuthError::Unauthenticated);
    accounts.revoke(&made.id).await.unwrap();
    assert!(accounts.authenticate(&none, Some(&[7; 32])).await.is_err());
}

#[tokio::test]
async fn payments_are_on_the_bill_of_who_asked_and_of_whom_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/signer.db", folder.path().display());
    let accounts = replica(accounts::open(&url).await.unwrap());
    for name in ["gateway", "tenant"] {
        accounts.create_account(name, AccountChange::default()).await.unwrap();
    }
    let (key, _) = accounts.create_key("gateway", CredentialTerms::default()).await.unwrap();
    let gateway = accounts.authenticate(&bearer(key.expose()), None).await.unwrap().account;
    let bills = async |auth_id: Option<&str>| -> Vec<(String, Option<String>)> {
        let auth_id = auth_id.map(|text| AuthId::new(text).unwrap());
        let payers = accounts.payers(&gateway, auth_id.as_ref()).await.unwrap();
        payers
            .into_iter()
            .map(|p| (p.account.name().to_owned(), p.subject.map(Into::into)))
            .collect()
    };
    let name = |text: &str| text.to_owned();
    assert_eq!(bills(None).await, [(name("gateway"), None)]);
    assert_eq!(bills(Some("x:bob")).await, [(name("gateway"), Some(name("x:bob")))]);
    assert_eq!(bills(Some("gateway:bob")).await, [(name("gateway"), Some(name("gateway:bob")))]);
    assert_eq!(bills(Some("gateway")).await, [(name("gateway"), None)]);
    let bob = Some(name("tenant:bob"));
    assert_eq!(
        bills(Some("tenant:bob")).await,
        [(name("gateway"), bob.clone()), (name("tenant"), bob)]
    );
    let both = [(name("gateway"), Some(name("tenant"))), (name("tenant"), None)];
    assert_eq!(bills(Some("tenant")).await, both);
    let bob = AuthId::new("tenant:bob").unwrap();
    let rules =
        penstock_signer::auth::rules::SubjectRules::parse(r#"{"budget_day":"5 wei"}"#).unwrap();
    accounts.put_subject("tenant", &bob, &rules, false).await.unwrap();
    let payers = accounts.payers(&gateway, Some(&bob)).await.unwrap();
    assert_eq!(payers[1].policy.subject_day.unwrap().to_string(), "5 wei");
    accounts.put_subject("tenant", &bob, &rules, true).await.unwrap();
    let refused = accounts.payers(&gateway, Some(&bob)).await.unwrap_err();
    assert_eq!(refused, AuthError::BlockedSubject(bob));
}

#[tokio::test]
async fn an_account_for_a_client_lifts_none_of_its_gateways_rules() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/signer.db", folder.path().display());
    let accounts = replica(accounts::open(&url).await.unwrap());
    accounts.create_account("gateway", AccountChange::default()).await.unwrap();
    let (key, _) = accounts.create_key("gateway", CredentialTerms::default()).await.unwrap();
    let gateway = accounts.authenticate(&bearer(key.expose()), None).await.unwrap().account;
    let rules =
        penstock_signer::auth::rules::SubjectRules::parse(r#"{"budget_day":"5 wei"}"#).unwrap();
    let name = |text: &str| AuthId::new(text).unwrap();
    let (capped, blocked, blocked_whole) = (name("tenant:bob"), name("tenant:eve"), name("tenant"));
    accounts.put_subject("gateway", &capped, &rules, false).await.unwrap();
    for who in [&blocked, &blocked_whole] {
        accounts.put_subject("gateway", who, &rules, true).await.unwrap();
    }
    // Before there is an account for the client, and after.
    for payers in [1, 2] {
        let bills = accounts.payers(&gateway, Some(&capped)).await.unwrap();
        assert_eq!(bills.len(), payers);
        assert_eq!(
            (bills[0].account.name(), &bills[0].subject),
            ("gateway", &Some(capped.clone()))
        );
        assert_eq!(bills[0].policy.subject_day.unwrap().to_string(), "5 wei");
        for who in [&blocked, &blocked_whole] {
            let refused = accounts.payers(&gateway, Some(who)).await.unwrap_err();
            assert_eq!(refused, AuthError::BlockedSubject(who.clone()));
        }
        if payers == 1 {
            accounts.create_account("tenant", AccountChange::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn no_web_page_makes_accounts_at_an_admin_address_without_a_token() {
    let world = World::with(&[]).await;
    let make = async |header: &str, value: &str| {
        let asked = world.client.post(format!("{}/v1/accounts", world.admin));
        reply(asked.header(header, value).body(json!({"name": "page"}).to_string())).await
    };
    for (header, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let said = make(header, value).await;
        assert_eq!((said.status, said.json()["error"]["code"].clone()), (403, json!("forbidden")));
    }
    let accounts = done(&world, "GET", "/v1/accounts", Value::Null).await;
    assert_eq!(accounts["accounts"], json!([]));
    assert_eq!(make("accept", "*/*").await.status, 201, "a program of this machine may");
}

#[tokio::test]
async fn one_account_cannot_take_every_place() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::with(&["--accounts", "--max-in-flight=4"]).await;
    let acme = world.account("acme", json!({})).await;
    let other = world.account("other", json!({})).await;
    // A body that does not end holds the account's one place.
    let address = world.http.strip_prefix("http://").unwrap();
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /generate-live-payment HTTP/1.1\r\nhost: h\r\nauthorization: {acme}\r\n\
         content-length: 10\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let ask = async |key: &str| {
        world.post("/sign-orchestrator-info", "{}", &[("authorization", key)]).await
    };
    penstock_testkit::until("the place is taken", || async { ask(&acme).await.status == 429 })
        .await;
    let refused = ask(&acme).await;
    assert!(refused.message().contains("1 requests at work"), "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(ask(&other).await.status, 200);
    drop(slow);
    penstock_testkit::until("the place is free", || async { ask(&acme).await.status == 200 }).await;
}

#[tokio::test]
async fn a_segment_belongs_to_its_sessions_subject() {
    let world = World::with(&["--accounts"]).await;
    let gateway = world.account("gateway", json!({"may_name_subjects": true})).await;
    world.account("tenant", json!({})).await;
    let headers =
        |subject: &'static str| [("authorization", gateway.as_str()), ("signer-auth-id", subject)];
    let ask = request(&world.offer(1, 1, 100), json!({"inPixels": 100, "ManifestID": "m"}));
    let state = world.pay_with(&ask, &headers("tenant:bob")).await.state();
    let segment = penstock_wire::net::SegData {
        manifest_id: b"m".to_vec(),
        seq: 3,
        hash: vec![5; 32],
        ..Default::default()
    };
    let body = json!({"state": state, "segment": crate::world::b64(prost::Message::encode_to_vec(&segment))});
    let sign = async |headers: &[(&str, &str)]| {
        world.post("/sign-segment-credentials", body.to_string(), headers).await
    };
    assert_eq!(sign(&headers("tenant:bob")).await.status, 200);
    let before = world.books().await;
    let other = sign(&headers("tenant:eve")).await;
    assert_eq!(
        (other.status, other.message().as_str()),
        (409, "already used with another auth id")
    );
    // A client that is blocked has no more segments signed, whether it is named or not.
    done(&world, "PATCH", "/v1/accounts/tenant", json!({"state": "blocked"})).await;
    let unnamed = [("authorization", gateway.as_str())];
    penstock_testkit::until("the client is blocked", || async {
        sign(&unnamed).await.status == 403
    })
    .await;
    assert_eq!(sign(&headers("tenant:bob")).await.status, 403);
    let after = world.books().await;
    assert_eq!(after.summary, before.summary);
}
