//! What the operations behind tasks take and give, for those who check what stands in for them.

use asl::definition::Resource;

pub use crate::catalog::Kind;
use crate::catalog::{self, Entry, Interface, Operation, ShapeId};
use crate::support::{self, Integration};

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    interface: &'static Interface,
    id: ShapeId,
}

/// A member of a structure.
#[derive(Clone, Debug)]
pub struct Member {
    /// As workflows write it.
    pub name: String,
    pub shape: Shape,
    pub required: bool,
}

/// The shape that the operation of a task answers; `None` if there is no operation, or if it answers
/// nothing.
pub fn output(resource: &Resource) -> Option<Shape> {
    let (entry, operation) = operation(resource)?;
    Shape::of(entry, operation.output?)
}

/// The shape that the operation of a task takes.
pub fn input(resource: &Resource) -> Option<Shape> {
    let (entry, operation) = operation(resource)?;
    Shape::of(entry, operation.input?)
}

fn operation(resource: &Resource) -> Option<(&'static Entry, &'static Operation)> {
    match resource {
        Resource::Service {
            service, action, ..
        } => match support::find(service, action)? {
            Integration::Sdk(entry, _, operation) => Some((entry, operation)),
            Integration::Optimised(known, action) => {
                let entry = catalog::find(known.service)?;
                Some((entry, entry.operation(action.name)?.1))
            }
        },
        Resource::Lambda { .. } | Resource::Activity { .. } => None,
    }
}

impl Shape {
    fn of(entry: &'static Entry, id: ShapeId) -> Option<Self> {
        let interface = entry.interface()?;
        Some(Self { interface, id })
    }

    fn facts(self) -> &'static catalog::Shape {
        self.interface.shape(self.id)
    }

    pub fn kind(self) -> Kind {
        self.facts().kind
    }

    /// Whether it is any JSON.
    pub fn is_document(self) -> bool {
        self.facts().document
    }

    /// The members of a structure.
    pub fn members(self) -> impl Iterator<Item = Member> {
        let facts = self.facts();
        facts.members.iter().map(move |member| Member {
            name: member.shown(),
            shape: Self {
                interface: self.interface,
                id: member.shape,
            },
            required: facts.required.contains(&member.name),
        })
    }

    /// The elements of a list, or the values of a map.
    pub fn element(self) -> Option<Self> {
        let facts = self.facts();
        let of = facts.element.as_ref().or(facts.value.as_ref())?;
        Some(Self {
            interface: self.interface,
            id: of.shape,
        })
    }

    /// What a text can be; none is anything.
    pub fn values(self) -> &'static [Box<str>] {
        &self.facts().values
    }

    /// The smallest number, or the shortest length.
    pub fn min(self) -> Option<f64> {
        self.facts().min
    }

    /// The largest number, or the greatest length.
    pub fn max(self) -> Option<f64> {
        self.facts().max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_told_in_the_names_of_workflows() {
        let resource = Resource::parse("arn:aws:states:::aws-sdk:sfn:startExecution").unwrap();
        let output = output(&resource).unwrap();
        assert_eq!(output.kind(), Kind::Structure);
        let members: Vec<_> = output
            .members()
            .map(|member| (member.name, member.shape.kind(), member.required))
            .collect();
        let expected = [
            ("ExecutionArn".to_owned(), Kind::String, true),
            ("StartDate".to_owned(), Kind::Timestamp, true),
        ];
        assert_eq!(members, expected);
        let lambda = Resource::parse("arn:aws:lambda:us-east-1:123456789012:function:f").unwrap();
        assert!(super::output(&lambda).is_none());
    }
}
