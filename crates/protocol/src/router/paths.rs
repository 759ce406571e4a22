//! A tree of path segments, for the REST operations of one service.

use std::collections::HashMap;

use http::Method;
use model::OperationBinding;

/// Finds a service's operations by method and path.
#[derive(Default)]
pub(super) struct Paths {
    root: Node,
}

#[derive(Default)]
struct Node {
    literals: HashMap<&'static str, Node>,
    label: Option<Box<Node>>,
    /// Operations whose greedy label takes the rest of the path.
    greedy: Vec<Leaf>,
    /// Operations whose path ends here.
    here: Vec<Leaf>,
}

struct Leaf {
    method: Method,
    /// Query parameters that must be there as they stand, such as `find=LayerVersion`.
    query: &'static str,
    operation: usize,
}

/// What a request brings to the search, and what came of it beside a match.
struct Search<'a> {
    method: &'a Method,
    query: &'a str,
    other_method: bool,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The operation's index.
    Operation(usize),
    /// There are operations, but none for the method.
    OtherMethod,
    Nothing,
}

impl Paths {
    pub(super) fn new(operations: &'static [OperationBinding]) -> Self {
        let mut paths = Self::default();
        for (index, operation) in operations.iter().enumerate() {
            let (path, query) = operation.uri.split_once('?').unwrap_or((operation.uri, ""));
            let leaf = Leaf {
                method: operation.method.clone(),
                query,
                operation: index,
            };
            paths.root.insert(segments(path), leaf);
        }
        paths
    }

    /// Path and query are as they were sent, still percent-encoded.
    pub(super) fn find(&self, method: &Method, path: &str, query: Option<&str>) -> Found {
        let query = query.unwrap_or_default();
        let mut search = Search {
            method,
            query,
            other_method: false,
        };
        match self.root.find(segments(path), &mut search) {
            Some(index) => Found::Operation(index),
            None if search.other_method => Found::OtherMethod,
            None => Found::Nothing,
        }
    }
}

/// The segments between slashes. A slash at the end does not count: the public descriptions write
/// some paths with one, and AWS accepts both.
fn segments(path: &str) -> std::str::Split<'_, char> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).split('/')
}

impl Node {
    fn insert(&mut self, mut rest: std::str::Split<'static, char>, leaf: Leaf) {
        match rest.next() {
            None => self.here.push(leaf),
            Some(segment) if segment.ends_with("+}") => self.greedy.push(leaf),
            Some(segment) if segment.starts_with('{') => {
                self.label.get_or_insert_default().insert(rest, leaf);
            }
            Some(segment) => self.literals.entry(segment).or_default().insert(rest, leaf),
        }
    }

    /// A literal segment wins over a label, a label over a greedy one; but a less specific branch is
    /// tried where a more specific one leads nowhere. Each segment is visited at most twice per
    /// level of the tree, and the tree is as deep as the longest path of the interface.
    fn find(&self, mut rest: std::str::Split<'_, char>, search: &mut Search<'_>) -> Option<usize> {
        let Some(segment) = rest.next() else {
            return search.choose(&self.here);
        };
        self.literals
            .get(segment)
            .and_then(|node| node.find(rest.clone(), search))
            .or_else(|| {
                // An empty label would make `/functions//code` a function without a name.
                let label = self.label.as_ref().filter(|_| !segment.is_empty())?;
                label.find(rest, search)
            })
            .or_else(|| {
                (!segment.is_empty())
                    .then(|| search.choose(&self.greedy))
                    .flatten()
            })
    }
}

impl Search<'_> {
    /// The operation for the method; one whose fixed query parameters are there goes first.
    fn choose(&mut self, leaves: &[Leaf]) -> Option<usize> {
        let found = leaves
            .iter()
            .filter(|leaf| leaf.method == *self.method && self.has_query(leaf.query))
            .max_by_key(|leaf| leaf.query.len());
        self.other_method |= found.is_none() && !leaves.is_empty();
        found.map(|leaf| leaf.operation)
    }

    fn has_query(&self, fixed: &str) -> bool {
        fixed.is_empty()
            || fixed
                .split('&')
                .all(|pair| self.query.split('&').any(|sent| sent == pair))
    }
}
