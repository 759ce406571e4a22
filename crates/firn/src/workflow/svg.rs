//! A graph as a picture: one SVG file that needs no font, script or style sheet from elsewhere, for
//! light and dark pages alike.

use std::fmt::Write;

use super::graph::{EdgeKind, Flow, Kind, Node, Status};
use super::layout::{
    self, CUT, DETAIL_LINE, Heading, NAME_LINE, PADDING, Placed, PlacedEdge, PlacedNode, Segment,
};
use super::text::xml;

const MARGIN: f64 = 20.0;
const TITLE_LINE: f64 = 22.0;
const LEGEND: f64 = 28.0;

/// What stands around the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The machine's name.
    pub title: String,
    /// How an execution went: shown below the title, with a legend at the foot.
    pub subtitle: Option<String>,
}

const STYLE: &str = "\
text{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif}\
.page{fill:#fff}.title{font-size:16px;font-weight:600;fill:#1f2933}.sub,.key{font-size:12px;fill:#52606d}\
.name{font-size:13px;font-weight:600;fill:#1f2933}.detail{font-size:11px;fill:#52606d}\
.badge{font-size:11px;font-weight:600;fill:#323f4b}\
.box{fill:#f8fafc;stroke:#9aa5b1;stroke-width:1.2}.inner{fill:#fff;stroke:#cbd2d9;stroke-width:1;stroke-dasharray:3 3}\
.choice .box{fill:#fffbea;stroke:#cb6e17}.fail .box{stroke:#d64545}.succeed .box{stroke:#3f9142}\
.missing .box{fill:#fff;stroke:#d64545;stroke-dasharray:5 3}.cluster>.box{fill:#f1f5f9}\
.dot{fill:#52606d}.ring{fill:none;stroke:#52606d;stroke-width:1.5}\
.edge{fill:none;stroke:#7b8794;stroke-width:1.4}.tip{fill:#7b8794}\
.catch .edge{stroke:#c65d21;stroke-dasharray:5 4}.catch .tip{fill:#c65d21}\
.plate{fill:#fff;fill-opacity:.92}.label{font-size:11px;fill:#3e4c59}.catch .label{fill:#a3470f}\
.taken .edge{stroke:#2186eb;stroke-width:2.2}.taken .tip{fill:#2186eb}\
.untaken .edge,.untaken .tip,.untaken .label{opacity:.45}\
.succeeded>.box{fill:#e3f9e5;stroke:#3f9142}.caught>.box{fill:#fff3c4;stroke:#cb6e17}\
.failed>.box,.timedout>.box{fill:#ffe3e3;stroke:#d64545;stroke-width:2}.aborted>.box{fill:#e4e7eb;stroke:#616e7c}\
.running>.box{fill:#dceefb;stroke:#2186eb;stroke-width:2}.unreached>.box{fill:#fff;stroke:#cbd2d9;stroke-dasharray:4 3}\
.unreached>.name,.unreached>.detail{fill:#7b8794}\
.sign{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}\
.succeeded>.sign{stroke:#2f8132}.caught>.sign{stroke:#b44d12}.failed>.sign,.timedout>.sign{stroke:#ba2525}\
.aborted>.sign{stroke:#52606d}.running>.sign{stroke:#186faf}\
@media(prefers-color-scheme:dark){\
.page{fill:#0f1720}.title,.name{fill:#f0f4f8}.sub,.key,.detail{fill:#a8b5c2}.badge{fill:#d9e2ec}\
.box{fill:#1b2733;stroke:#627d98}.inner{fill:#0f1720;stroke:#3a4a5a}.cluster>.box{fill:#16202b}\
.choice .box{fill:#2b2412;stroke:#de911d}.fail .box{stroke:#ef4e4e}.succeed .box{stroke:#57ae5b}\
.missing .box{fill:#0f1720;stroke:#ef4e4e}\
.dot{fill:#a8b5c2}.ring{stroke:#a8b5c2}.edge{stroke:#829ab1}.tip{fill:#829ab1}\
.catch .edge{stroke:#f0903e}.catch .tip{fill:#f0903e}.plate{fill:#0f1720}.label{fill:#c3cfd9}.catch .label{fill:#f7b27a}\
.inner~* .plate{fill:#0f1720}\
.taken .edge{stroke:#4098d7}.taken .tip{fill:#4098d7}\
.succeeded>.box{fill:#12331a;stroke:#57ae5b}.caught>.box{fill:#3a2d0b;stroke:#f0b429}\
.failed>.box,.timedout>.box{fill:#3d1518;stroke:#ef4e4e}.aborted>.box{fill:#2a343f;stroke:#9aa5b1}\
.running>.box{fill:#0c2d48;stroke:#4098d7}.unreached>.box{fill:#0f1720;stroke:#3e4c59}\
.unreached>.name,.unreached>.detail{fill:#7b8b9a}\
.succeeded>.sign{stroke:#57ae5b}.caught>.sign{stroke:#f0b429}.failed>.sign,.timedout>.sign{stroke:#f86a6a}\
.aborted>.sign{stroke:#9aa5b1}.running>.sign{stroke:#62b0e8}}";

/// The whole file.
pub fn render(flow: &Flow, frame: &Frame) -> String {
    let flow = &flow.for_drawing();
    let placed = layout::place(flow);
    let ran = frame.subtitle.is_some();
    let title_width = layout::NAME.width(&frame.title) * 1.25;
    let sub_width = frame
        .subtitle
        .as_ref()
        .map_or(0.0, |sub| layout::DETAIL.width(sub) * 1.1);
    let statuses = statuses(flow);
    let keys: f64 = if ran {
        statuses.iter().map(|status| key_width(*status)).sum()
    } else {
        0.0
    };
    let inner = placed.width.max(title_width).max(sub_width).max(keys);
    let top = MARGIN + TITLE_LINE * if ran { 2.0 } else { 1.0 } + 6.0;
    let foot = if ran { LEGEND } else { 0.0 };
    let (width, height) = (inner + 2.0 * MARGIN, top + placed.height + MARGIN + foot);
    let mut svg = Svg(String::new());
    svg.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\">\n\
         <title>{2}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{0}\" height=\"{1}\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{3}\">{2}</text>\n",
        number(width),
        number(height),
        xml(&frame.title),
        number(MARGIN + 14.0),
    ));
    if let Some(subtitle) = &frame.subtitle {
        let y = MARGIN + 14.0 + TITLE_LINE - 2.0;
        svg.text("sub", MARGIN, y, subtitle);
    }
    let left = MARGIN + (inner - placed.width) / 2.0;
    svg.put(format_args!(
        "<g transform=\"translate({},{})\">\n",
        number(left),
        number(top)
    ));
    svg.flow(flow, &placed, ran);
    svg.put(format_args!("</g>\n"));
    if ran {
        svg.legend(&statuses, height - MARGIN - 6.0);
    }
    svg.put(format_args!("</svg>\n"));
    svg.0
}

/// The statuses that occur, in the order of the legend.
fn statuses(flow: &Flow) -> Vec<Status> {
    fn collect(flow: &Flow, found: &mut Vec<Status>) {
        for node in &flow.nodes {
            found.extend(node.mark.as_ref().map(|mark| mark.status));
            node.flows.iter().for_each(|flow| collect(flow, found));
        }
    }
    let mut found = Vec::new();
    collect(flow, &mut found);
    Status::ALL
        .into_iter()
        .filter(|status| found.contains(status))
        .collect()
}

fn key_width(status: Status) -> f64 {
    layout::DETAIL.width(status.name()) * 1.1 + 42.0
}

/// The file while it is written.
struct Svg(String);

impl Svg {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }

    fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>\n",
            number(x),
            number(y),
            xml(text)
        ));
    }

    fn centred(&mut self, class: &str, x: f64, y: f64, text: &str) {
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            number(x),
            number(y),
            xml(text)
        ));
    }

    /// Lines first, so that boxes and labels lie above them.
    fn flow(&mut self, flow: &Flow, placed: &Placed, ran: bool) {
        // Nothing is known of what a distributed map has run.
        let ran = ran && flow.nodes.iter().any(|node| node.mark.is_some());
        let edges = || flow.edges.iter().zip(&placed.edges);
        // The ways that were taken lie above the others.
        let (taken, other): (Vec<_>, Vec<_>) = edges().partition(|(edge, _)| edge.taken);
        for (edge, place) in other.into_iter().chain(taken) {
            self.put(format_args!(
                "<g class=\"{}\">",
                edge_class(edge.kind, edge.taken, ran)
            ));
            self.line(place);
            self.put(format_args!("</g>\n"));
        }
        for (node, place) in flow.nodes.iter().zip(&placed.nodes) {
            self.node(node, place, ran);
        }
        for (edge, place) in edges() {
            let (Some(label), Some(full)) = (&place.label, &edge.label) else {
                continue;
            };
            self.put(format_args!(
                "<g class=\"{}\"><title>{}</title><rect class=\"plate\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>\n",
                edge_class(edge.kind, edge.taken, ran),
                xml(full),
                number(label.x - label.width / 2.0),
                number(label.y - label.height / 2.0),
                number(label.width),
                number(label.height),
            ));
            let mut y = label.y - label.height / 2.0 + DETAIL_LINE - 3.0;
            for line in &label.lines {
                self.centred("label", label.x, y, line);
                y += DETAIL_LINE;
            }
            self.put(format_args!("</g>\n"));
        }
    }

    fn line(&mut self, edge: &PlacedEdge) {
        let mut path = String::new();
        let (x, y) = edge.tip;
        // The line ends inside the arrow's head.
        let (tip, head) = match edge.heading {
            Heading::Down => ((x, y - 5.0), [(-4.5, -8.5), (4.5, -8.5)]),
            Heading::Up => ((x, y + 5.0), [(-4.5, 8.5), (4.5, 8.5)]),
            Heading::Left => ((x + 5.0, y), [(8.5, -4.5), (8.5, 4.5)]),
        };
        let last = edge.path.len().saturating_sub(1);
        for (at, segment) in edge.path.iter().enumerate() {
            let ends = |point: (f64, f64)| if at == last { tip } else { point };
            let pair = |(x, y): (f64, f64)| format!("{},{}", number(x), number(y));
            let step = match *segment {
                Segment::Start(x, y) => format!("M{}", pair((x, y))),
                Segment::Line(x, y) => format!("L{}", pair(ends((x, y)))),
                Segment::Curve(a, b, c) => format!("C{} {} {}", pair(a), pair(b), pair(ends(c))),
            };
            path.push_str(&step);
        }
        self.put(format_args!(
            "<path class=\"edge\" d=\"{path}\"/><path class=\"tip\" d=\"M{},{}l{},{}L{},{}z\"/>",
            number(x),
            number(y),
            number(head[0].0),
            number(head[0].1),
            number(x + head[1].0),
            number(y + head[1].1),
        ));
    }

    fn node(&mut self, node: &Node, place: &PlacedNode, ran: bool) {
        let mut class = kind_class(node.kind).to_owned();
        if !place.flows.is_empty() {
            class.push_str(" cluster");
        }
        if let Some(mark) = &node.mark {
            let _ = write!(class, " {}", mark.status.class());
        }
        self.put(format_args!(
            "<g class=\"{class}\" transform=\"translate({},{})\">\n<title>{}</title>\n",
            number(place.x),
            number(place.y),
            xml(&tooltip(node)),
        ));
        match node.kind {
            Kind::Start | Kind::End => self.terminal(node.kind, place),
            _ => self.state(node, place),
        }
        for ((x, y, inner), flow) in place.flows.iter().zip(&node.flows) {
            self.put(format_args!(
                "<g transform=\"translate({},{})\">\n<rect class=\"inner\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n",
                number(*x),
                number(*y),
                number(inner.width),
                number(inner.height)
            ));
            self.flow(flow, inner, ran);
            self.put(format_args!("</g>\n"));
        }
        self.put(format_args!("</g>\n"));
    }

    fn terminal(&mut self, kind: Kind, place: &PlacedNode) {
        let middle = number(place.width / 2.0);
        if kind == Kind::End {
            let radius = number(place.width / 2.0 - 2.0);
            self.put(format_args!(
                "<circle class=\"ring\" cx=\"{middle}\" cy=\"{middle}\" r=\"{radius}\"/>\n"
            ));
        }
        let radius = if kind == Kind::End {
            5.0
        } else {
            place.width / 2.0 - 3.0
        };
        self.put(format_args!(
            "<circle class=\"dot\" cx=\"{middle}\" cy=\"{middle}\" r=\"{}\"/>\n",
            number(radius)
        ));
    }

    fn state(&mut self, node: &Node, place: &PlacedNode) {
        let (width, height) = (place.width, place.height);
        if node.kind == Kind::Choice {
            self.put(format_args!(
                "<path class=\"box\" d=\"M{CUT},0H{}L{},{}L{},{}H{CUT}L0,{}z\"/>\n",
                number(width - CUT),
                number(width),
                number(height / 2.0),
                number(width - CUT),
                number(height),
                number(height / 2.0),
            ));
        } else {
            self.put(format_args!(
                "<rect class=\"box\" width=\"{}\" height=\"{}\" rx=\"{}\"/>\n",
                number(width),
                number(height),
                if place.flows.is_empty() { 7 } else { 10 },
            ));
        }
        let middle = width / 2.0;
        let mut y = PADDING * if place.flows.is_empty() { 0.75 } else { 1.0 } + NAME_LINE - 4.5;
        for line in &place.text.name {
            self.centred("name", middle, y, line);
            y += NAME_LINE;
        }
        y -= NAME_LINE - DETAIL_LINE;
        for line in &place.text.details {
            self.centred("detail", middle, y, line);
            y += DETAIL_LINE;
        }
        if let Some(badge) = &place.text.badge {
            self.centred("badge", middle, y, badge);
        }
        if let Some(mark) = &node.mark {
            let cut = if node.kind == Kind::Choice { CUT } else { 0.0 };
            self.sign(mark.status, width - cut);
        }
    }

    /// A sign in the upper right corner, for those who do not tell the colours apart.
    fn sign(&mut self, status: Status, width: f64) {
        let path = match status {
            Status::NotReached => return,
            Status::Succeeded => "m-4,0l3,3l5,-6",
            Status::Caught => "m-4,3l4,-7l4,7zm4,-4v2",
            Status::Failed => "m-3,-3l6,6m0,-6l-6,6",
            Status::TimedOut => "m0,-4a4,4 0 1 0 0.01,0m0,1.5v2.5l2,1",
            Status::Aborted => "m-3,-3h6v6h-6z",
            Status::Running => "m-2,-4l5,4l-5,4z",
        };
        self.put(format_args!(
            "<path class=\"sign\" d=\"M{},10{path}\"/>\n",
            number(width - 11.0)
        ));
    }

    fn legend(&mut self, statuses: &[Status], y: f64) {
        let mut x = MARGIN;
        for status in statuses {
            self.put(format_args!(
                "<g class=\"{}\" transform=\"translate({},{})\"><rect class=\"box\" width=\"22\" height=\"20\" rx=\"4\"/>",
                status.class(),
                number(x),
                number(y - 14.0),
            ));
            self.sign(*status, 22.0);
            self.put(format_args!("</g>\n"));
            self.text("key", x + 28.0, y, status.name());
            x += key_width(*status);
        }
    }
}

/// Everything about a state, for whoever points at it.
fn tooltip(node: &Node) -> String {
    let mut lines = vec![node.name.clone()];
    lines.extend(node.details.iter().cloned());
    lines.extend(node.comment.clone());
    if let Some(mark) = &node.mark {
        let badge = mark
            .badge
            .iter()
            .map(|badge| format!(", {badge}"))
            .collect::<String>();
        lines.push(format!("{}{badge}", mark.status.name()));
        lines.extend(mark.notes.iter().cloned());
    }
    lines.join("\n")
}

fn edge_class(kind: EdgeKind, taken: bool, ran: bool) -> &'static str {
    match (kind == EdgeKind::Catch, taken, ran) {
        (false, true, _) => "way taken",
        (true, true, _) => "way catch taken",
        (false, false, true) => "way untaken",
        (true, false, true) => "way catch untaken",
        (false, false, false) => "way",
        (true, false, false) => "way catch",
    }
}

const fn kind_class(kind: Kind) -> &'static str {
    match kind {
        Kind::Start | Kind::End => "terminal",
        Kind::Missing => "missing",
        Kind::Task => "task",
        Kind::Pass => "pass",
        Kind::Choice => "choice",
        Kind::Wait => "wait",
        Kind::Succeed => "succeed",
        Kind::Fail => "fail",
        Kind::Parallel => "parallel",
        Kind::Map => "map",
        Kind::Unknown => "unknown",
    }
}

/// A coordinate with one decimal at most.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}
