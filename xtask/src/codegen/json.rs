//! `json.rs`: how structures read and write themselves as JSON.
//!
//! Members that a REST binding places outside the body are left out.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::facts::Kind;
use super::model::{Member, Model, Structure};
use super::service;

pub fn emit(model: &Model) -> Result<String> {
    let mut out = String::from(
        "//! How structures read and write themselves as JSON bodies.\n\n\
         use crate::DecodeError;\n\
         use crate::json::{FromJson, Reader, ToJson, Writer};\n\n\
         use super::structures::*;\n\n",
    );
    for structure in &model.structures {
        let members = model.body_members(structure)?;
        for member in &members {
            check_timestamp(model, member)?;
        }
        check_xml(model, &members)?;
        emit_reader(&mut out, structure, &members)?;
        emit_writer(&mut out, structure, &members)?;
    }
    Ok(out)
}

fn emit_reader(out: &mut String, structure: &Structure, members: &[Member<'_>]) -> Result<()> {
    let name = &structure.name;
    writeln!(out, "impl FromJson for {name} {{")?;
    writeln!(
        out,
        "fn from_json(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {{"
    )?;
    if members.is_empty() {
        writeln!(
            out,
            "reader.object(|_, reader| reader.skip())?;\nOk(Self::default())\n}}\n}}\n"
        )?;
        return Ok(());
    }
    writeln!(out, "let mut this = Self::default();")?;
    for member in members.iter().filter(|member| member.required) {
        writeln!(out, "let mut {} = None;", member.field)?;
    }
    writeln!(out, "reader.object(|key, reader| match key {{")?;
    for member in members {
        let owner = if member.required { "" } else { "this." };
        let wire = member.wire_name();
        writeln!(
            out,
            "{wire:?} => reader.member({wire:?}, &mut {owner}{}),",
            member.field
        )?;
    }
    writeln!(out, "_ => reader.skip(),\n}})?;")?;
    for member in members.iter().filter(|member| member.required) {
        let field = &member.field;
        writeln!(
            out,
            "reader.require({:?}, &mut this.{field}, {field});",
            member.wire_name()
        )?;
    }
    writeln!(out, "Ok(this)\n}}\n}}\n")?;
    Ok(())
}

fn emit_writer(out: &mut String, structure: &Structure, members: &[Member<'_>]) -> Result<()> {
    writeln!(out, "impl ToJson for {} {{", structure.name)?;
    writeln!(out, "fn to_json(&self, writer: &mut Writer) {{")?;
    let mutable = if members.is_empty() { "" } else { "mut " };
    writeln!(out, "let {mutable}object = writer.object();")?;
    for member in members {
        let method = if member.required { "entry" } else { "member" };
        writeln!(
            out,
            "object.{method}({:?}, &self.{});",
            member.wire_name(),
            member.field
        )?;
    }
    writeln!(out, "object.end();\n}}\n}}\n")?;
    Ok(())
}

/// The Query protocol is read and written without a schema, which flattened lists do not allow.
fn check_xml(model: &Model, members: &[Member<'_>]) -> Result<()> {
    if !service::protocols(model)?.contains(&"AwsQuery") {
        return Ok(());
    }
    if let Some(member) = members.iter().find(|member| member.shape.flattened) {
        bail!(
            "{}: {} is flattened, which is not generated yet",
            model.service,
            member.name
        );
    }
    Ok(())
}

/// Bodies write moments as numbers; an interface that wants another form must be taught first.
fn check_timestamp(model: &Model, member: &Member<'_>) -> Result<()> {
    let format = member
        .reference
        .timestamp_format
        .as_ref()
        .or(member.shape.timestamp_format.as_ref());
    if member.shape.kind == Kind::Timestamp
        && format.is_some_and(|format| format != "unixTimestamp")
    {
        bail!(
            "{}: {} has a timestamp format that bodies cannot write yet",
            model.service,
            member.name
        );
    }
    Ok(())
}
