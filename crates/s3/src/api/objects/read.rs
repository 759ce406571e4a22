//! Reading objects: their content, or only what is said about them.

use std::ops::Range as Span;

use s3s::dto::*;

use super::absent;
use crate::api::wire::{
    ENCRYPTION, ReadCondition, check_version, etag, put_sum, refuse, size, timestamp,
};
use crate::checksum::Sum;
use crate::front::Context;
use crate::objects::Opened;
use crate::record;
use crate::service::S3;
use crate::{Error, Result};

/// What both reads are asked.
macro_rules! reading {
    ($input:ident) => {
        Reading {
            action: "s3:GetObject",
            bucket: &$input.bucket,
            key: &$input.key,
            version: $input.version_id.as_deref(),
            owner: $input.expected_bucket_owner.as_deref(),
            customer: $input.sse_customer_key.is_some(),
            condition: ReadCondition {
                matches: $input.if_match,
                none_match: $input.if_none_match,
                modified_since: $input.if_modified_since,
                unmodified_since: $input.if_unmodified_since,
            },
            range: $input.range,
            part: $input.part_number,
        }
    };
}

/// What both reads answer.
macro_rules! shown {
    ($output:ident, $found:expr, $input:ident) => {{
        let found: &Found = $found;
        let object = &found.opened.record;
        let about = &object.about;
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: about.cache_control.clone(),
            content_disposition: about.content_disposition.clone(),
            content_encoding: about.content_encoding.clone(),
            content_language: about.content_language.clone(),
            content_length: Some(size(found.span.end - found.span.start)),
            content_range: content_range(found),
            content_type: content_type(object),
            e_tag: Some(etag(&object.etag)),
            expires: about.expires.map(timestamp),
            last_modified: Some(timestamp(object.modified)),
            metadata: metadata(object),
            parts_count: ($input.part_number.is_some() && object.parts > 0)
                .then(|| object.parts.into()),
            server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
            storage_class: shown_class(object),
            website_redirect_location: about.website_redirect.clone(),
            ..$output::default()
        };
        let sum = shown_sum(found, $input.checksum_mode.as_ref());
        output.checksum_type = sum.map(|sum| sum.kind().to_owned().into());
        put_sum!(output, sum);
        output
    }};
}

pub(crate) async fn get(
    s3: &S3,
    context: &Context,
    input: GetObjectInput,
) -> Result<GetObjectOutput> {
    let overrides = input.response_cache_control.is_some()
        || input.response_content_disposition.is_some()
        || input.response_content_encoding.is_some()
        || input.response_content_language.is_some()
        || input.response_content_type.is_some()
        || input.response_expires.is_some();
    if overrides && context.who.caller.is_none() {
        return Err(Error::request(
            "Request specific response headers cannot be used for anonymous GET requests.",
        ));
    }
    let found = find(s3, context, reading!(input)).await?;
    let mut output = shown!(GetObjectOutput, &found, input);
    let tags = found.opened.record.tags.len();
    output.tag_count = (tags > 0).then(|| i32::try_from(tags).unwrap_or(0));
    let contents = found.opened.contents(s3, found.span);
    output.body = Some(StreamingBlob::wrap(contents));
    Ok(output)
}

pub(crate) async fn head(
    s3: &S3,
    context: &Context,
    input: HeadObjectInput,
) -> Result<HeadObjectOutput> {
    let found = find(s3, context, reading!(input)).await?;
    Ok(shown!(HeadObjectOutput, &found, input))
}

/// What a read names beside bucket and key.
struct Reading<'i> {
    action: &'static str,
    bucket: &'i str,
    key: &'i str,
    version: Option<&'i str>,
    owner: Option<&'i str>,
    customer: bool,
    condition: ReadCondition,
    range: Option<Range>,
    part: Option<i32>,
}

/// An object that may be read, and which bytes of it.
struct Found {
    opened: Opened,
    span: Span<u64>,
    /// Whether only a part was asked for.
    partial: bool,
}

async fn find(s3: &S3, context: &Context, reading: Reading<'_>) -> Result<Found> {
    let bucket = s3.bucket(reading.bucket)?;
    s3.authorise(&context.who, &bucket, reading.action, Some(reading.key))?;
    s3.check_owner(&bucket, reading.owner)?;
    check_version(reading.version)?;
    refuse(&[("encryption with keys of the client", reading.customer)])?;
    let opened = match s3.open_object(&bucket, reading.key).await {
        Err(Error::NoSuchKey) => return Err(absent(s3, context, &bucket)),
        opened => opened?,
    };
    reading.condition.check(&opened.record)?;
    let whole = opened.record.size;
    let (span, partial) = match (reading.range, reading.part) {
        (Some(_), Some(_)) => {
            return Err(Error::request(
                "Cannot specify both Range header and partNumber query parameter",
            ));
        }
        (Some(range), None) => {
            let span = range.check(whole);
            (span.map_err(|_| Error::InvalidRange { size: whole })?, true)
        }
        (None, Some(part)) => (opened.part(crate::uploads::part_number(part)?)?, true),
        (None, None) => (0..whole, false),
    };
    Ok(Found {
        opened,
        span,
        partial,
    })
}

fn content_range(found: &Found) -> Option<String> {
    let Span { start, end } = found.span;
    let size = found.opened.record.size;
    (found.partial && start < end).then(|| format!("bytes {start}-{}/{size}", end - 1))
}

fn metadata(object: &record::Object) -> Option<Metadata> {
    Some(object.about.metadata.iter().cloned().collect())
}

/// Checksums are only shown to who asks, and those of the whole only with the whole.
fn shown_sum<'o>(found: &'o Found, mode: Option<&ChecksumMode>) -> Option<&'o Sum> {
    let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    let whole = !found.partial;
    found.opened.record.sum.as_ref().filter(|_| asked && whole)
}

/// `STANDARD` is not worth a header.
fn shown_class(object: &record::Object) -> Option<StorageClass> {
    object.about.storage_class.clone().map(StorageClass::from)
}

fn content_type(object: &record::Object) -> Option<String> {
    let given = object.about.content_type.clone();
    Some(given.unwrap_or_else(|| "binary/octet-stream".to_owned()))
}
