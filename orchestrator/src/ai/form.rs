//! From a body to a request: JSON or a form, whichever the pipeline takes. The kinds of fields are
//! checked, and their number and size; what a runner may find wanting is the runner's to say.

use crate::{error::JobError, limits::Limits};
use bytes::Bytes;
use http::{HeaderMap, header};
use multer::Multipart;
use penstock_wire::{
    ai::{AiRequest, Pipeline, Upload},
    limits as wire,
};

fn bad(why: impl ToString) -> JobError {
    JobError::BadRequest(why.to_string())
}

/// Reads a body.
pub async fn read(
    pipeline: Pipeline,
    headers: &HeaderMap,
    body: Bytes,
    limits: &Limits,
) -> Result<AiRequest, JobError> {
    let Some(file_field) = pipeline.file_field() else {
        return AiRequest::read_json(pipeline, &body).map_err(bad);
    };
    let no_form = || bad("request Content-Type isn't multipart/form-data");
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| no_form())?;
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut parts = Multipart::new(stream, boundary);
    let (mut file, mut texts) = (None, Vec::new());
    while let Some(part) = parts.next_field().await.map_err(bad)? {
        let name = part.name().unwrap_or_default().to_owned();
        let data = part.bytes().await.map_err(bad)?;
        if name == file_field {
            // The client's name for it goes nowhere.
            file = Some(Upload { name: file_field.to_owned(), data });
            continue;
        }
        if texts.len() >= limits.ai_form_fields {
            let most = limits.ai_form_fields;
            return Err(bad(format!("more than {most} form fields (--limit-ai-form-fields)")));
        }
        if name.len() > wire::NAME_BYTES {
            return Err(bad("a form field's name is too long"));
        }
        if data.len() > limits.ai_form_text_bytes {
            let most = limits.ai_form_text_bytes;
            let why =
                format!("a form field of more than {most} bytes (--limit-ai-form-text-bytes)");
            return Err(bad(why));
        }
        let text = String::from_utf8(data.to_vec()).map_err(|_| bad("a form field is not text"))?;
        texts.push((name, text));
    }
    let file = file.filter(|file| !file.data.is_empty());
    let file = file.ok_or_else(|| bad(format!("missing {file_field}")))?;
    AiRequest::read_form(pipeline, &texts, Some(file)).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn form(pipeline: Pipeline, parts: &[(&str, &str)]) -> Result<AiRequest, JobError> {
        let mut body = String::new();
        for (name, value) in parts {
            body += &format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        body += "--b--\r\n";
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "multipart/form-data; boundary=b".parse().unwrap());
        read(pipeline, &headers, body.into(), &Limits::default()).await
    }

    #[tokio::test]
    async fn forms() {
        let parts = [
            ("image", "x"),
            ("prompt", ""),
            ("strength", "0.500000"),
            ("safety_check", "false"),
            ("model_id", "m"),
            ("more", "y"),
        ];
        let request = form(Pipeline::ImageToImage, &parts).await.unwrap();
        assert_eq!(&request.file.as_ref().unwrap().data[..], b"x");
        let document = serde_json::Value::Object(request.to_object("m")).to_string();
        assert_eq!(document, r#"{"model_id":"m","prompt":"","safety_check":false,"strength":0.5}"#);
        for bad in [&[("image", "")][..], &[("audio", "x")], &[("image", "x"), ("seed", "many")]] {
            let refused = form(Pipeline::ImageToImage, bad).await.unwrap_err();
            assert!(matches!(refused, JobError::BadRequest(_)), "{bad:?}");
        }
        let many: Vec<_> = (0..40).map(|_| ("a", "b")).collect();
        assert!(form(Pipeline::Upscale, &many).await.is_err());
    }

    #[tokio::test]
    async fn documents() {
        let of = |body: &'static str| read(Pipeline::Llm, HeaderMap::new(), body);
        async fn read(
            p: Pipeline,
            h: HeaderMap,
            body: &'static str,
        ) -> Result<AiRequest, JobError> {
            super::read(p, &h, Bytes::from_static(body.as_bytes()), &Limits::default()).await
        }
        assert!(of(r#"{"messages":[],"max_tokens":3,"more":{}}"#).await.is_ok());
        for bad in ["", "[]", "{", r#"{"max_tokens":"3"}"#] {
            assert!(of(bad).await.is_err(), "{bad}");
        }
    }
}
