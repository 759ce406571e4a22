//! The tags of objects.

use s3s::dto::*;

use super::absent;
use crate::Result;
use crate::api::wire::{self, check_version, tag_set};
use crate::events::EventName;
use crate::front::Context;
use crate::record::Pairs;
use crate::service::S3;
use crate::tags::check_object_tags;

pub(crate) async fn get_tagging(
    s3: &S3,
    context: &Context,
    input: GetObjectTaggingInput,
) -> Result<GetObjectTaggingOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(
        &context.who,
        &bucket,
        "s3:GetObjectTagging",
        Some(&input.key),
    )?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_version(input.version_id.as_deref())?;
    let (object, _) = s3
        .find_object(&bucket, &input.key)?
        .ok_or_else(|| absent(s3, context, &bucket))?;
    Ok(GetObjectTaggingOutput {
        tag_set: tag_set(&object.tags),
        version_id: None,
    })
}

pub(crate) async fn put_tagging(
    s3: &S3,
    context: &Context,
    input: PutObjectTaggingInput,
) -> Result<PutObjectTaggingOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(
        &context.who,
        &bucket,
        "s3:PutObjectTagging",
        Some(&input.key),
    )?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_version(input.version_id.as_deref())?;
    let tags = wire::tags(input.tagging, 10)?;
    check_object_tags(&tags)?;
    s3.retag(
        &context.who,
        &bucket,
        &input.key,
        tags,
        EventName::TaggingPut,
    )
    .await?;
    Ok(PutObjectTaggingOutput::default())
}

pub(crate) async fn delete_tagging(
    s3: &S3,
    context: &Context,
    input: DeleteObjectTaggingInput,
) -> Result<DeleteObjectTaggingOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(
        &context.who,
        &bucket,
        "s3:DeleteObjectTagging",
        Some(&input.key),
    )?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_version(input.version_id.as_deref())?;
    s3.retag(
        &context.who,
        &bucket,
        &input.key,
        Pairs::new(),
        EventName::TaggingDelete,
    )
    .await?;
    Ok(DeleteObjectTaggingOutput::default())
}
