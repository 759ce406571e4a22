//! What a Choice says.

use super::{Names, assign, each, not_empty};
use crate::choice::Rule;
use crate::definition::fields::{Fields, Found};
use crate::definition::parse::target;
use crate::definition::{Choice, ChoiceRule, Condition, Language};
use crate::jsonata::Offered;

pub fn choice(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<Choice> {
    not_empty(fields, "Choices", found);
    let rules = each(fields, "Choices", found, |fields, found| {
        rule(fields, names, found)
    });
    let default = match fields.get("Default") {
        Some(_) => Some(target(fields, "Default", names, found)?),
        None => None,
    };
    Some(Choice { rules, default })
}

fn rule(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<ChoiceRule> {
    let next = target(fields, "Next", names, found);
    let condition = match fields.language {
        Language::JsonPath => match Rule::parse(fields.object) {
            Ok(rule) => Some(Condition::Rule(rule)),
            Err(error) => {
                let location = format!("{}{}", fields.location, error.place);
                found.schema(error.problem.to_string(), location);
                None
            }
        },
        Language::Jsonata => {
            let known = ["Condition", "Next", "Comment", "Assign", "Output"];
            fields.only(&[&known], found);
            fields.require(&["Condition"], found);
            fields
                .template("Condition", Offered::default(), found)
                .map(Condition::Template)
        }
    };
    let assign = assign(fields, Offered::default(), found);
    let output = match fields.language {
        Language::JsonPath => None,
        Language::Jsonata => fields.template("Output", Offered::default(), found),
    };
    Some(ChoiceRule {
        condition: condition?,
        next: next?,
        assign,
        output,
    })
}
