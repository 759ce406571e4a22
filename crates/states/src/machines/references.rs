//! Which variables the states of a definition read: the member `variableReferences`.

use std::collections::{BTreeMap, BTreeSet};

use asl::path::Root;
use asl::{Intrinsic, Path};
use serde_json::Value;

use super::check::each_state;

/// The functions that expressions have anyway, and what they can name without a variable.
const KNOWN: &[&str] = &[
    "abs",
    "append",
    "assert",
    "average",
    "base64decode",
    "base64encode",
    "boolean",
    "ceil",
    "clone",
    "contains",
    "count",
    "decodeUrl",
    "decodeUrlComponent",
    "distinct",
    "each",
    "encodeUrl",
    "encodeUrlComponent",
    "error",
    "eval",
    "exists",
    "filter",
    "floor",
    "foldLeft",
    "formatBase",
    "formatInteger",
    "formatNumber",
    "fromMillis",
    "hash",
    "join",
    "keys",
    "length",
    "lookup",
    "lowercase",
    "map",
    "match",
    "max",
    "merge",
    "millis",
    "min",
    "not",
    "now",
    "number",
    "pad",
    "parse",
    "parseInteger",
    "partition",
    "power",
    "random",
    "range",
    "reduce",
    "replace",
    "reverse",
    "round",
    "shuffle",
    "sift",
    "single",
    "sort",
    "split",
    "spread",
    "sqrt",
    "states",
    "string",
    "substring",
    "substringAfter",
    "substringBefore",
    "sum",
    "toMillis",
    "trim",
    "type",
    "uppercase",
    "uuid",
    "zip",
];

/// The variables by the name of the state that reads them. States that read none are left out.
pub fn of(definition: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if let Ok(definition) = serde_json::from_str::<Value>(definition) {
        each_state(&definition, "", &mut |state, location| {
            let name = location
                .rsplit_once("/States/")
                .map_or("", |(_, name)| name);
            let mut read = BTreeSet::new();
            in_members(state, &mut read);
            if !read.is_empty() {
                all.entry(name.to_owned()).or_default().extend(read);
            }
        });
    }
    all.into_iter()
        .map(|(state, variables)| (state, variables.into_iter().collect()))
        .collect()
}

/// The members of a state, without the states inside it.
fn in_members(value: &Value, read: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let literal = matches!(name.as_str(), "Result" | "Comment");
                let other_states =
                    matches!(name.as_str(), "States" | "Branches") && !member.is_string();
                match member.as_str() {
                    _ if literal || other_states => {}
                    Some(text) if is_path(name) => in_path(text, read),
                    Some(text) => in_expression(text, read),
                    None => in_members(member, read),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|one| in_members(one, read)),
        Value::String(text) => in_expression(text, read),
        _ => {}
    }
}

/// Whether a member's text is a path or an intrinsic function. `ResultPath` writes and does not
/// read.
fn is_path(name: &str) -> bool {
    name.ends_with(".$") || name == "Variable" || (name.ends_with("Path") && name != "ResultPath")
}

fn in_path(text: &str, read: &mut BTreeSet<String>) {
    let mut add = |path: &Path| {
        if let Root::Variable(name) = path.root() {
            read.insert(name.to_string());
        }
    };
    if let Ok(path) = Path::parse(text) {
        add(&path);
    } else if let Ok(call) = Intrinsic::parse(text) {
        call.paths().into_iter().for_each(add);
    }
}

/// The variables of `{% … %}` that the expression does not bind itself.
fn in_expression(text: &str, read: &mut BTreeSet<String>) {
    let Some(expression) = text
        .strip_prefix("{%")
        .and_then(|text| text.strip_suffix("%}"))
    else {
        return;
    };
    let names = names(expression);
    let bound: BTreeSet<&str> = names
        .iter()
        .filter(|(_, binds)| *binds)
        .map(|(name, _)| *name)
        .collect();
    read.extend(
        names
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !bound.contains(name) && !KNOWN.contains(name))
            .map(str::to_owned),
    );
}

/// The names behind `$` outside of texts and comments, and whether the expression gives them their
/// value: `$x := …` and `function($x)`.
fn names(expression: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    let mut rest = expression;
    let mut in_parameters = false;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else if matches!(first, '"' | '\'' | '`') {
            rest = behind_text(rest, first);
        } else if first == '$' {
            let name = &rest[1..];
            let end = name
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(name.len());
            let (name, behind) = name.split_at(end);
            let binds = in_parameters || behind.trim_start().starts_with(":=");
            if !name.is_empty() {
                found.push((name, binds));
            }
            rest = behind;
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            in_parameters =
                matches!(word, "function" | "λ") && behind.trim_start().starts_with('(');
            rest = behind;
        } else {
            in_parameters &= first != ')';
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn behind_text(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(state: Value) -> Vec<String> {
        let definition = json!({"StartAt": "A", "States": {"A": state}});
        of(&definition.to_string()).remove("A").unwrap_or_default()
    }

    #[test]
    fn paths_and_functions_read_variables() {
        assert_eq!(
            read(
                json!({"Type": "Pass", "InputPath": "$a.b", "ResultPath": "$.x", "Parameters": {
                "p.$": "$b", "q": "$not", "r.$": "States.Format('{}', $c, States.UUID(), $.d, $$.e)"
            }, "Assign": {"z.$": "$d[0]"}, "End": true})
            ),
            ["a", "b", "c", "d"]
        );
        assert_eq!(
            read(json!({"Type": "Choice", "Choices": [
                {"Variable": "$guess", "StringEqualsPath": "$answer", "Next": "B"}]})),
            ["answer", "guess"]
        );
        assert!(read(json!({"Type": "Pass", "Result": {"a.$": "$x"}, "End": true})).is_empty());
    }

    #[test]
    fn expressions_read_variables_that_they_do_not_bind() {
        let expression = r#"{% ( $y := $x + 1; /* $comment */ $map($list, function($i, $j) { $i * $y }) & "$text" & `$name` & $states.input.$sum ) %}"#;
        assert_eq!(
            read(json!({"Type": "Pass", "QueryLanguage": "JSONata", "Output": expression})),
            ["list", "x"]
        );
        assert!(read(json!({"Type": "Pass", "Output": "$x"})).is_empty());
    }

    #[test]
    fn states_inside_are_named_for_themselves() {
        let inner = json!({"StartAt": "I", "States": {"I": {"Type": "Pass", "InputPath": "$in"}}});
        let definition = json!({"StartAt": "M", "States": {
            "M": {"Type": "Map", "ItemsPath": "$out", "ItemProcessor": inner}}});
        let expected = BTreeMap::from([
            ("I".to_owned(), vec!["in".to_owned()]),
            ("M".to_owned(), vec!["out".to_owned()]),
        ]);
        assert_eq!(of(&definition.to_string()), expected);
    }
}
