//! The objects that distributed maps read and write: those of the S3 that the operator names, else
//! of the server's own.

use std::sync::Arc;

use futures_util::StreamExt;
use integrations::objects::{Listed, Refusal};
use integrations::{Context, Integrations};
use s3::S3;
use states::map_runs::{Body, Found, Get, List, ObjectError, Objects, Put, Who};

/// Objects where tasks find them, too.
pub fn of(integrations: &Arc<Integrations>, s3: &S3) -> Objects {
    if integrations.objects_are_upstream() {
        upstream(integrations)
    } else {
        own(s3)
    }
}

fn upstream(integrations: &Arc<Integrations>) -> Objects {
    let to_get = Arc::clone(integrations);
    let (to_list, to_put) = (Arc::clone(&to_get), Arc::clone(&to_get));
    Objects {
        get: Arc::new(move |wanted: Get| {
            let integrations = Arc::clone(&to_get);
            Box::pin(async move {
                let context = context(wanted.who);
                let place = (&*wanted.bucket, &*wanted.key);
                let version = wanted.version.as_deref();
                let contents = integrations.open_object(&context, place, version).await;
                let pieces = contents.map_err(told)?.map(|piece| piece.map_err(told));
                Ok(Box::pin(pieces) as Body)
            })
        }),
        list: Arc::new(move |wanted: List| {
            let integrations = Arc::clone(&to_list);
            Box::pin(async move {
                let context = context(wanted.who);
                let place = (&*wanted.bucket, &*wanted.prefix);
                let after = wanted.after.as_deref();
                let listed = integrations.list_objects(&context, place, after, wanted.limit);
                let listed = listed.await.map_err(told)?;
                Ok(listed.into_iter().map(found_upstream).collect())
            })
        }),
        put: Arc::new(move |given: Put| {
            let integrations = Arc::clone(&to_put);
            Box::pin(async move {
                let context = context(given.who);
                let place = (&*given.bucket, &*given.key);
                let put = integrations.put_object(&context, place, given.body);
                put.await.map_err(told)
            })
        }),
    }
}

fn context(who: Who) -> Context {
    Context {
        account: who.account,
        region: who.region,
        role_arn: who.role_arn,
        session: "map-run".to_owned(),
        trace_header: None,
    }
}

fn found_upstream(object: Listed) -> Found {
    let Listed {
        key,
        size,
        etag,
        modified_ms,
        storage_class,
    } = object;
    Found {
        key,
        size,
        etag,
        modified_ms,
        storage_class,
    }
}

fn told(refusal: Refusal) -> ObjectError {
    let Refusal {
        code,
        message,
        status,
    } = refusal;
    ObjectError {
        code,
        message,
        status,
    }
}

/// Reads and writes in process, with the permissions that the account has.
fn own(s3: &S3) -> Objects {
    let (to_get, to_list, to_put) = (s3.clone(), s3.clone(), s3.clone());
    Objects {
        get: Arc::new(move |wanted: Get| {
            let s3 = to_get.clone();
            Box::pin(async move {
                if wanted.version.is_some() {
                    return Err(no_versions());
                }
                let Get {
                    who, bucket, key, ..
                } = wanted;
                let found = s3.get_object(&who.account, &bucket, &key, None).await;
                let (_, contents) = found.map_err(refused)?;
                let pieces = contents.map(|piece| piece.map_err(refused));
                Ok(Box::pin(pieces) as Body)
            })
        }),
        list: Arc::new(move |wanted: List| {
            let s3 = to_list.clone();
            Box::pin(async move {
                let listed = s3.list(
                    &wanted.who.account,
                    &wanted.bucket,
                    &wanted.prefix,
                    wanted.after.as_deref(),
                    wanted.limit,
                );
                Ok(listed.map_err(refused)?.into_iter().map(found).collect())
            })
        }),
        put: Arc::new(move |given: Put| {
            let s3 = to_put.clone();
            Box::pin(async move {
                let Put {
                    who,
                    bucket,
                    key,
                    body,
                } = given;
                let put = s3::Put::bytes(body).content_type("application/json");
                let stored = s3.put_object(&who.account, &bucket, &key, put).await;
                stored.map(drop).map_err(refused)
            })
        }),
    }
}

fn found(object: s3::Object) -> Found {
    Found {
        etag: format!("\"{}\"", object.etag),
        modified_ms: object.modified.as_millis(),
        key: object.key,
        size: object.size,
        storage_class: object.storage_class,
    }
}

fn refused(error: s3::Error) -> ObjectError {
    ObjectError {
        code: error.code().to_owned(),
        status: error.status(),
        message: error.to_string(),
    }
}

fn no_versions() -> ObjectError {
    ObjectError {
        code: "NotImplemented".to_owned(),
        status: 501,
        message: "firn's S3 keeps no versions, so that a VersionId cannot be read".to_owned(),
    }
}
