//! Copies of objects.

use s3s::dto::*;

use super::{absent, pairs};
use crate::api::wire::{
    self, ENCRYPTION, ReadCondition, check_acl, check_encryption, check_storage_class,
    check_version, etag, put_sum, refuse, timestamp,
};
use crate::checksum::Expected;
use crate::events::EventName;
use crate::front::Context;
use crate::objects::{Condition, New, Opened, check_key};
use crate::record::{self, About, Pairs};
use crate::service::S3;
use crate::tags::tags_of_header;
use crate::{Error, Result};

pub(crate) async fn copy(
    s3: &S3,
    context: &Context,
    mut input: CopyObjectInput,
) -> Result<CopyObjectOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:PutObject", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_key(&input.key)?;
    refuse_in_copy(&input)?;
    let condition = ReadCondition {
        matches: input.copy_source_if_match.take(),
        none_match: input.copy_source_if_none_match.take(),
        modified_since: input.copy_source_if_modified_since.take(),
        unmodified_since: input.copy_source_if_unmodified_since.take(),
    };
    let (from, from_key, opened) = source(s3, context, &input.copy_source, condition).await?;
    if let Some(owner) = input.expected_source_bucket_owner.as_deref() {
        s3.check_owner(&*s3.bucket(&from)?, Some(owner))?;
    }
    if opened.record.size > s3.config().max_put_bytes {
        return Err(Error::request(
            "The specified copy source is larger than the maximum allowable size for a copy \
             source: 5368709120",
        ));
    }
    let replace = directive(
        input
            .metadata_directive
            .as_ref()
            .map(MetadataDirective::as_str),
    )?;
    let replace_tags = directive(
        input
            .tagging_directive
            .as_ref()
            .map(TaggingDirective::as_str),
    )?;
    let class = check_storage_class(input.storage_class.as_ref().map(StorageClass::as_str))?;
    let onto_itself = from == input.bucket && from_key == input.key;
    let changes = replace
        || replace_tags
        || input.storage_class.is_some()
        || input.website_redirect_location.is_some()
        || input.checksum_algorithm.is_some()
        || input.server_side_encryption.is_some();
    if onto_itself && !changes {
        return Err(Error::request(
            "This copy request is illegal because it is trying to copy an object to itself without \
             changing the object's metadata, storage class, website redirect location or encryption \
             attributes.",
        ));
    }
    let old = &opened.record;
    let about = if replace {
        About {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            expires: input.expires.as_ref().and_then(wire::moment),
            website_redirect: input.website_redirect_location,
            storage_class: class,
            metadata: pairs(input.metadata),
        }
    } else {
        About {
            website_redirect: input.website_redirect_location,
            storage_class: class,
            ..old.about.clone()
        }
    };
    let tags = match &input.tagging {
        Some(tagging) if replace_tags => tags_of_header(tagging)?,
        _ if replace_tags => Pairs::new(),
        _ => old.tags.clone(),
    };
    let algorithm = match (&input.checksum_algorithm, &old.sum) {
        (Some(asked), _) => Some(crate::checksum::Algorithm::parse(asked.as_str())?),
        (None, Some(sum)) => Some(sum.algorithm),
        (None, None) => None,
    };
    let same_sum = algorithm == old.sum.as_ref().map(|sum| sum.algorithm);
    let object = if onto_itself && same_sum {
        // The content stays where it is; only the record is new.
        let object = record::Object {
            about,
            tags,
            modified: s3.clock().now(),
            ..old.clone()
        };
        s3.write_same(
            &context.who,
            &bucket,
            &input.key,
            object,
            EventName::CreatedCopy,
        )
        .await?
    } else {
        let new = New {
            about,
            tags,
            condition: Condition::default(),
            event: EventName::CreatedCopy,
        };
        let expected = Expected {
            size: Some(old.size),
            algorithm,
            ..Expected::default()
        };
        let (whole, limit) = (0..old.size, s3.config().max_put_bytes);
        let body = opened.contents(s3, whole).boxed();
        s3.take(
            &context.who,
            &bucket,
            &input.key,
            new,
            body,
            limit,
            &expected,
        )
        .await?
    };
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        checksum_type: object.sum.as_ref().map(|sum| sum.kind().to_owned().into()),
        ..CopyObjectResult::default()
    };
    put_sum!(result, &object.sum);
    Ok(CopyObjectOutput {
        copy_object_result: Some(result),
        server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
        ..CopyObjectOutput::default()
    })
}

/// Where a copy comes from.
pub(in crate::api) async fn source(
    s3: &S3,
    context: &Context,
    source: &CopySource,
    condition: ReadCondition,
) -> Result<(String, String, Opened)> {
    let CopySource::Bucket {
        bucket,
        key,
        version_id,
    } = source
    else {
        return Err(Error::NotSupported("access points"));
    };
    check_version(version_id.as_deref())?;
    let from = s3.bucket(bucket)?;
    s3.authorise(&context.who, &from, "s3:GetObject", Some(key))?;
    let opened = match s3.open_object(&from, key).await {
        Err(Error::NoSuchKey) => return Err(absent(s3, context, &from)),
        opened => opened?,
    };
    condition.check_source(&opened.record)?;
    Ok((bucket.to_string(), key.to_string(), opened))
}

fn refuse_in_copy(input: &CopyObjectInput) -> Result<()> {
    let grants = input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write_acp.is_some();
    check_acl(input.acl.as_ref().map(ObjectCannedACL::as_str), grants)?;
    let customer = input.sse_customer_key.is_some() || input.copy_source_sse_customer_key.is_some();
    let algorithm = input.server_side_encryption.as_ref();
    check_encryption(algorithm, input.ssekms_key_id.as_ref(), customer)?;
    let locked = input.object_lock_mode.is_some()
        || input.object_lock_retain_until_date.is_some()
        || input.object_lock_legal_hold_status.is_some();
    refuse(&[("object lock", locked)])
}

/// Whether a directive says to replace.
fn directive(directive: Option<&str>) -> Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(Error::argument("Unknown metadata directive.")),
    }
}
