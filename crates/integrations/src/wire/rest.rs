//! Where members of REST requests and answers are: in the path, the query, headers and the body.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use percent_encoding::utf8_percent_encode;
use serde_json::{Map, Value};

use super::answer::Reader;
use super::input::{Invalid, Node};
use super::xml::text_of;
use super::{PATH, UNRESERVED, json};
use crate::catalog::{Kind, Location, Member, Shape, TimestampFormat};

/// The parts of a request that are not its body.
#[derive(Debug, Default)]
pub struct Head {
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    /// What goes into the host, by member.
    pub host: Vec<(String, String)>,
}

/// Puts members where they belong.
pub fn place(template: &str, shape: Option<(&Shape, &[(usize, Node)])>) -> Result<Head, Invalid> {
    let (path, query) = template.split_once('?').unwrap_or((template, ""));
    let mut head = Head {
        path: path.to_owned(),
        ..Head::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        head.query.push((name.to_owned(), value.to_owned()));
    }
    if let Some((shape, members)) = shape {
        for (at, node) in members {
            if let Some(member) = shape.members.get(*at) {
                head.put(member, node)?;
            }
        }
        // What the path needs and nobody gave.
        if let Some(missing) = head.path.split_once('{') {
            let name = missing.1.split(['}', '+']).next().unwrap_or_default();
            return Err(Invalid::Missing(crate::catalog::pascal(name)));
        }
    }
    Ok(head)
}

impl Head {
    fn put(&mut self, member: &Member, node: &Node) -> Result<(), Invalid> {
        let name = member.wire_name();
        let own = member.bound.as_deref().and_then(|bound| bound.timestamp);
        let bad = || Invalid::Format(member.shown());
        if member.bound.as_deref().is_some_and(|bound| bound.in_host) {
            let text = text_of(node, own, TimestampFormat::Iso8601);
            self.host.push((member.name.to_string(), text));
        }
        match member.location() {
            Some(Location::Uri) => {
                let text = text_of(node, own, TimestampFormat::Iso8601);
                if text.is_empty() {
                    return Err(Invalid::Missing(member.shown()));
                }
                let label = utf8_percent_encode(&text, UNRESERVED).to_string();
                let greedy = utf8_percent_encode(&text, PATH).to_string();
                self.path = self
                    .path
                    .replace(&format!("{{{name}}}"), &label)
                    .replace(&format!("{{{name}+}}"), &greedy);
            }
            Some(Location::QueryString) => self.put_query(name, node, own),
            Some(Location::Header) => {
                let text = match node {
                    // Any JSON in a header is in base64.
                    Node::Text(text) if member.bound.as_deref().is_some_and(|b| b.json) => {
                        use base64::Engine as _;
                        base64::engine::general_purpose::STANDARD.encode(text)
                    }
                    node => text_of(node, own, TimestampFormat::Rfc822),
                };
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
                let value = HeaderValue::from_str(&text).map_err(|_| bad())?;
                self.headers.insert(name, value);
            }
            Some(Location::Headers) => {
                let Node::Map(entries) = node else {
                    return Ok(());
                };
                for (key, node) in entries {
                    let full = format!("{name}{key}").to_ascii_lowercase();
                    let full = HeaderName::from_bytes(full.as_bytes()).map_err(|_| bad())?;
                    let text = text_of(node, None, TimestampFormat::Rfc822);
                    let value = HeaderValue::from_str(&text).map_err(|_| bad())?;
                    self.headers.insert(full, value);
                }
            }
            Some(Location::StatusCode) | None => {}
        }
        Ok(())
    }

    fn put_query(&mut self, name: &str, node: &Node, own: Option<TimestampFormat>) {
        match node {
            Node::List(items) => {
                for item in items {
                    let text = text_of(item, own, TimestampFormat::Iso8601);
                    self.query.push((name.to_owned(), text));
                }
            }
            Node::Map(entries) => {
                for (key, node) in entries {
                    self.put_query(key, node, own);
                }
            }
            node => {
                let text = text_of(node, own, TimestampFormat::Iso8601);
                self.query.push((name.to_owned(), text));
            }
        }
    }

    /// Path and query, as they are sent.
    pub fn target(&self) -> String {
        let mut target = self.path.clone();
        for (at, (name, value)) in self.query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target += &utf8_percent_encode(name, UNRESERVED).to_string();
            if !value.is_empty() {
                target.push('=');
                target += &utf8_percent_encode(value, UNRESERVED).to_string();
            }
        }
        target
    }
}

impl Reader<'_> {
    /// The members of an answer that are not in its body.
    pub fn headers(
        &self,
        shape: &Shape,
        status: StatusCode,
        headers: &HeaderMap,
        made: &mut Map<String, Value>,
    ) {
        for member in &shape.members {
            let value = match member.location() {
                Some(Location::StatusCode) => Some(status.as_u16().into()),
                Some(Location::Header) => self.header(member, headers),
                Some(Location::Headers) => Some(with_prefix(member.wire_name(), headers)),
                _ => None,
            };
            if let Some(value) = value {
                made.insert(member.shown(), value);
            }
        }
    }

    fn header(&self, member: &Member, headers: &HeaderMap) -> Option<Value> {
        let text = headers.get(member.wire_name())?.to_str().ok()?;
        let shape = self.interface.shape(member.shape);
        if shape.kind == Kind::List {
            return Some(
                text.split(',')
                    .map(|item| Value::from(item.trim()))
                    .collect(),
            );
        }
        let bound = member.bound.as_deref();
        Some(self.scalar(shape, bound, text, TimestampFormat::Rfc822))
    }
}

/// A map of the headers that begin with `prefix`, without it. There is always one, if only empty.
fn with_prefix(prefix: &str, headers: &HeaderMap) -> Value {
    let prefix = prefix.to_ascii_lowercase();
    let entry = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str().strip_prefix(&prefix)?;
        Some((name.to_owned(), Value::from(value.to_str().ok()?)))
    };
    Value::Object(headers.iter().filter_map(entry).collect())
}

/// A body that is one member.
pub fn payload(reader: &Reader<'_>, member: &Member, body: &[u8], xml: bool) -> Option<Value> {
    let shape = reader.interface.shape(member.shape);
    match shape.kind {
        Kind::Blob => Some(json::blob(body.to_vec())),
        Kind::String => Some(String::from_utf8_lossy(body).into_owned().into()),
        Kind::Structure if shape.event_stream => None,
        _ if body.is_empty() => None,
        _ if xml => {
            let element = super::xml::parse(body)?;
            Some(reader.xml(member.shape, &element, member.bound.as_deref()))
        }
        _ => {
            let value = serde_json::from_slice(body).ok()?;
            Some(reader.json(member.shape, value, member.bound.as_deref(), true))
        }
    }
}
