//! What a job costs in units and how its speed is scored (ai-pipelines.md section 4). Pure.

use super::{
    pipeline::Pipeline,
    request::{AiRequest, BadRequest},
};
use penstock_wire::ai::units::units;

/// A job's price in units, and what its time is divided by for its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Units, above 0.
    pub units: u64,
    /// Seconds per this much are the latency score; llm's is divided by the tokens of the answer.
    pub score_divisor: f64,
}

/// Measures a request whose defaults are filled in. `duration_ms` is that of the file, if it is sound.
pub fn measure(
    request: &AiRequest,
    model: &str,
    duration_ms: Option<u64>,
) -> Result<Measure, BadRequest> {
    let units = units(request, duration_ms.unwrap_or_default() / 1_000)?;
    let score_divisor = match request.pipeline {
        Pipeline::AudioToText => units as f64 / 1_000.0,
        Pipeline::Llm => 1.0,
        _ => units as f64 * steps(request, model),
    };
    Ok(Measure { units, score_divisor })
}

/// Steps that the model takes; 1 for those that have none.
fn steps(request: &AiRequest, model: &str) -> f64 {
    let Some(default) = request.pipeline.default_steps() else { return 1.0 };
    let lightning = matches!(request.pipeline, Pipeline::TextToImage | Pipeline::ImageToImage)
        && model.starts_with("ByteDance/SDXL-Lightning");
    if lightning {
        return lightning_steps(model).unwrap_or(8) as f64;
    }
    request.int("num_inference_steps").map_or(default as f64, |n| n.max(1) as f64)
}

/// The number before `step` in a name such as `…_4step_unet`.
fn lightning_steps(model: &str) -> Option<u32> {
    let (before, _) = model.split_once("step")?;
    let (_, digits) = before.rsplit_once('_')?;
    digits.parse().ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ai::request::{FieldValue, Upload};
    use bytes::Bytes;

    fn of(pipeline: Pipeline, fields: &[(&'static str, FieldValue)]) -> AiRequest {
        let image = b"GIF89a\x40\x01\xf0\0";
        let file = pipeline
            .file_field()
            .map(|_| Upload { name: "f".into(), data: Bytes::from_static(image) });
        AiRequest::of_values(pipeline, None, file, fields.to_vec()).unwrap()
    }

    fn int(name: &'static str, value: i64) -> (&'static str, FieldValue) {
        (name, FieldValue::Int(value))
    }

    fn prompt() -> (&'static str, FieldValue) {
        ("prompt", FieldValue::Text("a".into()))
    }

    #[test]
    fn units_are_the_documented_ones() {
        let units = |request: &AiRequest| measure(request, "m", Some(5_855)).map(|m| m.units);
        let mut fields = vec![prompt(), int("height", 512), int("width", 512)];
        assert_eq!(units(&of(Pipeline::TextToImage, &fields)), Ok(262_144));
        fields.push(int("num_images_per_prompt", 3));
        assert_eq!(units(&of(Pipeline::TextToImage, &fields)), Ok(786_432));
        fields[3] = int("num_images_per_prompt", 0);
        assert_eq!(units(&of(Pipeline::TextToImage, &fields)), Ok(262_144));
        let two = [prompt(), int("num_images_per_prompt", 2)];
        assert_eq!(units(&of(Pipeline::ImageToImage, &two)), Ok(153_600));
        assert_eq!(units(&of(Pipeline::Upscale, &[prompt()])), Ok(76_800));
        assert_eq!(units(&of(Pipeline::SegmentAnything2, &[])), Ok(76_800));
        assert_eq!(units(&of(Pipeline::ImageToText, &[])), Ok(76_800));
        let film = [int("height", 576), int("width", 1_024)];
        assert_eq!(units(&of(Pipeline::ImageToVideo, &film)), Ok(14_745_600));
        assert_eq!(units(&of(Pipeline::AudioToText, &[])), Ok(5_000));
        let text = ("text", FieldValue::Text("Größe".into()));
        assert_eq!(units(&of(Pipeline::TextToSpeech, &[text])), Ok(5_000));
        let turn = FieldValue::Messages(vec![("user".into(), "hi".into())]);
        let chat = [("messages", turn), int("max_tokens", 256)];
        assert_eq!(units(&of(Pipeline::Llm, &chat)), Ok(256));
    }

    #[test]
    fn sizes_beyond_reason_have_no_price() {
        let bad = |fields: &[(&'static str, FieldValue)]| {
            let mut all = vec![prompt()];
            all.extend(fields.iter().cloned());
            assert!(measure(&of(Pipeline::TextToImage, &all), "m", None).is_err(), "{fields:?}");
        };
        bad(&[int("height", 0), int("width", 512)]);
        bad(&[int("height", -1), int("width", 512)]);
        bad(&[int("height", 65_536), int("width", 512)]);
        bad(&[int("height", 512), int("width", 512), int("num_images_per_prompt", i64::MAX)]);
        let silent = of(Pipeline::AudioToText, &[]);
        assert!(measure(&silent, "m", Some(999)).is_err());
        assert!(measure(&silent, "m", None).is_err());
    }

    #[test]
    fn scores_count_steps() {
        let fields = [prompt(), int("height", 2), int("width", 2)];
        let divisor = |fields: &[_], model: &str| {
            measure(&of(Pipeline::TextToImage, fields), model, None).unwrap().score_divisor
        };
        assert_eq!(divisor(&fields, "m"), 200.0);
        let zero: Vec<_> = fields.iter().cloned().chain([int("num_inference_steps", 0)]).collect();
        assert_eq!(divisor(&zero, "m"), 4.0);
        assert_eq!(divisor(&fields, "ByteDance/SDXL-Lightning_4step_unet"), 16.0);
        assert_eq!(divisor(&fields, "ByteDance/SDXL-Lightning"), 32.0);
        let sound = of(Pipeline::AudioToText, &[]);
        assert_eq!(measure(&sound, "m", Some(5_855)).unwrap().score_divisor, 5.0);
    }
}
