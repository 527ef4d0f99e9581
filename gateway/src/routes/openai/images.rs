//! `POST /v1/images/generations`, served by text-to-image.

use super::{
    Asked, OpenAiRefusal, Shared, answer,
    answers::{Picture, Pictures},
    model, object, unix_seconds, unsupported, wrong,
};
use crate::{
    error::GatewayError,
    front::caller::CallerExt,
    routes::{ai::public_base, to_the_end},
    service::ai::{AiRequest, FieldValue, Pipeline, media::Made},
    trace,
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_wire::json::{AiResult, ImageAnswer};
use utoipa::ToSchema;

/// Addresses only.
const MAX_ANSWER: usize = 1 << 20;

/// Pictures to be made.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct ImageRequest {
    /// What to show.
    prompt: String,
    /// The model; the gateway's default if absent.
    model: Option<String>,
    /// Pictures, 1 to 10.
    n: Option<i64>,
    /// `WIDTHxHEIGHT`, or `auto`; default 1024x1024. Times `n` this is the price.
    size: Option<String>,
    /// `url` (the default) or `b64_json`.
    response_format: Option<String>,
}

/// Pictures of a text
///
/// As OpenAI's, over text-to-image. `quality`, `style`, `user` and `background` are left out.
#[utoipa::path(
    post, path = "/v1/images/generations", tag = "openai",
    request_body(content = ImageRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The pictures", body = Pictures),
        OpenAiRefusal,
    )
)]
pub(super) async fn generations(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let asked = object(&gateway, &caller, &head, body).await?;
    let inline = match asked.text("response_format")?.as_deref() {
        None | Some("url") => false,
        Some("b64_json") => true,
        Some(_) => return Err(wrong("response_format", "must be url or b64_json")),
    };
    let request = pictures(&gateway, &asked)?;
    let base = public_base(&gateway, &head.headers);
    let (jobs, trace) = (gateway.jobs.clone(), trace::of(&head.headers));
    let data = to_the_end(&jobs, trace, async move {
        let done = async {
            let job = gateway.prepare(&caller, request).await?;
            match (gateway.run_ai(&job).await?, inline) {
                (Made::Images { files, .. }, true) => {
                    let inlined = |data| Picture {
                        b64_json: Some(BASE64.encode(data)),
                        ..Picture::default()
                    };
                    Ok(files.iter().map(|file| inlined(&file.data)).collect())
                }
                (made, _) => {
                    let document = gateway.deliver(made, &base).await?;
                    let found = ImageAnswer::parse(&document, MAX_ANSWER);
                    let images = found.map_err(|_| GatewayError::Lost)?.images;
                    Ok(images
                        .into_iter()
                        .map(|image| Picture { url: Some(image.url), ..Picture::default() })
                        .collect())
                }
            }
        }
        .await;
        drop(asked);
        done
    });
    let data: Vec<Picture> = data.await?;
    Ok(answer(&Pictures { created: unix_seconds(), data }))
}

fn pictures(gateway: &Shared, asked: &Asked) -> Result<AiRequest, GatewayError> {
    if asked.flag("stream")? {
        return Err(unsupported("stream"));
    }
    let count = asked.int("n")?.unwrap_or(1);
    if !(1..=10).contains(&count) {
        return Err(wrong("n", "must be 1 to 10"));
    }
    let size = asked.text("size")?;
    let (width, height) = match size.as_deref() {
        None | Some("auto") => (1_024, 1_024),
        Some(size) => parse_size(size).ok_or_else(|| wrong("size", "must be WIDTHxHEIGHT"))?,
    };
    let fields = [
        ("prompt", FieldValue::Text(asked.required("prompt")?)),
        ("height", FieldValue::Int(height)),
        ("width", FieldValue::Int(width)),
        ("num_images_per_prompt", FieldValue::Int(count)),
    ];
    let name = model(gateway, asked.text("model")?);
    Ok(AiRequest::of_values(Pipeline::TextToImage, name, None, fields)?)
}

fn parse_size(size: &str) -> Option<(i64, i64)> {
    let (width, height) = size.split_once('x')?;
    let side = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0).map(i64::from);
    Some((side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("1792x1024"), Some((1_792, 1_024)));
        for bad in ["", "x", "0x1", "1x-1", "1x99999", "1 x1", "1024"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
