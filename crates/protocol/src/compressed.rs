//! Request bodies that a client compressed, where the interface lets it.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use model::common_error;

use crate::ApiError;

/// More than a client needs, and little enough to hold in memory.
const MAX_INFLATED_BYTES: u64 = 8 << 20;

/// The body as it was before its client compressed it.
pub(crate) fn inflated(request: &Parts, body: Bytes) -> Result<Bytes, ApiError> {
    let Some(encoding) = request.headers.get(CONTENT_ENCODING) else {
        return Ok(body);
    };
    // `aws-chunked` and `identity` say nothing about compression.
    if encoding != "gzip" {
        return Ok(body);
    }
    let mut inflated = Vec::new();
    MultiGzDecoder::new(&body[..])
        .take(MAX_INFLATED_BYTES + 1)
        .read_to_end(&mut inflated)
        .map_err(|cause| {
            ApiError::new(&common_error::SERIALIZATION, "The body is not gzip").with_source(cause)
        })?;
    if inflated.len() as u64 > MAX_INFLATED_BYTES {
        return Err(ApiError::new(
            &common_error::REQUEST_ENTITY_TOO_LARGE,
            "The decompressed body is too large",
        ));
    }
    Ok(inflated.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::Request;

    use super::*;

    fn zipped(content: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap().into()
    }

    fn inflate(body: Bytes) -> Result<Bytes, ApiError> {
        let request = Request::post("/").header(CONTENT_ENCODING, "gzip");
        inflated(&request.body(()).unwrap().into_parts().0, body)
    }

    #[test]
    fn only_a_marked_body_is_inflated() {
        assert_eq!(inflate(zipped(b"abc")).unwrap(), "abc");
        let (plain, ()) = Request::new(()).into_parts();
        assert_eq!(inflated(&plain, zipped(b"abc")).unwrap(), zipped(b"abc"));
    }

    #[test]
    fn bombs_and_garbage_are_refused() {
        assert!(inflate(Bytes::from_static(b"abc")).is_err());
        let bomb = zipped(&vec![0; usize::try_from(MAX_INFLATED_BYTES).unwrap() + 1]);
        assert!(inflate(bomb).is_err());
    }
}
