//! What a container of a model on a card is called, made from and told. Pure.

use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Image of pipelines that have none of their own.
const DEFAULT_IMAGE: &str = "livepeer/ai-runner:latest";
/// Pipelines with an image of their own, under their name.
const OWN_IMAGE: [&str; 4] = ["segment-anything-2", "text-to-speech", "audio-to-text", "llm"];
/// Applications of the live pipeline that the network's project publishes.
const LIVE_APPS: [&str; 9] = [
    "streamdiffusion",
    "streamdiffusion-sd15",
    "streamdiffusion-sd15-v2v",
    "streamdiffusion-sdxl",
    "streamdiffusion-sdxl-v2v",
    "streamdiffusion-sdxl-faceid",
    "comfyui",
    "segment_anything_2",
    "noop",
];
const LIVE: &str = "live-video-to-video";
const SCOPE_IMAGE: &str = "daydreamlive/scope-runner";
/// First two digits of the ports of a pipeline's containers.
const PORTS: [(&str, &str); 10] = [
    ("text-to-image", "80"),
    ("image-to-image", "81"),
    ("image-to-video", "82"),
    ("upscale", "83"),
    ("audio-to-text", "84"),
    ("llm", "85"),
    ("segment-anything-2", "86"),
    ("image-to-text", "87"),
    ("text-to-speech", "88"),
    (LIVE, "89"),
];

/// A place for one container: a card, a part of one, or no card at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gpu {
    /// The card; `None` on a machine without.
    card: Option<u32>,
    /// Which of the containers that share the card, if several do.
    share: Option<u32>,
}

impl Gpu {
    /// The card that the container is given.
    pub fn card(&self) -> Option<u32> {
        self.card
    }

    /// Last digits of the port: the share, then the card's number.
    fn offset(&self) -> String {
        format!("{}{}", self.share.unwrap_or(0), self.card.unwrap_or(0))
    }
}

/// As the reference writes them: `0`, `colocated-1-0`, `emulated-0`.
impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(share) = self.share {
            write!(f, "colocated-{share}-")?;
        }
        match self.card {
            Some(card) => write!(f, "{card}"),
            None => f.write_str("emulated-0"),
        }
    }
}

/// All places: `per_card` on each card, or as many on a machine without one.
pub fn gpus(cards: &[u32], per_card: u32) -> Vec<Gpu> {
    let cards: Vec<Option<u32>> = match cards {
        [] => vec![None],
        cards => cards.iter().copied().map(Some).collect(),
    };
    if per_card <= 1 {
        return cards.into_iter().map(|card| Gpu { card, share: None }).collect();
    }
    let places = (0..per_card).flat_map(|share| cards.iter().map(move |card| (share, *card)));
    places.map(|(share, card)| Gpu { card, share: Some(share) }).collect()
}

/// Which image a model's container is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Instead of the default image.
    #[serde(default)]
    default: String,
    /// By pipeline.
    #[serde(default)]
    batch: BTreeMap<String, String>,
    /// By model of the live pipeline.
    #[serde(default)]
    live: BTreeMap<String, String>,
}

/// The overrides cannot be used.
#[derive(Debug, Error)]
#[error("not JSON like {{\"default\":…,\"batch\":{{pipeline:…}},\"live\":{{model:…}}}}: {0}")]
pub struct ImagesError(#[from] serde_json::Error);

impl Images {
    /// Reads the reference's `-aiRunnerImageOverrides`.
    pub fn parse(text: &str) -> Result<Self, ImagesError> {
        // A list would pass for an object without names.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        Ok(serde_json::from_value(object.into())?)
    }

    /// The same with another default image, unless there is one.
    pub fn or_default(mut self, image: &str) -> Self {
        if self.default.is_empty() {
            self.default = image.to_owned();
        }
        self
    }

    /// The image of a model; `None`: there is none for this live model.
    pub fn of(&self, pipeline: &str, model_id: &str) -> Option<String> {
        if pipeline == LIVE {
            let published = || match model_id {
                "scope" => Some(SCOPE_IMAGE.to_owned()),
                app if LIVE_APPS.contains(&app) => {
                    Some(format!("livepeer/ai-runner:live-app-{app}"))
                }
                _ => None,
            };
            return self.live.get(model_id).cloned().or_else(published);
        }
        Some(match self.batch.get(pipeline) {
            Some(image) => image.clone(),
            None if OWN_IMAGE.contains(&pipeline) => format!("livepeer/ai-runner:{pipeline}"),
            None if !self.default.is_empty() => self.default.clone(),
            None => DEFAULT_IMAGE.to_owned(),
        })
    }
}

/// What somebody wants a container for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The pipeline.
    pub pipeline: &'a str,
    /// The model.
    pub model_id: &'a str,
    /// Settings of the runner, by name of an environment variable.
    pub flags: &'a BTreeMap<String, String>,
    /// Where it is to run.
    pub gpu: &'a Gpu,
    /// The folder of models on this machine.
    pub models_dir: &'a Path,
    /// Let the runner say more.
    pub verbose: bool,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Port of the runner on this machine's loopback address.
    pub port: u16,
    /// The card it is given.
    pub card: Option<u32>,
    /// The folder of models on this machine.
    pub models_dir: PathBuf,
}

/// A container that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A live model that nobody publishes an image for.
    #[error("no container image is known for {0}; name one in --ai-runner-image-overrides")]
    NoImage(String),
    /// A pipeline that is not run in containers.
    #[error("pipeline {0} is not run in containers")]
    Pipeline(String),
    /// Its number makes no port.
    #[error("place {0} has no port: at most 10 containers a card, on cards 0 to 9")]
    Port(String),
}

/// The container for what is wanted.
pub fn plan(images: &Images, wanted: &Wanted<'_>) -> Result<Plan, PlanError> {
    let Wanted { pipeline, model_id, .. } = *wanted;
    let first = PORTS.iter().find(|(name, _)| *name == pipeline).map(|(_, digits)| digits);
    let first = first.ok_or_else(|| PlanError::Pipeline(pipeline.to_owned()))?;
    let offset = wanted.gpu.offset();
    let port = (offset.len() == 2).then(|| format!("{first}{offset}").parse().ok()).flatten();
    let port: u16 = port.ok_or_else(|| PlanError::Port(wanted.gpu.to_string()))?;
    let image =
        images.of(pipeline, model_id).ok_or_else(|| PlanError::NoImage(model_id.to_owned()))?;
    let ours: BTreeSet<_> = ["PIPELINE", "MODEL_ID"].into();
    let mut env = vec![format!("PIPELINE={pipeline}"), format!("MODEL_ID={model_id}")];
    let flags = wanted.flags.iter().filter(|(name, _)| !ours.contains(name.as_str()));
    env.extend(flags.map(|(name, value)| format!("{name}={value}")));
    if wanted.verbose {
        env.push("VERBOSE_LOGGING=1".to_owned());
    }
    Ok(Plan {
        name: format!("{pipeline}_{}_{port}", model_id.replace(['/', '_'], "-")),
        image,
        env,
        port,
        card: wanted.gpu.card(),
        models_dir: wanted.models_dir.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(cards: &[u32], per_card: u32) -> Vec<String> {
        gpus(cards, per_card).iter().map(Gpu::to_string).collect()
    }

    #[test]
    fn places_are_named_as_the_reference_names_them() {
        assert_eq!(names(&[0, 2], 1), ["0", "2"]);
        assert_eq!(
            names(&[0, 1], 2),
            ["colocated-0-0", "colocated-0-1", "colocated-1-0", "colocated-1-1"]
        );
        assert_eq!(names(&[], 1), ["emulated-0"]);
        assert_eq!(names(&[], 2), ["colocated-0-emulated-0", "colocated-1-emulated-0"]);
    }

    #[test]
    fn images_and_their_overrides() {
        let plain = Images::default();
        let of = |images: &Images, pipeline: &str, model: &str| images.of(pipeline, model);
        for (pipeline, model, image) in [
            ("text-to-image", "m", "livepeer/ai-runner:latest"),
            ("audio-to-text", "m", "livepeer/ai-runner:audio-to-text"),
            ("llm", "m", "livepeer/ai-runner:llm"),
            (LIVE, "noop", "livepeer/ai-runner:live-app-noop"),
            (LIVE, "scope", "daydreamlive/scope-runner"),
        ] {
            assert_eq!(of(&plain, pipeline, model).as_deref(), Some(image));
        }
        assert_eq!(of(&plain, LIVE, "m"), None);
        let text = r#"{"default":"d","batch":{"llm":"b"},"live":{"noop":"l","m":"n"}}"#;
        let other = Images::parse(text).unwrap();
        for (pipeline, model, image) in [
            ("text-to-image", "m", "d"),
            ("audio-to-text", "m", "livepeer/ai-runner:audio-to-text"),
            ("llm", "m", "b"),
            (LIVE, "noop", "l"),
            (LIVE, "m", "n"),
        ] {
            assert_eq!(of(&other, pipeline, model).as_deref(), Some(image));
        }
        assert_eq!(of(&plain.or_default("x"), "upscale", "m").as_deref(), Some("x"));
        assert_eq!(of(&other.or_default("x"), "upscale", "m").as_deref(), Some("d"));
        assert!(Images::parse(r#"{"bach":{}}"#).is_err() && Images::parse("[]").is_err());
    }

    fn planned(pipeline: &str, model_id: &str, gpu: &Gpu) -> Result<Plan, PlanError> {
        let flags = BTreeMap::from([("STEPS".to_owned(), "4".to_owned())]);
        let wanted = Wanted {
            pipeline,
            model_id,
            flags: &flags,
            gpu,
            models_dir: Path::new("/m"),
            verbose: true,
        };
        plan(&Images::default(), &wanted)
    }

    #[test]
    fn names_ports_and_environment() {
        let card = Gpu { card: Some(3), share: None };
        let p = planned("text-to-image", "ByteDance/SDXL_Lightning", &card).unwrap();
        assert_eq!(p.name, "text-to-image_ByteDance-SDXL-Lightning_8003");
        assert_eq!((p.port, p.card), (8003, Some(3)));
        assert_eq!(
            p.env,
            [
                "PIPELINE=text-to-image",
                "MODEL_ID=ByteDance/SDXL_Lightning",
                "STEPS=4",
                "VERBOSE_LOGGING=1"
            ]
        );
        let shared = Gpu { card: Some(1), share: Some(2) };
        assert_eq!(planned("llm", "m", &shared).unwrap().port, 8521);
        let none = Gpu { card: None, share: None };
        assert_eq!((planned("upscale", "m", &none).unwrap().port), 8300);
        for bad in [Gpu { card: Some(10), share: None }, Gpu { card: None, share: Some(10) }] {
            assert!(matches!(planned("llm", "m", &bad), Err(PlanError::Port(_))));
        }
        assert!(matches!(planned("byoc", "m", &card), Err(PlanError::Pipeline(_))));
        assert!(matches!(planned(LIVE, "m", &card), Err(PlanError::NoImage(_))));
    }
}
