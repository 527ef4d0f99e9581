//! The nine batch pipelines by route, each with the same questions: paid work, no room, no money, no such
//! model, no sense, a worker that dies. The worker is scripted and speaks the real protocol.

use crate::{
    payer::{Headers, Payer, answer, empty, post, short},
    scripted_worker::{AiWorker, ai_failed, ai_upload, ai_upload_with, source},
    speech,
    world::World,
};
use penstock_domain::{Capabilities, Capability, Rational};
use serde_json::{Value, json};

pub const MODEL: &str = "m/1";
const BOUNDARY: &str = "form";
const FILE_TEXT: &[u8] = b"file content";

/// A pipeline's good request, what it costs, a senseless one, and what a worker answers.
pub struct Case {
    pub pipeline: &'static str,
    /// Form field of its file.
    file: Option<&'static str>,
    fields: Value,
    units: i64,
    /// Wei a unit.
    pub price: i64,
    /// Fields that make no sense instead of the good ones, and what is said then.
    bad: (Value, &'static str),
    answer: Value,
    /// Media type of the answer's files.
    media: &'static str,
}

/// A GIF of 40 × 30 pixels, as far as anybody looks.
fn picture() -> Vec<u8> {
    b"GIF89a\x28\0\x1e\0and more".to_vec()
}

pub fn cases() -> Vec<Case> {
    let images = json!({"images": [{"url": "a.png", "seed": 3, "nsfw": false}, {"url": "b.png", "seed": 4, "nsfw": true}]});
    let none = || (json!({}), "image");
    let case = |pipeline, file, fields, units, bad, answer| Case {
        pipeline,
        file,
        fields,
        units,
        price: 0,
        bad,
        answer,
        media: "",
    };
    let i = Some("image");
    let film = json!({"images": [{"url": "a.mp4", "seed": 3, "nsfw": false}]});
    let masks = json!({"masks": "[]", "scores": "[]", "logits": "[]"});
    let choice = json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}});
    let words = json!({"id": "1", "model": "m", "created": 1, "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
    let turn = json!([{"role": "user", "content": "hi"}]);
    let wide = json!({"prompt": "x", "width": "wide"});
    let heard = json!({"text": "hi", "chunks": []});
    let sound = json!({"audio": {"url": "a.wav"}});
    let chat = json!({"messages": turn.clone(), "stream": false, "max_tokens": 77});
    let mut all = vec![
        case(
            "text-to-image",
            None,
            json!({"prompt": "x", "height": 20, "width": 30, "num_images_per_prompt": 2}),
            1_200,
            (wide, "width must be a whole number"),
            images.clone(),
        ),
        case(
            "image-to-image",
            i,
            json!({"prompt": "x", "strength": "0.500000", "num_images_per_prompt": "2"}),
            2_400,
            none(),
            images.clone(),
        ),
        case(
            "image-to-video",
            i,
            json!({"height": "10", "width": "20", "fps": "6"}),
            5_000,
            (json!({"height": "0"}), "height must be a whole number above 0"),
            film,
        ),
        case("upscale", i, json!({"prompt": "x"}), 1_200, none(), images),
        case(
            "audio-to-text",
            Some("audio"),
            json!({"return_timestamps": "true", "metadata": "{}"}),
            2_000,
            (json!({}), "missing audio"),
            heard,
        ),
        case(
            "segment-anything-2",
            i,
            json!({"box": "[1]", "multimask_output": "true"}),
            1_200,
            none(),
            masks,
        ),
        case("llm", None, chat, 77, (json!({"messages": turn}), "MaxTokens not specified"), words),
        case(
            "image-to-text",
            i,
            json!({"prompt": "what?"}),
            1_200,
            none(),
            json!({"text": "a cat"}),
        ),
        case(
            "text-to-speech",
            None,
            json!({"text": "größer"}),
            6_000,
            (json!({}), "text field is required"),
            sound,
        ),
    ];
    for (price, case) in (2..).zip(&mut all) {
        case.price = price;
        case.media = match case.pipeline {
            "text-to-image" | "image-to-image" | "upscale" => "image/png",
            "image-to-video" => "video/mp4",
            "text-to-speech" => "audio/wav",
            _ => "",
        };
    }
    all
}

impl Case {
    pub fn capability(&self) -> Capability {
        Capability::from_pipeline(self.pipeline).unwrap()
    }

    fn file(&self) -> Vec<u8> {
        if self.file == Some("audio") { speech::wav(20) } else { picture() }
    }

    pub fn request(
        &self,
        world: &World,
        headers: &Headers,
        model: &str,
    ) -> reqwest::RequestBuilder {
        self.with(world, headers, model, &self.fields, Some(&self.file()))
    }

    fn with(
        &self,
        world: &World,
        headers: &Headers,
        model: &str,
        fields: &Value,
        file: Option<&[u8]>,
    ) -> reqwest::RequestBuilder {
        let mut fields = fields.as_object().unwrap().clone();
        let model_field = if self.pipeline == "llm" { "model" } else { "model_id" };
        fields.insert(model_field.to_owned(), model.into());
        let request = post(world, &format!("/{}", self.pipeline), headers)
            .header("Authorization", "Livepeer-AI-Worker-1.0");
        let Some(name) = self.file else {
            return request
                .header("Content-Type", "application/json")
                .body(Value::Object(fields).to_string());
        };
        let mut body = Vec::new();
        let mut part = |name: &str, data: &[u8]| {
            let head =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend(head.as_bytes());
            body.extend(data);
            body.extend(b"\r\n");
        };
        if let Some(file) = file {
            part(name, file);
        }
        for (name, value) in &fields {
            part(name, value.as_str().unwrap().as_bytes());
        }
        body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
        request
            .header("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(body)
    }

    /// A request that makes no sense, and what is said then.
    fn senseless(&self, world: &World, headers: &Headers) -> reqwest::RequestBuilder {
        let fields = if self.bad.0 == json!({}) { &self.fields } else { &self.bad.0 };
        let fields = if self.pipeline == "text-to-speech" { &json!({}) } else { fields };
        let file = (self.bad.0 != json!({})).then(picture);
        self.with(world, headers, MODEL, fields, file.as_deref())
    }

    /// A paid request, and a worker that does it: the status of its answer.
    pub async fn served(&self, world: &World, headers: &Headers, worker: &mut AiWorker) -> u16 {
        let running = tokio::spawn(self.request(world, headers, MODEL).send());
        let job = worker.next().await;
        let done = ai_upload_with(world, job.task_id, &self.answer.to_string(), &self.files());
        assert_eq!(answer(done).await, (200, "OK".into()));
        let response = running.await.unwrap().unwrap();
        let status = response.status().as_u16();
        response.bytes().await.unwrap();
        status
    }

    /// The files that its answer names.
    fn files(&self) -> Vec<(&'static str, &'static str, &'static [u8])> {
        let names: &[&str] = match self.media {
            "image/png" => &["a.png", "b.png"],
            "video/mp4" => &["a.mp4"],
            "audio/wav" => &["a.wav"],
            _ => &[],
        };
        names.iter().map(|name| (*name, self.media, FILE_TEXT)).collect()
    }
}

/// A network in which each pipeline has a price of its own.
pub async fn world() -> World {
    let prices: Vec<_> = cases()
        .iter()
        .map(|case| format!("--price-per-model={}/{MODEL}={}", case.pipeline, case.price))
        .collect();
    let prices: Vec<&str> = prices.iter().map(String::as_str).collect();
    World::paid_with(100_000, &prices).await
}

/// A worker with one slot for every pipeline's model.
pub async fn worker(world: &World) -> AiWorker {
    let models: Vec<_> = cases().iter().map(|case| (case.capability(), MODEL)).collect();
    AiWorker::register_for(world, &models, 1).await
}

/// Headers with so many tickets for a pipeline.
pub async fn paid(world: &World, payer: &Payer, case: &Case, tickets: u32) -> Headers {
    let job = Capabilities::ai_job(case.capability(), MODEL, false);
    let info = payer.info(world, Some(&job)).await.unwrap();
    let price = info.price_info.as_ref().unwrap();
    assert!(price.price_per_unit >= case.price * price.pixels_per_unit, "{}", case.pipeline);
    let payment = payer.payment(&info, &(1..=tickets).collect::<Vec<_>>()).await;
    payer.headers(&payment, &empty(&info, "manifest")).await
}

/// Headers without a ticket.
async fn unpaid(world: &World, payer: &Payer) -> Headers {
    let info = payer.info(world, None).await.unwrap();
    payer.headers(&payer.nothing(&info), &empty(&info, "manifest")).await
}

#[tokio::test]
async fn paid_work_of_every_pipeline() {
    let world = world().await;
    let mut worker = worker(&world).await;
    let payer = Payer::funded(&world).await;
    let mut debited = 0;
    for case in cases() {
        let name = case.pipeline;
        let headers = paid(&world, &payer, &case, 60).await;
        let running = tokio::spawn(case.request(&world, &headers, MODEL).send());
        let job = worker.next().await;
        let told = job.ai_job_data.unwrap();
        assert_eq!(told.pipeline, name);
        let data: Value = serde_json::from_slice(&told.request_data).unwrap();
        let request = data["request"].as_object().unwrap();
        let input = data["input_url"].as_str().unwrap();
        match case.file {
            None => assert_eq!(input, ""),
            Some(field) => {
                // The reference's worker reads bytes here, and refuses anything else.
                assert_eq!(request[field], Value::Null, "{name}");
                assert_eq!(source(&world, input).await, case.file(), "{name}");
            }
        }
        // Of the kinds that the worker's JSON has, whatever the form was.
        for (field, sent) in case.fields.as_object().unwrap() {
            let got = &request[field];
            let same = got == sent || Some(got.to_string()) == sent.as_str().map(str::to_owned);
            assert!(
                same || (got, sent) == (&json!(0.5), &json!("0.500000")),
                "{field}: {got} {sent}"
            );
        }

        // The one slot is taken; the payment of the second job is not touched.
        let second = unpaid(&world, &payer).await;
        let busy = answer(case.request(&world, &second, MODEL)).await;
        assert_eq!(busy, (503, "insufficient capacity".into()), "{name}");

        let done = ai_upload_with(&world, job.task_id, &case.answer.to_string(), &case.files());
        assert_eq!(answer(done).await, (200, "OK".into()), "{name}");
        let response = running.await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "{name}");
        assert_eq!(response.headers()["content-type"], "application/json");
        let text = response.text().await.unwrap();
        assert!(text.ends_with("}\n"));
        let mut made: Value = serde_json::from_str(&text).unwrap();
        let mut urls = Vec::new();
        for n in 0..case.files().len() {
            let at = if name == "text-to-speech" {
                "/audio/url".into()
            } else {
                format!("/images/{n}/url")
            };
            urls.extend(made.pointer_mut(&at).map(std::mem::take));
        }
        assert_eq!(urls.len(), case.files().len(), "{name}: {made}");
        for url in &urls {
            let url = url.as_str().unwrap();
            assert!(url.starts_with(&format!("{}/stream/", world.service)), "{url}");
            let file = world.http.get(url).send().await.unwrap();
            assert_eq!(file.headers()["content-type"], case.media);
            assert_eq!(file.bytes().await.unwrap(), FILE_TEXT);
        }
        assert!(urls.len() < 2 || urls[0] != urls[1], "one name each");
        if case.media.is_empty() {
            assert_eq!(made, case.answer, "{name}");
        }
        if !input.is_empty() {
            assert_eq!(
                world.http.get(input).send().await.unwrap().status(),
                404,
                "the source is gone"
            );
        }

        // To the account of capability and model, at its price.
        let fee = case.units * case.price;
        debited += fee;
        let summary = world.operator("/v1/summary").await;
        assert_eq!(summary["debited_wei"], debited.to_string(), "{name}");
        let accounts = world.operator("/v1/accounts").await;
        let key = format!("{}_{MODEL}", case.capability().number());
        let of = accounts.as_array().unwrap().iter().find(|a| a["session_id"] == key).unwrap();
        assert_eq!(of["debited_wei"], fee.to_string(), "{name}");
        let credited: Rational = of["credited_wei"].as_str().unwrap().parse().unwrap();
        let left = world.balance(payer.signer.address(), &key).await;
        assert_eq!(left, &credited - &Rational::from_int(fee.into()), "{name}");
    }
}

#[tokio::test]
async fn without_room_money_model_or_sense_there_is_no_work() {
    let world = world().await;
    let payer = Payer::funded(&world).await;
    let headers = unpaid(&world, &payer).await;
    let capacity = (503, "insufficient capacity".to_owned());
    for case in cases() {
        let nobody = answer(case.request(&world, &headers, MODEL)).await;
        assert_eq!(nobody, capacity, "{}: no worker", case.pipeline);
    }
    let _worker = worker(&world).await;
    world.workers(1).await;
    for case in cases() {
        let name = case.pipeline;
        let poor = answer(case.request(&world, &headers, MODEL)).await;
        assert_eq!(poor, short("0"), "{name}");
        for model in ["m/2", ""] {
            // Without a name the pipeline's default is meant, which nobody has here.
            let other = answer(case.request(&world, &headers, model)).await;
            assert_eq!(other, capacity, "{name}: model {model:?}");
        }
        let (status, said) = answer(case.senseless(&world, &headers)).await;
        assert!(status == 400 && said.contains(case.bad.1), "{name}: {status} {said}");
        let odd = answer(case.request(&world, &headers, "a b")).await;
        assert_eq!(odd.0, 400, "{name}");
        if case.file == Some("image") {
            let webp = Some(&b"RIFF\0\0\0\0WEBPVP8 "[..]);
            let size = answer(case.with(&world, &headers, MODEL, &case.fields, webp)).await;
            // A film's price does not depend on the picture that it is made of.
            let expected = if name == "image-to-video" {
                "Insufficient balance"
            } else {
                "not a PNG, JPEG or GIF"
            };
            assert!(size.0 == 400 && size.1.contains(expected), "{name}: {size:?}");
        }
        let path = format!("/{name}");
        for (kind, body) in
            [("text/plain", "x"), ("application/json", "{"), ("multipart/form-data", "")]
        {
            let noise = post(&world, &path, &headers).header("Content-Type", kind).body(body);
            assert_eq!(answer(noise).await.0, 400, "{name}: {kind}");
        }
        // Headers come first, and every refusal gave its room back.
        let unsigned = Headers { payment: headers.payment.clone(), segment: String::new() };
        assert_eq!(answer(case.request(&world, &unsigned, MODEL)).await.0, 403, "{name}");
        let nonsense = Headers { payment: "!".into(), segment: headers.segment.clone() };
        assert_eq!(answer(case.request(&world, &nonsense, MODEL)).await.0, 402, "{name}");
        let still = answer(case.request(&world, &headers, MODEL)).await;
        assert_eq!(still, short("0"), "{name}");
    }
    let large = post(&world, "/llm", &headers).body(vec![b' '; (8 << 20) + 1]);
    assert_eq!(answer(large).await.0, 413);
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], "0");
}

#[tokio::test]
async fn failed_work_is_not_charged() {
    let world = world().await;
    let payer = Payer::funded(&world).await;
    let mut worker = self::worker(&world).await;
    for case in cases() {
        let name = case.pipeline;
        let headers = paid(&world, &payer, &case, 3).await;
        let running = tokio::spawn(answer(case.request(&world, &headers, MODEL)));
        let job = worker.next().await;
        ai_failed(&world, job.task_id, "model on fire").send().await.unwrap();
        assert_eq!(running.await.unwrap(), (500, "model on fire".into()), "{name}");

        // Another pipeline's answer, or one whose file did not come.
        let headers = unpaid(&world, &payer).await;
        let running = tokio::spawn(answer(case.request(&world, &headers, MODEL)));
        let job = worker.next().await;
        let wrong = if case.media.is_empty() { json!({"images": []}) } else { case.answer.clone() };
        ai_upload(&world, job.task_id, &wrong.to_string()).send().await.unwrap();
        let (status, said) = running.await.unwrap();
        assert!(status == 500 && said.starts_with("the worker's result"), "{name}: {said}");

        let running = tokio::spawn(answer(case.request(&world, &headers, MODEL)));
        worker.next().await;
        drop(worker);
        let lost = (500, "no workers can process job requested".to_owned());
        assert_eq!(running.await.unwrap(), lost, "{name}");
        world.workers(0).await;
        worker = self::worker(&world).await;
        world.workers(1).await;
    }
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], "0");
}

#[tokio::test]
async fn old_gateways_get_pictures_inside_the_answer() {
    let world = world().await;
    let payer = Payer::funded(&world).await;
    let mut worker = worker(&world).await;
    let case = cases().into_iter().find(|case| case.pipeline == "text-to-image").unwrap();
    let headers = paid(&world, &payer, &case, 10).await;
    let mut request = case.request(&world, &headers, MODEL).build().unwrap();
    request.headers_mut().remove("authorization");
    let running = tokio::spawn(world.http.execute(request));
    let job = worker.next().await;
    let done = ai_upload_with(&world, job.task_id, &case.answer.to_string(), &case.files());
    done.send().await.unwrap();
    let made: Value = running.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(made["images"][1]["url"], "data:image/png;base64,ZmlsZSBjb250ZW50");
}
