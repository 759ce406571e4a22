//! Forms, as the Query protocol and EC2's variant of it send them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::utf8_percent_encode;

use super::UNRESERVED;
use super::input::Node;
use super::time;
use crate::catalog::{
    Interface, Member, Reference, Shape, ShapeId, TimestampFormat, pascal, wire_name,
};

/// Writes an operation's form.
pub fn write(
    interface: &Interface,
    (operation, version): (&str, &str),
    input: Option<(ShapeId, &Node)>,
    ec2: bool,
) -> String {
    let mut form = format!("Action={operation}&Version={version}");
    if let Some((id, node)) = input {
        let mut writer = Writer {
            interface,
            form: &mut form,
            ec2,
        };
        writer.value(id, node, "", None);
    }
    form
}

struct Writer<'a> {
    interface: &'a Interface,
    form: &'a mut String,
    ec2: bool,
}

impl Writer<'_> {
    fn value(&mut self, id: ShapeId, node: &Node, prefix: &str, own: Option<TimestampFormat>) {
        let shape = self.interface.shape(id);
        match node {
            Node::Structure(members) => self.structure(shape, members, prefix),
            Node::List(items) => self.list(shape, items, prefix),
            Node::Map(entries) => self.map(shape, entries, prefix),
            Node::Text(text) => self.pair(prefix, text),
            Node::Number(number) => self.pair(prefix, &number.to_string()),
            Node::Bool(value) => self.pair(prefix, if *value { "true" } else { "false" }),
            Node::Bytes(bytes) => self.pair(prefix, &STANDARD.encode(bytes)),
            Node::Time(moment) => {
                let format = own.or(shape.timestamp).unwrap_or(TimestampFormat::Iso8601);
                self.pair(prefix, &time::text(*moment, format));
            }
            Node::Document(value) => self.pair(prefix, &value.to_string()),
        }
    }

    fn structure(&mut self, shape: &Shape, members: &[(usize, Node)], prefix: &str) {
        for (at, node) in members {
            let Some(member) = shape.members.get(*at) else {
                continue;
            };
            let name = self.name(member);
            let path = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            let own = member.bound.as_deref().and_then(|bound| bound.timestamp);
            self.value(member.shape, node, &path, own);
        }
    }

    fn name(&self, member: &Member) -> String {
        let bound = member.bound.as_deref();
        if self.ec2 {
            let query = bound.and_then(|bound| bound.query_name.as_deref());
            return match query {
                Some(name) => name.to_owned(),
                None => pascal(member.wire_name()),
            };
        }
        // A flattened list goes by the name of its elements.
        let shape = self.interface.shape(member.shape);
        let flat = shape.flattened.then_some(shape.element.as_ref()).flatten();
        let of_elements = flat.and_then(|element| wire_name(element.bound.as_deref()));
        of_elements.unwrap_or_else(|| member.wire_name()).to_owned()
    }

    fn list(&mut self, shape: &Shape, items: &[Node], prefix: &str) {
        let Some(element) = &shape.element else {
            return;
        };
        let between = if self.ec2 || shape.flattened {
            String::new()
        } else {
            format!(
                ".{}",
                wire_name(element.bound.as_deref()).unwrap_or("member")
            )
        };
        if items.is_empty() && !self.ec2 {
            // An empty list is told from none.
            self.pair(prefix, "");
        }
        for (at, item) in items.iter().enumerate() {
            let path = format!("{prefix}{between}.{}", at + 1);
            self.value(element.shape, item, &path, None);
        }
    }

    fn map(&mut self, shape: &Shape, entries: &[(String, Node)], prefix: &str) {
        let (Some(key), Some(value)) = (&shape.key, &shape.value) else {
            return;
        };
        let named = |of: &Reference, default: &str| {
            wire_name(of.bound.as_deref()).unwrap_or(default).to_owned()
        };
        let between = if shape.flattened { "" } else { ".entry" };
        for (at, (name, node)) in entries.iter().enumerate() {
            let entry = format!("{prefix}{between}.{}", at + 1);
            self.pair(&format!("{entry}.{}", named(key, "key")), name);
            self.value(
                value.shape,
                node,
                &format!("{entry}.{}", named(value, "value")),
                None,
            );
        }
    }

    fn pair(&mut self, name: &str, value: &str) {
        let (name, value) = (
            utf8_percent_encode(name, UNRESERVED),
            utf8_percent_encode(value, UNRESERVED),
        );
        // Writing to a string cannot fail.
        let _ = write!(self.form, "&{name}={value}");
    }
}
