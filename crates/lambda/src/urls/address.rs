//! Where URLs are: a host of their own (`<id>.lambda-url.<region>.<domain>`), or a path for those who
//! reach the server only by its address (`/_firn/url/<id>/`).

use http::{Uri, header, request};
use model::Region;

/// What the path form begins with.
pub const PATH: &str = "/_firn/url/";

const HOST_LABEL: &str = ".lambda-url.";

/// The URL that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    pub id: &'a str,
    /// The host name tells it, the path form does not.
    pub region: Option<&'a str>,
    /// The path that the function sees, not decoded.
    pub path: &'a str,
}

/// Whether a request is for a function URL. Asked for every request to the server.
pub fn is_url(request: &request::Parts) -> bool {
    request.uri.path().starts_with(PATH) || split_host(host(request)).is_some()
}

/// The host that a request names, with its port. One in the URI wins, as HTTP has it; HTTP/2 has no
/// other.
pub fn host(request: &request::Parts) -> &str {
    if let Some(authority) = request.uri.authority() {
        return authority.as_str();
    }
    let host = request.headers.get(header::HOST);
    host.and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Which URL a request is for, if it names one.
pub fn target(request: &request::Parts) -> Option<Target<'_>> {
    let path = request.uri.path();
    if let Some(rest) = path.strip_prefix(PATH) {
        let (id, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let region = None;
        return Some(Target { id, region, path });
    }
    let (id, rest) = split_host(host(request))?;
    let region = rest.split(['.', ':']).next();
    // `OPTIONS *` has no path.
    let path = if path.starts_with('/') { path } else { "/" };
    Some(Target { id, region, path })
}

/// What stands before and after the label that marks URLs, in any case.
fn split_host(host: &str) -> Option<(&str, &str)> {
    let label = HOST_LABEL.as_bytes();
    let found = host
        .as_bytes()
        .windows(label.len())
        .position(|part| part.eq_ignore_ascii_case(label));
    let at = found?;
    Some((host.get(..at)?, host.get(at + label.len()..)?))
}

/// A host without its port.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// How addresses are written for clients. Made of the configuration once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    template: String,
    /// What comes after the region in a URL's host name.
    domain: String,
    pub scheme: &'static str,
    pub port: u16,
}

impl Addresses {
    /// `template` has `{id}` and `{region}` in it. An empty one follows from the server's address.
    pub fn new(template: &str, endpoint: &str) -> Self {
        let endpoint: Uri = endpoint.parse().unwrap_or_default();
        let template = match template {
            "" => default_template(&endpoint),
            template => template.trim_end_matches('/').to_owned() + "/",
        };
        // Braces may not stand in a URI.
        let example = template.replace("{id}", "id").replace("{region}", "region");
        let uri: Uri = example.parse().unwrap_or_default();
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or("localhost");
        let domain = host
            .split_once("region.")
            .map_or(host, |(_, domain)| domain);
        Self {
            domain: domain.to_owned(),
            scheme: if secure { "https" } else { "http" },
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            template,
        }
    }

    /// The address of a URL, as clients are told it.
    pub fn url(&self, id: &str, region: &Region) -> String {
        let template = self.template.replace("{id}", id);
        template.replace("{region}", region.as_str())
    }

    /// The host of a URL, for requests that did not name it.
    pub fn host(&self, id: &str, region: &Region) -> String {
        format!("{id}{HOST_LABEL}{region}.{}", self.domain)
    }
}

/// Names below `localhost` lead to the own machine, so that is the domain of a server there. Any
/// other server's name needs a DNS entry for all names below it.
fn default_template(endpoint: &Uri) -> String {
    let scheme = endpoint.scheme_str().unwrap_or("http");
    let host = endpoint.host().unwrap_or("localhost");
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let domain = if is_address { "localhost" } else { host };
    let port = endpoint.port_u16().map(|port| format!(":{port}"));
    let port = port.unwrap_or_default();
    format!("{scheme}://{{id}}.lambda-url.{{region}}.{domain}{port}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: &str) -> request::Parts {
        let request = http::Request::get(uri).header("host", host);
        request.body(()).unwrap().into_parts().0
    }

    fn found(uri: &str, host: &str) -> Option<(String, Option<String>, String)> {
        let request = request(uri, host);
        let target = target(&request);
        assert_eq!(is_url(&request), target.is_some(), "{uri} {host}");
        target.map(|target| {
            let region = target.region.map(str::to_owned);
            (target.id.to_owned(), region, target.path.to_owned())
        })
    }

    #[test]
    fn a_url_is_known_by_its_host_or_its_path() {
        let of = |id: &str, region: Option<&str>, path: &str| {
            Some((id.to_owned(), region.map(str::to_owned), path.to_owned()))
        };
        assert_eq!(
            found("/a%20b?c=d", "abc.lambda-url.eu-west-1.localhost:4566"),
            of("abc", Some("eu-west-1"), "/a%20b")
        );
        assert_eq!(
            found("/", "abc.Lambda-URL.eu-west-1.on.aws"),
            of("abc", Some("eu-west-1"), "/")
        );
        assert_eq!(
            found("/_firn/url/abc/x/y", "127.0.0.1:4566"),
            of("abc", None, "/x/y")
        );
        assert_eq!(found("/_firn/url/abc", "x"), of("abc", None, "/"));
        assert_eq!(found("/2015-03-31/functions", "localhost:4566"), None);
        assert_eq!(found("/_firn/health", "lambda-url.localhost"), None);
        // The host in the URI is the one that counts.
        assert_eq!(
            found("http://127.0.0.1/x", "abc.lambda-url.eu-west-1.on.aws"),
            None
        );
    }

    #[test]
    fn addresses_follow_from_the_servers_own() {
        let region: Region = "eu-west-1".parse().unwrap();
        let url = |template: &str, endpoint: &str| {
            let addresses = Addresses::new(template, endpoint);
            let origin = (addresses.scheme, addresses.port);
            (
                addresses.url("abc", &region),
                addresses.host("abc", &region),
                origin,
            )
        };
        let host = "abc.lambda-url.eu-west-1.localhost".to_owned();
        assert_eq!(
            url("", "http://127.0.0.1:4566"),
            (format!("http://{host}:4566/"), host.clone(), ("http", 4566))
        );
        let host = "abc.lambda-url.eu-west-1.firn.example.com".to_owned();
        assert_eq!(
            url("", "https://firn.example.com"),
            (format!("https://{host}/"), host, ("https", 443))
        );
        let host = "abc.lambda-url.eu-west-1.on.aws".to_owned();
        assert_eq!(
            url(
                "https://{id}.lambda-url.{region}.on.aws",
                "http://127.0.0.1:1"
            ),
            (format!("https://{host}/"), host, ("https", 443))
        );
        let (by_path, ..) = url("http://10.0.0.1:80/_firn/url/{id}", "http://127.0.0.1:1");
        assert_eq!(by_path, "http://10.0.0.1:80/_firn/url/abc/");
    }

    #[test]
    fn ports_are_cut_off() {
        assert_eq!(without_port("a.b:80"), "a.b");
        assert_eq!(without_port("a.b"), "a.b");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port(""), "");
    }
}
