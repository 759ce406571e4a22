//! `error.rs`: the errors that the served operations list.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;

use super::facts::Shape;
use super::model::Model;
use super::names;

pub fn emit(model: &Model) -> Result<String> {
    let mut out = String::from("//! The errors that operations may answer.\n\n");
    let mut shapes = BTreeSet::new();
    for operation in model.served_operations() {
        shapes.extend(&operation?.1.errors);
    }
    // An interface without modelled errors needs no import.
    if !shapes.is_empty() {
        out.push_str("use crate::{ErrorShape, Fault};\n\n");
    }
    for name in shapes {
        let shape = model.shape(name)?;
        let facts = shape.error.as_ref();
        let is_server = shape.fault && !facts.is_some_and(|facts| facts.sender_fault);
        let fault = if is_server { "Server" } else { "Client" };
        let default_status = if is_server { 500 } else { 400 };
        let status = facts
            .and_then(|facts| facts.http_status_code)
            .unwrap_or(default_status);
        let code = facts.and_then(|facts| facts.code.as_deref());
        writeln!(
            out,
            "/// `{name}`, HTTP {status}.\npub static {}: ErrorShape = ErrorShape {{ code: {name:?}, \
             status: {status}, fault: Fault::{fault}, query_code: {}, message_key: {:?}, typed: {} }};\n",
            names::error_constant(name),
            code.filter(|code| code != name)
                .map_or("None".to_owned(), |code| format!("Some({code:?})")),
            if has_member(shape, "Message") {
                "Message"
            } else {
                "message"
            },
            has_member(shape, "Type"),
        )?;
    }
    Ok(out)
}

fn has_member(shape: &Shape, name: &str) -> bool {
    shape.members.iter().any(|(member, _)| member == name)
}
