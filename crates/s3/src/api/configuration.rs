//! What is configured of a bucket: tags, policy, notifications. Of what cannot be configured here,
//! the answers are those for a new bucket of AWS.

use model::Arn;
use policy::{Document, Statement};
use s3s::dto::*;

use super::buckets::bucket_tags;
use super::wire::{ENCRYPTION, canonical_id, check_acl, owner, refuse, tag_set};
use crate::front::Context;
use crate::notifications::{self, Notification};
use crate::outbox::Delivery;
use crate::record::{Pairs, PublicAccess};
use crate::service::{Bucket, S3};
use crate::{Error, Result};

/// The bucket of an operation that is allowed.
macro_rules! bucket {
    ($s3:expr, $context:expr, $input:expr, $action:literal) => {{
        let bucket = $s3.bucket(&$input.bucket)?;
        $s3.authorise(&$context.who, &bucket, $action, None)?;
        $s3.check_owner(&bucket, $input.expected_bucket_owner.as_deref())?;
        bucket
    }};
}

fn absent<T>(code: &'static str, message: &'static str) -> Result<T> {
    Err(Error::NotConfigured { code, message })
}

pub(crate) async fn get_tagging(
    s3: &S3,
    context: &Context,
    input: GetBucketTaggingInput,
) -> Result<GetBucketTaggingOutput> {
    let bucket = bucket!(s3, context, input, "s3:GetBucketTagging");
    if bucket.record.tags.is_empty() {
        return absent("NoSuchTagSet", "The TagSet does not exist");
    }
    Ok(GetBucketTaggingOutput {
        tag_set: tag_set(&bucket.record.tags),
    })
}

pub(crate) async fn put_tagging(
    s3: &S3,
    context: &Context,
    input: PutBucketTaggingInput,
) -> Result<PutBucketTaggingOutput> {
    bucket!(s3, context, input, "s3:PutBucketTagging");
    let tags = bucket_tags(input.tagging)?;
    s3.configure(&input.bucket, |bucket| {
        bucket.tags = tags;
        Ok(())
    })
    .await?;
    Ok(PutBucketTaggingOutput {})
}

pub(crate) async fn delete_tagging(
    s3: &S3,
    context: &Context,
    input: DeleteBucketTaggingInput,
) -> Result<DeleteBucketTaggingOutput> {
    bucket!(s3, context, input, "s3:PutBucketTagging");
    s3.configure(&input.bucket, |bucket| {
        bucket.tags = Pairs::new();
        Ok(())
    })
    .await?;
    Ok(DeleteBucketTaggingOutput {})
}

pub(crate) async fn get_policy(
    s3: &S3,
    context: &Context,
    input: GetBucketPolicyInput,
) -> Result<GetBucketPolicyOutput> {
    let bucket = bucket!(s3, context, input, "s3:GetBucketPolicy");
    match &bucket.record.policy {
        Some(policy) => Ok(GetBucketPolicyOutput {
            policy: Some(policy.clone()),
        }),
        None => absent("NoSuchBucketPolicy", "The bucket policy does not exist"),
    }
}

pub(crate) async fn put_policy(
    s3: &S3,
    context: &Context,
    input: PutBucketPolicyInput,
) -> Result<PutBucketPolicyOutput> {
    let bucket = bucket!(s3, context, input, "s3:PutBucketPolicy");
    let text = input.policy;
    let malformed = |error: policy::ParseError| Error::MalformedPolicy(error.to_string());
    let document = Document::parse(&text).map_err(malformed)?;
    if !document.names_principals() {
        return Err(Error::MalformedPolicy(
            "Missing required field Principal".to_owned(),
        ));
    }
    check_resources(&text, &bucket)?;
    let is_public = document.statements().iter().any(Statement::is_public);
    if is_public && bucket.record.public_access.block_public_policy {
        return Err(Error::AccessDenied);
    }
    s3.configure(&input.bucket, |bucket| {
        bucket.policy = Some(text);
        Ok(())
    })
    .await?;
    Ok(PutBucketPolicyOutput {})
}

/// A bucket's policy is about the bucket and its objects, and about nothing else.
fn check_resources(text: &str, bucket: &Bucket) -> Result<()> {
    let policy: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let statements = match &policy["Statement"] {
        serde_json::Value::Array(statements) => statements.clone(),
        one => vec![one.clone()],
    };
    let arn = bucket.arn();
    let about = |resource: &serde_json::Value| {
        let resource = resource.as_str().unwrap_or_default();
        resource == arn
            || resource
                .strip_prefix(&arn)
                .is_some_and(|rest| rest.starts_with(['/', '*']))
    };
    for statement in &statements {
        let fits = match (&statement["Resource"], &statement["NotResource"]) {
            (serde_json::Value::Null, serde_json::Value::Null) => {
                return Err(Error::MalformedPolicy(
                    "Missing required field Resource".to_owned(),
                ));
            }
            (serde_json::Value::Null, _) => true,
            (serde_json::Value::Array(resources), _) => resources.iter().all(about),
            (resource, _) => about(resource),
        };
        if !fits {
            return Err(Error::MalformedPolicy(
                "Policy has invalid resource".to_owned(),
            ));
        }
    }
    Ok(())
}

pub(crate) async fn delete_policy(
    s3: &S3,
    context: &Context,
    input: DeleteBucketPolicyInput,
) -> Result<DeleteBucketPolicyOutput> {
    bucket!(s3, context, input, "s3:DeleteBucketPolicy");
    s3.configure(&input.bucket, |bucket| {
        bucket.policy = None;
        Ok(())
    })
    .await?;
    Ok(DeleteBucketPolicyOutput {})
}

pub(crate) async fn get_policy_status(
    s3: &S3,
    context: &Context,
    input: GetBucketPolicyStatusInput,
) -> Result<GetBucketPolicyStatusOutput> {
    let bucket = bucket!(s3, context, input, "s3:GetBucketPolicyStatus");
    let Some(document) = &bucket.policy else {
        return absent("NoSuchBucketPolicy", "The bucket policy does not exist");
    };
    Ok(GetBucketPolicyStatusOutput {
        policy_status: Some(PolicyStatus {
            is_public: Some(document.statements().iter().any(Statement::is_public)),
        }),
    })
}

pub(crate) async fn get_public_access_block(
    s3: &S3,
    context: &Context,
    input: GetPublicAccessBlockInput,
) -> Result<GetPublicAccessBlockOutput> {
    let bucket = bucket!(s3, context, input, "s3:GetBucketPublicAccessBlock");
    let access = bucket.record.public_access;
    if access == PublicAccess::all(false) {
        return absent(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
        );
    }
    Ok(GetPublicAccessBlockOutput {
        public_access_block_configuration: Some(PublicAccessBlockConfiguration {
            block_public_acls: Some(access.block_public_acls),
            block_public_policy: Some(access.block_public_policy),
            ignore_public_acls: Some(access.ignore_public_acls),
            restrict_public_buckets: Some(access.restrict_public_buckets),
        }),
    })
}

pub(crate) async fn put_public_access_block(
    s3: &S3,
    context: &Context,
    input: PutPublicAccessBlockInput,
) -> Result<PutPublicAccessBlockOutput> {
    bucket!(s3, context, input, "s3:PutBucketPublicAccessBlock");
    let asked = input.public_access_block_configuration;
    s3.configure(&input.bucket, |bucket| {
        bucket.public_access = PublicAccess {
            block_public_acls: asked.block_public_acls == Some(true),
            ignore_public_acls: asked.ignore_public_acls == Some(true),
            block_public_policy: asked.block_public_policy == Some(true),
            restrict_public_buckets: asked.restrict_public_buckets == Some(true),
        };
        Ok(())
    })
    .await?;
    Ok(PutPublicAccessBlockOutput {})
}

pub(crate) async fn delete_public_access_block(
    s3: &S3,
    context: &Context,
    input: DeletePublicAccessBlockInput,
) -> Result<DeletePublicAccessBlockOutput> {
    bucket!(s3, context, input, "s3:PutBucketPublicAccessBlock");
    s3.configure(&input.bucket, |bucket| {
        bucket.public_access = PublicAccess::all(false);
        Ok(())
    })
    .await?;
    Ok(DeletePublicAccessBlockOutput {})
}

pub(crate) async fn get_notification(
    s3: &S3,
    context: &Context,
    input: GetBucketNotificationConfigurationInput,
) -> Result<GetBucketNotificationConfigurationOutput> {
    let bucket = bucket!(s3, context, input, "s3:GetBucketNotification");
    let rule = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| FilterRule {
            name: Some(name.to_owned().into()),
            value: Some(value.clone()),
        })
    };
    let shown = |one: &Notification| {
        let rules: Vec<FilterRule> = [rule("Prefix", &one.prefix), rule("Suffix", &one.suffix)]
            .into_iter()
            .flatten()
            .collect();
        LambdaFunctionConfiguration {
            events: one.events.iter().cloned().map(Event::from).collect(),
            filter: (!rules.is_empty()).then_some(NotificationConfigurationFilter {
                key: Some(S3KeyFilter {
                    filter_rules: Some(rules),
                }),
            }),
            id: Some(one.id.clone()),
            lambda_function_arn: one.destination.clone(),
        }
    };
    let configurations: Vec<_> = bucket.record.notifications.iter().map(shown).collect();
    Ok(GetBucketNotificationConfigurationOutput {
        lambda_function_configurations: Some(configurations),
        ..GetBucketNotificationConfigurationOutput::default()
    })
}

pub(crate) async fn put_notification(
    s3: &S3,
    context: &Context,
    input: PutBucketNotificationConfigurationInput,
) -> Result<PutBucketNotificationConfigurationOutput> {
    let bucket = bucket!(s3, context, input, "s3:PutBucketNotification");
    let asked = input.notification_configuration;
    let some = |empty: Option<bool>| empty == Some(false);
    refuse(&[
        (
            "notifications to queues, because firn has no SQS yet",
            some(asked.queue_configurations.as_ref().map(Vec::is_empty)),
        ),
        (
            "notifications to topics, because firn has no SNS yet",
            some(asked.topic_configurations.as_ref().map(Vec::is_empty)),
        ),
        (
            "notifications to EventBridge, which firn does not have yet",
            asked.event_bridge_configuration.is_some(),
        ),
    ])?;
    let asked = asked.lambda_function_configurations.unwrap_or_default();
    let wanted = asked
        .into_iter()
        .map(notification)
        .collect::<Result<Vec<_>>>()?;
    notifications::check(&wanted)?;
    if input.skip_destination_validation != Some(true) {
        for one in &wanted {
            let delivery = Delivery {
                destination: one.destination.clone(),
                source_arn: bucket.arn(),
                account: bucket.record.owner,
                region: bucket.record.region.clone(),
                payload: bytes::Bytes::new(),
            };
            if let Err(reason) = (s3.hooks().check)(delivery).await {
                tracing::debug!(bucket = bucket.name, reason, "refused a destination");
                return Err(Error::argument(
                    "Unable to validate the following destination configurations",
                ));
            }
        }
    }
    s3.configure(&input.bucket, |bucket| {
        bucket.notifications = wanted;
        Ok(())
    })
    .await?;
    Ok(PutBucketNotificationConfigurationOutput {})
}

fn notification(asked: LambdaFunctionConfiguration) -> Result<Notification> {
    let arn = asked.lambda_function_arn;
    let is_function = arn.parse::<Arn>().is_ok() && arn.split(':').nth(2) == Some("lambda");
    if !is_function {
        return Err(Error::argument("The ARN could not be parsed"));
    }
    let (mut prefix, mut suffix) = (None, None);
    let filter = asked.filter.and_then(|filter| filter.key);
    for rule in filter.and_then(|key| key.filter_rules).unwrap_or_default() {
        let name = rule
            .name
            .as_ref()
            .map(|name| name.as_str().to_ascii_lowercase());
        let place = match name.as_deref() {
            Some("prefix") => &mut prefix,
            Some("suffix") => &mut suffix,
            _ => {
                return Err(Error::argument(
                    "filter rule name must be either prefix or suffix",
                ));
            }
        };
        let value = rule.value.unwrap_or_default();
        if value.len() > 1024 {
            return Err(Error::argument(
                "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation",
            ));
        }
        if place.replace(value).is_some() {
            return Err(Error::argument(
                "Cannot specify more than one prefix or suffix rule in a filter.",
            ));
        }
    }
    Ok(Notification {
        id: asked.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        destination: arn,
        events: asked.events.into_iter().map(String::from).collect(),
        prefix,
        suffix,
    })
}

/// Everything for the owner, and nothing for anybody else.
pub(super) fn grants(bucket: &Bucket) -> Grants {
    vec![Grant {
        grantee: Some(Grantee {
            display_name: None,
            email_address: None,
            id: Some(canonical_id(bucket.record.owner.as_str())),
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}

pub(crate) async fn get_acl(
    s3: &S3,
    context: &Context,
    input: GetBucketAclInput,
) -> Result<GetBucketAclOutput> {
    let bucket = bucket!(s3, context, input, "s3:GetBucketAcl");
    Ok(GetBucketAclOutput {
        grants: Some(grants(&bucket)),
        owner: Some(owner(&bucket)),
    })
}

pub(crate) async fn put_acl(
    s3: &S3,
    context: &Context,
    input: PutBucketAclInput,
) -> Result<PutBucketAclOutput> {
    bucket!(s3, context, input, "s3:PutBucketAcl");
    let grants = input.access_control_policy.is_some()
        || input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write.is_some()
        || input.grant_write_acp.is_some();
    check_acl(input.acl.as_ref().map(BucketCannedACL::as_str), grants)?;
    Ok(PutBucketAclOutput {})
}

pub(crate) async fn get_ownership(
    s3: &S3,
    context: &Context,
    input: GetBucketOwnershipControlsInput,
) -> Result<GetBucketOwnershipControlsOutput> {
    bucket!(s3, context, input, "s3:GetBucketOwnershipControls");
    Ok(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(OwnershipControls {
            rules: vec![OwnershipControlsRule {
                object_ownership: "BucketOwnerEnforced".to_owned().into(),
            }],
        }),
    })
}

pub(crate) async fn put_ownership(
    s3: &S3,
    context: &Context,
    input: PutBucketOwnershipControlsInput,
) -> Result<PutBucketOwnershipControlsOutput> {
    bucket!(s3, context, input, "s3:PutBucketOwnershipControls");
    let rules = &input.ownership_controls.rules;
    let others = rules
        .iter()
        .any(|rule| rule.object_ownership.as_str() != "BucketOwnerEnforced");
    refuse(&[(
        "objects that do not belong to the owner of their bucket",
        others,
    )])?;
    Ok(PutBucketOwnershipControlsOutput {})
}

pub(crate) async fn get_encryption(
    s3: &S3,
    context: &Context,
    input: GetBucketEncryptionInput,
) -> Result<GetBucketEncryptionOutput> {
    bucket!(s3, context, input, "s3:GetEncryptionConfiguration");
    Ok(GetBucketEncryptionOutput {
        server_side_encryption_configuration: Some(ServerSideEncryptionConfiguration {
            rules: vec![ServerSideEncryptionRule {
                apply_server_side_encryption_by_default: Some(ServerSideEncryptionByDefault {
                    kms_master_key_id: None,
                    sse_algorithm: ServerSideEncryption::from_static(ENCRYPTION),
                }),
                bucket_key_enabled: Some(false),
            }],
        }),
    })
}

/// What is the default may be asked for.
pub(crate) async fn put_encryption(
    s3: &S3,
    context: &Context,
    input: PutBucketEncryptionInput,
) -> Result<PutBucketEncryptionOutput> {
    bucket!(s3, context, input, "s3:PutEncryptionConfiguration");
    let rules = &input.server_side_encryption_configuration.rules;
    let others = rules.iter().any(|rule| {
        let default = rule.apply_server_side_encryption_by_default.as_ref();
        default.is_some_and(|default| default.sse_algorithm.as_str() != ENCRYPTION)
    });
    refuse(&[("encryption with keys of KMS", others)])?;
    Ok(PutBucketEncryptionOutput {})
}

pub(crate) async fn get_versioning(
    s3: &S3,
    context: &Context,
    input: GetBucketVersioningInput,
) -> Result<GetBucketVersioningOutput> {
    bucket!(s3, context, input, "s3:GetBucketVersioning");
    Ok(GetBucketVersioningOutput::default())
}

pub(crate) async fn put_versioning(
    s3: &S3,
    context: &Context,
    input: PutBucketVersioningInput,
) -> Result<PutBucketVersioningOutput> {
    bucket!(s3, context, input, "s3:PutBucketVersioning");
    Err(Error::NotSupported("versioning"))
}

pub(crate) async fn get_object_lock(
    s3: &S3,
    context: &Context,
    input: GetObjectLockConfigurationInput,
) -> Result<GetObjectLockConfigurationOutput> {
    bucket!(s3, context, input, "s3:GetBucketObjectLockConfiguration");
    absent(
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    )
}

pub(crate) async fn get_lifecycle(
    s3: &S3,
    context: &Context,
    input: GetBucketLifecycleConfigurationInput,
) -> Result<GetBucketLifecycleConfigurationOutput> {
    bucket!(s3, context, input, "s3:GetLifecycleConfiguration");
    absent(
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    )
}

pub(crate) async fn get_cors(
    s3: &S3,
    context: &Context,
    input: GetBucketCorsInput,
) -> Result<GetBucketCorsOutput> {
    bucket!(s3, context, input, "s3:GetBucketCORS");
    absent(
        "NoSuchCORSConfiguration",
        "The CORS configuration does not exist",
    )
}

pub(crate) async fn get_website(
    s3: &S3,
    context: &Context,
    input: GetBucketWebsiteInput,
) -> Result<GetBucketWebsiteOutput> {
    bucket!(s3, context, input, "s3:GetBucketWebsite");
    absent(
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    )
}

pub(crate) async fn get_replication(
    s3: &S3,
    context: &Context,
    input: GetBucketReplicationInput,
) -> Result<GetBucketReplicationOutput> {
    bucket!(s3, context, input, "s3:GetReplicationConfiguration");
    absent(
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    )
}

pub(crate) async fn get_logging(
    s3: &S3,
    context: &Context,
    input: GetBucketLoggingInput,
) -> Result<GetBucketLoggingOutput> {
    bucket!(s3, context, input, "s3:GetBucketLogging");
    Ok(GetBucketLoggingOutput::default())
}

pub(crate) async fn get_accelerate(
    s3: &S3,
    context: &Context,
    input: GetBucketAccelerateConfigurationInput,
) -> Result<GetBucketAccelerateConfigurationOutput> {
    bucket!(s3, context, input, "s3:GetAccelerateConfiguration");
    Ok(GetBucketAccelerateConfigurationOutput::default())
}

pub(crate) async fn get_request_payment(
    s3: &S3,
    context: &Context,
    input: GetBucketRequestPaymentInput,
) -> Result<GetBucketRequestPaymentOutput> {
    bucket!(s3, context, input, "s3:GetBucketRequestPayment");
    Ok(GetBucketRequestPaymentOutput {
        payer: Some(Payer::from_static(Payer::BUCKET_OWNER)),
    })
}
