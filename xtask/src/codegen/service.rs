//! `<service>.rs`: the module, and all operations of the service with their bindings.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::facts::Oversized;
use super::model::Model;
use super::names;

/// Services that carry documents in requests allow some megabytes.
const DEFAULT_MAX_BODY_BYTES: u64 = 10 * 1024 * 1024;

pub fn emit(model: &Model) -> Result<String> {
    let facts = &model.facts.metadata;
    let overrides = &model.overrides;
    let protocol = protocol(model)?;
    let mut out = format!(
        "//! The interface of `{}`, version {}.\n\n\
         mod constraints;\nmod enums;\npub mod error;\nmod json;\npub mod operation;\nmod structures;\n\n\
         use http::Method;\n\n\
         use crate::{{OperationBinding, OversizedBody, Protocol, ServiceModel}};\n\n\
         pub use enums::*;\npub use structures::*;\n\n\
         #[cfg(test)]\npub(crate) use constraints::pattern::ALL as PATTERNS;\n\n",
        model.service, facts.api_version
    );
    writeln!(
        out,
        "/// The service and all its operations.\npub static SERVICE: ServiceModel = ServiceModel {{\n\
         name: {:?}, api_version: {:?}, protocol: Protocol::{protocol}, protocols: &[{}], \
         xml_namespace: {:?}, signing_name: {:?}, \
         endpoint_prefix: {:?}, target_prefix: {:?}, validation_error: {}, internal_error: {}, \
         operations: &[",
        model.service,
        facts.api_version,
        protocols(model)?
            .iter()
            .map(|protocol| format!("Protocol::{protocol}"))
            .collect::<Vec<_>>()
            .join(", "),
        facts.xml_namespace.as_deref().unwrap_or_default(),
        facts
            .signing_name
            .as_ref()
            .unwrap_or(&facts.endpoint_prefix),
        facts.endpoint_prefix,
        facts.target_prefix.as_deref().unwrap_or_default(),
        error(overrides.validation_error.as_deref(), "VALIDATION"),
        error(overrides.internal_error.as_deref(), "INTERNAL_FAILURE"),
    )?;
    for (name, operation) in &model.facts.operations {
        let exceptions = overrides.operations.get(name);
        let status = exceptions.and_then(|exceptions| exceptions.status);
        let max_body_bytes = exceptions
            .and_then(|exceptions| exceptions.max_body_bytes)
            .or(overrides.max_body_bytes)
            .unwrap_or(DEFAULT_MAX_BODY_BYTES);
        let oversized = exceptions.map_or(Oversized::Entity, |exceptions| exceptions.oversized);
        writeln!(
            out,
            "OperationBinding {{ name: {name:?}, method: Method::{}, uri: {:?}, status: {}, \
             max_body_bytes: {max_body_bytes}, oversized: OversizedBody::{oversized:?}, \
             generated: {} }},",
            operation.http.method,
            operation.http.request_uri,
            status.or(operation.http.response_code).unwrap_or(200),
            model.served.contains(name),
        )?;
    }
    out.push_str("] };\n");
    Ok(out)
}

/// The protocol that clients of ours speak: one of JSON's, if the service speaks it.
pub fn protocol(model: &Model) -> Result<&'static str> {
    let all = protocols(model)?;
    let json = all.iter().find(|protocol| protocol.contains("Json"));
    match json {
        Some(protocol) => Ok(protocol),
        None => bail!("{}: no client for its protocol yet", model.service),
    }
}

/// All protocols of the service, in the order in which its description prefers them.
pub fn protocols(model: &Model) -> Result<Vec<&'static str>> {
    let facts = &model.facts.metadata;
    let named = if facts.protocols.is_empty() {
        std::slice::from_ref(&facts.protocol)
    } else {
        &facts.protocols
    };
    named
        .iter()
        .map(|protocol| {
            Ok(match (protocol.as_str(), facts.json_version.as_deref()) {
                ("rest-json", _) => "RestJson1",
                ("json", Some("1.0")) => "AwsJson1_0",
                ("json", Some("1.1")) => "AwsJson1_1",
                ("smithy-rpc-v2-cbor", _) => "RpcV2Cbor",
                ("query", _) => "AwsQuery",
                (other, version) => {
                    bail!(
                        "{}: protocol {other} {version:?} is not generated yet",
                        model.service
                    )
                }
            })
        })
        .collect()
}

fn error(own: Option<&str>, common: &str) -> String {
    match own {
        Some(shape) => format!("&error::{}", names::error_constant(shape)),
        None => format!("&crate::common_error::{common}"),
    }
}

/// The number of segments before each label in a path, and whether the label is greedy.
pub fn labels(uri: &str) -> Result<Vec<(String, usize, bool)>> {
    let path = uri.split('?').next().unwrap_or_default();
    let mut found = Vec::new();
    for (index, segment) in path.trim_start_matches('/').split('/').enumerate() {
        let Some(label) = segment.strip_prefix('{') else {
            if segment.contains('{') {
                bail!("{uri}: a label must be a whole segment");
            }
            continue;
        };
        let label = label
            .strip_suffix('}')
            .with_context(|| format!("{uri}: unclosed label"))?;
        let greedy = label.ends_with('+');
        found.push((label.trim_end_matches('+').to_owned(), index, greedy));
    }
    Ok(found)
}
