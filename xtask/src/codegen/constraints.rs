//! `constraints.rs`: the checks on inputs.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use super::facts::{Kind, Reference, Shape};
use super::model::{Member, Model, Structure};
use super::names;
use super::output::mentions;

pub fn emit(model: &Model) -> Result<String> {
    let mut emitter = Emitter {
        model,
        out: String::new(),
        used: BTreeSet::new(),
    };
    for structure in &model.structures {
        emitter.structure(structure)?;
    }
    let constants = emitter.constants()?;
    let mut header = String::from("//! The constraint checks on inputs.\n\n");
    let generated = emitter.out.clone() + &constants;
    let imports: Vec<&str> = [
        "Constraint",
        "Path",
        "Show",
        "Size",
        "Structure",
        "Validate",
        "Validator",
    ]
    .into_iter()
    .filter(|name| mentions(&generated, name))
    .collect();
    writeln!(
        header,
        "use crate::validation::{{{}}};\n",
        imports.join(", ")
    )?;
    header.push_str("use super::structures::*;\n\n");
    Ok(header + &generated)
}

struct Emitter<'a> {
    model: &'a Model,
    out: String,
    /// Shapes whose constraints some check refers to.
    used: BTreeSet<String>,
}

impl Emitter<'_> {
    fn structure(&mut self, structure: &Structure) -> Result<()> {
        let shape = structure.shape.as_deref();
        let in_requests = shape.is_some_and(|shape| self.model.in_requests.contains(shape));
        if in_requests && !structure.is_input {
            self.show(structure)?;
        }
        let checked = match shape {
            Some(shape) => in_requests && self.needs_checks(shape, &mut BTreeSet::new())?,
            None => false,
        };
        if !checked && !structure.is_input {
            return Ok(());
        }
        let name = &structure.name;
        writeln!(self.out, "impl Validate for {name} {{")?;
        if !checked {
            writeln!(
                self.out,
                "fn validate(&self, _: &mut Validator, _: &Path<'_>) {{}}\n}}\n"
            )?;
            return Ok(());
        }
        writeln!(
            self.out,
            "fn validate(&self, v: &mut Validator, at: &Path<'_>) {{"
        )?;
        for member in self.model.members(structure)? {
            self.member(structure, &member)?;
        }
        writeln!(self.out, "}}\n}}\n")?;
        Ok(())
    }

    /// `impl Show`, for messages that show a list or map of structures.
    fn show(&mut self, structure: &Structure) -> Result<()> {
        let name = &structure.name;
        writeln!(
            self.out,
            "impl Show for {name} {{\nfn show(&self, out: &mut String) {{"
        )?;
        write!(self.out, "Structure::new(out, {name:?})")?;
        for member in self.model.members(structure)? {
            let label = names::path(member.name);
            if member.shape.sensitive {
                write!(self.out, ".hidden({label:?})")?;
            } else {
                write!(self.out, ".member({label:?}, &self.{})", member.field)?;
            }
        }
        writeln!(self.out, ".end();\n}}\n}}\n")?;
        Ok(())
    }

    fn member(&mut self, structure: &Structure, member: &Member<'_>) -> Result<()> {
        let label = names::path(member.name);
        let field = &member.field;
        let shape_name = &member.reference.shape;
        let path = format!(
            "{}.{}",
            structure.shape.as_deref().unwrap_or_default(),
            member.name
        );
        let unchecked = self.model.overrides.unchecked.contains(&path);
        let checks = if unchecked {
            Vec::new()
        } else {
            self.checks(shape_name, member.shape, &label)?
        };
        if member.required {
            writeln!(
                self.out,
                "let {field} = v.required(at, {label:?}, &self.{field});"
            )?;
            if checks.is_empty() {
                writeln!(self.out, "let _ = {field};")?;
            }
        } else if !checks.is_empty() {
            writeln!(self.out, "let {field} = self.{field}.as_ref();")?;
        }
        for check in checks {
            writeln!(self.out, "{}", check.replace("FIELD", field))?;
        }
        Ok(())
    }

    /// The statements that check a member, which call its value `FIELD`.
    fn checks(&mut self, name: &str, shape: &Shape, label: &str) -> Result<Vec<String>> {
        let mut checks = Vec::new();
        match shape.kind {
            Kind::Structure => {
                if self.needs_checks(name, &mut BTreeSet::new())? {
                    checks.push(format!("v.structure(at, {label:?}, FIELD);"));
                }
            }
            Kind::List | Kind::Map => {
                if has_size(shape) {
                    let constant = self.constant(name);
                    checks.push(format!(
                        "v.length(at, {label:?}, FIELD.map(|all| (all, all.len())), &{constant});"
                    ));
                }
                if shape.kind == Kind::List {
                    let methods = ["elements", "structures"];
                    checks.extend(self.inner_check(&shape.member, label, methods)?);
                } else {
                    let methods = ["keys", "keys"];
                    checks.extend(self.inner_check(&shape.key, label, methods)?);
                    let methods = ["values", "structures_by_key"];
                    checks.extend(self.inner_check(&shape.value, label, methods)?);
                }
            }
            _ => {
                if is_constrained(shape) {
                    let constant = self.constant(name);
                    checks.push(format!("v.value(at, {label:?}, FIELD, &{constant});"));
                }
            }
        }
        Ok(checks)
    }

    fn inner_check(
        &mut self,
        reference: &Option<Reference>,
        label: &str,
        [single, structured]: [&str; 2],
    ) -> Result<Option<String>> {
        let name = &reference
            .as_ref()
            .context("a list or map without its element")?
            .shape;
        let shape = self.model.shape(name)?;
        Ok(match shape.kind {
            Kind::Structure => self
                .needs_checks(name, &mut BTreeSet::new())?
                .then(|| format!("v.{structured}(at, {label:?}, FIELD);")),
            Kind::List | Kind::Map => {
                let unchecked = self.model.overrides.unchecked.contains(name);
                if !unchecked && self.needs_checks(name, &mut BTreeSet::new())? {
                    bail!("{name}: constraints on a list inside a list are not generated yet");
                }
                None
            }
            _ if is_constrained(shape) => {
                let constant = self.constant(name);
                Some(format!("v.{single}(at, {label:?}, FIELD, &{constant});"))
            }
            _ => None,
        })
    }

    fn constant(&mut self, shape: &str) -> String {
        self.used.insert(shape.to_owned());
        names::constant(shape)
    }

    /// True if something at or below `shape` can be wrong.
    fn needs_checks(&self, name: &str, seen: &mut BTreeSet<String>) -> Result<bool> {
        if !seen.insert(name.to_owned()) {
            return Ok(false);
        }
        let shape = self.model.shape(name)?;
        if !shape.required.is_empty() || (shape.kind != Kind::Structure && is_constrained(shape)) {
            return Ok(true);
        }
        let inner = [&shape.member, &shape.key, &shape.value];
        let below = shape
            .members
            .iter()
            .map(|(_, member)| member)
            .chain(inner.into_iter().flatten());
        for reference in below {
            if self.needs_checks(&reference.shape, seen)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The constants that the checks refer to.
    fn constants(&self) -> Result<String> {
        let mut out = String::new();
        let mut patterns = Vec::new();
        for name in &self.used {
            let shape = self.model.shape(name)?;
            let constant = names::constant(name);
            write!(out, "static {constant}: Constraint = Constraint {{ ")?;
            if has_size(shape) {
                write!(out, "size: {}, ", size(shape))?;
            }
            if let Some(pattern) = &shape.pattern {
                write!(out, "pattern: Some(&pattern::{constant}), ")?;
                let shown = self.model.overrides.shown_patterns.get(name);
                patterns.push((constant, shown.unwrap_or(pattern), pattern));
            }
            if let Some(values) = self.model.overrides.enums.get(name) {
                write!(out, "one_of: Some(&{values:?}), ")?;
            } else if !shape.values.is_empty() {
                write!(
                    out,
                    "one_of: Some(super::enums::{}::VALUES), ",
                    names::type_name(name)
                )?;
            }
            if self.model.overrides.not_null_elements.contains(name) {
                write!(out, "not_null: true, ")?;
            }
            if shape.sensitive {
                write!(out, "sensitive: true, ")?;
            }
            writeln!(out, "..Constraint::NONE }};\n")?;
        }
        writeln!(
            out,
            "/// The regular expressions.\npub(super) mod pattern {{"
        )?;
        writeln!(out, "use crate::validation::Pattern;\n")?;
        for (name, shown, source) in &patterns {
            let (source, expression) = (raw(shown), raw(&rust_expression(source)?));
            writeln!(
                out,
                "pub static {name}: Pattern = Pattern::new({source}, {expression});\n"
            )?;
        }
        let names = patterns
            .iter()
            .map(|(name, ..)| format!("&{name}"))
            .collect::<Vec<_>>()
            .join(", ");
        writeln!(
            out,
            "#[cfg(test)]\npub static ALL: &[&Pattern] = &[{names}];\n}}"
        )?;
        Ok(out)
    }
}

fn is_constrained(shape: &Shape) -> bool {
    has_size(shape) || shape.pattern.is_some() || !shape.values.is_empty()
}

fn has_size(shape: &Shape) -> bool {
    shape.min.is_some() || shape.max.is_some()
}

fn size(shape: &Shape) -> String {
    let (kind, float) = match shape.kind {
        Kind::Integer | Kind::Long => ("Range", false),
        Kind::Float | Kind::Double => ("FloatRange", true),
        _ => ("Length", false),
    };
    let bound = |bound: &Option<serde_json::Number>| match bound {
        None => "None".to_owned(),
        Some(number) if float => format!("Some({:?})", number.as_f64().unwrap_or_default()),
        Some(number) => format!("Some({number})"),
    };
    format!(
        "Size::{kind} {{ min: {}, max: {} }}",
        bound(&shape.min),
        bound(&shape.max)
    )
}

/// All characters beyond the first plane, as Java writes them: by their two halves in UTF-16.
const SUPPLEMENTARY: &str = r"\uD800\uDC00-\uDBFF\uDFFF";

/// A Java regular expression in Rust's notation. Java's `\d`, `\w` and `\s` are ASCII only.
fn rust_expression(source: &str) -> Result<String> {
    let mut out = String::new();
    let source = &source.replace(SUPPLEMENTARY, "\u{10000}-\u{10FFFF}");
    let mut characters = source.chars();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters
                    .next()
                    .context("a pattern ends with a backslash")?;
                let class = match escaped {
                    'd' => "0-9",
                    'w' => "a-zA-Z0-9_",
                    's' => " \\t\\n\\x0B\\f\\r",
                    'u' => {
                        let digits: String = characters.by_ref().take(4).collect();
                        let code = u32::from_str_radix(&digits, 16).ok();
                        if code.and_then(char::from_u32).is_none() {
                            bail!("\\u{digits} in {source} is no character");
                        }
                        write!(out, "\\x{{{digits}}}")?;
                        continue;
                    }
                    // A class nested in a class adds to it.
                    'S' => {
                        out.push_str("[^ \\t\\n\\x0B\\f\\r]");
                        continue;
                    }
                    // Java's POSIX classes; the others are Unicode's in both.
                    'p' if characters.as_str().starts_with("{Print}") => {
                        characters.by_ref().take("{Print}".len()).for_each(drop);
                        "\\x20-\\x7E"
                    }
                    'D' | 'W' => bail!("\\{escaped} in {source} has no translation yet"),
                    _ => {
                        out.extend(['\\', escaped]);
                        continue;
                    }
                };
                out.push_str(&if in_class {
                    class.to_owned()
                } else {
                    format!("[{class}]")
                });
            }
            // `[` and `&&` would nest or intersect classes in Rust as they do in Java.
            '[' if !in_class => {
                in_class = true;
                out.push('[');
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            _ => out.push(character),
        }
    }
    Ok(out)
}

/// A raw string literal with as many hashes as it needs.
fn raw(text: &str) -> String {
    let hashes = (0..)
        .map(|count| "#".repeat(count))
        .find(|hashes| !text.contains(&format!("\"{hashes}")));
    let hashes = hashes.unwrap_or_default();
    format!("r{hashes}\"{text}\"{hashes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_classes_become_ascii_classes() {
        assert_eq!(
            rust_expression(r"\d{12}[\w.-]+[^\s]").unwrap(),
            r"[0-9]{12}[a-zA-Z0-9_.-]+[^ \t\n\x0B\f\r]"
        );
        assert_eq!(
            rust_expression(r"\p{Print}+[\p{L}\p{Print}]").unwrap(),
            r"[\x20-\x7E]+[\p{L}\x20-\x7E]"
        );
        assert_eq!(rust_expression(r"\$(LATEST)\.").unwrap(), r"\$(LATEST)\.");
        assert_eq!(
            rust_expression(r"[\u0020-\uD7FF\uD800\uDC00-\uDBFF\uDFFF\t]").unwrap(),
            "[\\x{0020}-\\x{D7FF}\u{10000}-\u{10FFFF}\\t]"
        );
        assert!(rust_expression(r"\uD800").is_err());
    }

    #[test]
    fn raw_literals_survive_quotes() {
        assert_eq!(raw("a"), "r\"a\"");
        assert_eq!(raw("a\"b"), "r#\"a\"b\"#");
    }
}
