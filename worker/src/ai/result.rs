//! From a runner's answer to the result that an orchestrator reads: JSON in the network's shape, with
//! the files that it names beside it (ai-pipelines.md section 7.3). Pure; films are [`super::film`]'s.

use crate::limits::Limits;
use bytes::Bytes;
use penstock_wire::{
    ai::{Answer, Pipeline, data_url},
    json::{
        AiResult, CaptionAnswer, ImageAnswer, LlmAnswer, MasksAnswer, SpeechAnswer, TextAnswer,
    },
};
use serde::Serialize;

/// A file of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultFile {
    /// What the JSON calls it.
    pub name: String,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub data: Bytes,
}

/// A result: files first, then the JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultParts {
    /// The files.
    pub files: Vec<ResultFile>,
    /// The answer.
    pub json: String,
}

/// The result of a runner's answer, or `None` if that has not the pipeline's shape. `name` makes
/// names that nobody has used.
pub fn parts(
    pipeline: Pipeline,
    answer: &[u8],
    limits: &Limits,
    mut name: impl FnMut() -> String,
) -> Option<ResultParts> {
    match pipeline.answer() {
        Answer::Images => {
            let mut answer: ImageAnswer = shape(answer)?;
            if answer.images.is_empty() || answer.images.len() > limits.ai_result_files {
                return None;
            }
            let mut files = Vec::with_capacity(answer.images.len());
            for image in &mut answer.images {
                let file = file(&image.url, format!("{}.png", name()), "image/png", limits)?;
                image.url.clone_from(&file.name);
                files.push(file);
            }
            Some(ResultParts { files, json: json(&answer)? })
        }
        Answer::Speech => {
            let mut answer: SpeechAnswer = shape(answer)?;
            let file = file(&answer.audio.url, format!("{}.wav", name()), "audio/wav", limits)?;
            answer.audio.url.clone_from(&file.name);
            Some(ResultParts { files: vec![file], json: json(&answer)? })
        }
        Answer::Transcript => text(&shape::<TextAnswer>(answer)?),
        Answer::Masks => text(&shape::<MasksAnswer>(answer)?),
        Answer::Words => text(&shape::<LlmAnswer>(answer)?),
        Answer::Caption => text(&shape::<CaptionAnswer>(answer)?),
        Answer::Film => None,
    }
}

fn shape<T: AiResult>(answer: &[u8]) -> Option<T> {
    T::parse(answer, usize::MAX).ok()
}

fn json(answer: &impl Serialize) -> Option<String> {
    serde_json::to_string(answer).ok()
}

fn text(answer: &impl Serialize) -> Option<ResultParts> {
    Some(ResultParts { files: Vec::new(), json: json(answer)? })
}

fn file(
    url: &str,
    name: String,
    content_type: &'static str,
    limits: &Limits,
) -> Option<ResultFile> {
    let data = data_url::decode(url, limits.ai_result_file_bytes).ok()?.into();
    Some(ResultFile { name, content_type, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(pipeline: Pipeline, answer: Value) -> Option<ResultParts> {
        let mut count = 0;
        parts(pipeline, answer.to_string().as_bytes(), &Limits::default(), || {
            count += 1;
            format!("name{count}")
        })
    }

    #[test]
    fn pictures_become_files() {
        let images: Vec<_> = [("cA==", 1), ("cQ==", 2)]
            .iter()
            .map(|(data, seed)| json!({"url": format!("data:image/png;base64,{data}"), "seed": seed, "nsfw": seed == &2}))
            .collect();
        let made = of(Pipeline::TextToImage, json!({"images": images, "more": 1})).unwrap();
        let names: Vec<_> = made.files.iter().map(|f| (f.name.as_str(), &f.data[..])).collect();
        assert_eq!(names, [("name1.png", &b"p"[..]), ("name2.png", &b"q"[..])]);
        assert_eq!(
            made.json,
            r#"{"images":[{"url":"name1.png","seed":1,"nsfw":false},{"url":"name2.png","seed":2,"nsfw":true}]}"#
        );
        for bad in [json!({"images": []}), json!({"images": [{"url": "http://x/1.png"}]})] {
            assert_eq!(of(Pipeline::Upscale, bad), None);
        }
    }

    #[test]
    fn sound_becomes_a_file() {
        let answer = json!({"audio": {"url": "data:audio/wav;base64,UklGRg=="}});
        let made = of(Pipeline::TextToSpeech, answer).unwrap();
        assert_eq!(
            (made.files[0].content_type, &made.files[0].data[..]),
            ("audio/wav", &b"RIFF"[..])
        );
        assert_eq!(made.json, r#"{"audio":{"url":"name1.wav"}}"#);
    }

    #[test]
    fn texts_have_the_networks_shape() {
        let heard = json!({"text":"hi","chunks":[{"timestamp":[0.0,1.5],"text":" hi"}],"extra":1});
        assert_eq!(
            of(Pipeline::AudioToText, heard).unwrap().json,
            r#"{"text":"hi","chunks":[{"timestamp":[0.0,1.5],"text":" hi"}]}"#
        );
        let short = of(Pipeline::AudioToText, json!({"text":""})).unwrap();
        assert_eq!(short.json, r#"{"text":"","chunks":[]}"#);
        assert!(of(Pipeline::ImageToText, json!({"text":"a cat"})).is_some());
        assert!(of(Pipeline::Llm, json!({"choices":[]})).is_some());
        let masks = json!({"masks":"[]","scores":"[]","logits":"[]"});
        assert!(of(Pipeline::SegmentAnything2, masks).is_some());
        for pipeline in Pipeline::ALL {
            for bad in [json!({}), json!({"text":3}), json!([]), json!(null)] {
                assert_eq!(of(pipeline, bad), None);
            }
        }
    }
}
