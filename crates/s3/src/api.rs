//! The operations, in the library's types.

mod buckets;
mod configuration;
mod listings;
mod objects;
mod uploads;
mod wire;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use crate::Error;
use crate::front::Context;
use crate::service::S3;

/// S3, as the library sees it.
pub(crate) struct Api(pub(crate) S3);

fn context<T>(request: &S3Request<T>) -> Result<Context, Error> {
    let context = request.extensions.get::<Context>();
    context
        .cloned()
        .ok_or_else(|| Error::Damaged("a request without its context".to_owned()))
}

/// Implements the library's trait from a table of functions. What is not in it answers
/// `NotImplemented`.
macro_rules! operations {
    ($($name:ident: $input:ty => $output:ty = $run:path;)+) => {
        #[async_trait::async_trait]
        impl s3s::S3 for Api {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    let context = context(&request)?;
                    let output = $run(&self.0, &context, request.input).await?;
                    Ok(S3Response::new(output))
                }
            )+
        }
    };
}

operations! {
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput = uploads::abort;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput = uploads::complete;
    copy_object: CopyObjectInput => CopyObjectOutput = objects::copy;
    create_bucket: CreateBucketInput => CreateBucketOutput = buckets::create;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput = uploads::create;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput = buckets::delete;
    delete_bucket_policy: DeleteBucketPolicyInput => DeleteBucketPolicyOutput = configuration::delete_policy;
    delete_bucket_tagging: DeleteBucketTaggingInput => DeleteBucketTaggingOutput = configuration::delete_tagging;
    delete_object: DeleteObjectInput => DeleteObjectOutput = objects::delete;
    delete_object_tagging: DeleteObjectTaggingInput => DeleteObjectTaggingOutput = objects::delete_tagging;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput = objects::delete_many;
    delete_public_access_block: DeletePublicAccessBlockInput => DeletePublicAccessBlockOutput = configuration::delete_public_access_block;
    get_bucket_accelerate_configuration: GetBucketAccelerateConfigurationInput => GetBucketAccelerateConfigurationOutput = configuration::get_accelerate;
    get_bucket_acl: GetBucketAclInput => GetBucketAclOutput = configuration::get_acl;
    get_bucket_cors: GetBucketCorsInput => GetBucketCorsOutput = configuration::get_cors;
    get_bucket_encryption: GetBucketEncryptionInput => GetBucketEncryptionOutput = configuration::get_encryption;
    get_bucket_lifecycle_configuration: GetBucketLifecycleConfigurationInput => GetBucketLifecycleConfigurationOutput = configuration::get_lifecycle;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput = buckets::location;
    get_bucket_logging: GetBucketLoggingInput => GetBucketLoggingOutput = configuration::get_logging;
    get_bucket_notification_configuration: GetBucketNotificationConfigurationInput => GetBucketNotificationConfigurationOutput = configuration::get_notification;
    get_bucket_ownership_controls: GetBucketOwnershipControlsInput => GetBucketOwnershipControlsOutput = configuration::get_ownership;
    get_bucket_policy: GetBucketPolicyInput => GetBucketPolicyOutput = configuration::get_policy;
    get_bucket_policy_status: GetBucketPolicyStatusInput => GetBucketPolicyStatusOutput = configuration::get_policy_status;
    get_bucket_replication: GetBucketReplicationInput => GetBucketReplicationOutput = configuration::get_replication;
    get_bucket_request_payment: GetBucketRequestPaymentInput => GetBucketRequestPaymentOutput = configuration::get_request_payment;
    get_bucket_tagging: GetBucketTaggingInput => GetBucketTaggingOutput = configuration::get_tagging;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput = configuration::get_versioning;
    get_bucket_website: GetBucketWebsiteInput => GetBucketWebsiteOutput = configuration::get_website;
    get_object: GetObjectInput => GetObjectOutput = objects::get;
    get_object_acl: GetObjectAclInput => GetObjectAclOutput = objects::get_acl;
    get_object_attributes: GetObjectAttributesInput => GetObjectAttributesOutput = objects::attributes;
    get_object_lock_configuration: GetObjectLockConfigurationInput => GetObjectLockConfigurationOutput = configuration::get_object_lock;
    get_object_tagging: GetObjectTaggingInput => GetObjectTaggingOutput = objects::get_tagging;
    get_public_access_block: GetPublicAccessBlockInput => GetPublicAccessBlockOutput = configuration::get_public_access_block;
    head_bucket: HeadBucketInput => HeadBucketOutput = buckets::head;
    head_object: HeadObjectInput => HeadObjectOutput = objects::head;
    list_buckets: ListBucketsInput => ListBucketsOutput = buckets::list;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput = uploads::list;
    list_object_versions: ListObjectVersionsInput => ListObjectVersionsOutput = listings::versions;
    list_objects: ListObjectsInput => ListObjectsOutput = listings::first;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output = listings::second;
    list_parts: ListPartsInput => ListPartsOutput = uploads::list_parts;
    put_bucket_acl: PutBucketAclInput => PutBucketAclOutput = configuration::put_acl;
    put_bucket_encryption: PutBucketEncryptionInput => PutBucketEncryptionOutput = configuration::put_encryption;
    put_bucket_notification_configuration: PutBucketNotificationConfigurationInput => PutBucketNotificationConfigurationOutput = configuration::put_notification;
    put_bucket_ownership_controls: PutBucketOwnershipControlsInput => PutBucketOwnershipControlsOutput = configuration::put_ownership;
    put_bucket_policy: PutBucketPolicyInput => PutBucketPolicyOutput = configuration::put_policy;
    put_bucket_tagging: PutBucketTaggingInput => PutBucketTaggingOutput = configuration::put_tagging;
    put_bucket_versioning: PutBucketVersioningInput => PutBucketVersioningOutput = configuration::put_versioning;
    put_object: PutObjectInput => PutObjectOutput = objects::put;
    put_object_acl: PutObjectAclInput => PutObjectAclOutput = objects::put_acl;
    put_object_tagging: PutObjectTaggingInput => PutObjectTaggingOutput = objects::put_tagging;
    put_public_access_block: PutPublicAccessBlockInput => PutPublicAccessBlockOutput = configuration::put_public_access_block;
    upload_part: UploadPartInput => UploadPartOutput = uploads::part;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput = uploads::part_copy;
}
