//! Which bucket a host names.
//!
//! `bucket.s3.<anything>` and `bucket.localhost` name one, `s3.<anything>` and all other hosts name
//! none: there the bucket is in the path. What follows `s3` may have a region in front, as in
//! `s3.eu-west-1.amazonaws.com` and `s3-eu-west-1.amazonaws.com`.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>

use std::borrow::Cow;

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The host of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host<'h> {
    /// It is S3's, and the bucket is in the path.
    Service,
    Bucket(&'h str),
    /// It says nothing.
    Other,
}

impl<'h> Host<'h> {
    pub(crate) fn parse(host: &'h str) -> Self {
        let name = without_port(host);
        if let Some(bucket) = before_service(name) {
            return if bucket.is_empty() {
                Self::Service
            } else {
                Self::Bucket(bucket)
            };
        }
        match strip_suffix(name, ".localhost") {
            Some(bucket) if !bucket.is_empty() && !bucket.contains(".lambda-url.") => {
                Self::Bucket(bucket)
            }
            _ => Self::Other,
        }
    }
}

/// For requests that nobody signed: what a host says of S3. `None` is nothing, `Some(None)` that it
/// is S3's own, otherwise it may name a bucket.
pub fn bucket_of_host(host: &str) -> Option<Option<&str>> {
    match Host::parse(host) {
        Host::Other => None,
        Host::Service => Some(None),
        Host::Bucket(bucket) => Some(Some(bucket)),
    }
}

/// What stands before the label `s3`, with its dot taken off. Buckets may have dots, and labels that
/// look like S3's, so the last such label counts.
fn before_service(name: &str) -> Option<&str> {
    let mut found = None;
    let mut start = 0;
    for label in name.split('.') {
        let is_service = label.eq_ignore_ascii_case("s3")
            || label
                .get(..3)
                .is_some_and(|prefix| prefix.eq_ignore_ascii_case("s3-"));
        let more_follows = start + label.len() < name.len();
        if is_service && more_follows {
            found = Some(name[..start].strip_suffix('.').unwrap_or(&name[..start]));
        }
        start += label.len() + 1;
    }
    found
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn strip_suffix<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let at = text.len().checked_sub(suffix.len())?;
    let end = text.get(at..)?;
    end.eq_ignore_ascii_case(suffix).then(|| &text[..at])
}

/// Tells the library which bucket a host names.
pub(crate) struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let domain = VirtualHost::new(Cow::Borrowed(host));
        Ok(match Host::parse(host) {
            Host::Bucket(bucket) => domain.with_bucket(bucket.to_ascii_lowercase()),
            Host::Service | Host::Other => domain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_buckets_or_none() {
        for (host, expected) in [
            ("127.0.0.1:4566", Host::Other),
            ("[::1]:4566", Host::Other),
            ("localhost:4566", Host::Other),
            ("localhost", Host::Other),
            ("firn.example.com", Host::Other),
            ("s3", Host::Other),
            ("s3.localhost:4566", Host::Service),
            ("s3.amazonaws.com", Host::Service),
            ("s3.eu-west-1.amazonaws.com", Host::Service),
            ("s3-eu-west-1.amazonaws.com", Host::Service),
            ("b.localhost:4566", Host::Bucket("b")),
            ("a.b.localhost", Host::Bucket("a.b")),
            ("b.s3.localhost:4566", Host::Bucket("b")),
            ("b.s3.eu-west-1.amazonaws.com", Host::Bucket("b")),
            ("b.s3-eu-west-1.amazonaws.com", Host::Bucket("b")),
            ("a.b.S3.Example.com", Host::Bucket("a.b")),
            ("s3-x.s3.amazonaws.com", Host::Bucket("s3-x")),
            ("x.lambda-url.us-east-1.localhost", Host::Other),
            (".localhost", Host::Other),
            ("", Host::Other),
        ] {
            assert_eq!(Host::parse(host), expected, "{host}");
        }
    }
}
