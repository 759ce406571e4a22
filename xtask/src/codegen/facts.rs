//! The files in `models/`, as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// `models/operations.toml`.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct AllowList {
    pub services: BTreeMap<String, Allowed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    pub operations: Vec<String>,
}

impl AllowList {
    pub fn load(models: &Path) -> Result<Self> {
        load_toml(&models.join("operations.toml"))
    }
}

/// One service in `models/overrides.toml`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    pub validation_error: Option<String>,
    pub internal_error: Option<String>,
    pub max_body_bytes: Option<u64>,
    pub operations: BTreeMap<String, OperationOverride>,
    pub enums: BTreeMap<String, Vec<String>>,
    pub shown_patterns: BTreeMap<String, String>,
    pub members: BTreeMap<String, BTreeMap<String, Reference>>,
    pub unchecked: Vec<String>,
    pub optional: Vec<String>,
    pub not_null_elements: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct OperationOverride {
    pub status: Option<u16>,
    pub max_body_bytes: Option<u64>,
    pub oversized: Oversized,
}

#[derive(Deserialize, Default, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Oversized {
    #[default]
    Entity,
    Payload,
}

impl Overrides {
    pub fn load(models: &Path, service: &str) -> Result<Self> {
        let mut all: BTreeMap<String, Self> = load_toml(&models.join("overrides.toml"))?;
        Ok(all.remove(service).unwrap_or_default())
    }
}

/// `models/<service>.json`.
#[derive(Deserialize)]
pub struct Facts {
    pub metadata: Metadata,
    pub operations: BTreeMap<String, Operation>,
    pub shapes: BTreeMap<String, Shape>,
}

impl Facts {
    pub fn load(models: &Path, service: &str) -> Result<Self> {
        let path = models.join(format!("{service}.json"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}; run scripts/extract-models", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub api_version: String,
    pub protocol: String,
    /// All protocols, where there are several.
    #[serde(default)]
    pub protocols: Vec<String>,
    pub xml_namespace: Option<String>,
    pub json_version: Option<String>,
    pub target_prefix: Option<String>,
    pub endpoint_prefix: String,
    pub signing_name: Option<String>,
}

#[derive(Deserialize)]
pub struct Operation {
    pub http: Http,
    pub input: Option<Reference>,
    pub output: Option<Reference>,
    #[serde(default)]
    pub errors: Vec<String>,
    #[serde(default)]
    pub requestcompression: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    pub method: String,
    pub request_uri: String,
    pub response_code: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default, rename = "enum")]
    pub values: Vec<String>,
    pub min: Option<serde_json::Number>,
    pub max: Option<serde_json::Number>,
    pub pattern: Option<String>,
    #[serde(default)]
    pub required: Vec<String>,
    #[serde(default, deserialize_with = "in_order")]
    pub members: Vec<(String, Reference)>,
    pub member: Option<Reference>,
    pub key: Option<Reference>,
    pub value: Option<Reference>,
    pub payload: Option<String>,
    #[serde(default)]
    pub flattened: bool,
    #[serde(default)]
    pub eventstream: bool,
    #[serde(default)]
    pub sensitive: bool,
    #[serde(default)]
    pub fault: bool,
    pub timestamp_format: Option<String>,
    pub error: Option<ErrorFacts>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Structure,
    List,
    Map,
    String,
    Integer,
    Long,
    Float,
    Double,
    Boolean,
    Timestamp,
    Blob,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorFacts {
    pub code: Option<String>,
    pub http_status_code: Option<u16>,
    #[serde(default)]
    pub sender_fault: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    pub shape: String,
    pub location: Option<String>,
    pub location_name: Option<String>,
    pub timestamp_format: Option<String>,
    #[serde(default)]
    pub eventpayload: bool,
    #[serde(default)]
    pub eventheader: bool,
}

fn load_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parsing {}", path.display()))
}

/// A JSON object as pairs: the order of members decides the order of AWS's messages.
fn in_order<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<(String, Reference)>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, Reference)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    source.deserialize_map(Pairs)
}
