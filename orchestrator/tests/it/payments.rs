//! `POST /payment` and `POST /refresh-payment`.

use crate::{
    payer::{Payer, answer, empty, post, token},
    world::{TICKET_EV, World},
};
use penstock_domain::{Address, Rational, Wei};
use penstock_testkit::until;
use penstock_wire::{PaymentFields, json::PaymentChallenge, net};
use prost::Message;
use serde_json::json;

/// Pays with these tickets into the session's own account; status and text.
async fn pay(
    world: &World,
    payer: &Payer,
    info: &net::OrchestratorInfo,
    payment: &PaymentFields,
) -> (u16, String) {
    let headers = payer.headers(payment, &empty(info, &token(info).session_id)).await;
    answer(post(world, "/payment", &headers)).await
}

/// Worth of `n` tickets of an offer, exactly.
fn worth(payment: &PaymentFields, n: i128) -> Rational {
    let params = payment.ticket_params.as_ref().unwrap();
    let ev = penstock_payments::ticket_ev(params.face_value, params.win_prob);
    &Rational::from_int(n) * &ev
}

#[tokio::test]
async fn tickets_are_credited_once_even_over_a_restart() {
    let mut world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let session = token(&info).session_id;
    let sender = payer.signer.address();
    let payment = payer.payment(&info, &[1, 2, 7]).await;
    let headers = payer.headers(&payment, &empty(&info, &session)).await;
    let response = post(&world, "/payment", &headers).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let result = net::PaymentResult::decode(response.bytes().await.unwrap()).unwrap();
    let fresh = result.info.unwrap();
    assert_eq!(fresh.auth_token, info.auth_token, "the request's own token");
    assert_ne!(fresh.ticket_params, info.ticket_params, "new ticket parameters");
    assert!(fresh.capabilities_prices.is_empty());
    assert_eq!(world.balance(sender, &session).await, worth(&payment, 3));
    assert!(worth(&payment, 1) >= Rational::from_int(TICKET_EV));

    let replay = || answer(post(&world, "/payment", &headers));
    let seen = format!("invalid ticket senderNonce: already seen sender={sender} nonce=7");
    assert_eq!(replay().await, (400, seen.clone()));

    world.restart().await;
    // Books, nonces and both secrets are the ones of before: the replay is known, the old offer
    // and the old token still hold.
    assert_eq!(answer(post(&world, "/payment", &headers)).await, (400, seen));
    let more = payer.payment(&info, &[8]).await;
    assert_eq!(pay(&world, &payer, &info, &more).await.0, 200);
    assert_eq!(world.balance(sender, &session).await, worth(&payment, 4));
    let summary = world.operator("/v1/summary").await;
    assert_eq!(summary["tickets"], 4);
    assert_eq!(summary["credited_wei"], worth(&payment, 4).to_string());
    assert_eq!(summary["balance_wei"], summary["credited_wei"]);
}

#[tokio::test]
async fn copies_that_arrive_together_are_credited_once() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let session = token(&info).session_id;
    let payment = payer.payment(&info, &(1..=10).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, &session)).await;
    let copies = (0..8).map(|_| answer(post(&world, "/payment", &headers)));
    let answers = futures::future::join_all(copies).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
    let balance = world.balance(payer.signer.address(), &session).await;
    assert_eq!(balance, worth(&payment, 10));
}

#[tokio::test]
async fn hundreds_of_tickets_fit_into_one_header() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let payment = payer.payment(&info, &(1..=600).collect::<Vec<_>>()).await;
    assert_eq!(pay(&world, &payer, &info, &payment).await.0, 200);
    let session = token(&info).session_id;
    let sender = payer.signer.address();
    assert_eq!(world.balance(sender, &session).await, worth(&payment, 600));
    let (status, text) = pay(&world, &payer, &info, &payer.payment(&info, &[601]).await).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("invalid ticket senderNonce: too many values"), "{text}");
}

/// It is not the sender's doing, and another look at the chain may show otherwise.
#[tokio::test]
async fn who_is_not_in_the_pool_says_that_it_passes() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let payment = payer.payment(&info, &[1]).await;
    let headers = payer.headers(&payment, &empty(&info, &token(&info).session_id)).await;
    world.leave_the_pool().await;
    let said = "is inactive in round";
    until("it has seen that", || async {
        payer.info(&world, None).await.is_err_and(|error| error.message().contains(said))
    })
    .await;
    let refused = post(&world, "/payment", &headers).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(refused.text().await.unwrap().contains(said));
    assert_eq!(world.operator("/v1/summary").await["tickets"], 0);
}

#[tokio::test]
async fn an_altered_offer_is_nobodys() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let good = payer.payment(&info, &[1]).await;
    let alter = |change: &dyn Fn(&mut PaymentFields)| {
        let mut altered = good.clone();
        change(&mut altered);
        altered
    };
    let forged = [
        alter(&|p| p.ticket_params.as_mut().unwrap().face_value = Wei::from_u64(1)),
        alter(&|p| p.ticket_params.as_mut().unwrap().win_prob = penstock_domain::U256::MAX),
        alter(&|p| p.ticket_params.as_mut().unwrap().seed = penstock_domain::U256::ONE),
        alter(&|p| {
            p.ticket_params.as_mut().unwrap().expiration_block =
                penstock_domain::U256::from(1u64 << 40);
        }),
        alter(&|p| p.expected_price = Some(penstock_domain::PriceInfo::new(1, 9).unwrap())),
        alter(&|p| p.expiration_params.creation_round += 1),
    ];
    for payment in forged {
        let (status, text) = pay(&world, &payer, &info, &payment).await;
        assert_eq!(
            (status, text.as_str()),
            (400, "invalid recipientRand for ticket recipientRandHash")
        );
    }
    let other = alter(&|p| p.ticket_params.as_mut().unwrap().recipient = Address::repeat_byte(9));
    let (status, text) = pay(&world, &payer, &info, &other).await;
    assert_eq!(status, 400);
    assert!(text.contains("is inactive in round"), "{text}");
    let unpriced = alter(&|p| p.expected_price = None);
    let (status, text) = pay(&world, &payer, &info, &unpriced).await;
    assert_eq!(status, 400);
    assert!(text.contains("expected price is nil"), "{text}");
    // Another sender cannot use the offer either, though it signs properly.
    let thief = Payer::funded(&world).await;
    let stolen = thief.payment(&info, &[1]).await;
    let (status, text) = pay(&world, &thief, &info, &stolen).await;
    assert_eq!(
        (status, text.as_str()),
        (400, "invalid recipientRand for ticket recipientRandHash")
    );
    assert_eq!(world.operator("/v1/summary").await["tickets"], 0);
    assert_eq!(world.operator("/v1/accounts").await, json!([]));
}

#[tokio::test]
async fn a_bad_signature_spoils_what_comes_after_it() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let mut payment = payer.payment(&info, &[1, 2, 3]).await;
    payment.tickets[1].sig[10] ^= 1;
    let (status, text) = pay(&world, &payer, &info, &payment).await;
    assert_eq!((status, text.as_str()), (400, "invalid ticket signature"));
    let session = token(&info).session_id;
    let sender = payer.signer.address();
    assert_eq!(world.balance(sender, &session).await, worth(&payment, 1));
}

#[tokio::test]
async fn offers_expire_with_the_chain() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    world.mine(Some(40), None).await;
    world.see_the_chain().await;
    let payment = payer.payment(&info, &[1]).await;
    assert_eq!(pay(&world, &payer, &info, &payment).await, (400, "TicketParams expired".into()));
}

#[tokio::test]
async fn a_sender_about_to_withdraw_is_refused() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    use penstock_chain::Chain;
    let own = world.chain().clone().with_account(payer.signer.clone());
    own.unlock().await.unwrap();
    // Until the unlock period is over the sender is still good; see payments.md section 10 row 1.
    let payment = payer.payment(&info, &[1]).await;
    let withdraw_round = own.sender_info(payer.signer.address()).await.unwrap().withdraw_round;
    let rounds = own.rounds().await.unwrap().last_initialized_round;
    let missing = withdraw_round - 1 - rounds;
    world.mine(None, Some(missing)).await;
    world.see_the_chain().await;
    let (status, text) = pay(&world, &payer, &info, &payment).await;
    assert_eq!(status, 400);
    assert!(text.ends_with("is set to unlock soon"), "{text}");
}

#[tokio::test]
async fn refresh_gives_new_params_at_the_pinned_price() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let session = token(&info).session_id;
    let ask = |body: serde_json::Value| {
        world.http.post(format!("{}/refresh-payment", world.service)).json(&body)
    };
    let sender = payer.signer.address().to_string();
    let body = json!({"sender": sender, "manifest_id": session});
    let unknown = ask(body.clone()).send().await.unwrap();
    assert_eq!(unknown.status(), 409);
    let envelope: serde_json::Value = unknown.json().await.unwrap();
    assert_eq!(envelope["error"]["message"], "fixed price not found for session");

    let payment = payer.payment(&info, &[1]).await;
    assert_eq!(pay(&world, &payer, &info, &payment).await.0, 200);
    let response = ask(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let (challenge, offer) = PaymentChallenge::parse(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(challenge.manifest_id, session);
    assert_eq!(challenge.payment_url, format!("{}/payment", world.service));
    assert_eq!(offer.auth_token.as_ref().unwrap().session_id, session);
    let fresh = net::OrchestratorInfo::from(&offer);
    let more = payer.payment(&fresh, &[1]).await;
    assert_eq!(pay(&world, &payer, &fresh, &more).await.0, 200, "another offer, its own nonces");

    for (bad, text) in [
        (json!({"sender": "0x12", "manifest_id": "a"}), "invalid sender"),
        (json!({"sender": sender, "manifest_id": ""}), "missing manifest_id"),
    ] {
        let refused = ask(bad).send().await.unwrap();
        assert_eq!(refused.status(), 400);
        let envelope: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(envelope["error"]["message"], text);
    }
}
