//! Models as the Go node takes them without a file: `pipeline:model:warm[,…]` (ai-pipelines.md section 8.3).

/// Most models of one text.
const MAX_MODELS: usize = 256;

/// One model of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlineModel<'a> {
    /// The pipeline's name, as written.
    pub pipeline: &'a str,
    /// The model.
    pub model_id: &'a str,
    /// Loaded at start.
    pub warm: bool,
}

/// The models of a text; `None` if it is none of this kind, and so may be the name of a file. Further parts of a model are
/// ignored, as there.
pub fn inline_models(text: &str) -> Option<Vec<InlineModel<'_>>> {
    let mut models = Vec::new();
    for model in text.split(',') {
        let mut parts = model.split(':');
        let (pipeline, model_id, warm) = (parts.next()?, parts.next()?, parts.next()?);
        let warm = truth(warm)?;
        if pipeline.is_empty() || model_id.is_empty() || models.len() >= MAX_MODELS {
            return None;
        }
        models.push(InlineModel { pipeline, model_id, warm });
    }
    Some(models)
}

/// Words for yes and no, as Go reads them.
fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_nodes_form() {
        let read = |text| {
            let models = inline_models(text)?;
            Some(models.iter().map(|m| (m.pipeline, m.model_id, m.warm)).collect::<Vec<_>>())
        };
        assert_eq!(
            read("upscale:a/b:true,llm:m:F:rest"),
            Some(vec![("upscale", "a/b", true), ("llm", "m", false)])
        );
        for none in [
            "",
            "aiModels.json",
            "C:/x",
            "upscale:m",
            "upscale:m:yes",
            "llm:m:1,",
            ":m:1",
            "llm::0",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        let many = |count| vec!["llm:m:1"; count].join(",");
        assert_eq!(inline_models(&many(MAX_MODELS)).map(|m| m.len()), Some(MAX_MODELS));
        assert_eq!(inline_models(&many(MAX_MODELS + 1)), None);
    }
}
