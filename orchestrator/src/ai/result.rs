//! From a worker's upload to the gateway's answer: the JSON is checked for the pipeline's shape, and
//! the files that it names get URLs (ai-pipelines.md sections 6 and 7.3). Pure: where a file goes, the
//! caller says.

use crate::limits::Limits;
use bytes::Bytes;
use penstock_wire::{
    ai::{Answer, Pipeline, data_url},
    json::{
        AiResult, CaptionAnswer, ImageAnswer, LlmAnswer, MasksAnswer, SpeechAnswer, TextAnswer,
    },
};
use thiserror::Error;

/// What a worker uploaded.
#[derive(Debug, Default)]
pub struct Upload {
    /// The pipeline's answer, JSON.
    pub answer: Bytes,
    /// The files beside it, by name.
    pub files: Vec<(String, Bytes)>,
}

/// Why an upload is no answer. The worker's fault; the gateway may try elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadResult {
    /// Another pipeline's shape, or none.
    #[error("the worker's result has not the pipeline's shape")]
    Shape,
    /// A name without a file.
    #[error("the worker's result names a file that was not uploaded")]
    File,
    /// No room, or too many.
    #[error("Could not create storage to receive results")]
    Storage,
}

/// A file of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFile {
    /// Which of the answer's, from 0.
    pub index: usize,
    /// Its media type.
    pub content_type: &'static str,
    /// What its name ends with.
    pub extension: &'static str,
    /// Its bytes.
    pub data: Bytes,
}

/// A worker's answer whose files have no place yet.
pub enum Made {
    /// Pictures, or a film.
    Images(ImageAnswer),
    /// Speech.
    Speech(SpeechAnswer),
    /// No files.
    Text(String),
}

/// Checks what a worker uploaded. The files are in the order of their index.
pub fn read(
    pipeline: Pipeline,
    upload: Upload,
    limits: &Limits,
) -> Result<(Made, Vec<MadeFile>), BadResult> {
    let Upload { answer, files } = upload;
    let mut made_files = Vec::new();
    let mut take = |url: &str, (content_type, extension)| {
        let index = made_files.len();
        made_files.push(MadeFile {
            index,
            content_type,
            extension,
            data: content(url, &files, limits)?,
        });
        Ok(())
    };
    let text = match pipeline.answer() {
        Answer::Images | Answer::Film => {
            let kind = match pipeline.answer() {
                Answer::Film => ("video/mp4", ".mp4"),
                _ => ("image/png", ".png"),
            };
            let made: ImageAnswer = shape(&answer)?;
            if made.images.is_empty() || made.images.len() > limits.ai_result_files {
                return Err(BadResult::Shape);
            }
            for image in &made.images {
                take(&image.url, kind)?;
            }
            return Ok((Made::Images(made), made_files));
        }
        Answer::Speech => {
            let made: SpeechAnswer = shape(&answer)?;
            take(&made.audio.url, ("audio/wav", ".wav"))?;
            return Ok((Made::Speech(made), made_files));
        }
        Answer::Transcript => serde_json::to_string(&shape::<TextAnswer>(&answer)?),
        Answer::Masks => serde_json::to_string(&shape::<MasksAnswer>(&answer)?),
        Answer::Words => serde_json::to_string(&shape::<LlmAnswer>(&answer)?),
        Answer::Caption => serde_json::to_string(&shape::<CaptionAnswer>(&answer)?),
    };
    let text = text.map_err(|_| BadResult::Shape)?;
    Ok((Made::Text(text), made_files))
}

impl Made {
    /// The answer with the URL of each file, in their order. A newline ends it, as the reference's do.
    pub fn at(self, urls: Vec<String>) -> Result<Bytes, BadResult> {
        let mut urls = urls.into_iter();
        let text = match self {
            Self::Images(mut made) => {
                for image in &mut made.images {
                    image.url = urls.next().ok_or(BadResult::Storage)?;
                }
                serde_json::to_string(&made)
            }
            Self::Speech(mut made) => {
                made.audio.url = urls.next().ok_or(BadResult::Storage)?;
                serde_json::to_string(&made)
            }
            Self::Text(text) => Ok(text),
        };
        let mut text = text.map_err(|_| BadResult::Shape)?;
        text.push('\n');
        Ok(text.into())
    }
}

fn shape<T: AiResult>(answer: &[u8]) -> Result<T, BadResult> {
    T::parse(answer, usize::MAX).map_err(|_| BadResult::Shape)
}

fn content(url: &str, files: &[(String, Bytes)], limits: &Limits) -> Result<Bytes, BadResult> {
    if url.starts_with("data:") {
        let data =
            data_url::decode(url, limits.ai_result_json_bytes).map_err(|_| BadResult::File)?;
        return Ok(data.into());
    }
    let found = files.iter().find(|(name, data)| name == url && !data.is_empty());
    found.map(|(_, data)| data.clone()).ok_or(BadResult::File)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(
        pipeline: Pipeline,
        given: Value,
        files: &[(&str, &'static [u8])],
    ) -> Result<String, BadResult> {
        let upload = Upload {
            answer: given.to_string().into(),
            files: files.iter().map(|(n, d)| ((*n).to_owned(), Bytes::from_static(d))).collect(),
        };
        let (made, files) = read(pipeline, upload, &Limits::default())?;
        let urls = files.into_iter().filter_map(|file| {
            let text = String::from_utf8(file.data.to_vec()).unwrap();
            (text != "full").then(|| format!("u/{}/{text}{}", file.index, file.extension))
        });
        let urls: Vec<_> = urls.collect();
        made.at(urls).map(|made| String::from_utf8(made.to_vec()).unwrap())
    }

    #[test]
    fn files_get_urls() {
        let images = json!({"images": [{"url": "b.png", "seed": 1, "nsfw": false},
            {"url": "data:image/png;base64,Yw==", "seed": 2}]});
        let files: &[(&str, &'static [u8])] = &[("a.png", b"a"), ("b.png", b"b")];
        assert_eq!(
            of(Pipeline::Upscale, images.clone(), files).unwrap(),
            "{\"images\":[{\"url\":\"u/0/b.png\",\"seed\":1,\"nsfw\":false},{\"url\":\"u/1/c.png\",\"seed\":2,\"nsfw\":false}]}\n"
        );
        assert_eq!(of(Pipeline::Upscale, images.clone(), &[]), Err(BadResult::File));
        let full: &[(&str, &'static [u8])] = &[("b.png", b"full")];
        assert_eq!(of(Pipeline::TextToImage, images, full), Err(BadResult::Storage));
        let film = json!({"images": [{"url": "f.mp4"}]});
        let made = of(Pipeline::ImageToVideo, film, &[("f.mp4", b"f")]).unwrap();
        assert!(made.contains("u/0/f.mp4"));
        let sound = of(Pipeline::TextToSpeech, json!({"audio": {"url": "s"}}), &[("s", b"s")]);
        assert_eq!(sound.unwrap(), "{\"audio\":{\"url\":\"u/0/s.wav\"}}\n");
        for url in ["http://10.0.0.1/x.png", "../x", ""] {
            let elsewhere = json!({"images": [{"url": url}]});
            assert_eq!(of(Pipeline::Upscale, elsewhere, files), Err(BadResult::File), "{url}");
        }
    }

    #[test]
    fn shapes_are_checked() {
        let texts = [
            (
                Pipeline::AudioToText,
                json!({"text": "hi", "more": 1}),
                "{\"text\":\"hi\",\"chunks\":[]}\n",
            ),
            (Pipeline::ImageToText, json!({"text": "hi"}), "{\"text\":\"hi\"}\n"),
        ];
        for (pipeline, given, expected) in texts {
            assert_eq!(of(pipeline, given, &[]).unwrap(), expected);
        }
        let masks = json!({"masks": "a", "scores": "b", "logits": "c"});
        assert!(of(Pipeline::SegmentAnything2, masks, &[]).is_ok());
        assert!(of(Pipeline::Llm, json!({"choices": [{"index": 0}]}), &[]).is_ok());
        for pipeline in Pipeline::ALL {
            for other in [json!({}), json!({"images": []}), json!(null)] {
                assert_eq!(of(pipeline, other, &[]), Err(BadResult::Shape));
            }
        }
    }
}
