//! Which Rust type each shape becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::facts::{Allowed, Facts, Kind, Operation, Overrides, Reference, Shape};
use super::names;

/// A service's facts with everything decided that more than one generated file needs.
pub struct Model {
    pub service: String,
    pub facts: Facts,
    pub overrides: Overrides,
    /// The operations to generate, sorted.
    pub served: Vec<String>,
    /// The structures to generate, sorted by their Rust names.
    pub structures: Vec<Structure>,
    /// The shapes that are event streams.
    pub event_streams: Vec<String>,
    /// `<Operation>Output` names that stand for a structure used elsewhere too.
    pub aliases: BTreeMap<String, String>,
    /// Shapes that a request can hold.
    pub in_requests: BTreeSet<String>,
}

/// A Rust structure and where it comes from; `None` where AWS has no input or output.
pub struct Structure {
    pub name: String,
    pub shape: Option<String>,
    /// True for `<Operation>Input`.
    pub is_input: bool,
}

/// A member of a structure, ready to be written.
pub struct Member<'a> {
    pub name: &'a str,
    pub field: String,
    pub reference: &'a Reference,
    pub shape: &'a Shape,
    pub required: bool,
}

impl Member<'_> {
    /// The name on the wire.
    pub fn wire_name(&self) -> &str {
        self.reference.location_name.as_deref().unwrap_or(self.name)
    }

    pub fn location(&self) -> Option<&str> {
        self.reference.location.as_deref()
    }
}

impl Model {
    pub fn load(models: &Path, service: &str, allowed: &Allowed) -> Result<Self> {
        let mut served = allowed.operations.clone();
        served.sort();
        let mut model = Self {
            service: service.to_owned(),
            facts: Facts::load(models, service)?,
            overrides: Overrides::load(models, service)?,
            served,
            structures: Vec::new(),
            event_streams: Vec::new(),
            aliases: BTreeMap::new(),
            in_requests: BTreeSet::new(),
        };
        model.check_overrides()?;
        model.add_members()?;
        model.name_structures()?;
        Ok(model)
    }

    /// Adds the members that the public description does not have.
    fn add_members(&mut self) -> Result<()> {
        for (shape, members) in std::mem::take(&mut self.overrides.members) {
            let shape = (self.facts.shapes.get_mut(&shape))
                .with_context(|| format!("models/overrides.toml: no shape {shape}"))?;
            shape.members.extend(members);
        }
        Ok(())
    }

    pub fn shape(&self, name: &str) -> Result<&Shape> {
        self.facts
            .shapes
            .get(name)
            .with_context(|| format!("no shape {name} in the facts"))
    }

    pub fn operation(&self, name: &str) -> Result<&Operation> {
        self.facts
            .operations
            .get(name)
            .with_context(|| format!("no operation {name} in the facts"))
    }

    pub fn served_operations(&self) -> impl Iterator<Item = Result<(&str, &Operation)>> {
        self.served
            .iter()
            .map(|name| Ok((name.as_str(), self.operation(name)?)))
    }

    /// The members of a structure, in the interface's order.
    pub fn members(&self, structure: &Structure) -> Result<Vec<Member<'_>>> {
        match &structure.shape {
            Some(shape) => self.shape_members(shape),
            None => Ok(Vec::new()),
        }
    }

    pub fn shape_members(&self, shape: &str) -> Result<Vec<Member<'_>>> {
        let structure = self.shape(shape)?;
        let optional = |name: &str| {
            let path = format!("{shape}.{name}");
            self.overrides.optional.contains(&path)
        };
        structure
            .members
            .iter()
            .map(|(name, reference)| {
                Ok(Member {
                    name,
                    field: names::field(name),
                    reference,
                    shape: self.shape(&reference.shape)?,
                    required: structure.required.contains(name) && !optional(name),
                })
            })
            .collect()
    }

    /// The members that the JSON body holds: all that have no other place.
    pub fn body_members(&self, structure: &Structure) -> Result<Vec<Member<'_>>> {
        let payload = match &structure.shape {
            Some(shape) => self.shape(shape)?.payload.as_deref(),
            None => None,
        };
        let mut members = self.members(structure)?;
        members.retain(|member| member.location().is_none() && payload != Some(member.name));
        Ok(members)
    }

    /// The Rust type of a value of `shape`, without `Option`.
    pub fn rust_type(&self, shape: &str) -> Result<String> {
        let facts = self.shape(shape)?;
        let inner = |reference: &Option<Reference>| {
            let reference = reference
                .as_ref()
                .context("a list or map without its element")?;
            self.rust_type(&reference.shape)
        };
        Ok(match facts.kind {
            Kind::String if facts.values.is_empty() => "String".to_owned(),
            Kind::String => names::type_name(shape),
            Kind::Integer => "i32".to_owned(),
            Kind::Long => "i64".to_owned(),
            Kind::Float | Kind::Double => "f64".to_owned(),
            Kind::Boolean => "bool".to_owned(),
            Kind::Timestamp => "Timestamp".to_owned(),
            Kind::Blob => "Blob".to_owned(),
            Kind::List => format!("Vec<{}>", inner(&facts.member)?),
            Kind::Map => format!("BTreeMap<String, {}>", inner(&facts.value)?),
            Kind::Structure if facts.eventstream => {
                format!("EventStream<{}>", names::type_name(shape))
            }
            Kind::Structure => self.structure_name(shape),
        })
    }

    /// The Rust name of the structure for `shape`.
    fn structure_name(&self, shape: &str) -> String {
        // An operation's input that is also a member elsewhere has a second type, for there.
        self.structures
            .iter()
            .filter(|structure| structure.shape.as_deref() == Some(shape))
            .min_by_key(|structure| structure.is_input)
            .map_or_else(
                || names::type_name(shape),
                |structure| structure.name.clone(),
            )
    }

    /// The types of a member's field.
    pub fn field_type(&self, owner: &Structure, member: &Member<'_>) -> Result<String> {
        let mut plain = self.rust_type(&member.reference.shape)?;
        let owner_shape = owner.shape.as_deref().unwrap_or_default();
        if member.shape.kind == Kind::Structure
            && self.embeds(&member.reference.shape, owner_shape)?
        {
            plain = format!("Box<{plain}>");
        }
        // An absent stream is one without events.
        Ok(if member.required || member.shape.eventstream {
            plain
        } else {
            format!("Option<{plain}>")
        })
    }

    /// True if a value of `shape` can directly hold one of `target`, so that a box must break the ring.
    fn embeds(&self, shape: &str, target: &str) -> Result<bool> {
        let mut seen = BTreeSet::new();
        let mut pending = vec![shape];
        while let Some(name) = pending.pop() {
            if name == target {
                return Ok(true);
            }
            if seen.insert(name) {
                let members = &self.shape(name)?.members;
                pending.extend(members.iter().map(|(_, member)| member.shape.as_str()));
            }
        }
        Ok(false)
    }

    /// All enums reached, by shape.
    pub fn enums(&self) -> Result<Vec<&str>> {
        let mut found = BTreeSet::new();
        for structure in &self.structures {
            for member in self.members(structure)? {
                for shape in self.reached_from(&member.reference.shape)? {
                    if !self.shape(shape)?.values.is_empty() {
                        found.insert(shape);
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// `shape` and all shapes below it.
    fn reached_from<'a>(&'a self, shape: &'a str) -> Result<BTreeSet<&'a str>> {
        let mut seen = BTreeSet::new();
        let mut pending = vec![shape];
        while let Some(name) = pending.pop() {
            if !seen.insert(name) {
                continue;
            }
            let facts = self.shape(name)?;
            pending.extend(
                facts
                    .members
                    .iter()
                    .map(|(_, member)| member.shape.as_str()),
            );
            let inner = [&facts.member, &facts.key, &facts.value];
            pending.extend(
                inner
                    .into_iter()
                    .flatten()
                    .map(|member| member.shape.as_str()),
            );
        }
        Ok(seen)
    }

    fn name_structures(&mut self) -> Result<()> {
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        let mut reached = BTreeSet::new();
        let mut in_requests = BTreeSet::new();
        for operation in self.served_operations() {
            let (_, operation) = operation?;
            for (reference, is_input) in [(&operation.input, true), (&operation.output, false)] {
                let Some(reference) = reference else { continue };
                *uses.entry(reference.shape.clone()).or_default() += 1;
                for shape in self.reached_from(&reference.shape)? {
                    reached.insert(shape.to_owned());
                    if is_input {
                        in_requests.insert(shape.to_owned());
                    }
                }
            }
        }
        for shape in &reached {
            for (_, member) in &self.shape(shape)?.members {
                *uses.entry(member.shape.clone()).or_default() += 1;
            }
            let facts = self.shape(shape)?;
            for inner in [&facts.member, &facts.value].into_iter().flatten() {
                *uses.entry(inner.shape.clone()).or_default() += 1;
            }
        }
        let (mut structures, mut event_streams) = (Vec::new(), Vec::new());
        let mut renamed = BTreeSet::new();
        for name in self.served.clone() {
            let operation = self.operation(&name)?;
            let input = operation.input.as_ref().map(|input| input.shape.clone());
            let output = operation.output.as_ref().map(|output| output.shape.clone());
            // Each operation has an input type of its own, from which the operation can be told.
            renamed.extend(input.clone().filter(|shape| uses[shape] == 1));
            structures.push(Structure {
                name: format!("{name}Input"),
                shape: input,
                is_input: true,
            });
            match output {
                Some(shape) if uses[&shape] > 1 => {
                    self.aliases
                        .insert(format!("{name}Output"), names::type_name(&shape));
                }
                shape => {
                    renamed.extend(shape.clone());
                    let name = format!("{name}Output");
                    structures.push(Structure {
                        name,
                        shape,
                        is_input: false,
                    });
                }
            }
        }
        for shape in reached {
            let facts = self.shape(&shape)?;
            if facts.eventstream {
                event_streams.push(shape);
                continue;
            }
            if facts.kind == Kind::Structure && !renamed.contains(&shape) {
                let name = names::type_name(&shape);
                structures.push(Structure {
                    name,
                    shape: Some(shape),
                    is_input: false,
                });
            }
        }
        structures.sort_by(|a, b| a.name.cmp(&b.name));
        self.structures = structures;
        self.event_streams = event_streams;
        self.in_requests = in_requests;
        Ok(())
    }

    /// A fact about something that does not exist is a mistake in the table.
    fn check_overrides(&self) -> Result<()> {
        let overrides = &self.overrides;
        for name in overrides.operations.keys() {
            self.operation(name).context("in models/overrides.toml")?;
        }
        let shown = overrides.shown_patterns.keys();
        let shapes = overrides.enums.keys().chain(&overrides.not_null_elements);
        for name in shapes.chain(shown) {
            self.shape(name).context("in models/overrides.toml")?;
        }
        for path in overrides.unchecked.iter().chain(&overrides.optional) {
            let Some((shape, member)) = path.split_once('.') else {
                self.shape(path).context("in models/overrides.toml")?;
                continue;
            };
            if !self
                .shape(shape)?
                .members
                .iter()
                .any(|(name, _)| name == member)
            {
                bail!("models/overrides.toml: {shape} has no member {member}");
            }
        }
        Ok(())
    }
}
