//! JSON bodies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::answer::Reader;
use super::input::Node;
use super::time;
use crate::catalog::{Binding, Interface, Member, Reference, ShapeId, TimestampFormat, wire_name};

/// Writes a value. `rest` is REST's JSON, where members have names of their own on the wire.
pub fn write(interface: &Interface, id: ShapeId, node: &Node, rest: bool) -> Value {
    let shape = interface.shape(id);
    let of = |reference: &Option<Reference>, node: &Node| match reference {
        Some(reference) => write(interface, reference.shape, node, rest),
        None => Value::Null,
    };
    match node {
        Node::Text(text) => text.as_str().into(),
        Node::Number(number) => number.clone().into(),
        Node::Bool(value) => (*value).into(),
        Node::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Node::Time(moment) => timestamp(*moment, shape.timestamp),
        Node::Document(value) => value.clone(),
        Node::List(items) => items.iter().map(|item| of(&shape.element, item)).collect(),
        Node::Map(entries) => {
            let entry = |(key, node): &(String, Node)| (key.clone(), of(&shape.value, node));
            Value::Object(entries.iter().map(entry).collect())
        }
        Node::Structure(members) => {
            let members = members.iter().filter_map(|(at, node)| {
                let member = shape.members.get(*at)?;
                // In REST these are elsewhere in the request.
                if rest && member.location().is_some() {
                    return None;
                }
                let own = member.bound.as_deref().and_then(|bound| bound.timestamp);
                let value = match (node, own) {
                    (Node::Time(moment), Some(_)) => timestamp(*moment, own),
                    _ => write(interface, member.shape, node, rest),
                };
                Some((name(member, rest).to_owned(), value))
            });
            Value::Object(members.collect())
        }
    }
}

fn timestamp(moment: clock::Timestamp, format: Option<TimestampFormat>) -> Value {
    match format.unwrap_or(TimestampFormat::Unix) {
        format @ (TimestampFormat::Unix | TimestampFormat::UnixMillis) => {
            time::number(moment, format).into()
        }
        format => time::text(moment, format).into(),
    }
}

fn name(member: &Member, rest: bool) -> &str {
    if rest {
        member.wire_name()
    } else {
        &member.name
    }
}

impl Reader<'_> {
    /// Reads a value into the form that workflows see.
    pub fn json(&self, id: ShapeId, value: Value, bound: Option<&Binding>, rest: bool) -> Value {
        let shape = self.interface.shape(id);
        if shape.document {
            return value;
        }
        match value {
            Value::Object(object) => {
                if let Some(of) = &shape.value {
                    let entry =
                        |(key, value)| (key, self.json(of.shape, value, of.bound.as_deref(), rest));
                    return Value::Object(object.into_iter().map(entry).collect());
                }
                self.object(id, object, rest)
            }
            Value::Array(items) => match &shape.element {
                Some(of) => items
                    .into_iter()
                    .map(|item| self.json(of.shape, item, of.bound.as_deref(), rest))
                    .collect(),
                None => Value::Array(items),
            },
            value => self.json_scalar(id, value, bound),
        }
    }

    fn object(&self, id: ShapeId, mut object: Map<String, Value>, rest: bool) -> Value {
        let shape = self.interface.shape(id);
        let mut made = Map::new();
        for member in &shape.members {
            let wire = if rest {
                wire_name(member.bound.as_deref()).unwrap_or(&member.name)
            } else {
                &member.name
            };
            if member.location().is_some() && rest {
                continue;
            }
            match object.shift_remove(wire) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let value = self.json(member.shape, value, member.bound.as_deref(), rest);
                    made.insert(member.shown(), value);
                }
            }
        }
        Value::Object(made)
    }

    fn json_scalar(&self, id: ShapeId, value: Value, bound: Option<&Binding>) -> Value {
        use crate::catalog::Kind;
        let shape = self.interface.shape(id);
        match (shape.kind, &value) {
            (Kind::Timestamp, Value::Number(_) | Value::String(_)) => {
                let format = bound
                    .and_then(|bound| bound.timestamp)
                    .or(shape.timestamp)
                    .unwrap_or(TimestampFormat::Unix);
                let text = match &value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                match time::answered(&text, format) {
                    Some(moment) => self.style.time(moment),
                    None => value,
                }
            }
            (Kind::Blob, Value::String(text)) => match STANDARD.decode(text) {
                Ok(bytes) => blob(bytes),
                Err(_) => value,
            },
            _ => value,
        }
    }
}

/// Bytes as workflows see them: as text if they are some, else in base64.
pub fn blob(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => STANDARD.encode(error.as_bytes()).into(),
    }
}
