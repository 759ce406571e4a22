//! The events of a stream, and how they are framed.

use std::fmt::Write;

use anyhow::{Result, bail};

use super::facts::Kind;
use super::model::{Member, Model};
use super::names;

/// `impl Event` for the enum of the event stream `shape`.
pub fn emit(out: &mut String, model: &Model, shape: &str) -> Result<()> {
    let name = names::type_name(shape);
    let (mut written, mut read) = (String::new(), String::new());
    for event in model.shape_members(shape)? {
        let members = model.shape_members(&event.reference.shape)?;
        let name = event.name;
        match payload(name, &members)? {
            Some(payload) => {
                let field = &payload.field;
                let inner = model.rust_type(&event.reference.shape)?;
                writeln!(
                    written,
                    "Self::{name}(event) => event_stream::blob_event({name:?}, event.{field}.as_ref()),"
                )?;
                writeln!(
                    read,
                    "Some({name:?}) => Self::{name}({inner} {{ {field}: Some(Blob::from(message.payload.clone())) }}),"
                )?;
            }
            None => {
                writeln!(
                    written,
                    "Self::{name}(event) => event_stream::json_event({name:?}, json::to_bytes(event)),"
                )?;
                writeln!(
                    read,
                    "Some({name:?}) => Self::{name}(json::from_body(&message.payload)?.0),"
                )?;
            }
        }
    }
    writeln!(
        out,
        "impl Event for {name} {{\n\
         fn to_message(&self) -> Message {{\nmatch self {{\n{written}}}\n}}\n\n\
         fn from_message(message: &Message) -> Result<Option<Self>, DecodeError> {{\n\
         Ok(Some(match message.event_type() {{\n{read}_ => return Ok(None),\n}}))\n}}\n}}\n"
    )?;
    Ok(())
}

/// The member that is the event's payload; without one the event is a document.
fn payload<'a, 'm>(event: &str, members: &'a [Member<'m>]) -> Result<Option<&'a Member<'m>>> {
    if members.iter().any(|member| member.reference.eventheader) {
        bail!("{event}: events with headers are not generated yet");
    }
    match members {
        [only]
            if only.reference.eventpayload && only.shape.kind == Kind::Blob && !only.required =>
        {
            Ok(Some(only))
        }
        _ if members.iter().any(|member| member.reference.eventpayload) => {
            bail!("{event}: only a single blob can be an event's payload yet")
        }
        _ => Ok(None),
    }
}
