//! The interfaces of AWS's services, as facts: names, types, bindings and error codes.
//!
//! They come from botocore by way of `scripts/extract-integrations`, in one compressed file that is
//! part of the program. A service is unpacked when something first needs it.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{LazyLock, OnceLock};

use flate2::read::ZlibDecoder;
use serde::Deserialize;

static DATA: &[u8] = include_bytes!("../data/services.bin");

/// How a service is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Json,
    RestJson,
    RestXml,
    Query,
    Ec2,
}

/// What is known of a service before it is unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Names {
    /// As the AWS CLI calls it: `stepfunctions`.
    pub name: Box<str>,
    /// As it comes behind `aws-sdk:`, such as `sfn`.
    pub sdk: Box<str>,
    /// What names of its errors begin with, such as `Sfn`.
    pub class: Box<str>,
    /// As signatures name it: `states`.
    pub signing: Box<str>,
    /// What its hosts begin with.
    pub prefix: Box<str>,
    pub version: Box<str>,
    pub protocol: Protocol,
    /// The version of JSON-RPC.
    #[serde(default)]
    pub json: Box<str>,
    /// What targets of JSON-RPC begin with.
    #[serde(default)]
    pub target: Box<str>,
    /// The XML namespace.
    #[serde(default)]
    pub ns: Box<str>,
    #[serde(default)]
    pub query_compatible: bool,
    #[serde(default, rename = "global")]
    pub global_endpoint: Option<Box<str>>,
    offset: usize,
    length: usize,
    size: usize,
}

/// A service that can be called.
#[derive(Debug)]
pub struct Entry {
    pub names: Names,
    /// Where its part of the data begins.
    from: usize,
    unpacked: OnceLock<Option<Interface>>,
}

/// The operations and shapes of a service.
#[derive(Debug, Deserialize)]
pub struct Interface {
    pub operations: HashMap<Box<str>, Operation>,
    pub shapes: Vec<Shape>,
    /// By the code on the wire.
    pub exceptions: HashMap<Box<str>, Exception>,
}

#[derive(Debug, Deserialize)]
pub struct Exception {
    /// The name of the shape, which the code can differ from: `NotFoundException`.
    pub shape: Box<str>,
    /// The class in AWS's SDK for Java.
    pub class: Box<str>,
}

#[derive(Debug, Deserialize)]
pub struct Operation {
    /// Method, and path with query.
    #[serde(rename = "h")]
    pub http: (Box<str>, Box<str>),
    #[serde(rename = "i")]
    pub input: Option<ShapeId>,
    #[serde(rename = "o")]
    pub output: Option<ShapeId>,
    /// The XML element that the input is.
    #[serde(rename = "in")]
    pub input_name: Option<Box<str>>,
    #[serde(rename = "ns")]
    pub namespace: Option<Box<str>>,
    /// The XML element that holds the output.
    #[serde(rename = "w")]
    pub wrapper: Option<Box<str>>,
    #[serde(rename = "hp")]
    pub host_prefix: Option<Box<str>>,
    /// The body goes with a checksum.
    #[serde(rename = "c", default)]
    pub checksum: bool,
}

/// The place of a shape in [`Interface::shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct ShapeId(u32);

#[derive(Debug, Deserialize)]
pub struct Shape {
    #[serde(rename = "t")]
    pub kind: Kind,
    #[serde(rename = "m", default)]
    pub members: Vec<Member>,
    #[serde(rename = "e")]
    pub element: Option<Reference>,
    #[serde(rename = "k")]
    pub key: Option<Reference>,
    #[serde(rename = "v")]
    pub value: Option<Reference>,
    #[serde(rename = "r", default)]
    pub required: Vec<Box<str>>,
    /// The member that is the body.
    #[serde(rename = "p")]
    pub payload: Option<Box<str>>,
    #[serde(rename = "f", default)]
    pub flattened: bool,
    /// Any JSON.
    #[serde(rename = "d", default)]
    pub document: bool,
    #[serde(rename = "es", default)]
    pub event_stream: bool,
    #[serde(rename = "s", default)]
    pub streaming: bool,
    #[serde(rename = "ts")]
    pub timestamp: Option<TimestampFormat>,
    #[serde(rename = "n")]
    pub name: Option<Box<str>>,
    #[serde(rename = "ns")]
    pub namespace: Option<Box<str>>,
    #[serde(rename = "np")]
    pub namespace_prefix: Option<Box<str>>,
    #[serde(rename = "min")]
    pub min: Option<f64>,
    #[serde(rename = "max")]
    pub max: Option<f64>,
    #[serde(rename = "en", default)]
    pub values: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Structure,
    List,
    Map,
    String,
    Character,
    Integer,
    Long,
    BigInteger,
    Float,
    Double,
    BigDecimal,
    Boolean,
    Blob,
    Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TimestampFormat {
    #[serde(rename = "iso8601")]
    Iso8601,
    #[serde(rename = "rfc822")]
    Rfc822,
    #[serde(rename = "unixTimestamp")]
    Unix,
    #[serde(rename = "unixTimestampMillis")]
    UnixMillis,
}

/// A member of a structure.
#[derive(Debug, Deserialize)]
pub struct Member {
    pub name: Box<str>,
    pub shape: ShapeId,
    pub bound: Option<Box<Binding>>,
}

/// An element of a list, or a key or value of a map.
#[derive(Debug, Deserialize)]
pub struct Reference {
    pub shape: ShapeId,
    pub bound: Option<Box<Binding>>,
}

/// Where on the wire something is.
#[derive(Debug, Deserialize)]
pub struct Binding {
    #[serde(rename = "l")]
    pub location: Option<Location>,
    #[serde(rename = "n")]
    pub name: Option<Box<str>>,
    #[serde(rename = "ts")]
    pub timestamp: Option<TimestampFormat>,
    #[serde(rename = "f", default)]
    pub flattened: bool,
    #[serde(rename = "a", default)]
    pub attribute: bool,
    #[serde(rename = "q")]
    pub query_name: Option<Box<str>>,
    #[serde(rename = "i", default)]
    pub idempotency_token: bool,
    #[serde(rename = "j", default)]
    pub json: bool,
    #[serde(rename = "h", default)]
    pub in_host: bool,
    #[serde(rename = "s", default)]
    pub streaming: bool,
    #[serde(rename = "ns")]
    pub namespace: Option<Box<str>>,
    #[serde(rename = "np")]
    pub namespace_prefix: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    Uri,
    QueryString,
    Header,
    Headers,
    #[serde(rename = "statusCode")]
    StatusCode,
}

static CATALOG: LazyLock<HashMap<&'static str, Entry>> =
    LazyLock::new(|| read().unwrap_or_default());

/// The service of this name, either the AWS CLI's or the one behind `aws-sdk:`.
pub fn find(name: &str) -> Option<&'static Entry> {
    let known = CATALOG.get(name);
    known.or_else(|| all().find(|entry| &*entry.names.name == name))
}

/// The service that comes behind `aws-sdk:` in a task's resource.
pub fn find_sdk(name: &str) -> Option<&'static Entry> {
    CATALOG.get(name)
}

/// Every service, in no order.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    CATALOG.values()
}

/// The table of contents. `None` cannot be: a test reads all of it.
fn read() -> Option<HashMap<&'static str, Entry>> {
    let (length, rest) = DATA.split_first_chunk::<4>()?;
    let (head, _) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let from = length.len() + head.len();
    let text = inflate(head, 1 << 20)?;
    let table: Vec<Names> = serde_json::from_slice(&text).ok()?;
    let entries = table.into_iter().map(|names| {
        // Lives as long as the program, like the data.
        let key: &'static str = Box::leak(names.sdk.clone());
        let unpacked = OnceLock::new();
        (
            key,
            Entry {
                names,
                from,
                unpacked,
            },
        )
    });
    Some(entries.collect())
}

fn inflate(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(size);
    let mut reader = ZlibDecoder::new(bytes);
    reader.read_to_end(&mut text).ok()?;
    Some(text)
}

impl Entry {
    /// The service's operations; `None` cannot be, which a test shows for each.
    pub fn interface(&'static self) -> Option<&'static Interface> {
        let unpack = || {
            let at = self.from + self.names.offset;
            let bytes = DATA.get(at..at + self.names.length)?;
            serde_json::from_slice(&inflate(bytes, self.names.size)?).ok()
        };
        self.unpacked.get_or_init(unpack).as_ref()
    }

    /// The operation that a task's action names: `putItem` is `PutItem`.
    pub fn operation(&'static self, action: &str) -> Option<(&'static str, &'static Operation)> {
        let operations = &self.interface()?.operations;
        let (name, operation) = operations.get_key_value(pascal(action).as_str())?;
        Some((name, operation))
    }
}

impl Names {
    /// What the service is called, by whomever.
    pub fn all(&self) -> [&str; 4] {
        [&self.name, &self.sdk, &self.signing, &self.prefix]
    }
}

impl Interface {
    pub fn shape(&self, id: ShapeId) -> &Shape {
        static NONE: LazyLock<Shape> = LazyLock::new(Shape::empty);
        // Numbers come from the data, which a test checks.
        self.shapes.get(id.0 as usize).unwrap_or(&NONE)
    }
}

impl Shape {
    fn empty() -> Self {
        Self {
            kind: Kind::Structure,
            members: Vec::new(),
            element: None,
            key: None,
            value: None,
            required: Vec::new(),
            payload: None,
            flattened: false,
            document: false,
            event_stream: false,
            streaming: false,
            timestamp: None,
            name: None,
            namespace: None,
            namespace_prefix: None,
            min: None,
            max: None,
            values: Vec::new(),
        }
    }

    /// The member that a workflow calls `key`: its name, but with a capital first.
    pub fn member(&self, key: &str) -> Option<&Member> {
        let is = |member: &&Member| is_pascal_of(key, &member.name);
        self.members.iter().find(is)
    }
}

impl Member {
    /// The name as workflows write it.
    pub fn shown(&self) -> String {
        pascal(&self.name)
    }

    pub fn location(&self) -> Option<Location> {
        self.bound.as_ref()?.location
    }

    /// The name on the wire.
    pub fn wire_name(&self) -> &str {
        wire_name(self.bound.as_deref()).unwrap_or(&self.name)
    }
}

/// The name that a binding gives.
pub fn wire_name(bound: Option<&Binding>) -> Option<&str> {
    bound?.name.as_deref()
}

fn is_pascal_of(key: &str, name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let mut given = key.chars();
    given.next() == first && given.as_str() == letters.as_str()
}

/// With a capital first.
pub fn pascal(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_readable_and_whole() {
        assert!(all().count() > 100);
        for entry in all() {
            let name = &entry.names.name;
            let interface = entry.interface().unwrap_or_else(|| panic!("{name}"));
            let known = |id: ShapeId| (id.0 as usize) < interface.shapes.len();
            for (operation, facts) in &interface.operations {
                assert!(facts.input.is_none_or(known), "{name} {operation}");
                assert!(facts.output.is_none_or(known), "{name} {operation}");
            }
            for shape in &interface.shapes {
                assert!(shape.members.iter().all(|member| known(member.shape)));
                for part in [&shape.element, &shape.key, &shape.value] {
                    assert!(part.as_ref().is_none_or(|part| known(part.shape)));
                }
                assert_eq!(shape.kind == Kind::List, shape.element.is_some(), "{name}");
            }
        }
    }

    #[test]
    fn services_and_operations_are_found_by_the_names_of_tasks() {
        let states = find_sdk("sfn").unwrap();
        assert_eq!(&*states.names.name, "stepfunctions");
        assert!(std::ptr::eq(find("stepfunctions").unwrap(), states));
        assert_eq!(
            states.operation("startExecution").unwrap().0,
            "StartExecution"
        );
        assert!(states.operation("startNothing").is_none());
        assert!(find_sdk("stepfunctions").is_none());
        assert_eq!(&*find_sdk("dynamodb").unwrap().names.class, "DynamoDb");
    }

    #[test]
    fn members_are_found_by_the_names_of_workflows() {
        let entry = find("ecs").unwrap();
        let (_, operation) = entry.operation("runTask").unwrap();
        let input = entry.interface().unwrap().shape(operation.input.unwrap());
        assert_eq!(&*input.member("LaunchType").unwrap().name, "launchType");
        assert!(input.member("launchtype").is_none());
    }
}
