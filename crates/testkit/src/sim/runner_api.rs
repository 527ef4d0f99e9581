//! The interface of ai-runner's batch pipelines, as its OpenAPI document has it (ai-pipelines.md sections
//! 2.1 and 8.1): which fields a request may have, and what answers look like. Written apart from the
//! code that is tested with it.

use super::runner::Job;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Pipeline, its file (`-`: JSON), and its fields: `!` must be there; s text, i whole number, f number,
/// b `true` or `false`, m messages.
const API: [(&str, &str, &str); 9] = [
    (
        "text-to-image",
        "-",
        "!prompt:s model_id:s loras:s height:i width:i guidance_scale:f negative_prompt:s safety_check:b seed:i num_inference_steps:i num_images_per_prompt:i",
    ),
    (
        "image-to-image",
        "image",
        "!prompt:s model_id:s loras:s strength:f guidance_scale:f image_guidance_scale:f negative_prompt:s safety_check:b seed:i num_inference_steps:i num_images_per_prompt:i",
    ),
    (
        "image-to-video",
        "image",
        "model_id:s height:i width:i fps:i motion_bucket_id:i noise_aug_strength:f safety_check:b seed:i num_inference_steps:i",
    ),
    ("upscale", "image", "!prompt:s model_id:s safety_check:b seed:i num_inference_steps:i"),
    ("audio-to-text", "audio", "model_id:s return_timestamps:s metadata:s"),
    (
        "segment-anything-2",
        "image",
        "model_id:s point_coords:s point_labels:s box:s mask_input:s multimask_output:b return_logits:b normalize_coords:b",
    ),
    ("llm", "-", "!messages:m model:s stream:b max_tokens:i temperature:f top_p:f top_k:i"),
    ("image-to-text", "image", "prompt:s model_id:s"),
    ("text-to-speech", "-", "!text:s model_id:s description:s"),
];

/// Why the runner would answer 422, if it would.
pub fn wrong(job: &Job) -> Option<String> {
    let Some((_, file, table)) = API.iter().find(|(name, _, _)| *name == job.pipeline) else {
        return Some("no such pipeline".to_owned());
    };
    let table: Vec<_> = table.split_whitespace().map(|f| f.split_once(':').unwrap()).collect();
    let known = |name: &str| table.iter().find(|(f, _)| f.trim_start_matches('!') == name);
    let given: Vec<(String, Value)> = match *file {
        "-" => {
            let Some((_, body)) = job.fields.iter().find(|(name, _)| name.is_empty()) else {
                return Some("not JSON".to_owned());
            };
            match serde_json::from_str(body) {
                Ok(Value::Object(object)) => object.into_iter().collect(),
                _ => return Some("not a JSON object".to_owned()),
            }
        }
        file => {
            if job.fields.first().is_none_or(|(name, size)| name != file || size == "0") {
                return Some(format!("the first field is not the file {file}"));
            }
            let texts = job.fields.iter().skip(1);
            texts.map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect()
        }
    };
    let missing = table.iter().filter_map(|(name, _)| name.strip_prefix('!'));
    for name in missing {
        if given.iter().all(|(given, _)| given != name) {
            return Some(format!("{name} is missing"));
        }
    }
    given.iter().find_map(|(name, value)| match known(name) {
        None => Some(format!("{name} is unknown")),
        Some((_, kind)) if is(kind, value, *file != "-") => None,
        Some((_, kind)) => Some(format!("{name} is not {kind}: {value}")),
    })
}

fn is(kind: &str, value: &Value, in_form: bool) -> bool {
    let text = value.as_str();
    match (kind, in_form) {
        ("s", _) => text.is_some(),
        ("i", true) => text.is_some_and(|t| t.parse::<i64>().is_ok()),
        // As the reference writes them.
        ("f", true) => text.is_some_and(|t| {
            t.parse::<f64>().is_ok() && t.split_once('.').is_some_and(|(_, d)| d.len() == 6)
        }),
        ("b", true) => matches!(text, Some("true" | "false")),
        ("i", false) => value.is_i64(),
        ("f", false) => value.is_number(),
        ("b", false) => value.is_boolean(),
        ("m", _) => value.as_array().is_some_and(|turns| {
            !turns.is_empty()
                && turns.iter().all(|t| t["role"].is_string() && t["content"].is_string())
        }),
        _ => false,
    }
}

/// A grey picture of 2 × 2 pixels.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAADklEQVR4nGNoAAMGCAUAKg4GARWeQtcAAAAASUVORK5CYII=";

/// A small picture that ffmpeg can read.
pub fn small_picture() -> Vec<u8> {
    STANDARD.decode(PICTURE).unwrap()
}

/// The answer to a job that is in order. Of text, how much was sent is in it.
pub fn answer(job: &Job) -> Value {
    let field = |name: &str| -> Option<Value> {
        match job.fields.iter().find(|(n, _)| n == name) {
            Some((_, text)) => Some(text.as_str().into()),
            None => serde_json::from_str::<Value>(&job.fields.first()?.1).ok()?.get(name).cloned(),
        }
    };
    let number = |name: &str| {
        let value = field(name)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    };
    let size = job.fields.first().map_or("0", |(_, size)| size);
    let picture = |seed| json!({"url": format!("data:image/png;base64,{PICTURE}"), "seed": seed, "nsfw": false});
    match job.pipeline.as_str() {
        "text-to-image" | "image-to-image" | "upscale" => {
            let count = number("num_images_per_prompt").unwrap_or(1);
            json!({"images": (0..count).map(picture).collect::<Vec<_>>()})
        }
        "image-to-video" => json!({"frames": [(0..8).map(|_| picture(7)).collect::<Vec<_>>()]}),
        "segment-anything-2" => json!({"masks": "[[1]]", "scores": "[0.5]", "logits": "[[0.1]]"}),
        "image-to-text" => json!({"text": format!("a picture of {size} bytes")}),
        "text-to-speech" => {
            json!({"audio": {"url": format!("data:audio/wav;base64,{}", STANDARD.encode(b"RIFF sound"))}})
        }
        "llm" => {
            let message = json!({"role": "assistant", "content": "one two three"});
            let choice = json!({"index": 0, "finish_reason": "stop", "message": message});
            llm(json!([choice]))
        }
        _ => {
            let text = format!("{size} bytes of speech");
            json!({"text": text, "chunks": [{"timestamp": [0.0, 1.0], "text": text}]})
        }
    }
}

/// The pieces of a streamed answer; the last one has the reason and what was used.
pub fn pieces() -> Vec<Value> {
    let piece = |word: &str, reason: Option<&str>| {
        let delta = json!({"role": "assistant", "content": word});
        llm(json!([{"index": 0, "delta": delta, "finish_reason": reason}]))
    };
    vec![piece("one ", None), piece("two ", None), piece("three", Some("stop"))]
}

fn llm(choices: Value) -> Value {
    json!({"id": "chat-1", "model": "m", "created": 1, "choices": choices,
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}})
}
