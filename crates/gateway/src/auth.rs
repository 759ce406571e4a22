//! Who asks.
//!
//! During development any credentials do: the access key of twelve digits is an account, every
//! other key belongs to the default account, and nothing is checked but the session tokens that
//! firn itself gave to functions. Enforcing, every request must carry a valid signature.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use model::{AccountId, Region, Timestamp, common_error};
use protocol::credentials::{ServerKey, TemporaryCredentials, TokenError};
use protocol::sigv4::{Authorization, SignatureError};
use protocol::{ApiError, Caller, Principal, PrincipalKind, Route};

use crate::Secret;
use crate::keys::Keys;
use crate::stream_site::Signed;

const DEFAULT_REGION: &str = "us-east-1";

/// Decides whether to believe a request.
#[derive(Debug)]
pub struct Authenticator {
    server_key: ServerKey,
    keys: Option<Keys>,
}

/// What a request says about its sender. With `check`, it is not proven until its body is there.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) account: AccountId,
    region: Region,
    principal: Principal,
    access_key: Option<String>,
    service: Option<String>,
    check: Option<Check>,
}

#[derive(Debug)]
struct Check {
    authorization: Box<Authorization>,
    secret: Secret<String>,
}

impl Authenticator {
    /// Any credentials are accepted.
    pub const fn accept_any(server_key: ServerKey) -> Self {
        Self {
            server_key,
            keys: None,
        }
    }

    /// Only signatures with one of `keys`, or with credentials that firn gave out, are accepted.
    pub const fn enforce(keys: Keys, server_key: ServerKey) -> Self {
        Self {
            server_key,
            keys: Some(keys),
        }
    }

    /// Reads what a request says. A key that nobody has is refused here, before its body is read.
    pub(crate) fn read(&self, parts: &Parts, now: Timestamp) -> Result<Claim, ApiError> {
        match &self.keys {
            Some(keys) => Ok(self.read_signed(keys, parts, now)?),
            None => Ok(self.read_any(parts, now)),
        }
    }

    /// Whose snapshots and environments a request for an operator's page may see and change. With
    /// any credentials accepted, none at all stand for everybody's. Otherwise the request must be
    /// signed, without a body, with a key of the server: what a function got does not do.
    pub(crate) fn operator(
        &self,
        parts: &Parts,
        now: Timestamp,
    ) -> Result<Option<AccountId>, ApiError> {
        let claim = self.read(parts, now)?;
        if claim.principal.kind != PrincipalKind::Root {
            return Err(SignatureError::UnknownKey.into());
        }
        match &claim.check {
            Some(check) => {
                let secret = check.secret.reveal();
                check.authorization.verify(parts, b"", secret, now)?;
                Ok(Some(claim.account))
            }
            None => Ok(claim.access_key.is_some().then_some(claim.account)),
        }
    }

    /// Who signed a request that need not be signed; `None` if nobody did. Signatures other than
    /// those of AWS are none of ours.
    pub(crate) fn signer(
        &self,
        parts: &Parts,
        body: &[u8],
        service: &str,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Option<Caller>, ApiError> {
        if !is_signed(parts) {
            return Ok(None);
        }
        let claim = self.read(parts, now)?;
        claim
            .prove_for(service, parts, body, request_id.to_owned(), now)
            .map(Some)
    }

    /// Who signed the head of a request whose body is yet to come. With any credentials accepted,
    /// nobody in particular is the development account.
    pub(crate) fn head_signer(
        &self,
        parts: &Parts,
        service: &str,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Option<Signed>, ApiError> {
        if self.keys.is_some() && matches!(signed_for(parts), SignedFor::Nobody) {
            return Ok(None);
        }
        if self.keys.is_some() && matches!(signed_for(parts), SignedFor::Unscoped) {
            let message = "The authorization mechanism you have provided is not supported. Please \
                           use AWS4-HMAC-SHA256.";
            return Err(SignatureError::Incomplete(message.to_owned()).into());
        }
        let mut claim = self.read(parts, now)?;
        let chunks = match claim.check.take() {
            None => None,
            Some(check) => {
                check_scope(&check.authorization, service)?;
                let secret = check.secret.reveal();
                check.authorization.verify_head(parts, secret, now)?
            }
        };
        let caller = claim.into_caller(request_id.to_owned());
        Ok(Some(Signed { caller, chunks }))
    }

    fn read_any(&self, parts: &Parts, now: Timestamp) -> Claim {
        let Some(scope) = Scope::find(parts) else {
            let account = unscoped_key(parts).and_then(|key| key.parse().ok());
            let account = account.unwrap_or(AccountId::DEVELOPMENT);
            return Claim::of_account(account, region_of_host(parts), None, None);
        };
        let region = region_or_default(&scope.region);
        let service = Some(scope.service.into_owned());
        let access_key = Some(scope.access_key.into_owned());
        let session = session_token(parts)
            .and_then(|token| TemporaryCredentials::verify(&self.server_key, &token, now).ok());
        if let Some((session, _)) = session {
            let principal =
                Principal::assumed_role(session.account, &session.role_arn, &session.session_name);
            let account = session.account;
            return Claim {
                account,
                region,
                principal,
                access_key,
                service,
                check: None,
            };
        }
        let account = access_key.as_deref().and_then(|key| key.parse().ok());
        let account = account.unwrap_or(AccountId::DEVELOPMENT);
        Claim::of_account(account, region, access_key, service)
    }

    fn read_signed(
        &self,
        keys: &Keys,
        parts: &Parts,
        now: Timestamp,
    ) -> Result<Claim, SignatureError> {
        let authorization = Authorization::parse(parts)?.ok_or(SignatureError::Missing)?;
        let region = region_or_default(&authorization.scope.region);
        let access_key = Some(authorization.access_key.clone());
        let service = Some(authorization.scope.service.clone());
        let (mut claim, secret) = match &authorization.session_token {
            Some(token) => {
                let (session, secret) = TemporaryCredentials::verify(&self.server_key, token, now)
                    .map_err(|err| match err {
                        TokenError::Invalid => SignatureError::UnknownKey,
                        TokenError::Expired => SignatureError::ExpiredToken,
                    })?;
                if session.access_key_id != authorization.access_key {
                    return Err(SignatureError::UnknownKey);
                }
                let account = session.account;
                let principal =
                    Principal::assumed_role(account, &session.role_arn, &session.session_name);
                let claim = Claim {
                    account,
                    region,
                    principal,
                    access_key,
                    service,
                    check: None,
                };
                (claim, Secret::new(secret))
            }
            None => {
                let key = keys
                    .find(&authorization.access_key)
                    .ok_or(SignatureError::UnknownKey)?;
                (
                    Claim::of_account(key.account, region, access_key, service),
                    key.secret_key,
                )
            }
        };
        claim.check = Some(Check {
            authorization: Box::new(authorization),
            secret,
        });
        Ok(claim)
    }
}

impl Claim {
    fn of_account(
        account: AccountId,
        region: Region,
        access_key: Option<String>,
        service: Option<String>,
    ) -> Self {
        let principal = Principal::root(account, &region);
        debug_assert!(principal.kind == PrincipalKind::Root);
        Self {
            account,
            region,
            principal,
            access_key,
            service,
            check: None,
        }
    }

    /// The service that the signature names.
    pub(crate) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The proven caller, now that the whole request is there.
    pub(crate) fn prove(
        self,
        route: &Route,
        parts: &Parts,
        body: &[u8],
        request_id: String,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        self.prove_for(route.service().signing_name, parts, body, request_id, now)
    }

    fn prove_for(
        self,
        wanted: &str,
        parts: &Parts,
        body: &[u8],
        request_id: String,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        if let Some(Check {
            authorization,
            secret,
        }) = &self.check
        {
            check_scope(authorization, wanted)?;
            authorization.verify(parts, body, secret.reveal(), now)?;
        }
        Ok(self.into_caller(request_id))
    }

    fn into_caller(self, request_id: String) -> Caller {
        let Self {
            account,
            region,
            principal,
            access_key,
            ..
        } = self;
        Caller {
            account,
            region,
            principal,
            access_key,
            request_id,
        }
    }
}

fn check_scope(authorization: &Authorization, wanted: &str) -> Result<(), ApiError> {
    if authorization.scope.service == wanted {
        return Ok(());
    }
    let message = format!("Credential should be scoped to correct service: '{wanted}'.");
    Err(ApiError::new(&common_error::INVALID_SIGNATURE, message))
}

/// The service that a request is signed for, as far as it says.
pub(crate) enum SignedFor<'p> {
    Service(Cow<'p, str>),
    /// By the older kind of signature, which only S3 still has and which names no service.
    Unscoped,
    Nobody,
}

pub(crate) fn signed_for(parts: &Parts) -> SignedFor<'_> {
    if let Some(scope) = Scope::find(parts) {
        return SignedFor::Service(scope.service);
    }
    let header = parts.headers.get(AUTHORIZATION);
    let in_header = header.is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    let query = parts.uri.query().unwrap_or_default();
    if in_header || (query.contains("AWSAccessKeyId=") && query.contains("Signature=")) {
        return SignedFor::Unscoped;
    }
    SignedFor::Nobody
}

/// The credential scope as it stands in the request, without any of the checks that
/// [`Authorization::parse`] makes: during development even a broken signature tells the region.
struct Scope<'a> {
    access_key: Cow<'a, str>,
    region: Cow<'a, str>,
    service: Cow<'a, str>,
}

impl<'a> Scope<'a> {
    fn find(parts: &'a Parts) -> Option<Self> {
        if let Some(header) = parts.headers.get(AUTHORIZATION) {
            let (_, rest) = header.to_str().ok()?.split_once("Credential=")?;
            let credential = rest.split([',', ' ']).next().unwrap_or(rest);
            let mut fields = credential.rsplitn(5, '/').map(Cow::Borrowed);
            return Self::from_fields(&mut fields);
        }
        let credential = query_parameter(parts, "X-Amz-Credential")?;
        let mut fields = credential
            .rsplitn(5, '/')
            .map(|field| Cow::Owned(field.to_owned()));
        Self::from_fields(&mut fields)
    }

    /// From the last field to the first.
    fn from_fields(fields: &mut impl Iterator<Item = Cow<'a, str>>) -> Option<Self> {
        let _terminator = fields.next()?;
        let (service, region) = (fields.next()?, fields.next()?);
        let _date = fields.next()?;
        Some(Self {
            access_key: fields.next()?,
            region,
            service,
        })
    }
}

/// The access key of the older kind of signature.
fn unscoped_key(parts: &Parts) -> Option<Cow<'_, str>> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let key = header
            .to_str()
            .ok()?
            .strip_prefix("AWS ")?
            .split(':')
            .next()?;
        return Some(Cow::Borrowed(key));
    }
    query_parameter(parts, "AWSAccessKeyId")
}

fn is_signed(parts: &Parts) -> bool {
    let in_header = parts
        .headers
        .get(AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
    in_header
        || parts
            .uri
            .query()
            .is_some_and(|query| query.contains("X-Amz-Algorithm="))
}

fn session_token(parts: &Parts) -> Option<Cow<'_, str>> {
    match parts.headers.get("x-amz-security-token") {
        Some(token) => token.to_str().ok().map(Cow::Borrowed),
        None => query_parameter(parts, "X-Amz-Security-Token"),
    }
}

fn query_parameter<'a>(parts: &'a Parts, name: &str) -> Option<Cow<'a, str>> {
    let (_, value) = parts
        .uri
        .query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?;
    percent_encoding::percent_decode_str(value)
        .decode_utf8()
        .ok()
}

fn region_or_default(name: &str) -> Region {
    name.parse().unwrap_or_else(|_| default_region())
}

#[expect(
    clippy::expect_used,
    reason = "the constant is a region's name, as a test shows"
)]
fn default_region() -> Region {
    DEFAULT_REGION.parse().expect("a valid region")
}

/// `lambda.eu-west-1.amazonaws.com` → `eu-west-1`, for requests that are not signed.
fn region_of_host(parts: &Parts) -> Region {
    let host = parts
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    host.split(['.', ':'])
        .find(|label| looks_like_region(label))
        .map_or_else(default_region, region_or_default)
}

/// Two letters, words, and a number at the end: `us-gov-west-1`.
fn looks_like_region(label: &str) -> bool {
    let words: Vec<&str> = label.split('-').collect();
    let letters = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match words.as_slice() {
        [area, middle @ .., number] => {
            area.len() == 2
                && letters(area)
                && !middle.is_empty()
                && middle.iter().all(letters)
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;

    use super::*;
    use crate::keys::KeyFile;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn server_key() -> ServerKey {
        ServerKey::from_bytes([3; 32])
    }

    fn request(headers: &[(&str, &str)], uri: &str) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn authorization(access_key: &str, region: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/20270115/{region}/lambda/aws4_request, \
             SignedHeaders=host, Signature=x"
        )
    }

    fn read_any(parts: &Parts) -> Claim {
        Authenticator::accept_any(server_key())
            .read(parts, now())
            .unwrap()
    }

    #[test]
    fn default_region_is_valid_and_regions_are_told_from_other_labels() {
        assert_eq!(default_region().as_str(), DEFAULT_REGION);
        for label in ["us-east-1", "us-gov-west-1", "ap-southeast-12"] {
            assert!(looks_like_region(label), "{label}");
        }
        for label in [
            "",
            "-",
            "lambda",
            "my-bucket",
            "us-1",
            "a-b-1",
            "US-east-1",
            "us-east-",
        ] {
            assert!(!looks_like_region(label), "{label}");
        }
    }

    #[test]
    fn any_key_is_the_development_account_and_twelve_digits_are_their_own() {
        for (key, account) in [("AKIA", "000000000000"), ("123456789012", "123456789012")] {
            let header = authorization(key, "eu-west-1");
            let claim = read_any(&request(&[("authorization", &header)], "/"));
            assert_eq!(claim.account.as_str(), account);
            assert_eq!(claim.region.as_str(), "eu-west-1");
            assert_eq!(claim.service(), Some("lambda"));
        }
    }

    #[test]
    fn presigned_scope_is_read_from_the_query() {
        let uri = "/?X-Amz-Credential=123456789012%2F20270115%2Feu-north-1%2Flambda%2Faws4_request";
        let claim = read_any(&request(&[], uri));
        assert_eq!(claim.account.as_str(), "123456789012");
        assert_eq!(claim.region.as_str(), "eu-north-1");
    }

    #[test]
    fn authorization_of_another_kind_counts_as_none() {
        for header in [
            "Bearer abc",
            "AWS4-HMAC-SHA256 Credential=a/b",
            "",
            "Credential=////",
        ] {
            let claim = read_any(&request(&[("authorization", header)], "/"));
            assert_eq!(claim.account, AccountId::DEVELOPMENT, "{header}");
            assert_eq!(claim.region.as_str(), DEFAULT_REGION);
        }
    }

    #[test]
    fn token_of_a_function_leads_to_its_account_and_role() {
        let account = "123456789012".parse().unwrap();
        let role = "arn:aws:iam::123456789012:role/worker";
        let issued = TemporaryCredentials::issue(
            &server_key(),
            account,
            role,
            "hello",
            now() + Duration::from_secs(60),
        )
        .unwrap();
        let header = authorization(&issued.access_key_id, "eu-west-1");
        let token = ("x-amz-security-token", issued.session_token.as_str());
        let parts = request(&[("authorization", header.as_str()), token], "/");
        let claim = read_any(&parts);
        assert_eq!(claim.account, account);
        assert_eq!(
            claim.principal.arn,
            "arn:aws:sts::123456789012:assumed-role/worker/hello"
        );

        let foreign = Authenticator::accept_any(ServerKey::from_bytes([4; 32]));
        assert_eq!(
            foreign.read(&parts, now()).unwrap().account,
            AccountId::DEVELOPMENT
        );
    }

    #[test]
    fn enforcing_refuses_unsigned_requests_and_unknown_keys() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(KeyFile::in_dir(dir.path())).unwrap();
        let enforcing = Authenticator::enforce(keys, server_key());
        let code = |parts: &Parts| enforcing.read(parts, now()).unwrap_err().shape(None).code;
        assert_eq!(
            code(&request(&[], "/")),
            "MissingAuthenticationTokenException"
        );
        let header = authorization("AKIANOBODY", "eu-west-1");
        let unsigned_date = [("authorization", header.as_str())];
        assert_eq!(
            code(&request(&unsigned_date, "/")),
            "IncompleteSignatureException"
        );
        let headers = [
            ("authorization", header.as_str()),
            ("x-amz-date", "20270115T080000Z"),
        ];
        assert_eq!(code(&request(&headers, "/")), "UnrecognizedClientException");
    }
}
