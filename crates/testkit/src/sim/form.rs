//! Reading forms. The whole body first: `multer` 3.1 takes a form for broken whose bytes and end arrive
//! together just after it has looked in vain for the first boundary, which a busy machine brings about
//! once in ten thousand forms.

use axum::body::Body;
use std::convert::Infallible;

/// Largest form.
const MOST: usize = 512 << 20;

/// The parts of a form between these boundaries; why it could not be read.
pub async fn parts_of(
    body: Body,
    boundary: String,
) -> Result<multer::Multipart<'static>, axum::Error> {
    let body = axum::body::to_bytes(body, MOST).await?;
    let whole = futures::stream::once(async move { Ok::<_, Infallible>(body) });
    Ok(multer::Multipart::new(whole, boundary))
}
