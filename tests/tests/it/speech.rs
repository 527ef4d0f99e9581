//! Speech in, words out, paid for: the model is real, and so is the money's way.

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{figure, media, until_ok, wer};
use serde_json::Value;

use crate::{
    books::Books,
    jobs::transcribe,
    network::{Needs, Network},
};

/// What the local network charges for a millisecond of speech.
const PRICE_PER_MS_WEI: u64 = 4_000_000;

#[tokio::test]
async fn speech_is_transcribed_and_paid_to_the_wei() {
    let mut network = Network::start(Needs::SPEECH).await;
    let mut errors = wer::Errors::default();
    // The network counts whole seconds of speech, in milliseconds (ai-pipelines.md section 4).
    let mut billed_ms = 0;
    for clip in media::speech() {
        let answer = transcribe(&network, &clip.wav).await.unwrap();
        let heard = answer["text"].as_str().expect("text").to_owned();
        errors = errors.plus(wer::errors(&clip.text, &heard));
        let duration_ms = media::duration_ms(&clip.wav);
        billed_ms += duration_ms / 1000 * 1000;
        timestamps_rise(&answer, duration_ms);
    }
    figure("speech: word errors (at most 10 %)", errors);
    assert!(errors.at_most_percent(10), "word errors: {errors:?}");

    let books = Books::read(&network).await;
    books.assert_settled();
    let price = Rational::from(PRICE_PER_MS_WEI);
    assert_eq!(books.debited_wei, &price * &Rational::from(billed_ms), "what was really used");
    figure("speech: tickets, milliseconds paid", format!("{}, {billed_ms}", books.signed_tickets));
    assert!(books.signed_tickets > 0 && books.fees_wei >= books.debited_wei, "{books:?}");

    // Worker and runner die and come back: the model is loaded again, and work goes on.
    network.crash(Role::Worker).await;
    let clip = media::speech().remove(1);
    let answer = until_ok("speech is transcribed again", || transcribe(&network, &clip.wav)).await;
    assert!(!answer["text"].as_str().unwrap().is_empty());
    Books::read(&network).await.assert_settled();
    network.winners_are_redeemed().await;
}

fn timestamps_rise(answer: &Value, duration_ms: u64) {
    let mut last = 0.0;
    for chunk in answer["chunks"].as_array().expect("chunks") {
        let at = |n: usize| chunk["timestamp"][n].as_f64().expect("a number of seconds");
        let (from, to) = (at(0), at(1));
        assert!(last <= from && from <= to, "timestamps fall: {answer}");
        assert!(to * 1000.0 <= duration_ms as f64 + 1000.0, "beyond the clip's end: {answer}");
        last = from;
    }
}
