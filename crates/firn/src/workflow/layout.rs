//! Where everything of a graph stands.
//!
//! Each flow is laid out by itself with dagre, from the inside out: a `Map` or `Parallel` is a node
//! of the size that its flows need, since no transition crosses its border. dagre gives layers and
//! columns. How edges run is decided here: they keep to their column while they pass a layer, and
//! change it between layers only, so that no edge crosses a box.

use std::collections::BTreeMap;

use dagre::graph::{Graph, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel};

use super::graph::{Edge, EdgeKind, Flow, Kind, Node};
use super::text::Font;

pub const NAME: Font = Font {
    size: 13,
    bold: true,
};
pub const DETAIL: Font = Font {
    size: 11,
    bold: false,
};
/// Of what became of a state.
pub const BADGE: Font = Font {
    size: 11,
    bold: true,
};
/// Distance from one baseline to the next.
pub const NAME_LINE: f64 = 17.0;
pub const DETAIL_LINE: f64 = 15.0;
/// How far the sides of a `Choice` go out.
pub const CUT: f64 = 14.0;
/// Space around the text of a box, and around the flows of a large one.
pub const PADDING: f64 = 12.0;
pub const DOT: f64 = 22.0;
/// Width of the sign in the corner of a box.
pub const SIGN: f64 = 22.0;

const MAX_TEXT: f64 = 210.0;
const MAX_LABEL: f64 = 170.0;
const LABEL_PADDING: f64 = 5.0;
const MIN_WIDTH: f64 = 110.0;
const BETWEEN_FLOWS: f64 = 16.0;
/// Ports move so far to be in line with where the edge goes, if they stay so far from each other.
const SNAP: f64 = 16.0;
const CLOSEST: f64 = 12.0;
/// Branches wrap into another row beyond this.
const MAX_ROW: f64 = 1500.0;

/// A flow with its places, relative to its own corner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    pub width: f64,
    pub height: f64,
    pub nodes: Vec<PlacedNode>,
    pub edges: Vec<PlacedEdge>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PlacedNode {
    /// Its upper left corner.
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub text: Text,
    /// The flows inside, with their corners relative to that of the node.
    pub flows: Vec<(f64, f64, Placed)>,
}

/// What stands in a box.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    pub name: Vec<String>,
    pub details: Vec<String>,
    pub badge: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PlacedEdge {
    pub path: Vec<Segment>,
    /// Where the arrow ends, and whether it goes up.
    pub tip: (f64, f64),
    pub heading: Heading,
    pub label: Option<Label>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heading {
    Down,
    Up,
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Segment {
    Start(f64, f64),
    Line(f64, f64),
    /// Two control points and the end.
    Curve((f64, f64), (f64, f64), (f64, f64)),
}

/// Text beside an edge; the place is its middle.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub lines: Vec<String>,
}

impl Text {
    fn of(node: &Node) -> Self {
        let lines = node.details.iter();
        Self {
            name: NAME.wrap(&node.name, MAX_TEXT, 4),
            details: lines.map(|line| DETAIL.shorten(line, MAX_TEXT)).collect(),
            badge: node
                .mark
                .as_ref()
                .and_then(|mark| mark.badge.as_deref())
                .map(|badge| BADGE.shorten(badge, MAX_TEXT)),
        }
    }

    fn size(&self) -> (f64, f64) {
        let names = self.name.iter().map(|line| NAME.width(line));
        let details = self.details.iter().map(|line| DETAIL.width(line));
        let badges = self.badge.iter().map(|line| BADGE.width(line));
        let width = names.chain(details).chain(badges).fold(0.0, f64::max);
        let small = self.details.len() + self.badge.iter().count();
        let height = count(self.name.len()) * NAME_LINE + count(small) * DETAIL_LINE;
        (width, height)
    }

    /// How high the text is.
    pub fn height(&self) -> f64 {
        self.size().1
    }
}

/// Lays a flow out.
pub fn place(flow: &Flow) -> Placed {
    let boxes: Vec<PlacedNode> = flow.nodes.iter().map(sized).collect();
    let labels: Vec<Option<Label>> = flow.edges.iter().map(label).collect();
    let mut graph = Graph::with_options(GraphOptions {
        directed: true,
        multigraph: true,
        compound: false,
    });
    for at in order(flow) {
        let label = NodeLabel {
            width: boxes[at].width,
            height: boxes[at].height,
            ..NodeLabel::default()
        };
        graph.set_node(at.to_string(), Some(label));
    }
    for (at, (edge, label)) in flow.edges.iter().zip(&labels).enumerate() {
        graph.set_edge(
            edge.from.to_string(),
            edge.to.to_string(),
            Some(edge_label(edge, label.as_ref())),
            Some(&at.to_string()),
        );
    }
    let options = LayoutOptions {
        nodesep: 36.0,
        edgesep: 24.0,
        ranksep: 56.0,
        ..LayoutOptions::default()
    };
    dagre::layout(&mut graph, Some(options));
    Places::of(flow, boxes, labels, &graph).finish()
}

/// dagre goes through cycles in the order of the nodes; the beginning first makes the edges that
/// close a cycle point backwards.
fn order(flow: &Flow) -> Vec<usize> {
    let mut all: Vec<usize> = (0..flow.nodes.len()).collect();
    all.sort_by_key(|at| match flow.nodes[*at].kind {
        Kind::Start => 0,
        Kind::End => 2,
        _ => 1,
    });
    all
}

fn edge_label(edge: &Edge, label: Option<&Label>) -> EdgeLabel {
    EdgeLabel {
        width: label.map_or(0.0, |label| label.width),
        height: label.map_or(0.0, |label| label.height),
        labelpos: dagre::layout::types::LabelPos::Center,
        // The way that everything takes when nothing goes wrong is to be straight.
        weight: if edge.kind == EdgeKind::Catch { 1 } else { 4 },
        ..EdgeLabel::default()
    }
}

fn label(edge: &Edge) -> Option<Label> {
    let lines = DETAIL.wrap(edge.label.as_deref()?, MAX_LABEL, 4);
    let width = lines
        .iter()
        .map(|line| DETAIL.width(line))
        .fold(0.0, f64::max);
    Some(Label {
        x: 0.0,
        y: 0.0,
        width: width + 2.0 * LABEL_PADDING,
        height: count(lines.len()) * DETAIL_LINE + 2.0,
        lines,
    })
}

/// The size of a node, with its flows in place.
fn sized(node: &Node) -> PlacedNode {
    let text = Text::of(node);
    let (text_width, text_height) = text.size();
    let mut placed = PlacedNode {
        x: 0.0,
        y: 0.0,
        width: (text_width + 2.0 * PADDING).max(MIN_WIDTH),
        height: text_height + 1.5 * PADDING,
        text,
        flows: Vec::new(),
    };
    match node.kind {
        Kind::Start | Kind::End => {
            placed.width = DOT;
            placed.height = DOT;
            placed.text = Text::default();
        }
        Kind::Choice => placed.width += 2.0 * CUT,
        _ => {}
    }
    if node.mark.is_some() {
        // At both sides, so that the text stays in the middle.
        let cut = if node.kind == Kind::Choice { CUT } else { 0.0 };
        placed.width = placed.width.max(text_width + 2.0 * (SIGN + cut));
    }
    if !node.flows.is_empty() {
        inside(node, &mut placed, text_width);
    }
    placed
}

/// Puts flows side by side below the text, in as many rows as they need.
fn inside(node: &Node, placed: &mut PlacedNode, text_width: f64) {
    let top = PADDING + placed.text.height() + PADDING / 2.0;
    let (mut x, mut y, mut row_height) = (PADDING, top, 0.0_f64);
    let mut width = text_width + 2.0 * PADDING;
    for flow in &node.flows {
        let mut flow = place(flow);
        // A frame around each, with space for edges beside the boxes.
        flow.width += 2.0 * PADDING;
        flow.height += 2.0 * PADDING;
        for node in &mut flow.nodes {
            node.x += PADDING;
            node.y += PADDING;
        }
        for edge in &mut flow.edges {
            edge.shift(PADDING, PADDING);
        }
        if x > PADDING && x + flow.width > MAX_ROW {
            x = PADDING;
            y += row_height + BETWEEN_FLOWS;
            row_height = 0.0;
        }
        row_height = row_height.max(flow.height);
        width = width.max(x + flow.width + PADDING);
        let next = x + flow.width + BETWEEN_FLOWS;
        placed.flows.push((x, y, flow));
        x = next;
    }
    placed.width = width.max(MIN_WIDTH);
    placed.height = y + row_height + PADDING;
    // One row narrower than the text stands in its middle.
    let used = placed.flows.iter().map(|(x, _, flow)| x + flow.width);
    let spare = placed.width - used.fold(0.0, f64::max) - PADDING;
    for (x, _, _) in &mut placed.flows {
        *x += (spare / 2.0).max(0.0);
    }
}

impl PlacedEdge {
    fn shift(&mut self, dx: f64, dy: f64) {
        let by = |point: &mut (f64, f64)| *point = (point.0 + dx, point.1 + dy);
        for segment in &mut self.path {
            match segment {
                Segment::Start(x, y) | Segment::Line(x, y) => {
                    *x += dx;
                    *y += dy;
                }
                Segment::Curve(a, b, c) => [a, b, c].into_iter().for_each(by),
            }
        }
        by(&mut self.tip);
        if let Some(label) = &mut self.label {
            label.x += dx;
            label.y += dy;
        }
    }
}

/// What dagre has found, while edges are drawn along it.
struct Places<'a> {
    flow: &'a Flow,
    nodes: Vec<PlacedNode>,
    labels: Vec<Option<Label>>,
    /// The columns of each edge, from its source to its target, without both.
    ways: Vec<Vec<(f64, f64)>>,
    /// Half the height of each layer, by its middle.
    layers: BTreeMap<i64, f64>,
}

/// An end of an edge: the column that it comes from, the edge, and whether it leaves here.
type End = (i64, usize, bool);

/// A side of a box.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Top,
    Bottom,
}

impl<'a> Places<'a> {
    fn of(
        flow: &'a Flow,
        mut nodes: Vec<PlacedNode>,
        mut labels: Vec<Option<Label>>,
        graph: &Graph<NodeLabel, EdgeLabel>,
    ) -> Self {
        let mut layers: BTreeMap<i64, f64> = BTreeMap::new();
        let mut layer = |y: f64, height: f64| {
            let half = layers.entry(key(y)).or_insert(0.0);
            *half = half.max(height / 2.0);
        };
        for (at, node) in nodes.iter_mut().enumerate() {
            let found = graph.node(&at.to_string());
            let x = found.and_then(|found| found.x).unwrap_or_default();
            let y = found.and_then(|found| found.y).unwrap_or_default();
            layer(y, node.height);
            node.x = x - node.width / 2.0;
            node.y = y - node.height / 2.0;
        }
        let mut ways = Vec::with_capacity(flow.edges.len());
        for (at, (edge, label)) in flow.edges.iter().zip(&mut labels).enumerate() {
            let name = at.to_string();
            let found = graph.edge(&edge.from.to_string(), &edge.to.to_string(), Some(&name));
            let mut way: Vec<(f64, f64)> = Vec::new();
            if let Some(found) = found {
                // The first and the last are where dagre would end at the boxes.
                let inner = found.points.len().saturating_sub(1);
                way.extend(found.points.iter().take(inner).skip(1).map(|p| (p.x, p.y)));
                if let (Some(label), Some(x), Some(y)) = (label.as_mut(), found.x, found.y) {
                    (label.x, label.y) = (x, y);
                    layer(y, label.height);
                }
            }
            ways.push(way);
        }
        Self {
            flow,
            nodes,
            labels,
            ways,
            layers,
        }
    }

    fn finish(mut self) -> Placed {
        let ports = self.ports();
        let mut edges: Vec<PlacedEdge> = Vec::with_capacity(self.flow.edges.len());
        for (at, edge) in self.flow.edges.iter().enumerate() {
            let label = self.labels[at].take();
            edges.push(if edge.from == edge.to {
                self.circle(at, label)
            } else {
                self.route(at, &ports, label)
            });
        }
        let mut placed = Placed {
            width: 0.0,
            height: 0.0,
            nodes: self.nodes,
            edges,
        };
        placed.trim();
        placed
    }

    fn middle(&self, node: usize) -> (f64, f64) {
        let node = &self.nodes[node];
        (node.x + node.width / 2.0, node.y + node.height / 2.0)
    }

    /// Whether an edge goes down.
    fn goes_down(&self, edge: &Edge) -> bool {
        self.middle(edge.from).1 < self.middle(edge.to).1
    }

    /// Where edges leave and enter boxes: side by side, in the order of where they come from.
    fn ports(&self) -> BTreeMap<(usize, bool), f64> {
        let mut sides: BTreeMap<(usize, Side), Vec<End>> = BTreeMap::new();
        for (at, edge) in self.flow.edges.iter().enumerate() {
            if edge.from == edge.to {
                continue;
            }
            let (out, into) = if self.goes_down(edge) {
                (Side::Bottom, Side::Top)
            } else {
                (Side::Top, Side::Bottom)
            };
            let way = &self.ways[at];
            let after = way.first().map_or(self.middle(edge.to).0, |point| point.0);
            let before = way.last().map_or(self.middle(edge.from).0, |point| point.0);
            let entry = sides.entry((edge.from, out)).or_default();
            entry.push((key(after), at, true));
            let entry = sides.entry((edge.to, into)).or_default();
            entry.push((key(before), at, false));
        }
        let mut ports = BTreeMap::new();
        for ((node, _), mut ends) in sides {
            ends.sort_unstable();
            let (x, _) = self.middle(node);
            let gaps = count(ends.len().saturating_sub(1)).max(1.0);
            let step = match self.flow.nodes[node].kind {
                Kind::End => 0.0,
                _ => (self.nodes[node].width * 0.6 / gaps).min(28.0),
            };
            let first = x - step * count(ends.len().saturating_sub(1)) / 2.0;
            let mut left = f64::NEG_INFINITY;
            for (position, (column, edge, leaves)) in ends.iter().enumerate() {
                let even = first + step * count(position);
                let column = coordinate(*column);
                let right = match position + 1 < ends.len() {
                    true => even + step - CLOSEST,
                    false => f64::INFINITY,
                };
                // A line that is almost straight had better be.
                let straight = step > 0.0
                    && (column - even).abs() <= SNAP
                    && (left + CLOSEST..=right).contains(&column);
                let port = if straight { column } else { even };
                ports.insert((*edge, *leaves), port);
                left = port;
            }
        }
        ports
    }

    fn route(
        &self,
        at: usize,
        ports: &BTreeMap<(usize, bool), f64>,
        label: Option<Label>,
    ) -> PlacedEdge {
        let edge = &self.flow.edges[at];
        let down = self.goes_down(edge);
        // Going up, everything is the other way round.
        let sign = if down { 1.0 } else { -1.0 };
        let from = &self.nodes[edge.from];
        let to = &self.nodes[edge.to];
        let port = |leaves: bool, node: usize| {
            let found = ports.get(&(at, leaves)).copied();
            found.unwrap_or_else(|| self.middle(node).0)
        };
        let (x, middle) = (port(true, edge.from), self.middle(edge.from).1);
        let mut path = vec![Segment::Start(x, middle + sign * from.height / 2.0)];
        let mut here = (x, middle + sign * self.half(middle));
        path.push(Segment::Line(here.0, here.1));
        for (x, middle) in self.ways[at].iter().copied() {
            let half = self.half(middle);
            curve(&mut path, &mut here, (x, middle - sign * half));
            here = (x, middle + sign * half);
            path.push(Segment::Line(here.0, here.1));
        }
        let (x, middle) = (port(false, edge.to), self.middle(edge.to).1);
        curve(&mut path, &mut here, (x, middle - sign * self.half(middle)));
        let tip = (x, middle - sign * to.height / 2.0);
        path.push(Segment::Line(tip.0, tip.1));
        PlacedEdge {
            path,
            tip,
            heading: if down { Heading::Down } else { Heading::Up },
            label,
        }
    }

    fn half(&self, middle: f64) -> f64 {
        self.layers.get(&key(middle)).copied().unwrap_or_default()
    }

    /// An edge from a box to itself, at its right side.
    fn circle(&self, at: usize, label: Option<Label>) -> PlacedEdge {
        let node = &self.nodes[self.flow.edges[at].from];
        let (right, middle) = (node.x + node.width, node.y + node.height / 2.0);
        let (top, bottom) = (middle - node.height / 4.0, middle + node.height / 4.0);
        let out = right + 26.0;
        let label = label.map(|label| Label {
            x: out + label.width / 2.0,
            y: middle,
            ..label
        });
        PlacedEdge {
            path: vec![
                Segment::Start(right, bottom),
                Segment::Curve((out, bottom), (out, top), (right, top)),
            ],
            tip: (right, top),
            heading: Heading::Left,
            label,
        }
    }
}

/// From one column to another between two layers; straight on in the same one.
fn curve(path: &mut Vec<Segment>, here: &mut (f64, f64), to: (f64, f64)) {
    if (here.0 - to.0).abs() < 0.5 {
        path.push(Segment::Line(to.0, to.1));
    } else {
        let half = f64::midpoint(here.1, to.1);
        path.push(Segment::Curve((here.0, half), (to.0, half), to));
    }
    *here = to;
}

impl Placed {
    /// Moves everything into the corner, and measures it.
    fn trim(&mut self) {
        let mut corner = (f64::INFINITY, f64::INFINITY);
        let mut far = (0.0_f64, 0.0_f64);
        let mut cover = |left: f64, top: f64, right: f64, bottom: f64| {
            corner = (corner.0.min(left), corner.1.min(top));
            far = (far.0.max(right), far.1.max(bottom));
        };
        for node in &self.nodes {
            cover(node.x, node.y, node.x + node.width, node.y + node.height);
        }
        for edge in &self.edges {
            if let Some(label) = &edge.label {
                let (dx, dy) = (label.width / 2.0, label.height / 2.0);
                cover(label.x - dx, label.y - dy, label.x + dx, label.y + dy);
            }
            for segment in &edge.path {
                match *segment {
                    Segment::Start(x, y) | Segment::Line(x, y) => cover(x, y, x, y),
                    Segment::Curve(a, b, c) => {
                        for (x, y) in [a, b, c] {
                            cover(x, y, x, y);
                        }
                    }
                }
            }
        }
        if !corner.0.is_finite() {
            return;
        }
        for node in &mut self.nodes {
            node.x -= corner.0;
            node.y -= corner.1;
        }
        for edge in &mut self.edges {
            edge.shift(-corner.0, -corner.1);
        }
        self.width = far.0 - corner.0;
        self.height = far.1 - corner.1;
    }
}

/// What [`key`] was made of.
#[expect(
    clippy::cast_precision_loss,
    reason = "keys are made of coordinates on a page"
)]
fn coordinate(key: i64) -> f64 {
    key as f64 / 100.0
}

/// Coordinates as keys: hundredths.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float becomes the nearest whole number that there is"
)]
fn key(coordinate: f64) -> i64 {
    (coordinate * 100.0).round() as i64
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
