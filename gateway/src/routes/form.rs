//! Uploads: multipart forms of texts and one file, read whole and with limits.

use crate::{error::GatewayError, service::ai::Upload};
use bytes::Bytes;
use http::{HeaderMap, header};
use multer::{Constraints, Multipart, SizeLimit};

/// Most bytes of the form around the file: short fields and their headers.
pub const OVERHEAD: usize = 256 * 1024;
/// Most bytes of a short text field, and of one that may be long.
const FIELD_BYTES: u64 = 4 * 1024;
const TEXT_BYTES: u64 = 64 * 1024;
/// Most fields.
const MAX_FIELDS: usize = 64;
/// Fields that may hold more than a word.
const TEXTS: [&str; 6] =
    ["prompt", "negative_prompt", "loras", "point_coords", "point_labels", "mask_input"];

/// A form as sent.
#[derive(Debug, Default)]
pub struct Form {
    /// Texts by name.
    pub texts: Vec<(String, String)>,
    /// The file.
    pub file: Option<Upload>,
}

/// The boundary of a form, or what is wrong.
pub fn boundary(headers: &HeaderMap) -> Result<String, GatewayError> {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| multer::parse_boundary(v).ok())
        .ok_or_else(|| GatewayError::Form("expected multipart/form-data".to_owned()))
}

/// Reads a form whose file is called `file`.
pub async fn read(
    data: Bytes,
    boundary: &str,
    file: &str,
    max_file: usize,
) -> Result<Form, GatewayError> {
    let sizes = SizeLimit::new().per_field(FIELD_BYTES).for_field(file, max_file as u64);
    let sizes = TEXTS.into_iter().fold(sizes, |sizes, name| sizes.for_field(name, TEXT_BYTES));
    let stream = futures::stream::iter([Ok::<Bytes, std::io::Error>(data)]);
    let mut parts =
        Multipart::with_constraints(stream, boundary, Constraints::new().size_limit(sizes));
    let bad = |e: multer::Error| match e {
        multer::Error::FieldSizeExceeded { field_name: Some(name), .. } if name == file => {
            GatewayError::TooLarge
        }
        other => GatewayError::Form(other.to_string()),
    };
    let mut form = Form::default();
    while let Some(part) = parts.next_field().await.map_err(bad)? {
        let name = part.name().unwrap_or_default().to_owned();
        if name == file {
            let name = safe_name(part.file_name(), file);
            form.file = Some(Upload { name, data: part.bytes().await.map_err(bad)? });
        } else if form.texts.len() < MAX_FIELDS {
            form.texts.push((name, part.text().await.map_err(bad)?));
        } else {
            return Err(GatewayError::Form("too many fields".to_owned()));
        }
    }
    Ok(form)
}

/// The client's file name, kept as far as it is harmless: the last path element, 100 plain characters.
fn safe_name(given: Option<&str>, otherwise: &str) -> String {
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' '))
        .take(100)
        .collect();
    if plain.trim_matches(['.', ' ']).is_empty() { otherwise.to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let name = |given| safe_name(given, "audio");
        assert_eq!(name(Some("../../etc/passwd")), "passwd");
        assert_eq!(name(Some("C:\\a\\b c.wav")), "b c.wav");
        assert_eq!(name(Some("x\"\r\nEvil: 1.wav")), "xEvil 1.wav");
        assert_eq!(name(Some("..")), "audio");
        assert_eq!(name(None), "audio");
    }
}
