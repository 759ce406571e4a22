//! Requests signed by botocore; see `tests/golden/sigv4/generate`.

use std::collections::BTreeMap;

use http::{Request, request};
use model::Timestamp;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    service: String,
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
    presigned: bool,
}

const SIGNED_AT: &str = "2026-11-22T01:02:03Z";

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/golden/sigv4/cases.json")).unwrap()
}

impl Case {
    fn request(&self) -> request::Parts {
        let url: http::Uri = self.url.parse().unwrap();
        let mut builder = Request::builder().method(self.method.as_str());
        if !self.headers.contains_key("Host") {
            builder = builder.header("host", url.authority().unwrap().as_str());
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let target = url.path_and_query().unwrap().as_str();
        builder.uri(target).body(()).unwrap().into_parts().0
    }
}

#[test]
fn signatures_of_botocore_verify() {
    let now = SIGNED_AT.parse::<Timestamp>().unwrap();
    for case in cases() {
        let request = case.request();
        let authorization = Authorization::parse(&request).unwrap().expect(&case.name);
        assert_eq!(authorization.access_key, case.access_key);
        assert_eq!(authorization.session_token, case.session_token);
        assert_eq!(authorization.scope.service, case.service);
        assert_eq!(authorization.scope.region, "us-east-1");
        assert_eq!(authorization.expires.is_some(), case.presigned);
        let verify =
            |secret: &str, body: &str| authorization.verify(&request, body.as_bytes(), secret, now);
        assert_eq!(
            verify(&case.secret_key, &case.body),
            Ok(()),
            "{}",
            case.name
        );
        assert_eq!(
            verify("another", &case.body),
            Err(SignatureError::Mismatch),
            "{}",
            case.name
        );
        if case.name != "presigned s3" {
            let changed = format!("{} ", case.body);
            let mismatch = Err(SignatureError::Mismatch);
            assert_eq!(
                verify(&case.secret_key, &changed),
                mismatch,
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn our_signature_is_the_one_of_botocore() {
    let now = SIGNED_AT.parse::<Timestamp>().unwrap();
    let ours = |case: &Case| {
        let mut request = case.request();
        request.headers.remove("authorization");
        let credentials = Credentials {
            access_key: case.access_key.clone(),
            secret_key: case.secret_key.clone(),
            session_token: case.session_token.clone(),
        };
        let body = case.body.as_bytes();
        sign(
            &mut request,
            body,
            &credentials,
            "us-east-1",
            &case.service,
            now,
        )
        .unwrap();
        request.headers["authorization"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    for case in cases().iter().filter(|case| !case.presigned) {
        assert_eq!(ours(case), case.headers["Authorization"], "{}", case.name);
    }
}
