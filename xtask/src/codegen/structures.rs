//! `structures.rs`: inputs, outputs and the structures inside them.

use std::fmt::Write;

use anyhow::Result;

use super::model::Model;
use super::names;

pub fn emit(model: &Model) -> Result<String> {
    let mut out = String::from("//! Inputs, outputs and the structures inside them.\n\n");
    let mut body = String::new();
    for structure in &model.structures {
        writeln!(
            body,
            "/// {}.",
            describe(&structure.name, structure.shape.as_deref())
        )?;
        let streams = model
            .members(structure)?
            .iter()
            .any(|member| member.shape.eventstream);
        let derived = if streams {
            "Debug, Default"
        } else {
            "Clone, Debug, Default, PartialEq"
        };
        writeln!(body, "#[derive({derived})]")?;
        writeln!(body, "pub struct {} {{", structure.name)?;
        for member in model.members(structure)? {
            writeln!(
                body,
                "/// `{}`{}.",
                member.name,
                if member.required { ", required" } else { "" }
            )?;
            writeln!(
                body,
                "pub {}: {},",
                member.field,
                model.field_type(structure, &member)?
            )?;
        }
        writeln!(body, "}}\n")?;
    }
    for (alias, target) in &model.aliases {
        writeln!(
            body,
            "/// The output of `{}`.",
            alias.trim_end_matches("Output")
        )?;
        writeln!(body, "pub type {alias} = {target};\n")?;
    }
    for shape in &model.event_streams {
        writeln!(
            body,
            "/// The events of a stream.\n#[derive(Clone, Debug, PartialEq)]"
        )?;
        writeln!(body, "pub enum {} {{", names::type_name(shape))?;
        for member in model.shape_members(shape)? {
            let inner = model.rust_type(&member.reference.shape)?;
            writeln!(body, "/// `{}`.\n{}({inner}),", member.name, member.name)?;
        }
        writeln!(body, "}}\n")?;
    }
    if body.contains("BTreeMap<") {
        out.push_str("use std::collections::BTreeMap;\n\n");
    }
    for name in ["Blob", "Timestamp"] {
        if body.contains(&format!("<{name}>")) || body.contains(&format!(": {name},")) {
            writeln!(out, "use crate::{name};")?;
        }
    }
    if body.contains("EventStream<") {
        out.push_str("use crate::event_stream::EventStream;\n");
    }
    if !model.enums()?.is_empty() {
        out.push_str("use super::enums::*;\n\n");
    }
    Ok(out + &body)
}

fn describe(name: &str, shape: Option<&str>) -> String {
    let operation = |suffix| name.strip_suffix(suffix).filter(|_| shape != Some(name));
    match (operation("Input"), operation("Output")) {
        (Some(operation), _) => format!("What `{operation}` takes"),
        (_, Some(operation)) => format!("What `{operation}` answers"),
        _ => format!("`{}`", shape.unwrap_or(name)),
    }
}
