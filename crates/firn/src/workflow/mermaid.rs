//! A graph as Mermaid text, which many pages draw themselves.
//! <https://mermaid.js.org/syntax/flowchart.html>

use super::graph::{EdgeKind, Flow, Kind, Node, Status};

/// The text of a flowchart.
pub fn render(flow: &Flow) -> String {
    let mut lines = vec!["flowchart TD".to_owned()];
    let mut classes = Vec::new();
    write(flow, "s", 1, &mut lines, &mut classes);
    lines.extend(styles(&classes));
    lines.push(String::new());
    lines.join("\n")
}

fn write(
    flow: &Flow,
    prefix: &str,
    depth: usize,
    lines: &mut Vec<String>,
    classes: &mut Vec<(String, &'static str)>,
) {
    let indent = "  ".repeat(depth);
    for (at, node) in flow.nodes.iter().enumerate() {
        let id = format!("{prefix}{at}");
        classes.extend(class(node).map(|class| (id.clone(), class)));
        if node.flows.is_empty() {
            lines.push(format!("{indent}{id}{}", shape(node)));
            continue;
        }
        lines.push(format!("{indent}subgraph {id}[\"{}\"]", text(node)));
        for (index, inner) in node.flows.iter().enumerate() {
            let within = format!("{id}_{index}");
            if node.flows.len() > 1 {
                lines.push(format!("{indent}  subgraph {within}[\" \"]"));
                lines.push(format!("{indent}    direction TB"));
                write(inner, &format!("{within}_"), depth + 2, lines, classes);
                lines.push(format!("{indent}  end"));
            } else {
                lines.push(format!("{indent}  direction TB"));
                write(inner, &format!("{within}_"), depth + 1, lines, classes);
            }
        }
        lines.push(format!("{indent}end"));
    }
    for edge in &flow.edges {
        let arrow = match (edge.kind, edge.taken) {
            (EdgeKind::Catch, _) => "-.->",
            (_, true) => "==>",
            (_, false) => "-->",
        };
        let label = edge
            .label
            .as_deref()
            .map(|label| format!("|\"{}\"|", escaped(label)));
        lines.push(format!(
            "{indent}{prefix}{} {arrow}{} {prefix}{}",
            edge.from,
            label.unwrap_or_default(),
            edge.to
        ));
    }
}

fn shape(node: &Node) -> String {
    let text = text(node);
    match node.kind {
        Kind::Start | Kind::End => format!("(({text}))"),
        Kind::Choice => format!("{{{{\"{text}\"}}}}"),
        Kind::Succeed | Kind::Fail => format!("([\"{text}\"])"),
        Kind::Missing => format!("[/\"{text}\"/]"),
        _ => format!("[\"{text}\"]"),
    }
}

/// The name, and smaller what the state does.
fn text(node: &Node) -> String {
    let name = escaped(&node.name);
    let badge = node.mark.as_ref().and_then(|mark| mark.badge.as_ref());
    let details: Vec<String> = node
        .details
        .iter()
        .chain(badge)
        .map(|line| escaped(line))
        .collect();
    match details[..] {
        [] => name,
        _ => format!("<b>{name}</b><br/><small>{}</small>", details.join("<br/>")),
    }
}

/// Entities instead of everything that Mermaid or HTML could take for its own.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => escaped.push(' '),
            '"' | '<' | '>' | '&' | '#' | ';' | '`' | '\\' | '|' | '{' | '}' | '[' | ']' | '('
            | ')' => {
                escaped.push_str(&format!("#{};", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn class(node: &Node) -> Option<&'static str> {
    match (&node.mark, node.kind) {
        (Some(mark), _) => Some(mark.status.class()),
        (None, Kind::Missing) => Some("missing"),
        (None, _) => None,
    }
}

fn styles(classes: &[(String, &'static str)]) -> Vec<String> {
    let style = |name: &str| match name {
        "succeeded" => "fill:#e3f9e5,stroke:#3f9142,color:#1f2933",
        "caught" => "fill:#fff3c4,stroke:#cb6e17,color:#1f2933",
        "failed" | "timedout" => "fill:#ffe3e3,stroke:#d64545,color:#1f2933",
        "aborted" => "fill:#e4e7eb,stroke:#616e7c,color:#1f2933",
        "running" => "fill:#dceefb,stroke:#2186eb,color:#1f2933",
        "missing" => "stroke:#d64545,stroke-dasharray:5 3",
        _ => "stroke-dasharray:4 3",
    };
    let names = Status::ALL.map(Status::class);
    let mut lines = Vec::new();
    for name in names.into_iter().chain(["missing"]) {
        let of_it: Vec<&str> = classes
            .iter()
            .filter(|(_, class)| *class == name)
            .map(|(id, _)| id.as_str())
            .collect();
        if !of_it.is_empty() {
            lines.push(format!("  classDef {name} {}", style(name)));
            lines.push(format!("  class {} {name}", of_it.join(",")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_in_a_name_is_taken_for_syntax() {
        assert_eq!(escaped("<b>\"x\"|;#"), "#60;b#62;#34;x#34;#124;#59;#35;");
        let name = "end\"]\n  click s0 \"javascript:alert(1)\"";
        let flow =
            Flow::of_machine(&json!({"StartAt": name, "States": {name: {"Type": "Succeed"}}}));
        let text = render(&flow.unwrap());
        assert!(!text.contains("\n  click"), "{text}");
    }
}
