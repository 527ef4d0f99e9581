//! Callers: another tenant's idempotency key and session, tokens with an algorithm of their own
//! choice, headers of somebody else, bodies that never end.

use super::{on_both_books, refused};
use crate::world::{Books, World, request};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use penstock_payments::segment_digest;
use penstock_testkit::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

on_both_books!(
    another_tenants_idempotency_key_is_no_key,
    another_tenants_session_is_no_session,
    a_token_does_not_choose_its_algorithm,
    headers_of_somebody_else_are_not_read,
    a_slow_body_is_not_waited_for,
);

async fn another_tenants_idempotency_key_is_no_key(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let acme = world.account("acme", json!({})).await;
    let thief = world.account("thief", json!({})).await;
    let key = ("idempotency-key", "order-1");
    let ask = request(&world.offer(1, 1, 10), json!({"inPixels": 20}));
    let first = world.pay_with(&ask, &[("authorization", &acme), key]).await;
    assert_eq!(first.status, 200);
    // The same key is another payment of another account, not a look at the first one.
    let theirs = world.pay_with(&ask, &[("authorization", &thief), key]).await;
    assert_eq!((theirs.status, theirs.replayed()), (200, false));
    assert_ne!(theirs.state(), first.state());
    assert!(theirs.nonces().iter().all(|nonce| !first.nonces().contains(nonce)));
    // And each still has its own.
    for (account, answer) in [(&acme, &first), (&thief, &theirs)] {
        let again = world.pay_with(&ask, &[("authorization", account), key]).await;
        assert_eq!(again.body, answer.body);
    }
}

async fn another_tenants_session_is_no_session(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let acme = world.account("acme", json!({})).await;
    let thief = world.account("thief", json!({})).await;
    let offer = world.offer(1, 1, 10);
    let start = request(&offer, json!({"inPixels": 20, "ManifestID": "m"}));
    let state = world.pay_with(&start, &[("authorization", &acme)]).await.state();
    let next = request(&offer, json!({"inPixels": 20, "ManifestID": "m", "state": state}));
    let thief = [("authorization", thief.as_str())];
    assert_eq!(refused(&world, &next, &thief, 409).await, "already used with another account");
    let segment = penstock_wire::net::SegData {
        manifest_id: b"m".to_vec(),
        hash: segment_digest::<&str>(b"m", 0, &Default::default(), &[]).to_vec(),
        ..Default::default()
    };
    let before = world.books().await;
    let body = json!({"state": state, "segment": crate::world::b64(prost::Message::encode_to_vec(&segment))});
    let reply = world.post("/sign-segment-credentials", body.to_string(), &thief).await;
    assert_eq!(reply.status, 409);
    assert_eq!(world.books().await, before);
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn a_token_does_not_choose_its_algorithm(books: Books) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let der = pair.public_key_raw();
    let point = &der[der.len() - 64..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1", "use": "sig"});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, json!({ "keys": [jwk] }).to_string()).unwrap();
    let file = file.display().to_string();
    let world = World::on(
        books,
        &[
            "--accounts",
            "--oidc-issuer=https://id.example",
            "--oidc-audience=signer",
            "--oidc-algorithms=ES256",
            "--oidc-account-claim=org",
            "--oidc-jwks-file",
            &file,
        ],
    )
    .await;
    world.account("acme", json!({})).await;
    let now = world.now_s();
    let claims = json!({"iss": "https://id.example", "aud": "signer", "sub": "bob", "org": "acme",
        "exp": now + 600, "iat": now});
    let es256 = EncodingKey::from_ec_der(pair.serialized_der());
    let header = |algorithm| Header { kid: Some("k1".to_owned()), ..Header::new(algorithm) };
    let good = encode(&header(Algorithm::ES256), &claims, &es256).unwrap();
    let ask = request(&world.offer(1, 1, 10), json!({"inPixels": 20}));
    let bearer = |token: &str| format!("Bearer {token}");
    let reply = world.pay_with(&ask, &[("authorization", &bearer(&good))]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // The public key as the secret of a symmetric algorithm, in each form that it has.
    let mut forged = Vec::new();
    let pem = pair.public_key_pem();
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), der, x.as_bytes()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret);
            forged.push(encode(&header(algorithm), &claims, &key).unwrap());
        }
    }
    // No algorithm at all, and a signature of somebody else's key under the same name.
    for name in ["none", "None", "NONE", ""] {
        let head = json!({"alg": name, "typ": "JWT", "kid": "k1"});
        forged.push(format!("{}.{}.", part(&head), part(&claims)));
    }
    let stranger = rcgen::KeyPair::generate().unwrap();
    let stranger = EncodingKey::from_ec_der(stranger.serialized_der());
    forged.push(encode(&header(Algorithm::ES256), &claims, &stranger).unwrap());
    // The good signature under other claims.
    let signature = good.rsplit_once('.').unwrap().1;
    let mut richer = claims.clone();
    richer["org"] = "gateway".into();
    let head = good.split_once('.').unwrap().0;
    forged.push(format!("{head}.{}.{signature}", part(&richer)));
    for token in forged {
        refused(&world, &ask, &[("authorization", &bearer(&token))], 401).await;
    }
    let mut old = claims.clone();
    old["exp"] = (now - 3600).into();
    let old = encode(&header(Algorithm::ES256), &old, &es256).unwrap();
    refused(&world, &ask, &[("authorization", &bearer(&old))], 401).await;
}

async fn headers_of_somebody_else_are_not_read(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let plain = world.account("plain", json!({"budget_day": "1000 wei"})).await;
    world.account("rich", json!({})).await;
    let ask = |members: Value| request(&world.offer(1, 1, 100), members);
    // Whatever it says about itself, it stays `plain`, whose budget it spends.
    let spoofs = [
        ("signer-auth-id", "rich:someone"),
        ("Signer-Auth-Id", "rich"),
        ("signer-account", "rich"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-user", "rich"),
    ];
    for spoof in spoofs {
        let headers = [("authorization", plain.as_str()), spoof];
        let reply = world.pay_with(&ask(json!({"inPixels": 200})), &headers).await;
        assert_eq!(reply.status, 200, "{spoof:?}: {reply:?}");
        let newest = world.admin("/v1/payments?limit=1").await;
        assert_eq!((&newest[0]["account"], &newest[0]["auth_id"]), (&json!("plain"), &Value::Null));
    }
    let headers = [("authorization", plain.as_str()), spoofs[0]];
    refused(&world, &ask(json!({"inPixels": 100})), &headers, 429).await;
    for nobody in [None, Some("Bearer "), Some("Basic cmljaDpyaWNo"), Some("rich")] {
        let mut headers = vec![spoofs[0], ("livepeer-capability", "x")];
        headers.extend(nobody.map(|text| ("authorization", text)));
        refused(&world, &ask(json!({"inPixels": 100})), &headers, 401).await;
    }
}

async fn a_slow_body_is_not_waited_for(books: Books) {
    let world = World::on(books, &["--request-timeout-ms=1000", "--max-in-flight=4"]).await;
    let before = world.books().await;
    let address = world.http.strip_prefix("http://").unwrap().to_owned();
    // As many as there are places, each with a body that does not arrive.
    let slow = (0..4).map(|_| {
        let address = address.clone();
        async move {
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let head =
                "POST /generate-live-payment HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = vec![0; 64];
            let n = stream.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..n]).into_owned()
        }
    });
    for answer in futures::future::join_all(slow).await {
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    // An announced size above the limit is refused before any of it is read.
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head =
        "POST /generate-live-payment HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64];
    let n = stream.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..n]).starts_with("HTTP/1.1 413"));
    assert_eq!(world.books().await, before);
    // The places are free again. A busy machine may need more than the time that a body has.
    let ask = request(&world.offer(1, 1, 10), json!({"inPixels": 20}));
    until("a payment", || async { world.pay(&ask).await.status == 200 }).await;
}
