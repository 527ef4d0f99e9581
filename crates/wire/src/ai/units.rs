//! What a job costs in units (ai-pipelines.md section 4). One function for who pays and for who is
//! paid: if their numbers differed, the balance would drift. Pure.
//!
//! Text to speech: the reference's gateway counts bytes and its orchestrator 1000 × characters, so
//! that the gateway pays a thousandth of what is debited. Here both count as the orchestrator does.

use super::{
    image_size::image_size,
    pipeline::Pipeline,
    request::{AiRequest, BadRequest},
};

/// Frames of a film, for its price.
const FRAMES: u64 = 25;
/// Longest side of a picture that is asked for.
const MAX_SIDE: u64 = 65_535;
/// Units of a second of sound, and of a character that is spoken.
const PER_SECOND: u64 = 1_000;
const PER_CHARACTER: u64 = 1_000;

/// Units of a request, above 0. `duration_s` is that of the file, in whole seconds, if it is sound.
pub fn units(request: &AiRequest, duration_s: u64) -> Result<u64, BadRequest> {
    let units = match request.pipeline {
        Pipeline::TextToImage => {
            let [height, width] = sides(request, [512, 512])?;
            product([height, width, pictures(request)?])
        }
        Pipeline::ImageToImage => {
            let [width, height] = picture(request)?;
            product([height, width, pictures(request)?])
        }
        Pipeline::Upscale | Pipeline::SegmentAnything2 | Pipeline::ImageToText => {
            product(picture(request)?)
        }
        Pipeline::ImageToVideo => {
            let [height, width] = sides(request, [576, 1_024])?;
            product([height, width, FRAMES])
        }
        Pipeline::AudioToText if duration_s == 0 => {
            return Err(BadRequest::Duration("less than a second of audio".into()));
        }
        Pipeline::AudioToText => product([duration_s, PER_SECOND]),
        Pipeline::Llm if request.get("max_tokens").is_none() => return Err(BadRequest::MaxTokens),
        Pipeline::Llm => Some(positive(request, "max_tokens")?),
        Pipeline::TextToSpeech => {
            let text = request.text("text").filter(|text| !text.is_empty());
            product([text.ok_or(BadRequest::Text)?.chars().count() as u64, PER_CHARACTER])
        }
    };
    units.filter(|units| *units > 0).ok_or(BadRequest::TooMuch)
}

fn product<const N: usize>(factors: [u64; N]) -> Option<u64> {
    // Signers count in signed 64-bit numbers.
    let all = factors.into_iter().try_fold(1_u64, u64::checked_mul)?;
    i64::try_from(all).is_ok().then_some(all)
}

/// Height and width, or the defaults.
fn sides(request: &AiRequest, defaults: [u64; 2]) -> Result<[u64; 2], BadRequest> {
    let side = |name, default| match request.get(name) {
        None => Ok(default),
        Some(_) => positive(request, name)
            .and_then(|n| (n <= MAX_SIDE).then_some(n).ok_or(BadRequest::TooMuch)),
    };
    Ok([side("height", defaults[0])?, side("width", defaults[1])?])
}

fn positive(request: &AiRequest, name: &'static str) -> Result<u64, BadRequest> {
    let number = request.int(name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or(BadRequest::Kind { name, expected: "a whole number above 0" })
}

/// `num_images_per_prompt`: at least 1, whatever is said.
fn pictures(request: &AiRequest) -> Result<u64, BadRequest> {
    let said = request.int("num_images_per_prompt").unwrap_or(1).max(1);
    u64::try_from(said).map_err(|_| BadRequest::TooMuch)
}

fn picture(request: &AiRequest) -> Result<[u64; 2], BadRequest> {
    let file = request.file.as_ref().ok_or(BadRequest::Missing("image"))?;
    let (width, height) = image_size(&file.data).ok_or(BadRequest::Image)?;
    Ok([width.into(), height.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::{FieldValue, Upload};
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn of(pipeline: Pipeline, fields: Value) -> Result<u64, BadRequest> {
        let mut request = AiRequest::read_object(pipeline, fields.as_object().unwrap()).unwrap();
        let data = Bytes::from_static(b"GIF89a\x40\x01\xf0\0");
        request.file = pipeline.file_field().map(|_| Upload { name: "f".into(), data });
        units(&request, 5)
    }

    #[test]
    fn the_documented_ones() {
        let t2i = |fields| of(Pipeline::TextToImage, fields);
        assert_eq!(t2i(json!({})), Ok(262_144), "512 × 512 × 1");
        assert_eq!(
            t2i(json!({"height": 100, "width": 200, "num_images_per_prompt": 3})),
            Ok(60_000)
        );
        assert_eq!(t2i(json!({"num_images_per_prompt": 0})), Ok(262_144), "no free work");
        let two = json!({"num_images_per_prompt": 2});
        assert_eq!(of(Pipeline::ImageToImage, two), Ok(153_600), "320 × 240 × 2");
        for pipeline in [Pipeline::Upscale, Pipeline::SegmentAnything2, Pipeline::ImageToText] {
            assert_eq!(of(pipeline, json!({})), Ok(76_800));
        }
        assert_eq!(of(Pipeline::ImageToVideo, json!({})), Ok(14_745_600), "576 × 1024 × 25");
        let small = json!({"height": 16, "width": 16});
        assert_eq!(of(Pipeline::ImageToVideo, small), Ok(6_400));
        assert_eq!(of(Pipeline::AudioToText, json!({})), Ok(5_000));
        assert_eq!(of(Pipeline::Llm, json!({"max_tokens": 256})), Ok(256));
        assert_eq!(of(Pipeline::TextToSpeech, json!({"text": "Größe"})), Ok(5_000), "characters");
    }

    #[test]
    fn what_has_no_price() {
        let says = |pipeline, fields| of(pipeline, fields).unwrap_err().to_string();
        assert_eq!(says(Pipeline::Llm, json!({})), "MaxTokens not specified");
        assert!(says(Pipeline::Llm, json!({"max_tokens": 0})).contains("max_tokens"));
        assert_eq!(says(Pipeline::TextToSpeech, json!({})), "text field is required");
        for bad in [
            json!({"height": 0}),
            json!({"width": -1}),
            json!({"height": 65_536}),
            json!({"num_images_per_prompt": i64::MAX}),
        ] {
            assert!(of(Pipeline::TextToImage, bad.clone()).is_err(), "{bad}");
        }
        let webp = Upload { name: "f".into(), data: Bytes::from_static(b"RIFF\0\0\0\0WEBP") };
        let prompt = [("prompt", FieldValue::Text(String::new()))];
        let request = AiRequest::of_values(Pipeline::Upscale, None, Some(webp), prompt).unwrap();
        assert_eq!(units(&request, 0), Err(BadRequest::Image));
        let silence =
            AiRequest::read_object(Pipeline::AudioToText, &serde_json::Map::new()).unwrap();
        assert!(units(&silence, 0).is_err());
    }
}
