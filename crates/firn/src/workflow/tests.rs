//! Pictures of whole machines, compared with those that somebody has looked at, and what holds of
//! every picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::event::Event;
use super::graph::{Flow, Status};
use super::layout::{self, DETAIL, NAME, Placed, Segment};
use super::svg::Frame;
use super::trace::Trace;
use super::{mermaid, outcome, svg, timeline};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/workflows")
}

fn read(name: &str) -> Option<Value> {
    let text = std::fs::read_to_string(folder().join(name)).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// Compares with a golden file, or writes it if `UPDATE_GOLDEN` is set.
fn check(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{name} has changed; look at it, and take it with UPDATE_GOLDEN=1"
    );
}

/// The graph of a golden definition, with its execution if it has one.
fn drawn(name: &str) -> (Flow, Frame) {
    let definition = read(&format!("{name}.asl.json")).unwrap();
    let mut flow = Flow::of_machine(&definition).unwrap();
    let mut frame = Frame {
        title: name.to_owned(),
        subtitle: None,
    };
    if let Some(Value::Array(history)) = read(&format!("{name}.history.json")) {
        let events: Vec<Event> = history.iter().filter_map(Event::read).collect();
        outcome::mark(&mut flow, &Trace::of(&events), &BTreeMap::new());
        frame.subtitle = events.last().map(|event| event.kind.clone());
    }
    (flow, frame)
}

#[test]
fn pictures_are_those_that_were_looked_at() {
    let names = [
        "linear", "choice", "nested", "forty", "hostile", "shipped", "declined",
    ];
    for name in names {
        let (flow, frame) = drawn(name);
        check(&format!("{name}.svg"), &svg::render(&flow, &frame));
        check(&format!("{name}.mmd"), &mermaid::render(&flow));
    }
}

#[test]
fn names_cannot_leave_their_place() {
    let (flow, frame) = drawn("hostile");
    let picture = svg::render(&flow, &frame);
    assert!(!picture.contains("<script"), "{picture}");
    assert_eq!(
        picture.matches("<title>").count(),
        picture.matches("</title>").count()
    );
    assert_eq!(
        picture.matches("<g ").count(),
        picture.matches("</g>").count()
    );
}

#[test]
fn golden_machines_are_laid_out_without_collisions() {
    for name in ["linear", "choice", "nested", "forty", "hostile", "shipped"] {
        let (flow, _) = drawn(name);
        clear(&flow, &layout::place(&flow));
    }
}

struct Box {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Box {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right - 0.5
            && other.left < self.right - 0.5
            && self.top < other.bottom - 0.5
            && other.top < self.bottom - 0.5
    }

    fn holds(&self, (x, y): (f64, f64)) -> bool {
        self.left + 1.0 < x && x < self.right - 1.0 && self.top + 1.0 < y && y < self.bottom - 1.0
    }
}

/// No box meets another or a label, no edge crosses a box, and no text leaves its box.
fn clear(flow: &Flow, placed: &Placed) {
    let boxes: Vec<Box> = placed
        .nodes
        .iter()
        .map(|node| Box {
            left: node.x,
            top: node.y,
            right: node.x + node.width,
            bottom: node.y + node.height,
        })
        .collect();
    let labels: Vec<Box> = placed
        .edges
        .iter()
        .filter_map(|edge| edge.label.as_ref())
        .map(|label| Box {
            left: label.x - label.width / 2.0,
            top: label.y - label.height / 2.0,
            right: label.x + label.width / 2.0,
            bottom: label.y + label.height / 2.0,
        })
        .collect();
    let all: Vec<&Box> = boxes.iter().chain(&labels).collect();
    for (at, one) in all.iter().enumerate() {
        assert!(one.left > -0.5 && one.right < placed.width + 0.5);
        assert!(one.top > -0.5 && one.bottom < placed.height + 0.5);
        for other in &all[at + 1..] {
            assert!(!one.meets(other), "two boxes or labels meet");
        }
    }
    for edge in &placed.edges {
        for point in points(&edge.path) {
            let inside = boxes.iter().any(|one| one.holds(point));
            assert!(!inside, "an edge crosses a box at {point:?}");
        }
    }
    for (node, place) in flow.nodes.iter().zip(&placed.nodes) {
        for line in &place.text.name {
            assert!(NAME.width(line) <= place.width, "{line}");
        }
        for line in &place.text.details {
            assert!(DETAIL.width(line) <= place.width, "{line}");
        }
        for ((x, y, inner), flow) in place.flows.iter().zip(&node.flows) {
            assert!(x + inner.width <= place.width && y + inner.height <= place.height);
            clear(flow, inner);
        }
    }
}

fn points(path: &[Segment]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for segment in path {
        match *segment {
            Segment::Start(x, y) | Segment::Line(x, y) => points.push((x, y)),
            Segment::Curve(b, c, d) => {
                let a = points.last().copied().unwrap_or(b);
                for step in 1..=16 {
                    let t = f64::from(step) / 16.0;
                    let s = 1.0 - t;
                    let at = |a: f64, b: f64, c: f64, d: f64| {
                        s * s * s * a + 3.0 * s * s * t * b + 3.0 * s * t * t * c + t * t * t * d
                    };
                    points.push((at(a.0, b.0, c.0, d.0), at(a.1, b.1, c.1, d.1)));
                }
            }
        }
    }
    points
}

/// Machines of any shape: each state leads to any others, some are choices, some catch.
fn machines() -> impl Strategy<Value = Value> {
    let state = (
        0..4_u8,
        0..20_usize,
        0..20_usize,
        0..20_usize,
        "[a-zA-Z ]{0,40}",
    );
    prop::collection::vec(state, 1..20).prop_map(|states| {
        let count = states.len();
        let name = |at: usize| format!("S{} {}", at % count, states[at % count].4);
        let mut all = Map::new();
        for (at, (kind, a, b, c, _)) in states.iter().enumerate() {
            let state = match kind {
                0 => json!({"Type": "Choice", "Choices": [
                    {"Variable": "$.some.rather.long.path", "NumericGreaterThan": 5, "Next": name(*a)},
                    {"Variable": "$.x", "IsPresent": true, "Next": name(*b)},
                ], "Default": name(*c)}),
                1 => json!({"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": name(*a),
                    "Catch": [{"ErrorEquals": ["States.ALL"], "Next": name(*b)}]}),
                2 => json!({"Type": "Pass", "Next": name(*a)}),
                _ => json!({"Type": "Succeed"}),
            };
            all.insert(name(at), state);
        }
        json!({"StartAt": name(0), "States": all})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_machine_is_laid_out_with_collisions(machine in machines()) {
        let flow = Flow::of_machine(&machine).unwrap();
        let placed = layout::place(&flow);
        clear(&flow, &placed);
        prop_assert_eq!(placed, layout::place(&flow));
    }
}

/// All histories in an answer that was recorded on AWS.
fn histories<'v>(value: &'v Value, found: &mut Vec<&'v Vec<Value>>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(events)) = members.get("events")
                && events
                    .iter()
                    .any(|event| event.get("previousEventId").is_some())
            {
                found.push(events);
            }
            members.values().for_each(|member| histories(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|one| histories(one, found)),
        _ => {}
    }
}

#[test]
fn every_event_that_aws_has_recorded_is_about_a_known_state() {
    let cases = folder().join("../aws/stepfunctions/cases");
    let mut count = 0;
    for file in std::fs::read_dir(cases).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let mut found = Vec::new();
            histories(&case["expected"], &mut found);
            for history in found {
                let events: Vec<Event> = history.iter().filter_map(Event::read).collect();
                // Of branches that run at once, some recordings leave the numbers out.
                let whole = (1..).zip(&events).all(|(id, event)| event.id == id);
                if !whole || events.len() != history.len() {
                    continue;
                }
                count += 1;
                known(&case["id"], &events);
            }
        }
    }
    assert!(count > 200, "only {count} histories were read");
}

fn known(case: &Value, events: &[Event]) {
    let mut trace = Trace::default();
    for event in events {
        let entry = trace.add(event);
        assert!(
            entry.is_some() || event.is_about_execution(),
            "{case}: event {} {} is about no state",
            event.id,
            event.kind
        );
    }
    if trace.end.is_some() {
        for at in 0..trace.entries.len() {
            let name = &trace.entries[at].name;
            assert_ne!(trace.status(at), Status::Running, "{case}: {name}");
        }
    }
    assert_eq!(timeline::rows(events).len(), events.len());
}
