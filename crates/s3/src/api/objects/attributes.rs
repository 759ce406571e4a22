//! GetObjectAttributes.

use s3s::dto::*;

use super::absent;
use crate::api::wire::{self, check_version, etag, put_sum, refuse, size, timestamp};
use crate::front::Context;
use crate::record;
use crate::service::S3;
use crate::{Error, Result};

pub(crate) async fn attributes(
    s3: &S3,
    context: &Context,
    input: GetObjectAttributesInput,
) -> Result<GetObjectAttributesOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(
        &context.who,
        &bucket,
        "s3:GetObjectAttributes",
        Some(&input.key),
    )?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_version(input.version_id.as_deref())?;
    refuse(&[(
        "encryption with keys of the client",
        input.sse_customer_key.is_some(),
    )])?;
    let (object, _) = s3
        .find_object(&bucket, &input.key)?
        .ok_or_else(|| absent(s3, context, &bucket))?;
    let wants = |name: &str| {
        // The library gives what one header lists as one name.
        let mut asked = input.object_attributes.iter().map(ObjectAttributes::as_str);
        asked.any(|names| names.split(',').any(|one| one.trim() == name))
    };
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(timestamp(object.modified)),
        ..GetObjectAttributesOutput::default()
    };
    if wants("ETag") {
        output.e_tag = Some(etag(&object.etag));
    }
    if wants("ObjectSize") {
        output.object_size = Some(size(object.size));
    }
    if wants("StorageClass") {
        output.storage_class = Some(object.storage_class().to_owned().into());
    }
    if wants("Checksum") && object.sum.is_some() {
        let mut checksum = Checksum::default();
        put_sum!(checksum, &object.sum);
        checksum.checksum_type = object.sum.as_ref().map(|sum| sum.kind().to_owned().into());
        output.checksum = Some(checksum);
    }
    if wants("ObjectParts")
        && let record::Place::Parts(id) = object.place
    {
        output.object_parts = Some(parts(s3, id, &input)?);
    }
    Ok(output)
}

fn parts(
    s3: &S3,
    manifest: crate::keys::Id,
    input: &GetObjectAttributesInput,
) -> Result<GetObjectAttributesParts> {
    let pieces = s3.manifest(manifest)?.ok_or(Error::NoSuchKey)?;
    let most = wire::page_size(input.max_parts, crate::listing::MAX_PAGE, "max-parts")?;
    let after = input
        .part_number_marker
        .as_ref()
        .map(|marker| marker.to_string().parse::<u16>());
    let after = match after {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return Err(Error::argument("Invalid part number marker")),
    };
    let left: Vec<_> = pieces.iter().filter(|piece| piece.number > after).collect();
    let part = |piece: &&record::Piece| {
        let mut part = ObjectPart {
            part_number: Some(piece.number.into()),
            size: Some(size(piece.size)),
            ..ObjectPart::default()
        };
        put_sum!(part, Some(&piece.sum));
        part
    };
    let shown: Vec<ObjectPart> = left.iter().take(most).map(part).collect();
    let last = shown
        .last()
        .and_then(|part| part.part_number)
        .unwrap_or_default();
    Ok(GetObjectAttributesParts {
        is_truncated: Some(left.len() > most),
        max_parts: i32::try_from(most).ok(),
        next_part_number_marker: last.to_string().parse().ok(),
        part_number_marker: after.to_string().parse().ok(),
        parts: Some(shown),
        total_parts_count: i32::try_from(pieces.len()).ok(),
    })
}
