//! What a workflow gives, as the shape of an operation's input wants it.

use clock::Timestamp;
use serde_json::{Number, Value};

use super::time;
use crate::catalog::{Interface, Kind, Member, Operation, Reference, Shape, ShapeId, pascal};

/// Nested deeper, parameters are refused.
const MAX_DEPTH: usize = 64;

/// A value of a shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Text(String),
    Number(Number),
    Bool(bool),
    Bytes(Vec<u8>),
    Time(Timestamp),
    List(Vec<Node>),
    /// A map's entries.
    Map(Vec<(String, Node)>),
    /// The members that are there, by their place in the shape.
    Structure(Vec<(usize, Node)>),
    /// Any JSON.
    Document(Value),
}

/// Why parameters do not fit an operation, in AWS's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("The field '{0}' is not supported by Step Functions")]
    Unsupported(String),
    #[error("The field '{0}' is required but was missing")]
    Missing(String),
    #[error("The value of the field '{0}' has an invalid format")]
    Format(String),
}

/// What is wrong with the parameters of an operation: at most one thing a member.
pub fn check(interface: &Interface, operation: &Operation, parameters: &Value) -> Vec<Invalid> {
    let Some(input) = operation.input else {
        return Vec::new();
    };
    let shape = interface.shape(input);
    let Value::Object(given) = parameters else {
        return vec![Invalid::Format("Parameters".to_owned())];
    };
    let reader = Reader {
        interface,
        token: "",
    };
    let mut found: Vec<Invalid> = shape
        .required
        .iter()
        .filter(|name| {
            let member = shape.members.iter().find(|member| member.name == **name);
            let fills_itself = member
                .and_then(|member| member.bound.as_deref())
                .is_some_and(|bound| bound.idempotency_token);
            !fills_itself && !given.contains_key(&pascal(name))
        })
        .map(|name| Invalid::Missing(pascal(name)))
        .collect();
    for (key, value) in given {
        match shape.member(key) {
            None => found.push(Invalid::Unsupported(key.clone())),
            Some(member) if !value.is_null() => {
                found.extend(reader.value(member.shape, key, value, 0).err());
            }
            Some(_) => {}
        }
    }
    found
}

/// Reads the parameters of an operation. Idempotency tokens that they lack are made of `token`.
pub fn read(
    interface: &Interface,
    input: ShapeId,
    parameters: &Value,
    token: &str,
) -> Result<Node, Invalid> {
    let reader = Reader { interface, token };
    let empty = Value::Object(serde_json::Map::new());
    let parameters = if parameters.is_null() {
        &empty
    } else {
        parameters
    };
    reader.value(input, "Parameters", parameters, 0)
}

struct Reader<'a> {
    interface: &'a Interface,
    token: &'a str,
}

impl Reader<'_> {
    fn value(
        &self,
        id: ShapeId,
        field: &str,
        value: &Value,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let shape = self.interface.shape(id);
        let bad = || Invalid::Format(field.to_owned());
        if depth > MAX_DEPTH {
            return Err(bad());
        }
        if shape.document {
            return Ok(Node::Document(value.clone()));
        }
        match shape.kind {
            Kind::Structure => self.structure(shape, field, value, depth),
            Kind::List => {
                let items = value.as_array().ok_or_else(bad)?;
                let element = shape.element.as_ref().ok_or_else(bad)?;
                let read = |item| self.value(element.shape, field, item, depth + 1);
                Ok(Node::List(
                    items.iter().map(read).collect::<Result<_, _>>()?,
                ))
            }
            Kind::Map => {
                let entries = value.as_object().ok_or_else(bad)?;
                let of: &Reference = shape.value.as_ref().ok_or_else(bad)?;
                let read = |(key, value): (&String, &Value)| {
                    Ok((key.clone(), self.value(of.shape, key, value, depth + 1)?))
                };
                Ok(Node::Map(
                    entries.iter().map(read).collect::<Result<_, _>>()?,
                ))
            }
            _ => scalar(shape, value).ok_or_else(bad),
        }
    }

    fn structure(
        &self,
        shape: &Shape,
        field: &str,
        value: &Value,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let given = value
            .as_object()
            .ok_or_else(|| Invalid::Format(field.to_owned()))?;
        let known = |key: &String| shape.member(key).is_some();
        if let Some(key) = given.keys().find(|key| !known(key)) {
            return Err(Invalid::Unsupported(key.clone()));
        }
        let mut members = Vec::with_capacity(given.len());
        for (at, member) in shape.members.iter().enumerate() {
            if let Some((key, value)) = value_of(member, given) {
                // A member that is null is none.
                if value.is_null() {
                    continue;
                }
                // Streams get JSON always, as AWS does it: a text arrives in quotes.
                let streaming = member.bound.as_deref().is_some_and(|bound| bound.streaming);
                let node = if streaming {
                    Node::Bytes(value.to_string().into_bytes())
                } else {
                    self.value(member.shape, key, value, depth + 1)?
                };
                members.push((at, node));
            } else if !self.token.is_empty()
                && (member.bound.as_deref()).is_some_and(|bound| bound.idempotency_token)
            {
                members.push((at, Node::Text(self.token.to_owned())));
            }
        }
        Ok(Node::Structure(members))
    }
}

fn value_of<'a>(
    member: &Member,
    given: &'a serde_json::Map<String, Value>,
) -> Option<(&'a str, &'a Value)> {
    let found = given.get_key_value(&member.shown());
    found.map(|(key, value)| (key.as_str(), value))
}

fn scalar(shape: &Shape, value: &Value) -> Option<Node> {
    Some(match shape.kind {
        // Where a service wants text, a workflow may give any JSON.
        Kind::String | Kind::Character => Node::Text(match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        Kind::Blob if shape.streaming => Node::Bytes(value.to_string().into_bytes()),
        Kind::Blob => Node::Bytes(match value {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        }),
        Kind::Boolean => Node::Bool(match value {
            Value::Bool(value) => *value,
            Value::String(text) => text.parse().ok()?,
            _ => return None,
        }),
        Kind::Timestamp => Node::Time(time::given(value)?),
        _ => Node::Number(match value {
            Value::Number(number) => number.clone(),
            Value::String(text) => serde_json::from_str(text).ok()?,
            _ => return None,
        }),
    })
}
