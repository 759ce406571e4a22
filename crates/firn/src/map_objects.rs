//! The objects that distributed maps read and write: those of the server's own S3.

use std::sync::Arc;

use futures_util::StreamExt;
use s3::S3;
use states::map_runs::{Body, Found, Get, List, ObjectError, Objects, Put};

/// Reads and writes in process, with the permissions that the account has.
pub fn own(s3: &S3) -> Objects {
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
