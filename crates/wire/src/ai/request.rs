//! A request for a batch pipeline, read from JSON or from a form and checked: known fields only, of
//! the right kind. What is wrong is the caller's to change.

use super::pipeline::{Field, Kind, Pipeline};
use bytes::Bytes;
use serde_json::{Map, Number, Value, json};
use thiserror::Error;

/// Most turns of a conversation.
const MAX_MESSAGES: usize = 1_024;

/// A request that cannot be served. The texts are the reference's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRequest {
    /// A JSON body that is none, or not an object.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// llm without what it needs.
    #[error("missing required fields")]
    LlmFields,
    /// llm without a bound, which is its price; the orchestrator's words.
    #[error("MaxTokens not specified")]
    MaxTokens,
    /// text-to-speech without text.
    #[error("text field is required")]
    Text,
    /// Something else is missing.
    #[error("field {0} is required")]
    Missing(&'static str),
    /// A file without content.
    #[error("field {0} is empty")]
    Empty(&'static str),
    /// Not what the field holds.
    #[error("field {name} must be {expected}")]
    Kind {
        /// Which.
        name: &'static str,
        /// What.
        expected: &'static str,
    },
    /// Not one of the values that the field may have.
    #[error("return_timestamps must be true, false or word")]
    Timestamps,
    /// The picture's size decides the price, and cannot be read.
    #[error("image size calculation failed: not a PNG, JPEG or GIF picture")]
    Image,
    /// The sound's length decides the price, and cannot be read.
    #[error("audio duration calculation failed: {0}")]
    Duration(String),
    /// A size or number of pictures beyond reason.
    #[error("the job is too large to be priced")]
    TooMuch,
    /// The model's name.
    #[error("model_id must be at most 61 printable characters")]
    Model,
}

/// A file as uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The client's name for it, made safe.
    pub name: String,
    /// Its bytes.
    pub data: Bytes,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number, as it was written.
    Float(Number),
    /// `true` or `false`.
    Bool(bool),
    /// Role and content of each turn.
    Messages(Vec<(String, String)>),
}

/// A request, checked for its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct AiRequest {
    /// What for.
    pub pipeline: Pipeline,
    /// The model, if one is named.
    pub model: Option<String>,
    /// The file, of pipelines that take one.
    pub file: Option<Upload>,
    /// The other fields, in their order; absent ones are absent.
    fields: Vec<(&'static str, FieldValue)>,
}

impl AiRequest {
    /// A caller's JSON request, with everything that it must have.
    pub fn from_json(pipeline: Pipeline, body: &[u8]) -> Result<Self, BadRequest> {
        let object = object(body)?;
        let given = |name: &str| object.get(name).filter(|value| !value.is_null());
        if pipeline == Pipeline::Llm
            && ["model", "stream", "max_tokens"].iter().any(|name| given(name).is_none())
        {
            return Err(BadRequest::LlmFields);
        }
        Self::of_object(pipeline, &object, pipeline.fields().iter())?.checked()
    }

    /// Another node's JSON request: the kinds are checked, and nothing is missed. What a runner may
    /// find wanting is the runner's to say, in words that gateways know.
    pub fn read_json(pipeline: Pipeline, body: &[u8]) -> Result<Self, BadRequest> {
        Self::read_object(pipeline, &object(body)?)
    }

    /// The same of a document that was read before.
    pub fn read_object(
        pipeline: Pipeline,
        object: &Map<String, Value>,
    ) -> Result<Self, BadRequest> {
        Self::of_object(pipeline, object, pipeline.fields().iter().chain(pipeline.added()))
    }

    fn of_object<'f>(
        pipeline: Pipeline,
        object: &Map<String, Value>,
        fields: impl Iterator<Item = &'f Field>,
    ) -> Result<Self, BadRequest> {
        let given = |name: &str| object.get(name).filter(|value| !value.is_null());
        let model = given(pipeline.model_field()).map(|v| of_json(MODEL, v)).transpose()?;
        let read = |field: &Field| Some((field.name, of_json(*field, given(field.name)?)));
        Self::shaped(pipeline, model, None, fields.filter_map(read))
    }

    /// A caller's form: texts by name, and the file.
    pub fn from_form(
        pipeline: Pipeline,
        texts: &[(String, String)],
        file: Option<Upload>,
    ) -> Result<Self, BadRequest> {
        Self::of_texts(pipeline, texts, file, pipeline.fields().iter())?.checked()
    }

    /// Another node's form, as [`Self::read_json`].
    pub fn read_form(
        pipeline: Pipeline,
        texts: &[(String, String)],
        file: Option<Upload>,
    ) -> Result<Self, BadRequest> {
        Self::of_texts(pipeline, texts, file, pipeline.fields().iter().chain(pipeline.added()))
    }

    fn of_texts<'f>(
        pipeline: Pipeline,
        texts: &[(String, String)],
        file: Option<Upload>,
        fields: impl Iterator<Item = &'f Field>,
    ) -> Result<Self, BadRequest> {
        let given = |name: &str| texts.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let model = given(pipeline.model_field()).map(|v| FieldValue::Text(v.to_owned()));
        // An empty number or switch says nothing, as an input of a page that was left alone.
        let said = |field: &Field| {
            given(field.name).filter(|v| field.kind == Kind::Text || !v.trim().is_empty())
        };
        let read = |field: &Field| Some((field.name, of_text(*field, said(field)?)));
        Self::shaped(pipeline, model, file, fields.filter_map(read))
    }

    /// From values, for callers that speak another dialect.
    pub fn of_values(
        pipeline: Pipeline,
        model: Option<String>,
        file: Option<Upload>,
        fields: impl IntoIterator<Item = (&'static str, FieldValue)>,
    ) -> Result<Self, BadRequest> {
        let fields = fields.into_iter().map(|(name, value)| (name, Ok(value)));
        Self::shaped(pipeline, model.map(FieldValue::Text), file, fields)?.checked()
    }

    fn shaped(
        pipeline: Pipeline,
        model: Option<FieldValue>,
        file: Option<Upload>,
        fields: impl Iterator<Item = (&'static str, Result<FieldValue, BadRequest>)>,
    ) -> Result<Self, BadRequest> {
        let fields: Vec<_> = fields.map(|(n, v)| Ok((n, v?))).collect::<Result<_, _>>()?;
        let model = match model {
            Some(FieldValue::Text(model)) if !model.is_empty() => Some(model),
            _ => None,
        };
        Ok(Self { pipeline, model, file, fields })
    }

    fn checked(mut self) -> Result<Self, BadRequest> {
        self.check()?;
        Ok(self)
    }

    fn check(&mut self) -> Result<(), BadRequest> {
        if let Some(name) = self.pipeline.file_field() {
            let file = self.file.as_ref().ok_or(BadRequest::Missing(name))?;
            if file.data.is_empty() {
                return Err(BadRequest::Empty(name));
            }
        }
        match self.pipeline {
            Pipeline::TextToImage | Pipeline::ImageToImage | Pipeline::Upscale
                if self.text("prompt").is_none() =>
            {
                return Err(BadRequest::Missing("prompt"));
            }
            Pipeline::TextToSpeech if self.text("text").is_none_or(str::is_empty) => {
                return Err(BadRequest::Text);
            }
            Pipeline::Llm if self.messages().is_empty() => return Err(BadRequest::LlmFields),
            Pipeline::AudioToText => {
                // The form's way to say nothing.
                self.fields.retain(|(_, v)| *v != FieldValue::Text(String::new()));
                let value = self.text("return_timestamps").unwrap_or("true");
                if !matches!(value, "true" | "false" | "word") {
                    return Err(BadRequest::Timestamps);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// A text field.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            FieldValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            FieldValue::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// Whether the answer is to come in pieces.
    pub fn wants_stream(&self) -> bool {
        self.get("stream") == Some(&FieldValue::Bool(true))
    }

    fn messages(&self) -> &[(String, String)] {
        match self.get("messages") {
            Some(FieldValue::Messages(messages)) => messages,
            _ => &[],
        }
    }

    /// Sets a field that the request leaves open.
    pub fn fill(&mut self, name: &'static str, value: FieldValue) {
        if self.get(name).is_none() {
            self.fields.push((name, value));
            self.order();
        }
    }

    /// Puts the fields in the order of the table again.
    fn order(&mut self) {
        let table = || self.pipeline.fields().iter().chain(self.pipeline.added());
        self.fields.sort_by_key(|(name, _)| table().position(|f| f.name == *name));
    }

    /// Sets a whole number that is missing or too small.
    pub fn at_least(&mut self, name: &'static str, least: i64) {
        match self.fields.iter_mut().find(|(n, _)| *n == name) {
            Some((_, FieldValue::Int(int))) => *int = (*int).max(least),
            Some(_) => {}
            None => self.fill(name, FieldValue::Int(least)),
        }
    }

    /// The body of a JSON pipeline: the model and what was given (section 3: absent stays absent).
    pub fn to_json(&self, model: &str) -> Bytes {
        Value::Object(self.to_object(model)).to_string().into()
    }

    /// The same as a document, without the file.
    pub fn to_object(&self, model: &str) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert(self.pipeline.model_field().to_owned(), model.into());
        for (name, value) in &self.fields {
            let value = match value {
                FieldValue::Text(text) => text.as_str().into(),
                FieldValue::Int(int) => (*int).into(),
                FieldValue::Float(number) => Value::Number(number.clone()),
                FieldValue::Bool(bool) => (*bool).into(),
                FieldValue::Messages(messages) => messages
                    .iter()
                    .map(|(role, content)| json!({ "role": role, "content": content }))
                    .collect(),
            };
            object.insert((*name).to_owned(), value);
        }
        object
    }

    /// The text fields of a form: floats with 6 decimals (section 3).
    pub fn to_form(&self, model: &str) -> Vec<(&'static str, String)> {
        let mut fields = vec![(self.pipeline.model_field(), model.to_owned())];
        for (name, value) in &self.fields {
            let text = match value {
                FieldValue::Text(text) => text.clone(),
                FieldValue::Int(int) => int.to_string(),
                FieldValue::Float(number) => format!("{:.6}", number.as_f64().unwrap_or_default()),
                FieldValue::Bool(bool) => bool.to_string(),
                // No form pipeline has a conversation.
                FieldValue::Messages(_) => continue,
            };
            fields.push((name, text));
        }
        fields
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, BadRequest> {
    serde_json::from_slice(body).map_err(|e| BadRequest::Json(e.to_string()))
}

const MODEL: Field = Field { name: "model_id", kind: Kind::Text };

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Int => "a whole number",
        Kind::Float => "a number",
        Kind::Bool => "true or false",
        Kind::Messages => "a list of messages with role and content",
    }
}

fn of_json(field: Field, value: &Value) -> Result<FieldValue, BadRequest> {
    let found = match (field.kind, value) {
        (Kind::Text, Value::String(text)) => Some(FieldValue::Text(text.clone())),
        (Kind::Int, Value::Number(number)) => number.as_i64().map(FieldValue::Int),
        (Kind::Float, Value::Number(number)) => finite(number).map(FieldValue::Float),
        (Kind::Bool, Value::Bool(bool)) => Some(FieldValue::Bool(*bool)),
        (Kind::Messages, Value::Array(list)) if list.len() <= MAX_MESSAGES => {
            list.iter().map(message).collect::<Option<_>>().map(FieldValue::Messages)
        }
        _ => None,
    };
    found.ok_or(BadRequest::Kind { name: field.name, expected: expected(field.kind) })
}

fn message(value: &Value) -> Option<(String, String)> {
    let text = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        None | Some(Value::Null) => Some(String::new()),
        Some(_) => None,
    };
    value.is_object().then(|| Some((text("role")?, text("content")?)))?
}

fn of_text(field: Field, text: &str) -> Result<FieldValue, BadRequest> {
    let trimmed = text.trim();
    let found = match field.kind {
        Kind::Text => Some(FieldValue::Text(text.to_owned())),
        Kind::Int => trimmed.parse().ok().map(FieldValue::Int),
        Kind::Float => {
            trimmed.parse::<f64>().ok().and_then(Number::from_f64).map(FieldValue::Float)
        }
        // The words of Go's parser, which are more than ours: True, 1, …
        Kind::Bool => match trimmed {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Some(FieldValue::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Some(FieldValue::Bool(false)),
            _ => None,
        },
        Kind::Messages => None,
    };
    found.ok_or(BadRequest::Kind { name: field.name, expected: expected(field.kind) })
}

fn finite(number: &Number) -> Option<Number> {
    number.as_f64().filter(|n| n.is_finite()).map(|_| number.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(pipeline: Pipeline, body: Value) -> Result<AiRequest, BadRequest> {
        AiRequest::from_json(pipeline, body.to_string().as_bytes())
    }

    fn texts(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn file() -> Option<Upload> {
        Some(Upload { name: "f".into(), data: Bytes::from_static(b"x") })
    }

    #[test]
    fn known_fields_go_on_as_they_came() {
        let body = json!({"prompt": "a cat", "width": 640, "guidance_scale": 7.25, "seed": null,
            "model_id": "", "safety_check": false, "unknown": {}});
        let request = json_of(Pipeline::TextToImage, body).unwrap();
        assert_eq!((request.model.as_deref(), request.int("width")), (None, Some(640)));
        let sent: Value = serde_json::from_slice(&request.to_json("m")).unwrap();
        let expected = json!({"model_id": "m", "prompt": "a cat", "width": 640,
            "guidance_scale": 7.25, "safety_check": false});
        assert_eq!(sent, expected);
    }

    #[test]
    fn forms_are_written_as_the_reference_writes_them() {
        let given = texts(&[
            ("prompt", " wide "),
            ("strength", "0.8"),
            ("safety_check", "True"),
            ("seed", ""),
            ("num_images_per_prompt", "2"),
            ("other", "x"),
            ("model_id", "a/b"),
        ]);
        let request = AiRequest::from_form(Pipeline::ImageToImage, &given, file()).unwrap();
        assert_eq!(request.model.as_deref(), Some("a/b"));
        let sent = request.to_form("a/b");
        let sent: Vec<_> = sent.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(
            sent,
            [
                ("model_id", "a/b"),
                ("prompt", " wide "),
                ("strength", "0.800000"),
                ("safety_check", "true"),
                ("num_images_per_prompt", "2"),
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said_in_the_reference_s_words() {
        let says = |pipeline, body| json_of(pipeline, body).unwrap_err().to_string();
        let whole = json!({"model": "", "stream": false, "max_tokens": 5,
            "messages": [{"role": "user", "content": "hi"}]});
        assert!(json_of(Pipeline::Llm, whole.clone()).is_ok());
        for key in ["model", "stream", "max_tokens", "messages"] {
            let mut body = whole.clone();
            body.as_object_mut().unwrap().remove(key);
            assert_eq!(says(Pipeline::Llm, body), "missing required fields", "{key}");
        }
        assert_eq!(says(Pipeline::TextToSpeech, json!({"text": ""})), "text field is required");
        assert_eq!(says(Pipeline::TextToImage, json!({})), "field prompt is required");
        let none = AiRequest::from_form(Pipeline::Upscale, &texts(&[("prompt", "")]), None);
        assert_eq!(none, Err(BadRequest::Missing("image")));
        let word = texts(&[("return_timestamps", "maybe")]);
        let bad = AiRequest::from_form(Pipeline::AudioToText, &word, file());
        assert_eq!(bad, Err(BadRequest::Timestamps));
    }

    #[test]
    fn other_nodes_may_leave_out_what_callers_may_not() {
        let read = |pipeline, body: Value| {
            AiRequest::read_json(pipeline, body.to_string().as_bytes()).unwrap()
        };
        let llm = read(Pipeline::Llm, json!({"model": "", "top_k": -1}));
        assert_eq!(
            (llm.model.as_deref(), llm.int("top_k"), llm.int("max_tokens")),
            (None, Some(-1), None)
        );
        assert_eq!(read(Pipeline::TextToSpeech, json!({})).text("text"), None);
        let given = texts(&[("metadata", r#"{"duration":"7"}"#), ("return_timestamps", "maybe")]);
        let heard = AiRequest::read_form(Pipeline::AudioToText, &given, file()).unwrap();
        let document = json!({"model_id": "m", "return_timestamps": "maybe", "metadata": "{\"duration\":\"7\"}"});
        assert_eq!(Value::Object(heard.to_object("m")), document);
        let again = AiRequest::read_object(Pipeline::AudioToText, &heard.to_object("m")).unwrap();
        assert_eq!(again.to_form("m"), heard.to_form("m"));
        // A caller's own is dropped.
        let ours = texts(&[("metadata", "x")]);
        let ours = AiRequest::from_form(Pipeline::AudioToText, &ours, file()).unwrap();
        assert_eq!(ours.text("metadata"), None);
    }

    #[test]
    fn kinds_are_checked() {
        for (name, value) in [
            ("prompt", json!(5)),
            ("width", json!(1.5)),
            ("width", json!("640")),
            ("width", json!(1e30)),
            ("guidance_scale", json!("7")),
            ("safety_check", json!("true")),
            ("model_id", json!(7)),
        ] {
            let mut body = json!({"prompt": "a"});
            body[name] = value.clone();
            let error = json_of(Pipeline::TextToImage, body).unwrap_err();
            assert!(matches!(error, BadRequest::Kind { .. }), "{name}: {value}");
        }
        for messages in [json!({}), json!(["hi"]), json!([{"content": []}])] {
            let body = json!({"model": "m", "stream": true, "max_tokens": 1, "messages": messages});
            assert!(json_of(Pipeline::Llm, body).is_err(), "{messages}");
        }
        assert!(AiRequest::from_json(Pipeline::Llm, b"[]").is_err());
    }
}
