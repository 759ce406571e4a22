//! From an operation and its parameters to a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::Value;

use super::input::{self, Invalid, Node};
use super::rest::{self, Head};
use super::{json, query, xml};
use crate::catalog::{Entry, Interface, Kind, Operation, Protocol, Shape, ShapeId};

/// An operation to call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub entry: &'static Entry,
    pub name: &'static str,
    pub operation: &'static Operation,
    pub parameters: &'a Value,
    /// What idempotency tokens are made of.
    pub token: &'a str,
}

/// A request without a host and a signature.
#[derive(Clone, Debug)]
pub struct Message {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the host begins with at AWS.
    pub host_prefix: Option<String>,
}

/// Writes the request of a call.
pub fn write(call: &Call<'_>) -> Result<Message, Invalid> {
    write_around(call, None)
}

/// As [`write`], with a payload that is not among the parameters, where there is one.
pub fn write_around(call: &Call<'_>, payload: Option<Bytes>) -> Result<Message, Invalid> {
    let names = &call.entry.names;
    let interface = call
        .entry
        .interface()
        .ok_or_else(|| Invalid::Format("Resource".to_owned()))?;
    let node = match call.operation.input {
        Some(id) => Some((id, input::read(interface, id, call.parameters, call.token)?)),
        None => None,
    };
    let input = node.as_ref().map(|(id, node)| (*id, node));
    let mut message = match names.protocol {
        Protocol::Json => rpc(call, interface, input),
        Protocol::Query | Protocol::Ec2 => {
            let ec2 = names.protocol == Protocol::Ec2;
            let form = query::write(interface, (call.name, &names.version), input, ec2);
            let kind = "application/x-www-form-urlencoded; charset=utf-8";
            posted(kind, form.into_bytes())
        }
        Protocol::RestJson | Protocol::RestXml => in_rest(call, interface, input)?,
    };
    if let Some(payload) = payload {
        message.body = payload;
    }
    if call.operation.checksum {
        add_checksum(&mut message);
    }
    message.host_prefix = host_prefix(call.operation, interface, input);
    Ok(message)
}

fn posted(kind: &'static str, body: Vec<u8>) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Message {
        method: Method::POST,
        target: "/".to_owned(),
        headers,
        body: body.into(),
        host_prefix: None,
    }
}

fn rpc(call: &Call<'_>, interface: &Interface, input: Option<(ShapeId, &Node)>) -> Message {
    let names = &call.entry.names;
    let body = match input {
        Some((id, node)) => json::write(interface, id, node, false).to_string(),
        None => "{}".to_owned(),
    };
    let kind = if &*names.json == "1.0" {
        "application/x-amz-json-1.0"
    } else {
        "application/x-amz-json-1.1"
    };
    let mut message = posted(kind, body.into_bytes());
    let target = format!("{}.{}", names.target, call.name);
    if let Ok(target) = HeaderValue::from_str(&target) {
        message.headers.insert("x-amz-target", target);
    }
    if names.query_compatible {
        let asks = HeaderValue::from_static("true");
        message.headers.insert("x-amzn-query-mode", asks);
    }
    message
}

fn in_rest(
    call: &Call<'_>,
    interface: &Interface,
    input: Option<(ShapeId, &Node)>,
) -> Result<Message, Invalid> {
    let (method, template) = &call.operation.http;
    let members: Option<(&Shape, &[(usize, Node)])> = match input {
        Some((id, Node::Structure(members))) => Some((interface.shape(id), members)),
        _ => None,
    };
    let mut head: Head = rest::place(template, members)?;
    let xml = call.entry.names.protocol == Protocol::RestXml;
    let (kind, body) = match (input, members) {
        (Some((id, node)), Some((shape, members))) => {
            body(call.operation, interface, (id, node), (shape, members), xml)
        }
        _ => (None, Vec::new()),
    };
    if let Some(kind) = kind
        && !head.headers.contains_key(CONTENT_TYPE)
    {
        head.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok(Message {
        method: Method::from_bytes(method.as_bytes()).unwrap_or(Method::POST),
        target: head.target(),
        headers: head.headers,
        body: body.into(),
        host_prefix: None,
    })
}

fn body(
    operation: &Operation,
    interface: &Interface,
    (id, node): (ShapeId, &Node),
    (shape, members): (&Shape, &[(usize, Node)]),
    xml: bool,
) -> (Option<&'static str>, Vec<u8>) {
    if let Some(payload) = &shape.payload {
        let found = members.iter().find_map(|(at, node)| {
            let member = shape.members.get(*at)?;
            (member.name == *payload).then_some((member, node))
        });
        let Some((member, node)) = found else {
            return (None, Vec::new());
        };
        return match node {
            Node::Bytes(bytes) => (Some("application/octet-stream"), bytes.clone()),
            Node::Text(text) => (Some("text/plain"), text.clone().into_bytes()),
            node if xml => {
                let bound = member.bound.as_deref();
                let inner = interface.shape(member.shape);
                let name = inner.name.as_deref().unwrap_or_else(|| member.wire_name());
                let namespace = bound
                    .and_then(|bound| bound.namespace.as_deref())
                    .or(inner.namespace.as_deref());
                let text = xml::write(interface, member.shape, node, name, namespace);
                (Some("application/xml"), text.into_bytes())
            }
            node => {
                let text = json::write(interface, member.shape, node, true).to_string();
                (Some("application/json"), text.into_bytes())
            }
        };
    }
    let in_body = |at: usize| {
        let member = shape.members.get(at);
        member.is_some_and(|member| member.location().is_none())
    };
    if !shape
        .members
        .iter()
        .any(|member| member.location().is_none())
    {
        return (None, Vec::new());
    }
    if !xml {
        let text = json::write(interface, id, node, true).to_string();
        return (Some("application/json"), text.into_bytes());
    }
    let name = operation.input_name.as_deref();
    match name {
        Some(name) if members.iter().any(|(at, _)| in_body(*at)) => {
            let namespace = operation.namespace.as_deref();
            let text = xml::write(interface, id, node, name, namespace);
            (Some("application/xml"), text.into_bytes())
        }
        _ => (None, Vec::new()),
    }
}

/// A checksum of the body, as AWS's SDKs add it where none is given.
fn add_checksum(message: &mut Message) {
    const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-sdk-checksum-algorithm");
    const CRC32: HeaderName = HeaderName::from_static("x-amz-checksum-crc32");
    let is_checksum = |name: &HeaderName| name.as_str().starts_with("x-amz-checksum-");
    if message.headers.keys().any(is_checksum) {
        return;
    }
    let sum = crc32fast::hash(&message.body).to_be_bytes();
    if let Ok(sum) = HeaderValue::from_str(&STANDARD.encode(sum)) {
        message.headers.insert(CRC32, sum);
        message
            .headers
            .insert(ALGORITHM, HeaderValue::from_static("CRC32"));
    }
}

fn host_prefix(
    operation: &Operation,
    interface: &Interface,
    input: Option<(ShapeId, &Node)>,
) -> Option<String> {
    let mut prefix = operation.host_prefix.as_deref()?.to_owned();
    if let Some((id, Node::Structure(members))) = input {
        let shape = interface.shape(id);
        for (at, node) in members {
            if let (Some(member), Node::Text(text)) = (shape.members.get(*at), node)
                && interface.shape(member.shape).kind == Kind::String
            {
                prefix = prefix.replace(&format!("{{{}}}", member.name), text);
            }
        }
    }
    Some(prefix)
}
