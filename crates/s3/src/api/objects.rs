mod attributes;
mod copy;
mod read;
mod tagging;

use s3s::dto::*;

use super::wire::{
    self, ENCRYPTION, check_acl, check_encryption, check_storage_class, check_version, condition,
    etag, put_sum, refuse, sums,
};
use crate::events::EventName;
use crate::front::Context;
use crate::objects::{Condition, New, check_key};
use crate::record::{About, Pairs};
use crate::service::{Bucket, S3};
use crate::tags::tags_of_header;
use crate::{Error, Result};

pub(crate) use self::attributes::attributes;
pub(crate) use self::copy::copy;
pub(super) use self::copy::source;
pub(crate) use self::read::{get, head};
pub(crate) use self::tagging::{delete_tagging, get_tagging, put_tagging};

const MAX_DELETED: usize = 1000;

pub(crate) async fn put(
    s3: &S3,
    context: &Context,
    mut input: PutObjectInput,
) -> Result<PutObjectOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:PutObject", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    let grants = input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write_acp.is_some();
    check_acl(input.acl.as_ref().map(ObjectCannedACL::as_str), grants)?;
    let algorithm = input.server_side_encryption.as_ref();
    let customer = input.sse_customer_key.is_some();
    check_encryption(algorithm, input.ssekms_key_id.as_ref(), customer)?;
    refuse(&[
        (
            "object lock",
            input.object_lock_mode.is_some()
                || input.object_lock_retain_until_date.is_some()
                || input.object_lock_legal_hold_status.is_some(),
        ),
        ("appending to objects", input.write_offset_bytes.is_some()),
    ])?;
    let sums = sums!(input);
    let (length, md5) = (input.content_length, input.content_md5.as_deref());
    let expected = wire::expected(
        context,
        length,
        md5,
        sums,
        input.checksum_algorithm.as_ref(),
    )?;
    let tags = match &input.tagging {
        None => Pairs::new(),
        Some(tagging) => {
            s3.authorise(
                &context.who,
                &bucket,
                "s3:PutObjectTagging",
                Some(&input.key),
            )?;
            tags_of_header(tagging)?
        }
    };
    let new = New {
        about: About {
            content_type: input.content_type.filter(|text| !text.is_empty()),
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            expires: input.expires.as_ref().and_then(wire::moment),
            website_redirect: input.website_redirect_location,
            storage_class: check_storage_class(
                input.storage_class.as_ref().map(StorageClass::as_str),
            )?,
            metadata: pairs(input.metadata),
        },
        tags,
        condition: condition(input.if_match, input.if_none_match),
        event: EventName::CreatedPut,
    };
    let limit = s3.config().max_put_bytes;
    let body = wire::body(input.body);
    let object = s3
        .take(
            &context.who,
            &bucket,
            &input.key,
            new,
            body,
            limit,
            &expected,
        )
        .await?;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&object.etag)),
        server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
        checksum_type: object.sum.as_ref().map(|sum| sum.kind().to_owned().into()),
        ..PutObjectOutput::default()
    };
    put_sum!(output, &object.sum);
    Ok(output)
}

pub(super) fn pairs(metadata: Option<Metadata>) -> Pairs {
    let mut pairs: Pairs = metadata.unwrap_or_default().into_iter().collect();
    pairs.sort();
    pairs
}

/// Who may not list a bucket learns nothing about what is not in it.
fn absent(s3: &S3, context: &Context, bucket: &Bucket) -> Error {
    match s3.authorise(&context.who, bucket, "s3:ListBucket", None) {
        Ok(()) => Error::NoSuchKey,
        Err(error) => error,
    }
}

pub(crate) async fn delete(
    s3: &S3,
    context: &Context,
    input: DeleteObjectInput,
) -> Result<DeleteObjectOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:DeleteObject", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_version(input.version_id.as_deref())?;
    refuse(&[(
        "deleting under conditions of size or time",
        input.if_match_last_modified_time.is_some() || input.if_match_size.is_some(),
    )])?;
    let condition = condition(input.if_match, None);
    s3.delete_objects(&context.who, &bucket, &[&input.key], &condition)
        .await?;
    Ok(DeleteObjectOutput::default())
}

pub(crate) async fn delete_many(
    s3: &S3,
    context: &Context,
    input: DeleteObjectsInput,
) -> Result<DeleteObjectsOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    let named = input.delete.objects;
    if named.is_empty() || named.len() > MAX_DELETED {
        return Err(Error::MalformedXml);
    }
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for one in &named {
        let conditional =
            one.e_tag.is_some() || one.last_modified_time.is_some() || one.size.is_some();
        let checked = s3
            .authorise(&context.who, &bucket, "s3:DeleteObject", Some(&one.key))
            .and_then(|()| check_version(one.version_id.as_deref()))
            .and_then(|()| check_key(&one.key))
            .and_then(|()| refuse(&[("conditions in DeleteObjects", conditional)]));
        match checked {
            Ok(()) => deleted.push(one),
            Err(error) => errors.push(s3s::dto::Error {
                code: Some(error.code().to_owned()),
                key: Some(one.key.clone()),
                message: Some(error.to_string()),
                version_id: one.version_id.clone(),
            }),
        }
    }
    let keys: Vec<&str> = deleted.iter().map(|one| one.key.as_str()).collect();
    s3.delete_objects(&context.who, &bucket, &keys, &Condition::default())
        .await?;
    let quiet = input.delete.quiet == Some(true);
    let deleted = deleted.into_iter().map(|one| DeletedObject {
        key: Some(one.key.clone()),
        version_id: one.version_id.clone(),
        ..DeletedObject::default()
    });
    Ok(DeleteObjectsOutput {
        deleted: (!quiet).then(|| deleted.collect()),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    })
}

pub(crate) async fn get_acl(
    s3: &S3,
    context: &Context,
    input: GetObjectAclInput,
) -> Result<GetObjectAclOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:GetObjectAcl", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_version(input.version_id.as_deref())?;
    s3.find_object(&bucket, &input.key)?
        .ok_or_else(|| absent(s3, context, &bucket))?;
    Ok(GetObjectAclOutput {
        grants: Some(super::configuration::grants(&bucket)),
        owner: Some(wire::owner(&bucket)),
        request_charged: None,
    })
}

pub(crate) async fn put_acl(
    s3: &S3,
    context: &Context,
    input: PutObjectAclInput,
) -> Result<PutObjectAclOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:PutObjectAcl", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    s3.find_object(&bucket, &input.key)?
        .ok_or_else(|| absent(s3, context, &bucket))?;
    let grants = input.access_control_policy.is_some()
        || input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write.is_some()
        || input.grant_write_acp.is_some();
    check_acl(input.acl.as_ref().map(ObjectCannedACL::as_str), grants)?;
    Ok(PutObjectAclOutput::default())
}
