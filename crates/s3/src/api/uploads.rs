use s3s::dto::*;

use super::listings::Naming;
use super::objects::{pairs, source};
use super::wire::{
    self, ENCRYPTION, ReadCondition, Sums, check_acl, check_encryption, check_storage_class,
    condition, etag, owner, page_size, put_sum, refuse, size, sums, timestamp,
};
use crate::checksum::{Expected, Summing};
use crate::front::Context;
use crate::keys::{self, Id};
use crate::listing::{MAX_PAGE, common_prefix};
use crate::objects::parse_copy_range;
use crate::record::{self, About, Pairs};
use crate::service::S3;
use crate::tags::tags_of_header;
use crate::uploads::{Named, Whole, part_number};
use crate::{Error, Result};

pub(crate) async fn create(
    s3: &S3,
    context: &Context,
    input: CreateMultipartUploadInput,
) -> Result<CreateMultipartUploadOutput> {
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
    let locked = input.object_lock_mode.is_some()
        || input.object_lock_retain_until_date.is_some()
        || input.object_lock_legal_hold_status.is_some();
    refuse(&[("object lock", locked)])?;
    let summing = Summing::new(
        input
            .checksum_algorithm
            .as_ref()
            .map(ChecksumAlgorithm::as_str),
        input.checksum_type.as_ref().map(ChecksumType::as_str),
    )?;
    let tags = input.tagging.as_deref().map(tags_of_header).transpose()?;
    let upload = record::Upload {
        initiated: s3.clock().now(),
        initiator: context.who.name(),
        about: About {
            content_type: input.content_type,
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
        tags: tags.unwrap_or_else(Pairs::new),
        summing,
    };
    crate::objects::check_metadata(&upload.about)?;
    let id = s3.create_upload(&bucket, &input.key, &upload).await?;
    let asked = |text: &str| summing.asked.then(|| text.to_owned());
    let kind = if summing.composite {
        "COMPOSITE"
    } else {
        "FULL_OBJECT"
    };
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id.to_string()),
        checksum_algorithm: asked(summing.algorithm.name()).map(ChecksumAlgorithm::from),
        checksum_type: asked(kind).map(ChecksumType::from),
        server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
        ..CreateMultipartUploadOutput::default()
    })
}

pub(crate) async fn part(
    s3: &S3,
    context: &Context,
    mut input: UploadPartInput,
) -> Result<UploadPartOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:PutObject", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_encryption(None, None, input.sse_customer_key.is_some())?;
    let number = part_number(input.part_number)?;
    let (id, upload) = s3.find_upload(&bucket, &input.key, &input.upload_id)?;
    let upload_key = keys::upload(bucket.record.id, &input.key, id);
    let sums = sums!(input);
    let (length, md5) = (input.content_length, input.content_md5.as_deref());
    let expected = wire::expected(
        context,
        length,
        md5,
        sums,
        input.checksum_algorithm.as_ref(),
    )?;
    let body = wire::body(input.body);
    let part = s3
        .upload_part((id, &upload, &upload_key), number, body, expected)
        .await?;
    let mut output = UploadPartOutput {
        e_tag: Some(etag(&part.etag)),
        server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
        ..UploadPartOutput::default()
    };
    put_sum!(output, Some(&part.sum));
    Ok(output)
}

pub(crate) async fn part_copy(
    s3: &S3,
    context: &Context,
    input: UploadPartCopyInput,
) -> Result<UploadPartCopyOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:PutObject", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    let customer = input.sse_customer_key.is_some() || input.copy_source_sse_customer_key.is_some();
    check_encryption(None, None, customer)?;
    let number = part_number(input.part_number)?;
    let (id, upload) = s3.find_upload(&bucket, &input.key, &input.upload_id)?;
    let upload_key = keys::upload(bucket.record.id, &input.key, id);
    let condition = ReadCondition {
        matches: input.copy_source_if_match,
        none_match: input.copy_source_if_none_match,
        modified_since: input.copy_source_if_modified_since,
        unmodified_since: input.copy_source_if_unmodified_since,
    };
    let (from, _, opened) = source(s3, context, &input.copy_source, condition).await?;
    if let Some(owner) = input.expected_source_bucket_owner.as_deref() {
        s3.check_owner(&*s3.bucket(&from)?, Some(owner))?;
    }
    let whole = opened.record.size;
    let range = match &input.copy_source_range {
        None => 0..whole,
        Some(range) => parse_copy_range(range, whole)?,
    };
    let expected = Expected {
        size: Some(range.end - range.start),
        ..Expected::default()
    };
    let body = opened.contents(s3, range).boxed();
    let part = s3
        .upload_part((id, &upload, &upload_key), number, body, expected)
        .await?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&part.etag)),
        last_modified: Some(timestamp(part.modified)),
        ..CopyPartResult::default()
    };
    if upload.summing.asked {
        put_sum!(result, Some(&part.sum));
    }
    Ok(UploadPartCopyOutput {
        copy_part_result: Some(result),
        server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
        ..UploadPartCopyOutput::default()
    })
}

pub(crate) async fn complete(
    s3: &S3,
    context: &Context,
    mut input: CompleteMultipartUploadInput,
) -> Result<CompleteMultipartUploadOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:PutObject", Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    check_encryption(None, None, input.sse_customer_key.is_some())?;
    let sums = sums!(input);
    let parts = input.multipart_upload.and_then(|upload| upload.parts);
    let named = parts
        .unwrap_or_default()
        .into_iter()
        .map(named)
        .collect::<Result<Vec<_>>>()?;
    let said = input.mpu_object_size.map(u64::try_from).transpose();
    let whole = Whole {
        sum: sums.one()?,
        size: said.map_err(|_| Error::argument("x-amz-mp-object-size is no size"))?,
        condition: condition(input.if_match, input.if_none_match),
    };
    let object = s3
        .complete_upload(
            &context.who,
            &bucket,
            &input.key,
            &input.upload_id,
            &named,
            whole,
        )
        .await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!(
            "https://s3.{}.amazonaws.com/{}/{}",
            bucket.record.region,
            input.bucket,
            percent_encoding::utf8_percent_encode(&input.key, percent_encoding::NON_ALPHANUMERIC)
        )),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(&object.etag)),
        checksum_type: object.sum.as_ref().map(|sum| sum.kind().to_owned().into()),
        server_side_encryption: Some(ServerSideEncryption::from_static(ENCRYPTION)),
        ..CompleteMultipartUploadOutput::default()
    };
    put_sum!(output, &object.sum);
    Ok(output)
}

fn named(mut part: CompletedPart) -> Result<Named> {
    let sums: Sums = sums!(part);
    Ok(Named {
        number: part_number(part.part_number.ok_or(Error::MalformedXml)?)?,
        etag: part.e_tag.map(ETag::into_value),
        sum: sums.one()?,
    })
}

pub(crate) async fn abort(
    s3: &S3,
    context: &Context,
    input: AbortMultipartUploadInput,
) -> Result<AbortMultipartUploadOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(
        &context.who,
        &bucket,
        "s3:AbortMultipartUpload",
        Some(&input.key),
    )?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    refuse(&[(
        "aborting under a condition",
        input.if_match_initiated_time.is_some(),
    )])?;
    s3.abort_upload(&bucket, &input.key, &input.upload_id)
        .await?;
    Ok(AbortMultipartUploadOutput::default())
}

fn initiator(name: &str) -> Initiator {
    Initiator {
        display_name: None,
        id: Some(if name.starts_with("arn:") {
            name.to_owned()
        } else {
            wire::canonical_id(name)
        }),
    }
}

pub(crate) async fn list_parts(
    s3: &S3,
    context: &Context,
    input: ListPartsInput,
) -> Result<ListPartsOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    let action = "s3:ListMultipartUploadParts";
    s3.authorise(&context.who, &bucket, action, Some(&input.key))?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    let (id, upload) = s3.find_upload(&bucket, &input.key, &input.upload_id)?;
    let limit = page_size(input.max_parts, MAX_PAGE, "max-parts")?;
    let marker = input
        .part_number_marker
        .as_ref()
        .map(|marker| marker.to_string().parse::<u16>());
    let after = match marker {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => {
            return Err(Error::argument(
                "Argument part-number-marker must be an integer between 0 and 2147483647",
            ));
        }
    };
    let mut found = s3.parts_of(id, after, limit + 1)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let asked = upload.summing.asked;
    let part = |(number, part): &(u16, record::Part)| {
        let mut listed = Part {
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(timestamp(part.modified)),
            part_number: Some((*number).into()),
            size: Some(size(part.size)),
            ..Part::default()
        };
        if asked {
            put_sum!(listed, Some(&part.sum));
        }
        listed
    };
    let last = found.last().map_or(0, |(number, _)| *number);
    let kind = if upload.summing.composite {
        "COMPOSITE"
    } else {
        "FULL_OBJECT"
    };
    let class = upload.about.storage_class.as_deref().unwrap_or("STANDARD");
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm: asked.then(|| upload.summing.algorithm.name().to_owned().into()),
        checksum_type: asked.then(|| kind.to_owned().into()),
        initiator: Some(initiator(&upload.initiator)),
        is_truncated: Some(more),
        max_parts: i32::try_from(limit).ok(),
        next_part_number_marker: last.to_string().parse().ok(),
        owner: Some(owner(&bucket)),
        part_number_marker: after.to_string().parse().ok(),
        parts: Some(found.iter().map(part).collect()),
        storage_class: Some(class.to_owned().into()),
        ..ListPartsOutput::default()
    })
}

pub(crate) async fn list(
    s3: &S3,
    context: &Context,
    input: ListMultipartUploadsInput,
) -> Result<ListMultipartUploadsOutput> {
    let bucket = s3.bucket(&input.bucket)?;
    s3.authorise(&context.who, &bucket, "s3:ListBucketMultipartUploads", None)?;
    s3.check_owner(&bucket, input.expected_bucket_owner.as_deref())?;
    let limit = page_size(input.max_uploads, MAX_PAGE, "max-uploads")?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().filter(|text| !text.is_empty());
    let marker = input.key_marker.clone().unwrap_or_default();
    let upload_marker = input.upload_id_marker.as_deref().and_then(Id::parse);
    let id = bucket.record.id;
    let behind = |key: &str, upload: Option<Id>| {
        // Without an upload, all of the key's are behind.
        let last = Id {
            run: u64::MAX,
            count: u64::MAX,
        };
        keys::upload(id, key, upload.unwrap_or(last))
    };
    let mut after = (!marker.is_empty()).then(|| behind(&marker, upload_marker));
    let naming = Naming::new(input.encoding_type.as_ref());
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    let (mut more, mut next) = (false, None);
    'pages: loop {
        if limit == 0 {
            break;
        }
        let found = s3.uploads_of(&bucket, &prefix, after.clone(), MAX_PAGE)?;
        let whole = found.len() < MAX_PAGE;
        for (full, upload) in &found {
            let (key, upload_id) = keys::parse_upload(full)
                .ok_or_else(|| Error::Damaged("an upload's key".to_owned()))?;
            let common = common_prefix(key, &prefix, delimiter.as_deref());
            let seen = common.is_some_and(|common| {
                common <= marker.as_str() || prefixes.last().map(String::as_str) == Some(common)
            });
            if seen {
                continue;
            }
            if uploads.len() + prefixes.len() == limit {
                more = true;
                break 'pages;
            }
            next = Some((key.to_owned(), upload_id));
            match common {
                Some(common) => {
                    prefixes.push(common.to_owned());
                    next = Some((common.to_owned(), upload_id));
                }
                None => uploads.push(MultipartUpload {
                    checksum_algorithm: upload
                        .summing
                        .asked
                        .then(|| upload.summing.algorithm.name().to_owned().into()),
                    checksum_type: None,
                    initiated: Some(timestamp(upload.initiated)),
                    initiator: Some(initiator(&upload.initiator)),
                    key: Some(naming.write(key)),
                    owner: Some(owner(&bucket)),
                    storage_class: upload
                        .about
                        .storage_class
                        .clone()
                        .or_else(|| Some("STANDARD".to_owned()))
                        .map(StorageClass::from),
                    upload_id: Some(upload_id.to_string()),
                }),
            }
        }
        match found.last() {
            Some((last, _)) if !whole => after = Some(last.to_vec()),
            _ => break,
        }
    }
    let next = next.filter(|_| more);
    let prefix_of = |prefix: &String| CommonPrefix {
        prefix: Some(naming.write(prefix)),
    };
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(prefixes.iter().map(prefix_of).collect()),
        delimiter: delimiter.map(|text| naming.write(&text)),
        encoding_type: input.encoding_type,
        is_truncated: Some(more),
        key_marker: Some(naming.write(&marker)),
        max_uploads: i32::try_from(limit).ok(),
        next_key_marker: next.as_ref().map(|(key, _)| naming.write(key)),
        next_upload_id_marker: next.map(|(_, id)| id.to_string()),
        prefix: Some(naming.write(&prefix)),
        request_charged: None,
        upload_id_marker: input.upload_id_marker,
        uploads: Some(uploads),
    })
}
