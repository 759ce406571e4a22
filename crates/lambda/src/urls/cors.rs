//! What a URL says to pages of other origins.
//!
//! A preflight is answered from the configuration, without the function. To all other answers the
//! configured headers are added; those of the function's own stay, as on AWS.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html#urls-cors>.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, request};
use protocol::Body;

use super::Cors;

const ANY: &str = "*";

/// The answer to a preflight; `None` if the request is none.
pub fn preflight(cors: &Cors, request: &request::Parts) -> Option<Response<Body>> {
    let asked = |name| request.headers.get(name);
    let method = asked(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if request.method != Method::OPTIONS || asked(header::ORIGIN).is_none() {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    if !add_origin(cors, request, headers) {
        return Some(response);
    }
    // With credentials browsers take `*` by its letter, so what is asked for is named instead.
    let wanted_headers = asked(header::ACCESS_CONTROL_REQUEST_HEADERS);
    for (name, allowed, asked) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            &cors.allow_methods,
            Some(method),
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            &cors.allow_headers,
            wanted_headers,
        ),
    ] {
        let allowed = allowed.as_deref().unwrap_or_default();
        match asked {
            Some(asked) if allowed.iter().any(|value| value == ANY) => {
                headers.insert(name, asked.clone());
            }
            _ => put(headers, name, allowed),
        }
    }
    if let Some(seconds) = cors.max_age {
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
    Some(response)
}

/// Adds the configured headers to an answer.
pub fn add(cors: &Cors, request: &request::Parts, headers: &mut HeaderMap) {
    if add_origin(cors, request, headers) {
        let exposed = cors.expose_headers.as_deref().unwrap_or_default();
        put(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Names the origin, if it is one of those allowed.
fn add_origin(cors: &Cors, request: &request::Parts, headers: &mut HeaderMap) -> bool {
    let allowed = cors.allow_origins.as_deref().unwrap_or_default();
    if allowed.is_empty() {
        return false;
    }
    let vary = HeaderValue::from_static("Origin");
    headers.append(header::VARY, vary);
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return false;
    };
    let is_allowed = |allowed: &String| allowed == ANY || allowed.as_bytes() == origin.as_bytes();
    if !allowed.iter().any(is_allowed) {
        return false;
    }
    headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.allow_credentials == Some(true) {
        let yes = HeaderValue::from_static("true");
        headers.append(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    true
}

/// A list as one header. What no header can hold was let through by the interface's check, but
/// means nothing.
fn put(headers: &mut HeaderMap, name: HeaderName, values: &[String]) {
    if values.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&values.join(",")) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        let list = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
        Cors {
            allow_credentials: Some(true),
            allow_headers: list(&["x-custom", "authorization"]),
            allow_methods: list(&["GET", "POST"]),
            allow_origins: list(&["https://example.com"]),
            expose_headers: list(&["x-shown"]),
            max_age: Some(300),
        }
    }

    fn asking(origin: &str) -> request::Parts {
        let request = http::Request::options("/")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-other");
        request.body(()).unwrap().into_parts().0
    }

    fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn preflights_are_answered_from_the_configuration() {
        let response = preflight(&cors(), &asking("https://example.com")).unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        for (name, value) in [
            ("access-control-allow-origin", "https://example.com"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-headers", "x-custom,authorization"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "300"),
            ("vary", "Origin"),
        ] {
            assert_eq!(text(headers, name), Some(value), "{name}");
        }
        assert_eq!(text(headers, "access-control-expose-headers"), None);
    }

    #[test]
    fn any_origin_method_and_header_is_named_as_it_was_asked_for() {
        let any = || Some(vec![ANY.to_owned()]);
        let cors = Cors {
            allow_origins: any(),
            allow_methods: any(),
            allow_headers: any(),
            ..Cors::default()
        };
        let response = preflight(&cors, &asking("null")).unwrap();
        let headers = response.headers();
        assert_eq!(text(headers, "access-control-allow-origin"), Some("null"));
        assert_eq!(text(headers, "access-control-allow-methods"), Some("PUT"));
        assert_eq!(
            text(headers, "access-control-allow-headers"),
            Some("x-other")
        );
    }

    #[test]
    fn strangers_are_told_nothing() {
        let response = preflight(&cors(), &asking("https://example.com.evil.test")).unwrap();
        assert_eq!(
            text(response.headers(), "access-control-allow-origin"),
            None
        );
        assert_eq!(
            text(response.headers(), "access-control-allow-methods"),
            None
        );
        let mut headers = HeaderMap::new();
        add(&cors(), &asking("https://EXAMPLE.com"), &mut headers);
        assert_eq!(text(&headers, "access-control-expose-headers"), None);
    }

    #[test]
    fn other_answers_keep_the_functions_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", "*".parse().unwrap());
        add(&cors(), &asking("https://example.com"), &mut headers);
        let origins: Vec<_> = headers
            .get_all("access-control-allow-origin")
            .iter()
            .collect();
        assert_eq!(origins, ["*", "https://example.com"]);
        assert_eq!(
            text(&headers, "access-control-expose-headers"),
            Some("x-shown")
        );
    }

    #[test]
    fn plain_options_requests_go_to_the_function() {
        let request = http::Request::options("/").header("origin", "https://example.com");
        let request = request.body(()).unwrap().into_parts().0;
        assert!(preflight(&cors(), &request).is_none());
    }
}
