//! An execution drawn into the graph of its machine.

use std::collections::BTreeMap;

use super::duration;
use super::graph::{Edge, EdgeKind, Flow, Kind, Mark, Node, Status};
use super::trace::{Entry, Items, Trace};

/// As much of an input or output as a tooltip can hold.
const MAX_NOTE: usize = 600;

/// Marks each state with what became of it, and each edge that was taken. Of distributed maps,
/// `map_runs` knows by ARN how their items fare.
pub fn mark(flow: &mut Flow, trace: &Trace, map_runs: &BTreeMap<String, Items>) {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, entry) in trace.entries.iter().enumerate() {
        by_name.entry(&entry.name).or_default().push(at);
    }
    mark_flow(flow, trace, &by_name, map_runs);
}

fn mark_flow(
    flow: &mut Flow,
    trace: &Trace,
    by_name: &BTreeMap<&str, Vec<usize>>,
    map_runs: &BTreeMap<String, Items>,
) {
    for at in 0..flow.edges.len() {
        let taken = is_taken(&flow.edges[at], &flow.nodes, trace);
        flow.edges[at].taken = taken;
    }
    for node in &mut flow.nodes {
        if matches!(node.kind, Kind::Start | Kind::End) {
            continue;
        }
        let entries = by_name
            .get(node.name.as_str())
            .map_or(&[][..], Vec::as_slice);
        node.mark = Some(of_state(entries, trace, map_runs));
        let is_distributed = entries
            .iter()
            .any(|at| trace.entries[*at].map_run.is_some());
        if is_distributed {
            // What runs inside has histories of its own.
            continue;
        }
        for flow in &mut node.flows {
            mark_flow(flow, trace, by_name, map_runs);
        }
    }
}

fn is_taken(edge: &Edge, nodes: &[Node], trace: &Trace) -> bool {
    let name = |at: usize, end: Kind| {
        let node = &nodes[at];
        (node.kind != end).then_some(node.name.as_str())
    };
    let (from, to) = (name(edge.from, Kind::Start), name(edge.to, Kind::End));
    let caught = edge.kind == EdgeKind::Catch;
    trace
        .ways
        .iter()
        .any(|way| (way.from.as_deref(), way.to.as_deref()) == (from, to) && way.caught == caught)
}

fn of_state(entries: &[usize], trace: &Trace, map_runs: &BTreeMap<String, Items>) -> Mark {
    let status = entries.iter().map(|at| trace.status(*at)).max();
    let status = status.unwrap_or(Status::NotReached);
    let Some(last) = entries.last().map(|at| &trace.entries[*at]) else {
        return Mark {
            status,
            badge: None,
            notes: Vec::new(),
        };
    };
    Mark {
        status,
        badge: badge(entries, trace, map_runs),
        notes: notes(last),
    }
}

/// `3×, up to 120 ms, 2 retries, 98 of 100 items, 2 failed`.
fn badge(entries: &[usize], trace: &Trace, map_runs: &BTreeMap<String, Items>) -> Option<String> {
    let mut parts = Vec::new();
    if entries.len() > 1 {
        parts.push(format!("{}\u{d7}", entries.len()));
    }
    let longest = entries.iter().filter_map(|at| trace.duration_ms(*at)).max();
    // What took no time needs no word.
    if let Some(ms) = longest.filter(|ms| *ms > 0) {
        let most = if entries.len() > 1 { "up to " } else { "" };
        parts.push(format!("{most}{}", duration::short(ms)));
    }
    let each = || entries.iter().map(|at| &trace.entries[*at]);
    match each().map(|entry| entry.attempts.saturating_sub(1)).sum() {
        0 => {}
        1 => parts.push("1 retry".to_owned()),
        retries => parts.push(format!("{retries} retries")),
    }
    let items = each().map(|entry| match &entry.map_run {
        Some(arn) => map_runs.get(arn).copied().unwrap_or_default(),
        None => entry.items,
    });
    let items = items.fold(Items::default(), |sum, items| Items {
        total: Some(sum.total.unwrap_or(0) + items.total.unwrap_or(0)),
        succeeded: sum.succeeded + items.succeeded,
        failed: sum.failed + items.failed,
    });
    if items.total.unwrap_or(0) > 0 {
        parts.push(progress(items));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `98 of 100 items, 2 failed`.
pub fn progress(items: Items) -> String {
    let total = items.total.unwrap_or(0);
    let word = if total == 1 { "item" } else { "items" };
    let mut text = if items.succeeded == total {
        format!("{total} {word}")
    } else {
        format!("{} of {total} {word}", items.succeeded)
    };
    if items.failed > 0 {
        text.push_str(&format!(", {} failed", items.failed));
    }
    text
}

/// The data of the last time.
fn notes(entry: &Entry) -> Vec<String> {
    let note = |what: &str, text: &Option<String>| {
        let text = text.as_deref()?;
        Some(format!("{what}: {}", cut(text, MAX_NOTE)))
    };
    let all = [
        note("error", &entry.failure),
        note("input", &entry.input),
        note("output", &entry.output),
    ];
    all.into_iter().flatten().collect()
}

/// A text's beginning, with an ellipsis if there is more.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::trace::tests::history;
    use super::*;

    fn marked(lines: &[(i64, i64, &str, &str)]) -> Flow {
        let definition = json!({"StartAt": "A", "States": {
            "A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "B",
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B"}]},
            "B": {"Type": "Pass", "Next": "C"},
            "C": {"Type": "Succeed"},
        }});
        let mut flow = Flow::of_machine(&definition).unwrap();
        mark(&mut flow, &Trace::of(&history(lines)), &BTreeMap::new());
        flow
    }

    fn taken(flow: &Flow) -> Vec<bool> {
        flow.edges.iter().map(|edge| edge.taken).collect()
    }

    #[test]
    fn of_two_edges_to_the_same_state_the_one_for_errors_was_taken() {
        let flow = marked(&[
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "TaskStateEntered", "A"),
            (3, 2, "TaskScheduled", ""),
            (4, 3, "TaskFailed", "Busy"),
            (5, 4, "TaskScheduled", ""),
            (6, 5, "TaskFailed", "Busy"),
            (7, 6, "TaskStateExited", "A"),
            (8, 7, "PassStateEntered", "B"),
        ]);
        // A to B, A to B on errors, B to C, the beginning, the end.
        assert_eq!(taken(&flow), [false, true, false, true, false]);
        let mark = flow.nodes[0].mark.as_ref().unwrap();
        assert_eq!(mark.status, Status::Caught);
        assert_eq!(mark.badge.as_deref(), Some("50 ms, 1 retry"));
        assert_eq!(mark.notes[0], "error: Busy");
        let mark = flow.nodes[1].mark.as_ref().unwrap();
        assert_eq!((mark.status, &mark.badge), (Status::Running, &None));
        let mark = flow.nodes[2].mark.as_ref().unwrap();
        assert_eq!(mark.status, Status::NotReached);
    }

    #[test]
    fn the_end_is_reached_by_success_alone() {
        let all = [
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "TaskStateEntered", "A"),
            (3, 2, "TaskStateExited", "A"),
            (4, 3, "PassStateEntered", "B"),
            (5, 4, "PassStateExited", "B"),
            (6, 5, "SucceedStateEntered", "C"),
            (7, 6, "SucceedStateExited", "C"),
            (8, 7, "ExecutionSucceeded", ""),
        ];
        assert_eq!(taken(&marked(&all)), [true, false, true, true, true]);
        let aborted = [all[0], all[1], (3, 2, "ExecutionAborted", "")];
        let flow = marked(&aborted);
        assert_eq!(taken(&flow), [false, false, false, true, false]);
        assert_eq!(flow.nodes[0].mark.as_ref().unwrap().status, Status::Aborted);
    }

    #[test]
    fn progress_counts_items() {
        let items = |total, succeeded, failed| Items {
            total: Some(total),
            succeeded,
            failed,
        };
        assert_eq!(progress(items(1, 1, 0)), "1 item");
        assert_eq!(progress(items(9, 7, 1)), "7 of 9 items, 1 failed");
    }

    #[test]
    fn long_data_is_cut_between_characters() {
        assert_eq!(cut("\u{e4}\u{e4}\u{e4}", 2), "\u{e4}\u{e4}\u{2026}");
        assert_eq!(cut("abc", 3), "abc");
    }
}
