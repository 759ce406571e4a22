//! XML: bodies of REST-XML requests, and the answers of REST-XML, Query and EC2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader as Events;
use quick_xml::escape::escape;
use quick_xml::events::{BytesRef, BytesStart, Event};
use serde_json::{Map, Value};

use super::answer::Reader;
use super::input::Node;
use super::json::blob;
use super::time;
use crate::catalog::{
    Binding, Interface, Kind, Member, Shape, ShapeId, TimestampFormat, wire_name,
};

/// Nested deeper, answers are refused.
const MAX_DEPTH: usize = 64;

/// An element of a document that was read.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    pub text: String,
}

/// Writes an element with what is in it.
pub fn write(
    interface: &Interface,
    id: ShapeId,
    node: &Node,
    name: &str,
    namespace: Option<&str>,
) -> String {
    let mut writer = Writer {
        interface,
        out: String::new(),
    };
    let attributes =
        namespace.map_or_else(String::new, |uri| format!(" xmlns=\"{}\"", escape(uri)));
    writer.element(id, node, name, &attributes, None);
    writer.out
}

struct Writer<'a> {
    interface: &'a Interface,
    out: String,
}

impl Writer<'_> {
    fn element(
        &mut self,
        id: ShapeId,
        node: &Node,
        name: &str,
        attributes: &str,
        own: Option<TimestampFormat>,
    ) {
        let shape = self.interface.shape(id);
        match node {
            Node::List(items) => {
                let Some(element) = &shape.element else {
                    return;
                };
                let inner = wire_name(element.bound.as_deref()).unwrap_or("member");
                self.open(name, attributes);
                for item in items {
                    self.element(element.shape, item, inner, "", None);
                }
                self.close(name);
            }
            Node::Map(entries) => {
                self.open(name, attributes);
                for entry in entries {
                    self.entry(shape, entry, "entry");
                }
                self.close(name);
            }
            Node::Structure(members) => self.structure(shape, members, name, attributes),
            scalar => {
                let text = text_of(scalar, own.or(shape.timestamp), TimestampFormat::Iso8601);
                self.open(name, attributes);
                self.out.push_str(&escape(text.as_str()));
                self.close(name);
            }
        }
    }

    fn structure(&mut self, shape: &Shape, members: &[(usize, Node)], name: &str, given: &str) {
        let mut attributes = given.to_owned();
        if let Some(uri) = shape.namespace.as_deref().filter(|_| given.is_empty()) {
            attributes = namespace_of(uri, shape.namespace_prefix.as_deref());
        }
        let bound = |member: &Member| member.bound.is_some();
        let of_body = |at: usize| {
            shape
                .members
                .get(at)
                .filter(|member| member.location().is_none())
        };
        for (at, node) in members {
            let Some(member) = of_body(*at).filter(|member| bound(member)) else {
                continue;
            };
            if member.bound.as_deref().is_some_and(|bound| bound.attribute) {
                let text = text_of(node, None, TimestampFormat::Iso8601);
                attributes += &format!(" {}=\"{}\"", member.wire_name(), escape(text.as_str()));
            }
        }
        self.open(name, &attributes);
        for (at, node) in members {
            let Some(member) = of_body(*at) else { continue };
            let binding = member.bound.as_deref();
            if binding.is_some_and(|bound| bound.attribute) {
                continue;
            }
            self.member(member, node, binding);
        }
        self.close(name);
    }

    fn member(&mut self, member: &Member, node: &Node, binding: Option<&Binding>) {
        let shape = self.interface.shape(member.shape);
        let flat = shape.flattened || binding.is_some_and(|bound| bound.flattened);
        let name = member.wire_name();
        match node {
            Node::List(items) if flat => {
                let Some(element) = &shape.element else {
                    return;
                };
                for item in items {
                    self.element(element.shape, item, name, "", None);
                }
            }
            Node::Map(entries) if flat => {
                for entry in entries {
                    self.entry(shape, entry, name);
                }
            }
            node => {
                let attributes = binding.and_then(|bound| {
                    let uri = bound.namespace.as_deref()?;
                    Some(namespace_of(uri, bound.namespace_prefix.as_deref()))
                });
                let attributes = attributes.unwrap_or_default();
                let own = binding.and_then(|bound| bound.timestamp);
                self.element(member.shape, node, name, &attributes, own);
            }
        }
    }

    fn entry(&mut self, shape: &Shape, (key, node): &(String, Node), name: &str) {
        let (Some(of_key), Some(of_value)) = (&shape.key, &shape.value) else {
            return;
        };
        self.open(name, "");
        let text = Node::Text(key.clone());
        let inner = wire_name(of_key.bound.as_deref()).unwrap_or("key");
        self.element(of_key.shape, &text, inner, "", None);
        let inner = wire_name(of_value.bound.as_deref()).unwrap_or("value");
        self.element(of_value.shape, node, inner, "", None);
        self.close(name);
    }

    fn open(&mut self, name: &str, attributes: &str) {
        self.out += &format!("<{name}{attributes}>");
    }

    fn close(&mut self, name: &str) {
        self.out += &format!("</{name}>");
    }
}

fn namespace_of(uri: &str, prefix: Option<&str>) -> String {
    let prefix = prefix.map_or_else(String::new, |prefix| format!(":{prefix}"));
    format!(" xmlns{prefix}=\"{}\"", escape(uri))
}

/// A scalar as text, for XML, headers, paths and queries.
pub fn text_of(node: &Node, format: Option<TimestampFormat>, default: TimestampFormat) -> String {
    match node {
        Node::Text(text) => text.clone(),
        Node::Number(number) => number.to_string(),
        Node::Bool(value) => value.to_string(),
        Node::Bytes(bytes) => STANDARD.encode(bytes),
        Node::Time(moment) => time::text(*moment, format.unwrap_or(default)),
        Node::Document(value) => value.to_string(),
        Node::List(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| text_of(item, format, default))
                .collect();
            items.join(",")
        }
        Node::Map(_) | Node::Structure(_) => String::new(),
    }
}

/// Reads a document; `None` if it is none.
pub fn parse(bytes: &[u8]) -> Option<Element> {
    let mut events = Events::from_reader(bytes);
    let mut open: Vec<Element> = Vec::new();
    loop {
        match events.read_event().ok()? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return None;
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                let found = element(&start)?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(found),
                    None => return Some(found),
                }
            }
            Event::End(_) => {
                let done = open.pop()?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return Some(done),
                }
            }
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text += &text.decode().ok()?;
                }
            }
            Event::CData(text) => {
                if let Some(element) = open.last_mut() {
                    element.text += &text.decode().ok()?;
                }
            }
            Event::GeneralRef(reference) => {
                if let Some(element) = open.last_mut() {
                    element.text.push(referenced(&reference)?);
                }
            }
            Event::Eof => return None,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn element(start: &BytesStart<'_>) -> Option<Element> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
        let value = text(&attribute.value)?;
        let value = quick_xml::escape::unescape(&value).ok()?.into_owned();
        attributes.push((text(attribute.key.local_name().as_ref())?, value));
    }
    Some(Element {
        name: text(start.local_name().as_ref())?,
        attributes,
        ..Element::default()
    })
}

/// The five entities that every document has, and characters by number. Documents cannot define
/// others here.
fn referenced(reference: &BytesRef<'_>) -> Option<char> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character);
    }
    match &*reference.decode().ok()? {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    }
}

impl Element {
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of a child.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }
}

impl Reader<'_> {
    /// Reads an element into the form that workflows see.
    pub fn xml(&self, id: ShapeId, element: &Element, bound: Option<&Binding>) -> Value {
        let shape = self.interface.shape(id);
        match shape.kind {
            Kind::Structure => Value::Object(self.xml_members(shape, element)),
            Kind::List => {
                let Some(of) = &shape.element else {
                    return Value::Null;
                };
                let items = element.children.iter();
                items
                    .map(|item| self.xml(of.shape, item, of.bound.as_deref()))
                    .collect()
            }
            Kind::Map => self.xml_map(shape, &element.children.iter().collect::<Vec<_>>()),
            _ => self.scalar(shape, bound, &element.text, TimestampFormat::Iso8601),
        }
    }

    /// The members of a structure that an element holds.
    pub fn xml_members(&self, shape: &Shape, element: &Element) -> Map<String, Value> {
        let mut made = Map::new();
        for member in &shape.members {
            if member.location().is_some() {
                continue;
            }
            if let Some(value) = self.xml_member(member, element) {
                made.insert(member.shown(), value);
            }
        }
        made
    }

    fn xml_member(&self, member: &Member, element: &Element) -> Option<Value> {
        let binding = member.bound.as_deref();
        let name = member.wire_name();
        // Attributes may be written with the prefix of a namespace.
        let local = name.rsplit(':').next().unwrap_or(name);
        if binding.is_some_and(|bound| bound.attribute) {
            let (_, value) = element.attributes.iter().find(|(key, _)| key == local)?;
            return Some(value.as_str().into());
        }
        let shape = self.interface.shape(member.shape);
        let flat = shape.flattened || binding.is_some_and(|bound| bound.flattened);
        if flat && matches!(shape.kind, Kind::List | Kind::Map) {
            let of_elements = shape
                .element
                .as_ref()
                .and_then(|of| wire_name(of.bound.as_deref()));
            let named = |child: &&Element| {
                child.name == name || of_elements.is_some_and(|name| child.name == name)
            };
            let found: Vec<&Element> = element.children.iter().filter(named).collect();
            if found.is_empty() {
                return None;
            }
            if shape.kind == Kind::Map {
                return Some(self.xml_map(shape, &found));
            }
            let of = shape.element.as_ref()?;
            let read = |item| self.xml(of.shape, item, of.bound.as_deref());
            return Some(found.into_iter().map(read).collect());
        }
        let child = element.child(name)?;
        Some(self.xml(member.shape, child, binding))
    }

    fn xml_map(&self, shape: &Shape, entries: &[&Element]) -> Value {
        let (Some(of_key), Some(of_value)) = (&shape.key, &shape.value) else {
            return Value::Null;
        };
        let key_name = wire_name(of_key.bound.as_deref()).unwrap_or("key");
        let value_name = wire_name(of_value.bound.as_deref()).unwrap_or("value");
        let entry = |entry: &&Element| {
            let key = entry.child_text(key_name)?.to_owned();
            let value = self.xml(
                of_value.shape,
                entry.child(value_name)?,
                of_value.bound.as_deref(),
            );
            Some((key, value))
        };
        Value::Object(entries.iter().filter_map(entry).collect())
    }

    /// Reads a scalar that came as text.
    pub fn scalar(
        &self,
        shape: &Shape,
        bound: Option<&Binding>,
        text: &str,
        default: TimestampFormat,
    ) -> Value {
        match shape.kind {
            Kind::Boolean => (text.trim() == "true").into(),
            Kind::Integer | Kind::Long | Kind::BigInteger => {
                let number = text.trim().parse::<i64>();
                number.map_or_else(|_| text.into(), Value::from)
            }
            Kind::Float | Kind::Double | Kind::BigDecimal => {
                let number = text.trim().parse::<f64>();
                number.map_or_else(|_| text.into(), Value::from)
            }
            Kind::Timestamp => {
                let format = bound.and_then(|bound| bound.timestamp).or(shape.timestamp);
                let moment = time::answered(text.trim(), format.unwrap_or(default));
                moment.map_or_else(|| text.into(), |moment| self.style.time(moment))
            }
            Kind::Blob => STANDARD
                .decode(text.trim())
                .map_or_else(|_| text.into(), blob),
            _ => text.into(),
        }
    }
}
