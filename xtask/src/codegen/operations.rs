//! `operation.rs`: one unit struct per operation, with its codec.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::facts::{Kind, Operation};
use super::model::{Member, Model, Structure};
use super::output::mentions;
use super::{events, names, service};

pub fn emit(model: &Model) -> Result<String> {
    let is_rest = service::protocol(model)? == "RestJson1";
    let mut body = String::new();
    for operation in model.served_operations() {
        let (name, operation) = operation?;
        emit_operation(&mut body, model, name, operation, is_rest)?;
    }
    for shape in &model.event_streams {
        events::emit(&mut body, model, shape)?;
    }
    let mut out = String::from(
        "//! The operations that firn serves.\n\n\
         use bytes::Bytes;\nuse http::{Request, Response, request, response};\n\n",
    );
    for (path, names) in [
        (
            "crate",
            &[
                "Answering",
                "Blob",
                "DecodeError",
                "ErrorShape",
                "Operation",
                "OperationInput",
                "Protocol",
                "ServiceModel",
                "WireError",
            ][..],
        ),
        ("crate::validation", &["Missing", "Validator"]),
    ] {
        let used: Vec<_> = names
            .iter()
            .copied()
            .filter(|name| mentions(&body, name))
            .collect();
        if !used.is_empty() {
            writeln!(out, "use {path}::{{{}}};", used.join(", "))?;
        }
    }
    if mentions(&body, "EventStream") {
        out.push_str("use crate::event_stream::{self, Event, EventStream, Message};\n");
    }
    for module in ["aws_json", "json", "rest", "rest_json", "rpc"] {
        if mentions(&body, module) {
            writeln!(out, "use crate::{module};")?;
        }
    }
    out.push_str("\nuse super::structures::*;\nuse super::{SERVICE, error};\n\n");
    Ok(out + &body)
}

fn emit_operation(
    out: &mut String,
    model: &Model,
    name: &str,
    operation: &Operation,
    is_rest: bool,
) -> Result<()> {
    let errors: Vec<String> = operation
        .errors
        .iter()
        .map(|shape| format!("&error::{}", names::error_constant(shape)))
        .collect();
    write!(
        out,
        "/// `{name}`.\n#[derive(Clone, Copy, Debug)]\npub struct {name};\n\n\
         impl OperationInput for {name}Input {{ type Operation = {name}; }}\n\n\
         impl Operation for {name} {{\n\
         const NAME: &'static str = {name:?};\n\
         const SERVICE: &'static ServiceModel = &SERVICE;\n\
         const ERRORS: &'static [&'static ErrorShape] = &[{}];\n\
         type Input = {name}Input;\ntype Output = {name}Output;\ntype Body = {};\n\n",
        errors.join(", "),
        body_type(model, operation)?
    )?;
    if operation.requestcompression {
        writeln!(out, "const COMPRESSIBLE: bool = true;\n")?;
    }
    if is_rest {
        Rest::new(model, name, operation)?.emit(out)?;
    } else {
        emit_aws_json(out, name, operation)?;
        if service::protocols(model)?.len() > 1 {
            emit_other_protocols(out, name, operation)?;
        }
    }
    writeln!(out, "}}\n")?;
    Ok(())
}

/// What the body of an answer is made of.
fn body_type(model: &Model, operation: &Operation) -> Result<String> {
    let Some(output) = &operation.output else {
        return Ok("Bytes".to_owned());
    };
    for member in model.shape_members(&output.shape)? {
        if member.shape.eventstream {
            return model.rust_type(&member.reference.shape);
        }
    }
    Ok("Bytes".to_owned())
}

fn emit_aws_json(out: &mut String, name: &str, operation: &Operation) -> Result<()> {
    let (argument, encode) = match operation.output {
        Some(_) => ("output", "aws_json::encode(&SERVICE, &output)"),
        None => ("_", "aws_json::encode_empty(&SERVICE)"),
    };
    write!(
        out,
        "fn decode(_: &request::Parts, body: Bytes) -> Result<Self::Input, DecodeError> {{\n\
         aws_json::decode(&body)\n}}\n\n\
         fn encode({argument}: Self::Output) -> Response<Bytes> {{\n{encode}\n}}\n\n\
         fn encode_input(input: &Self::Input) -> Request<Bytes> {{\n\
         aws_json::encode_input(&SERVICE, {name:?}, input)\n}}\n\n\
         fn decode_output(response: &response::Parts, body: Bytes) -> Result<Self::Output, WireError> {{\n\
         aws_json::decode_output(response, &body)\n}}\n"
    )?;
    Ok(())
}

fn emit_other_protocols(out: &mut String, name: &str, operation: &Operation) -> Result<()> {
    let (argument, encode) = match operation.output {
        Some(_) => (
            "output",
            format!("rpc::encode(&SERVICE, {name:?}, answering, &output)"),
        ),
        None => (
            "_",
            format!("rpc::encode_empty(&SERVICE, {name:?}, answering)"),
        ),
    };
    write!(
        out,
        "\nfn decode_in(protocol: Protocol, request: &request::Parts, body: Bytes) \
         -> Result<Self::Input, DecodeError> {{\n\
         rpc::decode(protocol, request, &body)\n}}\n\n\
         fn encode_in(answering: &Answering<'_>, {argument}: Self::Output) -> Response<Bytes> {{\n\
         {encode}\n}}\n"
    )?;
    Ok(())
}

/// A REST operation, while it is written.
struct Rest<'a> {
    model: &'a Model,
    operation: &'a Operation,
    status: u16,
    input: &'a Structure,
    /// `None` if the output is a structure that other operations answer too.
    output: Option<&'a Structure>,
}

impl<'a> Rest<'a> {
    fn new(model: &'a Model, name: &str, operation: &'a Operation) -> Result<Self> {
        let find = |name: String| {
            model
                .structures
                .iter()
                .find(|structure| structure.name == name)
        };
        let exception = model
            .overrides
            .operations
            .get(name)
            .and_then(|exception| exception.status);
        Ok(Self {
            model,
            operation,
            status: exception.or(operation.http.response_code).unwrap_or(200),
            input: find(format!("{name}Input")).context("every operation has an input")?,
            output: find(format!("{name}Output")),
        })
    }

    fn emit(&self, out: &mut String) -> Result<()> {
        self.decode(out)?;
        self.encode(out)?;
        self.encode_input(out)?;
        self.decode_output(out)
    }

    fn decode(&self, out: &mut String) -> Result<()> {
        let members = self.model.members(self.input)?;
        let payload = self.payload(self.input)?;
        let has_body = !self.model.body_members(self.input)?.is_empty();
        let needs_request = members.iter().any(|member| member.location().is_some());
        let request = if needs_request { "request" } else { "_" };
        let body = if payload.is_some() || has_body {
            "body"
        } else {
            "_"
        };
        writeln!(
            out,
            "fn decode({request}: &request::Parts, {body}: Bytes) -> Result<Self::Input, DecodeError> {{"
        )?;
        let noted = members.iter().any(|member| {
            member.required && matches!(member.location(), Some("querystring" | "header"))
        });
        if has_body {
            let mutable = if noted { "mut " } else { "" };
            let input = if needs_request { "mut " } else { "" };
            writeln!(
                out,
                "let ({input}input, {mutable}missing) = json::from_body::<Self::Input>(&body)?;"
            )?;
        } else {
            let mutable = if noted { "mut " } else { "" };
            let input = if members.is_empty() { "" } else { "mut " };
            writeln!(out, "let {input}input = Self::Input::default();")?;
            writeln!(out, "let {mutable}missing = Missing::default();")?;
        }
        if let Some(payload) = &payload {
            match payload.shape.kind {
                Kind::Blob if payload.required => {
                    writeln!(out, "input.{} = Blob::from(body);", payload.field)?
                }
                Kind::Blob => writeln!(
                    out,
                    "if !body.is_empty() {{ input.{} = Some(Blob::from(body)); }}",
                    payload.field
                )?,
                _ => bail!(
                    "{}: only blobs can be a request's payload yet",
                    self.input.name
                ),
            }
        }
        let labels = service::labels(&self.operation.http.request_uri)?;
        for member in &members {
            self.decode_located(out, member, &labels)?;
        }
        writeln!(out, "Validator::check(&input, missing)?;\nOk(input)\n}}\n")?;
        Ok(())
    }

    fn decode_located(
        &self,
        out: &mut String,
        member: &Member<'_>,
        labels: &[(String, usize, bool)],
    ) -> Result<()> {
        let (field, wire) = (&member.field, member.wire_name());
        let read = match member.location() {
            None => return Ok(()),
            Some("uri") => {
                let (_, index, greedy) = labels
                    .iter()
                    .find(|(label, ..)| label == wire)
                    .with_context(|| format!("{} has no label {wire}", self.input.name))?;
                let reader = if *greedy { "greedy_label" } else { "label" };
                writeln!(
                    out,
                    "input.{field} = rest::{reader}(request.uri.path(), {index})?;"
                )?;
                return Ok(());
            }
            Some("querystring") if member.shape.kind == Kind::List => {
                format!("rest::query_list(request.uri.query(), {wire:?})?")
            }
            Some("querystring") => format!("rest::query(request.uri.query(), {wire:?})?"),
            Some("header") => format!(
                "rest::header(&request.headers, {:?})?",
                header_name(member)?
            ),
            Some(other) => bail!("{}: location {other} is not generated yet", self.input.name),
        };
        if member.required {
            writeln!(
                out,
                "match {read} {{ Some(value) => input.{field} = value, None => missing.note({:?}) }}",
                names::path(member.name)
            )?;
        } else {
            writeln!(out, "input.{field} = {read};")?;
        }
        Ok(())
    }

    fn encode(&self, out: &mut String) -> Result<()> {
        let Some(structure) = self.output else {
            writeln!(
                out,
                "fn encode(output: Self::Output) -> Response<Bytes> {{\n\
                 rest_json::response({}, json::to_bytes(&output))\n}}\n",
                self.status
            )?;
            return Ok(());
        };
        let located: Vec<_> = self.located(structure)?;
        let payload = self.payload(structure)?;
        let has_body = !self.model.body_members(structure)?.is_empty();
        let used = has_body || payload.is_some() || !located.is_empty();
        let argument = if used { "output" } else { "_" };
        writeln!(
            out,
            "fn encode({argument}: Self::Output) -> Response<Self::Body> {{"
        )?;
        let mut status = self.status.to_string();
        if let Some(member) = located
            .iter()
            .find(|member| member.location() == Some("statusCode"))
        {
            status = format!("rest_json::status(output.{}, {status})", member.field);
        }
        let headers: Vec<_> = located
            .iter()
            .filter(|member| member.location() == Some("header"))
            .collect();
        let response = match &payload {
            Some(payload) if payload.shape.kind == Kind::Blob => {
                format!("rest_json::payload({status}, output.{})", payload.field)
            }
            Some(payload) if payload.shape.eventstream => {
                format!("rest_json::events({status}, output.{})", payload.field)
            }
            Some(_) => bail!(
                "{}: only blobs can be an answer's payload yet",
                structure.name
            ),
            None if has_body => format!("rest_json::response({status}, json::to_bytes(&output))"),
            None => format!("rest_json::empty({status})"),
        };
        if headers.is_empty() {
            writeln!(out, "{response}\n}}\n")?;
            return Ok(());
        }
        writeln!(
            out,
            "let mut response = {response};\nlet headers = response.headers_mut();"
        )?;
        for member in headers {
            writeln!(
                out,
                "rest::put_header(headers, {:?}, &output.{});",
                header_name(member)?,
                member.field
            )?;
        }
        writeln!(out, "response\n}}\n")?;
        Ok(())
    }

    fn encode_input(&self, out: &mut String) -> Result<()> {
        let members = self.model.members(self.input)?;
        let payload = self.payload(self.input)?;
        let has_body = !self.model.body_members(self.input)?.is_empty();
        let used = !members.is_empty();
        let argument = if used { "input" } else { "_" };
        writeln!(
            out,
            "fn encode_input({argument}: &Self::Input) -> Request<Bytes> {{"
        )?;
        writeln!(
            out,
            "let uri = rest::UriBuilder::new(){}.build();",
            self.uri(&members)?
        )?;
        let method = &self.operation.http.method;
        let request = match &payload {
            Some(payload) => {
                let field = &payload.field;
                let value = if payload.required {
                    format!("Some(&input.{field})")
                } else {
                    format!("input.{field}.as_ref()")
                };
                format!("rest_json::payload_request({method:?}, uri, {value})")
            }
            None if has_body => {
                format!("rest_json::request({method:?}, uri, json::to_bytes(input))")
            }
            None => format!("rest_json::empty_request({method:?}, uri)"),
        };
        let headers: Vec<_> = members
            .iter()
            .filter(|member| member.location() == Some("header"))
            .collect();
        if headers.is_empty() {
            writeln!(out, "{request}\n}}\n")?;
            return Ok(());
        }
        writeln!(
            out,
            "let mut request = {request};\nlet headers = request.headers_mut();"
        )?;
        for member in headers {
            writeln!(
                out,
                "rest::put_header(headers, {:?}, &input.{});",
                header_name(member)?,
                member.field
            )?;
        }
        writeln!(out, "request\n}}\n")?;
        Ok(())
    }

    /// The calls that build a request's path and query.
    fn uri(&self, members: &[Member<'_>]) -> Result<String> {
        let uri = &self.operation.http.request_uri;
        let (path, fixed) = uri.split_once('?').unwrap_or((uri, ""));
        let mut calls = String::new();
        for part in path.split_inclusive('}') {
            let (literal, label) = part.split_once('{').unwrap_or((part, ""));
            write!(calls, ".literal({literal:?})")?;
            let Some(label) = label.strip_suffix('}') else {
                continue;
            };
            let greedy = if label.ends_with('+') { "greedy_" } else { "" };
            let label = label.trim_end_matches('+');
            let member = members
                .iter()
                .find(|member| member.location() == Some("uri") && member.wire_name() == label)
                .with_context(|| format!("no member for label {label} of {uri}"))?;
            write!(calls, ".{greedy}label(&input.{})", member.field)?;
        }
        for pair in fixed.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            write!(calls, ".fixed_query({name:?}, {value:?})")?;
        }
        for member in members
            .iter()
            .filter(|member| member.location() == Some("querystring"))
        {
            let field = &member.field;
            let values = match (member.shape.kind, member.required) {
                (Kind::List, false) => format!("input.{field}.iter().flatten()"),
                (Kind::List, true) | (_, false) => format!("&input.{field}"),
                (_, true) => format!("[&input.{field}]"),
            };
            write!(calls, ".query({:?}, {values})", member.wire_name())?;
        }
        Ok(calls)
    }

    fn decode_output(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "fn decode_output(response: &response::Parts, body: Bytes) -> Result<Self::Output, WireError> {{\n\
             rest_json::check_status(response, &body)?;"
        )?;
        let Some(structure) = self.output else {
            writeln!(out, "rest_json::body(response, &body)\n}}\n")?;
            return Ok(());
        };
        let mut located = Vec::new();
        if let Some(payload) = self.payload(structure)? {
            let read = if payload.shape.eventstream {
                "rest_json::read_events(response, body)?"
            } else {
                "Some(Blob::from(body))"
            };
            located.push((payload.field, read.to_owned()));
        }
        for member in self.located(structure)? {
            let read = match member.location() {
                Some("statusCode") => "Some(i32::from(response.status.as_u16()))".to_owned(),
                Some("header") => {
                    format!("rest_json::header(response, {:?})?", header_name(&member)?)
                }
                other => bail!(
                    "{}: location {other:?} is not generated yet",
                    structure.name
                ),
            };
            located.push((member.field, read));
        }
        if self.model.body_members(structure)?.is_empty() {
            let members: String = located
                .iter()
                .map(|(field, read)| format!("{field}: {read},"))
                .collect();
            writeln!(out, "Ok(Self::Output {{ {members} }})\n}}\n")?;
            return Ok(());
        }
        let mutable = if located.is_empty() { "" } else { "mut " };
        writeln!(
            out,
            "let {mutable}output: Self::Output = rest_json::body(response, &body)?;"
        )?;
        for (field, read) in located {
            writeln!(out, "output.{field} = {read};")?;
        }
        writeln!(out, "Ok(output)\n}}\n")?;
        Ok(())
    }

    fn located(&self, structure: &'a Structure) -> Result<Vec<Member<'a>>> {
        let mut members = self.model.members(structure)?;
        members.retain(|member| member.location().is_some());
        Ok(members)
    }

    fn payload(&self, structure: &'a Structure) -> Result<Option<Member<'a>>> {
        let Some(shape) = &structure.shape else {
            return Ok(None);
        };
        let Some(payload) = &self.model.shape(shape)?.payload else {
            return Ok(None);
        };
        let members = self.model.members(structure)?;
        Ok(members.into_iter().find(|member| member.name == payload))
    }
}

/// A header's name in lower case, as `HeaderName::from_static` insists on.
fn header_name(member: &Member<'_>) -> Result<String> {
    let name = member.wire_name().to_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_plain) {
        bail!("{name} cannot be the name of a header");
    }
    Ok(name)
}
