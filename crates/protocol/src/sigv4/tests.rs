use std::time::Duration;

use http::{Request, request};
use model::Timestamp;
use proptest::prelude::*;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn now() -> Timestamp {
    "2015-08-30T12:36:00Z".parse().unwrap()
}

/// The example of AWS's documentation: `iam:ListUsers`.
fn documented() -> request::Parts {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date, \
         Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
    let builder = Request::get("/?Action=ListUsers&Version=2010-05-08")
        .header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .header("host", "iam.amazonaws.com")
        .header("x-amz-date", "20150830T123600Z")
        .header("authorization", authorization);
    builder.body(()).unwrap().into_parts().0
}

fn verify(request: &request::Parts, now: Timestamp) -> Result<(), SignatureError> {
    let authorization = Authorization::parse(request)?.ok_or(SignatureError::Missing)?;
    authorization.verify(request, b"", SECRET, now)
}

fn with_authorization(value: &str) -> Result<(), SignatureError> {
    let mut request = documented();
    request
        .headers
        .insert("authorization", value.parse().unwrap());
    verify(&request, now())
}

#[test]
fn the_documented_example_verifies() {
    assert_eq!(verify(&documented(), now()), Ok(()));
}

#[test]
fn a_changed_request_does_not_verify() {
    let mut path = documented();
    path.uri = "/?Action=DeleteUser&Version=2010-05-08".parse().unwrap();
    let mut host = documented();
    host.headers
        .insert("host", "sts.amazonaws.com".parse().unwrap());
    let mut method = documented();
    method.method = http::Method::POST;
    for request in [path, host, method] {
        assert_eq!(verify(&request, now()), Err(SignatureError::Mismatch));
    }
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let limit = Duration::from_secs(5 * 60);
    let beyond = limit + Duration::from_secs(1);
    assert_eq!(verify(&documented(), now() + limit), Ok(()));
    assert_eq!(verify(&documented(), now() - limit), Ok(()));
    let expired = verify(&documented(), now() + beyond).unwrap_err();
    assert_eq!(
        expired.to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
         (20150830T124101Z - 5 min.)"
    );
    assert!(matches!(
        verify(&documented(), now() - beyond),
        Err(SignatureError::OutOfTime(_))
    ));
}

#[test]
fn an_unsigned_request_has_no_authorization() {
    let mut request = documented();
    request.headers.remove("authorization");
    assert_eq!(Authorization::parse(&request), Ok(None));
}

#[test]
fn unreadable_signatures_say_what_is_wrong() {
    for (value, expected) in [
        ("Basic dXNlcg==", "Unsupported AWS 'algorithm'"),
        (
            "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=x",
            "requires 'Credential'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=x",
            "5 slash-delimited",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, Signature=x",
            "'SignedHeaders'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=host",
            "'Signature'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws5, SignedHeaders=host, Signature=x",
            "terminator",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=A/20150831/r/s/aws4_request, SignedHeaders=host, Signature=x",
            "does not match",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=a, Signature=x",
            "'Host'",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=host, Signature=x",
            "'x-amz-date' must be",
        ),
    ] {
        let error = with_authorization(value).unwrap_err();
        assert!(
            matches!(error, SignatureError::Incomplete(_)),
            "{value}: {error:?}"
        );
        assert!(error.to_string().contains(expected), "{value}: {error}");
    }
}

#[test]
fn the_date_header_stands_in_for_x_amz_date() {
    let mut request = Request::get("/")
        .header("host", "h")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    request
        .headers
        .insert("date", "Sun, 30 Aug 2015 12:36:00 GMT".parse().unwrap());
    let value =
        "AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=host, Signature=x";
    request
        .headers
        .insert("authorization", value.parse().unwrap());
    assert_eq!(
        Authorization::parse(&request).unwrap().unwrap().timestamp,
        now()
    );
}

#[test]
fn presigned_requests_expire() {
    let uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20150830%2Fr%2Fs%2Faws4_request\
               &X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=x";
    let request = Request::get(uri)
        .header("host", "h")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let at = |seconds| verify(&request, now() + Duration::from_secs(seconds));
    assert_eq!(at(60), Err(SignatureError::Mismatch));
    assert!(matches!(at(61), Err(SignatureError::OutOfTime(_))));
    let forever = uri.replace("Expires=60", "Expires=604801");
    let request = Request::get(forever)
        .header("host", "h")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    assert!(matches!(
        verify(&request, now()),
        Err(SignatureError::Incomplete(_))
    ));
}

#[test]
fn debug_output_holds_no_secret() {
    let credentials = Credentials {
        access_key: "AKID".to_owned(),
        secret_key: "hush".to_owned(),
        session_token: Some("hush".to_owned()),
    };
    assert!(!format!("{credentials:?}").contains("hush"));
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        path in "(/[a-zA-Z0-9:$._~!'()*,;@+-]{0,8}|/%2[0-9A-F]){0,4}",
        query in "([a-z]{1,3}=[a-zA-Z0-9%25+:/]{0,5}&?){0,4}",
        header in "[ -~]{0,20}",
        body in proptest::collection::vec(any::<u8>(), 0..50),
        service in "lambda|s3",
    ) {
        let uri = if path.is_empty() { "/".to_owned() } else { path };
        let uri = if query.is_empty() { uri } else { format!("{uri}?{query}") };
        prop_assume!(uri.parse::<http::Uri>().is_ok());
        let mut request = Request::post(uri)
            .header("host", "127.0.0.1:4566")
            .header("x-amz-client-context", header)
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let credentials = Credentials {
            access_key: "AKID".to_owned(),
            secret_key: SECRET.to_owned(),
            session_token: None,
        };
        sign(&mut request, &body, &credentials, "eu-west-1", &service, now()).unwrap();
        let authorization = Authorization::parse(&request).unwrap().unwrap();
        prop_assert_eq!(authorization.verify(&request, &body, SECRET, now()), Ok(()));
        let mut changed = body.clone();
        changed.push(0);
        prop_assert_eq!(
            authorization.verify(&request, &changed, SECRET, now()),
            Err(SignatureError::Mismatch)
        );
    }
}
