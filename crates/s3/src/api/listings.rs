use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;

use super::wire::{etag, owner, page_size, size, timestamp};
use crate::Result;
use crate::front::Context;
use crate::listing::{Entry, MAX_PAGE, Page, Position, Query};
use crate::record;
use crate::service::{Bucket, S3};

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'*')
    .remove(b'/');

/// How names are written into an answer.
pub(super) struct Naming {
    encode: bool,
}

impl Naming {
    pub(super) fn new(encoding: Option<&EncodingType>) -> Self {
        Self {
            encode: encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL),
        }
    }

    pub(super) fn write(&self, name: &str) -> String {
        if self.encode {
            utf8_percent_encode(name, PLAIN).to_string()
        } else {
            name.to_owned()
        }
    }
}

fn objects(page: &Page, naming: &Naming, owner: Option<&Owner>) -> ObjectList {
    let object = |entry: &Entry| match entry {
        Entry::Prefix(_) => None,
        Entry::Object(key, object) => Some(Object {
            checksum_algorithm: algorithms(object),
            checksum_type: checksum_type(object),
            e_tag: Some(etag(&object.etag)),
            key: Some(naming.write(key)),
            last_modified: Some(timestamp(object.modified)),
            owner: owner.cloned(),
            restore_status: None,
            size: Some(size(object.size)),
            storage_class: Some(ObjectStorageClass::from(object.storage_class().to_owned())),
        }),
    };
    page.entries.iter().filter_map(object).collect()
}

fn algorithms(object: &record::Object) -> Option<ChecksumAlgorithmList> {
    let name =
        |sum: &crate::checksum::Sum| vec![ChecksumAlgorithm::from(sum.algorithm.name().to_owned())];
    object.sum.as_ref().map(name)
}

fn checksum_type(object: &record::Object) -> Option<ChecksumType> {
    let kind = |sum: &crate::checksum::Sum| ChecksumType::from(sum.kind().to_owned());
    object.sum.as_ref().map(kind)
}

fn prefixes(page: &Page, naming: &Naming) -> CommonPrefixList {
    let prefix = |entry: &Entry| match entry {
        Entry::Object(..) => None,
        Entry::Prefix(prefix) => Some(CommonPrefix {
            prefix: Some(naming.write(prefix)),
        }),
    };
    page.entries.iter().filter_map(prefix).collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

struct Listed {
    bucket: std::sync::Arc<Bucket>,
    query: Query,
    page: Page,
}

fn list(
    s3: &S3,
    context: &Context,
    bucket: &str,
    expected_owner: Option<&str>,
    (action, query): (&str, Query),
) -> Result<Listed> {
    let bucket = s3.bucket(bucket)?;
    s3.authorise(&context.who, &bucket, action, None)?;
    s3.check_owner(&bucket, expected_owner)?;
    let page = s3.list_page(&bucket, &query)?;
    Ok(Listed {
        bucket,
        query,
        page,
    })
}

fn query(prefix: Option<&String>, delimiter: Option<&String>, limit: usize) -> Query {
    Query {
        prefix: prefix.cloned().unwrap_or_default(),
        delimiter: delimiter.filter(|text| !text.is_empty()).cloned(),
        after: None,
        limit,
    }
}

pub(crate) async fn first(
    s3: &S3,
    context: &Context,
    input: ListObjectsInput,
) -> Result<ListObjectsOutput> {
    let limit = page_size(input.max_keys, MAX_PAGE, "maxKeys")?;
    let mut query = query(input.prefix.as_ref(), input.delimiter.as_ref(), limit);
    let marker = input.marker.clone().unwrap_or_default();
    if !marker.is_empty() {
        let delimiter = query.delimiter.as_deref();
        query.after = Some(Position::after(&marker, &query.prefix, delimiter));
    }
    let expected = input.expected_bucket_owner.as_deref();
    let listed = list(
        s3,
        context,
        &input.bucket,
        expected,
        ("s3:ListBucket", query),
    )?;
    let (naming, page) = (Naming::new(input.encoding_type.as_ref()), &listed.page);
    // Without a delimiter, the last key says where to go on.
    let next = page.entries.last().filter(|_| page.truncated);
    let next = next.filter(|_| listed.query.delimiter.is_some());
    Ok(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(naming.write(&listed.query.prefix)),
        marker: Some(naming.write(&marker)),
        max_keys: Some(count(limit)),
        is_truncated: Some(page.truncated),
        contents: Some(objects(page, &naming, Some(&owner(&listed.bucket)))),
        common_prefixes: Some(prefixes(page, &naming)),
        delimiter: listed
            .query
            .delimiter
            .as_deref()
            .map(|text| naming.write(text)),
        next_marker: next.map(|entry| naming.write(entry.name())),
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

pub(crate) async fn second(
    s3: &S3,
    context: &Context,
    input: ListObjectsV2Input,
) -> Result<ListObjectsV2Output> {
    let limit = page_size(input.max_keys, MAX_PAGE, "maxKeys")?;
    let mut query = query(input.prefix.as_ref(), input.delimiter.as_ref(), limit);
    query.after = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => Some(Position::parse(token)?),
        (None, Some(key)) if !key.is_empty() => {
            let delimiter = query.delimiter.as_deref();
            Some(Position::after(key, &query.prefix, delimiter))
        }
        (None, _) => None,
    };
    let expected = input.expected_bucket_owner.as_deref();
    let listed = list(
        s3,
        context,
        &input.bucket,
        expected,
        ("s3:ListBucket", query),
    )?;
    let (naming, page) = (Naming::new(input.encoding_type.as_ref()), &listed.page);
    let owner = owner(&listed.bucket);
    let owner = Some(&owner).filter(|_| input.fetch_owner == Some(true));
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(naming.write(&listed.query.prefix)),
        max_keys: Some(count(limit)),
        key_count: Some(count(page.entries.len())),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.truncated),
        next_continuation_token: page.next().map(|position| position.token()),
        contents: Some(objects(page, &naming, owner)),
        common_prefixes: Some(prefixes(page, &naming)),
        delimiter: listed
            .query
            .delimiter
            .as_deref()
            .map(|text| naming.write(text)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.as_deref().map(|key| naming.write(key)),
        request_charged: None,
    })
}

/// Every object is its only version.
pub(crate) async fn versions(
    s3: &S3,
    context: &Context,
    input: ListObjectVersionsInput,
) -> Result<ListObjectVersionsOutput> {
    let limit = page_size(input.max_keys, MAX_PAGE, "maxKeys")?;
    let mut query = query(input.prefix.as_ref(), input.delimiter.as_ref(), limit);
    let marker = input.key_marker.clone().unwrap_or_default();
    if !marker.is_empty() {
        let delimiter = query.delimiter.as_deref();
        query.after = Some(Position::after(&marker, &query.prefix, delimiter));
    }
    let expected = input.expected_bucket_owner.as_deref();
    let action = ("s3:ListBucketVersions", query);
    let listed = list(s3, context, &input.bucket, expected, action)?;
    let (naming, page) = (Naming::new(input.encoding_type.as_ref()), &listed.page);
    let owner = owner(&listed.bucket);
    let version = |entry: &Entry| match entry {
        Entry::Prefix(_) => None,
        Entry::Object(key, object) => Some(ObjectVersion {
            checksum_algorithm: algorithms(object),
            checksum_type: checksum_type(object),
            e_tag: Some(etag(&object.etag)),
            is_latest: Some(true),
            key: Some(naming.write(key)),
            last_modified: Some(timestamp(object.modified)),
            owner: Some(owner.clone()),
            restore_status: None,
            size: Some(size(object.size)),
            storage_class: Some(object.storage_class().to_owned().into()),
            version_id: Some("null".to_owned()),
        }),
    };
    let next = page.entries.last().filter(|_| page.truncated);
    Ok(ListObjectVersionsOutput {
        common_prefixes: Some(prefixes(page, &naming)),
        delete_markers: None,
        delimiter: listed
            .query
            .delimiter
            .as_deref()
            .map(|text| naming.write(text)),
        is_truncated: Some(page.truncated),
        key_marker: Some(naming.write(&marker)),
        max_keys: Some(count(limit)),
        name: Some(input.bucket),
        next_key_marker: next.map(|entry| naming.write(entry.name())),
        next_version_id_marker: next.map(|_| "null".to_owned()),
        prefix: Some(naming.write(&listed.query.prefix)),
        request_charged: None,
        version_id_marker: input.version_id_marker,
        versions: Some(page.entries.iter().filter_map(version).collect()),
        encoding_type: input.encoding_type,
    })
}
