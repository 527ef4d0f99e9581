//! The nine batch pipelines: what each takes and what it answers (ai-pipelines.md sections 1 and 2).
//! Tables only; nothing here looks at a request.

use penstock_domain::Capability;

/// A batch pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pipeline {
    /// Pictures of a text.
    TextToImage,
    /// Pictures of a picture and a text.
    ImageToImage,
    /// A film of a picture.
    ImageToVideo,
    /// A larger picture.
    Upscale,
    /// Speech as text.
    AudioToText,
    /// The things in a picture.
    SegmentAnything2,
    /// Words that follow words.
    Llm,
    /// What a picture shows.
    ImageToText,
    /// Text as speech.
    TextToSpeech,
}

/// What an answer holds (ai-pipelines.md section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Pictures: files.
    Images,
    /// One film: a file; of runners its frames.
    Film,
    /// A transcript.
    Transcript,
    /// Masks, scores and logits as text.
    Masks,
    /// Words, at once or in pieces.
    Words,
    /// A text about a picture.
    Caption,
    /// Sound: a file.
    Speech,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true` or `false`.
    Bool,
    /// The turns of a conversation.
    Messages,
}

/// A field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

use Kind::{Bool, Float, Int, Messages, Text};

const TEXT_TO_IMAGE: &[Field] = &[
    field("prompt", Text),
    field("loras", Text),
    field("height", Int),
    field("width", Int),
    field("guidance_scale", Float),
    field("negative_prompt", Text),
    field("safety_check", Bool),
    field("seed", Int),
    field("num_inference_steps", Int),
    field("num_images_per_prompt", Int),
];
const IMAGE_TO_IMAGE: &[Field] = &[
    field("prompt", Text),
    field("loras", Text),
    field("strength", Float),
    field("guidance_scale", Float),
    field("image_guidance_scale", Float),
    field("negative_prompt", Text),
    field("safety_check", Bool),
    field("seed", Int),
    field("num_inference_steps", Int),
    field("num_images_per_prompt", Int),
];
const IMAGE_TO_VIDEO: &[Field] = &[
    field("height", Int),
    field("width", Int),
    field("fps", Int),
    field("motion_bucket_id", Int),
    field("noise_aug_strength", Float),
    field("safety_check", Bool),
    field("seed", Int),
    field("num_inference_steps", Int),
];
const UPSCALE: &[Field] = &[
    field("prompt", Text),
    field("safety_check", Bool),
    field("seed", Int),
    field("num_inference_steps", Int),
];
// `metadata` is the gateway's to write; what a caller sends is dropped.
const AUDIO_TO_TEXT: &[Field] = &[field("return_timestamps", Text)];
const METADATA: &[Field] = &[field("metadata", Text)];
const SEGMENT_ANYTHING_2: &[Field] = &[
    field("point_coords", Text),
    field("point_labels", Text),
    field("box", Text),
    field("mask_input", Text),
    field("multimask_output", Bool),
    field("return_logits", Bool),
    field("normalize_coords", Bool),
];
const LLM: &[Field] = &[
    field("messages", Messages),
    field("stream", Bool),
    field("max_tokens", Int),
    field("temperature", Float),
    field("top_p", Float),
    field("top_k", Int),
];
const IMAGE_TO_TEXT: &[Field] = &[field("prompt", Text)];
const TEXT_TO_SPEECH: &[Field] = &[field("text", Text), field("description", Text)];

impl Pipeline {
    /// All of them, by capability number.
    pub const ALL: [Self; 9] = [
        Self::TextToImage,
        Self::ImageToImage,
        Self::ImageToVideo,
        Self::Upscale,
        Self::AudioToText,
        Self::SegmentAnything2,
        Self::Llm,
        Self::ImageToText,
        Self::TextToSpeech,
    ];

    /// The pipeline of a capability; `None` for video and for what is live or brought.
    pub fn of(capability: Capability) -> Option<Self> {
        Self::ALL.into_iter().find(|pipeline| pipeline.capability() == capability)
    }

    /// Its numbered capability, whose name gives the pipeline's.
    pub fn capability(self) -> Capability {
        match self {
            Self::TextToImage => Capability::TextToImage,
            Self::ImageToImage => Capability::ImageToImage,
            Self::ImageToVideo => Capability::ImageToVideo,
            Self::Upscale => Capability::Upscale,
            Self::AudioToText => Capability::AudioToText,
            Self::SegmentAnything2 => Capability::SegmentAnything2,
            Self::Llm => Capability::Llm,
            Self::ImageToText => Capability::ImageToText,
            Self::TextToSpeech => Capability::TextToSpeech,
        }
    }

    /// The path, and the label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
            Self::ImageToVideo => "image-to-video",
            Self::Upscale => "upscale",
            Self::AudioToText => "audio-to-text",
            Self::SegmentAnything2 => "segment-anything-2",
            Self::Llm => "llm",
            Self::ImageToText => "image-to-text",
            Self::TextToSpeech => "text-to-speech",
        }
    }

    /// The model of a request that names none, and of an operator who sets none.
    pub fn default_model(self) -> &'static str {
        match self {
            Self::TextToImage | Self::ImageToImage => "stabilityai/sdxl-turbo",
            Self::ImageToVideo => "stabilityai/stable-video-diffusion-img2vid-xt",
            Self::Upscale => "stabilityai/stable-diffusion-x4-upscaler",
            Self::AudioToText => "openai/whisper-large-v3",
            Self::SegmentAnything2 => "facebook/sam2-hiera-large",
            Self::Llm => "meta-llama/llama-3.1-8B-Instruct",
            Self::ImageToText => "Salesforce/blip-image-captioning-large",
            Self::TextToSpeech => "parler-tts/parler-tts-large-v1",
        }
    }

    /// What the model is called in requests.
    pub fn model_field(self) -> &'static str {
        if self == Self::Llm { "model" } else { "model_id" }
    }

    /// The form's file; `None` for those that take JSON.
    pub fn file_field(self) -> Option<&'static str> {
        match self {
            Self::TextToImage | Self::Llm | Self::TextToSpeech => None,
            Self::AudioToText => Some("audio"),
            _ => Some("image"),
        }
    }

    /// The other fields, in the order in which they are sent on.
    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::TextToImage => TEXT_TO_IMAGE,
            Self::ImageToImage => IMAGE_TO_IMAGE,
            Self::ImageToVideo => IMAGE_TO_VIDEO,
            Self::Upscale => UPSCALE,
            Self::AudioToText => AUDIO_TO_TEXT,
            Self::SegmentAnything2 => SEGMENT_ANYTHING_2,
            Self::Llm => LLM,
            Self::ImageToText => IMAGE_TO_TEXT,
            Self::TextToSpeech => TEXT_TO_SPEECH,
        }
    }

    /// What gateways add to what their callers say.
    pub fn added(self) -> &'static [Field] {
        if self == Self::AudioToText { METADATA } else { &[] }
    }

    /// What its answer holds.
    pub fn answer(self) -> Answer {
        match self {
            Self::TextToImage | Self::ImageToImage | Self::Upscale => Answer::Images,
            Self::ImageToVideo => Answer::Film,
            Self::AudioToText => Answer::Transcript,
            Self::SegmentAnything2 => Answer::Masks,
            Self::Llm => Answer::Words,
            Self::ImageToText => Answer::Caption,
            Self::TextToSpeech => Answer::Speech,
        }
    }

    /// Steps of a model when a request says nothing; only those whose score counts them
    /// (ai-pipelines.md section 4).
    pub fn default_steps(self) -> Option<u64> {
        match self {
            Self::TextToImage => Some(50),
            Self::ImageToImage => Some(100),
            Self::ImageToVideo => Some(25),
            Self::Upscale => Some(75),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_capabilities() {
        for (pipeline, number) in
            Pipeline::ALL.into_iter().zip([27, 28, 29, 30, 31, 32, 33, 34, 36])
        {
            assert_eq!(pipeline.capability().number(), number);
            assert_eq!(pipeline.name(), pipeline.capability().pipeline());
            assert_eq!(Pipeline::of(pipeline.capability()), Some(pipeline));
            assert!(pipeline.fields().iter().all(|f| f.name != pipeline.model_field()));
        }
        assert_eq!(Pipeline::of(Capability::LiveVideoToVideo), None);
    }
}
