use s3s::dto::*;

use super::wire::{canonical_id, check_acl, page_size, refuse, tags, timestamp};
use crate::buckets::Created;
use crate::front::Context;
use crate::service::S3;
use crate::{Error, Result};

const MAX_TAGS: usize = 50;
const MAX_LIST: usize = 10_000;

pub(crate) async fn create(
    s3: &S3,
    context: &Context,
    input: CreateBucketInput,
) -> Result<CreateBucketOutput> {
    let caller = context.who.signed()?;
    let grants = input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write.is_some()
        || input.grant_write_acp.is_some();
    check_acl(input.acl.as_ref().map(BucketCannedACL::as_str), grants)?;
    let owner = input.object_ownership.as_ref().map(ObjectOwnership::as_str);
    refuse(&[
        (
            "object lock",
            input.object_lock_enabled_for_bucket == Some(true),
        ),
        (
            "objects that do not belong to the owner of their bucket",
            owner.is_some_and(|owner| owner != "BucketOwnerEnforced"),
        ),
    ])?;
    let configuration = input.create_bucket_configuration.unwrap_or_default();
    refuse(&[(
        "directory buckets",
        configuration.bucket.is_some() || configuration.location.is_some(),
    )])?;
    let constraint = configuration.location_constraint;
    let region = match constraint.as_ref().map(BucketLocationConstraint::as_str) {
        None | Some("") => caller.region.as_str(),
        Some("EU") => "eu-west-1",
        Some("us-east-1") => return Err(Error::InvalidLocationConstraint),
        Some(region) => region,
    };
    if region.parse::<model::Region>().is_err() {
        return Err(Error::InvalidLocationConstraint);
    }
    let created = s3
        .create_bucket(&context.who, &input.bucket, region, Vec::new())
        .await?;
    match created {
        Created::New | Created::Again => Ok(CreateBucketOutput {
            location: Some(format!("/{}", input.bucket)),
        }),
    }
}

pub(crate) async fn delete(
    s3: &S3,
    context: &Context,
    input: DeleteBucketInput,
) -> Result<DeleteBucketOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:DeleteBucket", None)?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    s3.delete_bucket(&bucket).await?;
    Ok(DeleteBucketOutput {})
}

pub(crate) async fn head(
    s3: &S3,
    context: &Context,
    input: HeadBucketInput,
) -> Result<HeadBucketOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:ListBucket", None)?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    Ok(HeadBucketOutput {
        bucket_region: Some(bucket.record.region.clone()),
        access_point_alias: Some(false),
        ..HeadBucketOutput::default()
    })
}

pub(crate) async fn location(
    s3: &S3,
    context: &Context,
    input: GetBucketLocationInput,
) -> Result<GetBucketLocationOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:GetBucketLocation", None)?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    let region = bucket.record.region.clone();
    // The oldest region has no name here.
    let constraint = (region != "us-east-1").then(|| BucketLocationConstraint::from(region));
    Ok(GetBucketLocationOutput {
        location_constraint: constraint,
    })
}

pub(crate) async fn list(
    s3: &S3,
    context: &Context,
    input: ListBucketsInput,
) -> Result<ListBucketsOutput> {
    let caller = context.who.signed()?;
    let limit = page_size(input.max_buckets, MAX_LIST, "max-buckets")?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let mut found: Vec<Bucket> = s3
        .owned_by(&caller.account)
        .iter()
        .filter(|bucket| bucket.name.starts_with(&prefix) && bucket.name.as_str() > after.as_str())
        .filter(|bucket| {
            let region = input.bucket_region.as_ref();
            region.is_none_or(|region| *region == bucket.record.region)
        })
        .take(limit + 1)
        .map(|bucket| Bucket {
            bucket_region: Some(bucket.record.region.clone()),
            creation_date: Some(timestamp(bucket.record.created)),
            name: Some(bucket.name.clone()),
        })
        .collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().and_then(|bucket| bucket.name.clone());
    Ok(ListBucketsOutput {
        buckets: Some(found),
        continuation_token: last.filter(|_| more),
        owner: Some(Owner {
            display_name: None,
            id: Some(canonical_id(caller.account.as_str())),
        }),
        prefix: input.prefix,
    })
}

/// The tags of a bucket, checked.
pub(crate) fn bucket_tags(tagging: Tagging) -> Result<crate::record::Pairs> {
    tags(tagging, MAX_TAGS)
}
