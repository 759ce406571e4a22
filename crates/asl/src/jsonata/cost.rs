//! What an expression may cost, found when it is parsed.
//!
//! An expression that cannot become large is evaluated where it stands; the others go to a process
//! with a memory limit ([`super::elsewhere`]). Which is which follows from the expression's tree
//! and the size of the data, before anything is evaluated.
//!
//! # Units
//!
//! The *size* of a value is 8 for each value in it, itself included, plus the bytes of its texts
//! and names, as in [`crate::budget`]. So a value of size `s` has at most `s / 8` elements, and no
//! part of it is larger than it. *Work* is the size of all values that an evaluation makes or looks
//! at. As an evaluation allocates nothing that it does not fill, its memory is at most
//! proportional to its work, and so is its time.
//!
//! # The bound
//!
//! [`Bound::of`] computes for every node a bound of its result's size and of its work, as
//! polynomials of `d`, the size of all data that is bound (`$states` and variables). By induction
//! over the tree:
//!
//! - A literal has its own size. A reference to data has at most `d`: data is a tree, and a step
//!   by a field's name, with whatever predicates, gives disjoint parts of what it is applied to.
//! - A constructor, a conditional, and an operator give at most the sum of their operands and 8. `&`
//!   gives at most the sum of their texts; the text of a value that is no text is JSON, where a
//!   byte becomes at most six (`\u0000`), and a number, which counts 8, at most 25.
//! - A function of [`FUNCTIONS`] gives at most what its row says.
//! - A step that computes something, or a predicate, is evaluated once per element. With a bound of
//!   `a + b·c` for an element of size `c`, and all elements together of size `s`, the sum over the
//!   elements is at most `(a / 8 + b)·s`. This is why bounds have a second part, for what is
//!   proportional to the context item `$`.
//! - `$x := …` is looked at in the outermost block only, where each is evaluated once; what refers
//!   to the variable has the bound of its value.
//!
//! The work of a node is that of its children, and the sizes of its operands and its result.
//!
//! What has no row here has no bound: functions of the expression's own (and with them recursion),
//! functions that take functions, regular expressions, `$pad`, `$replace`, ranges, `**`, sorting,
//! grouping, transforming, and everything that the library may learn in the future. Nor has what
//! grows faster than the square of the data.

use std::collections::BTreeMap;

use jsonata_core::ast::{AstNode, BinaryOp, PathStep, Stage};
use serde_json::Value;

use crate::budget::COST_OF_VALUE;

#[cfg(test)]
mod tests;

/// How large a result may be that is made in this process. As values it takes about ten bytes for
/// each of these, and as text at most six.
const MAX_RESULT_HERE: u64 = 4 << 20;
/// The work that may be done in this process. What is made on the way shares what it is made of,
/// and takes about four bytes for each of these; and a few nanoseconds.
const MAX_WORK_HERE: u64 = 16 << 20;
/// An expression is light if its work is at most this times the data.
const MAX_LIGHT_FACTOR: u64 = 256;

/// The most that a byte, or a value's eight, becomes in JSON.
const AS_JSON: u64 = 6;
const VALUE: u64 = COST_OF_VALUE as u64;

/// `p0 + p1·d + p2·d²`, where everything too large is `u64::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Poly([u64; 3]);

impl Poly {
    const fn fixed(value: u64) -> Self {
        Self([value, 0, 0])
    }

    /// All data.
    const DATA: Self = Self([0, 1, 0]);

    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|power| {
            self.0[power].saturating_add(other.0[power])
        }))
    }

    /// An eighth, rounded up.
    fn count(self) -> Self {
        Self(self.0.map(|part| part.div_ceil(VALUE)))
    }

    /// `None` for what grows faster than the square.
    fn times(self, other: Self) -> Option<Self> {
        let mut product = [0_u64; 3];
        for (power, mine) in self.0.into_iter().enumerate() {
            for (other_power, theirs) in other.0.into_iter().enumerate() {
                if mine == 0 || theirs == 0 {
                    continue;
                }
                let part = product.get_mut(power + other_power)?;
                *part = part.saturating_add(mine.saturating_mul(theirs));
            }
        }
        Some(Self(product))
    }

    fn at(self, data: u64) -> u64 {
        let [fixed, linear, square] = self.0;
        square
            .saturating_mul(data)
            .saturating_add(linear)
            .saturating_mul(data)
            .saturating_add(fixed)
    }
}

/// At most `base`, and `factor` times the size of the context item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    base: Poly,
    factor: Poly,
}

impl Amount {
    const fn fixed(value: u64) -> Self {
        Self::of(Poly::fixed(value))
    }

    const fn of(base: Poly) -> Self {
        Self {
            base,
            factor: Poly([0; 3]),
        }
    }

    /// The context item.
    const ITEM: Self = Self {
        base: Poly([0; 3]),
        factor: Poly([1, 0, 0]),
    };

    fn plus(self, other: Self) -> Self {
        Self {
            base: self.base.plus(other.base),
            factor: self.factor.plus(other.factor),
        }
    }

    fn scaled(self, factor: u64) -> Self {
        self.times(Poly::fixed(factor)).unwrap_or(self)
    }

    fn times(self, factor: Poly) -> Option<Self> {
        Some(Self {
            base: self.base.times(factor)?,
            factor: self.factor.times(factor)?,
        })
    }

    /// The sum over elements that have this size together, of something that is `each` for one.
    fn sum_of(self, each: Self) -> Option<Self> {
        self.times(each.base.count().plus(each.factor))
    }

    /// With a context item of a known size.
    fn with_item(self, item: Poly) -> Option<Poly> {
        Some(self.base.plus(self.factor.times(item)?))
    }
}

/// What is known of a node.
#[derive(Clone, Copy, Debug)]
struct Node {
    size: Amount,
    work: Amount,
    /// Its value is a text, or nothing.
    is_text: bool,
}

impl Node {
    /// A value that is made of nothing else.
    fn leaf(size: Amount) -> Self {
        Self {
            size,
            work: size,
            is_text: false,
        }
    }

    /// The size of its text.
    fn text(&self) -> Amount {
        match self.is_text {
            true => self.size,
            false => self.size.scaled(AS_JSON),
        }
    }
}

/// How large a function's result can be, beside the 8 of the value itself.
#[derive(Clone, Copy)]
enum Growth {
    /// As all arguments together.
    Same,
    /// So many times that.
    Times(u64),
    /// No larger than this.
    Fixed(u64),
    /// The text of the first argument.
    Text,
    /// The second argument between the elements of the first.
    Joined,
    /// As the arguments together; each element is compared with all others.
    Compared,
}

/// The functions with a bound: their largest number of arguments, how their result grows, and
/// whether that is a text.
const FUNCTIONS: &[(&str, usize, Growth, bool)] = &[
    ("abs", 1, Growth::Fixed(0), false),
    ("append", 2, Growth::Same, false),
    ("average", 1, Growth::Fixed(0), false),
    ("base64decode", 1, Growth::Times(3), true),
    ("base64encode", 1, Growth::Times(2), true),
    ("boolean", 1, Growth::Fixed(0), false),
    ("ceil", 1, Growth::Fixed(0), false),
    ("contains", 2, Growth::Fixed(0), false),
    ("count", 1, Growth::Fixed(0), false),
    ("decodeUrl", 1, Growth::Times(3), true),
    ("decodeUrlComponent", 1, Growth::Times(3), true),
    ("distinct", 1, Growth::Compared, false),
    ("encodeUrl", 1, Growth::Times(3), true),
    ("encodeUrlComponent", 1, Growth::Times(3), true),
    ("error", 1, Growth::Same, false),
    ("exists", 1, Growth::Fixed(0), false),
    ("floor", 1, Growth::Fixed(0), false),
    ("fromMillis", 1, Growth::Fixed(64), true),
    // The longest is SHA-512 in hexadecimal digits.
    ("hash", 2, Growth::Fixed(128), true),
    ("join", 2, Growth::Joined, true),
    // Of an array of objects, a name is looked for among all that were found.
    ("keys", 1, Growth::Compared, false),
    ("length", 1, Growth::Fixed(0), false),
    ("lookup", 2, Growth::Same, false),
    ("lowercase", 1, Growth::Times(3), true),
    ("max", 1, Growth::Fixed(0), false),
    ("merge", usize::MAX, Growth::Same, false),
    ("millis", 0, Growth::Fixed(0), false),
    ("min", 1, Growth::Fixed(0), false),
    ("not", 1, Growth::Fixed(0), false),
    ("now", 0, Growth::Fixed(64), true),
    ("number", 1, Growth::Fixed(0), false),
    // `[[[[` are four values of one byte each.
    ("parse", 1, Growth::Times(8), false),
    ("partition", 2, Growth::Times(2), false),
    ("power", 2, Growth::Fixed(0), false),
    ("random", 1, Growth::Fixed(0), false),
    ("reverse", 1, Growth::Same, false),
    ("round", 2, Growth::Fixed(0), false),
    // Every character may become a value.
    ("split", 2, Growth::Times(9), false),
    ("sqrt", 1, Growth::Fixed(0), false),
    ("string", 1, Growth::Text, true),
    ("substring", 3, Growth::Same, true),
    ("substringAfter", 2, Growth::Same, true),
    ("substringBefore", 2, Growth::Same, true),
    ("sum", 1, Growth::Fixed(0), false),
    ("toMillis", 1, Growth::Fixed(0), false),
    ("trim", 1, Growth::Same, true),
    ("type", 1, Growth::Fixed(16), true),
    ("uppercase", 1, Growth::Times(3), true),
    ("uuid", 0, Growth::Fixed(64), true),
];

/// What evaluating an expression costs at most; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    result: Poly,
    work: Poly,
}

impl Bound {
    /// `None` for an expression that nothing is known of.
    pub fn of(tree: &AstNode) -> Option<Self> {
        let mut names = BTreeMap::new();
        let (tree, before) = Analysis::assignments(tree, &mut names)?;
        let analysis = Analysis {
            names: &names,
            item: Poly::fixed(VALUE),
            repeated: false,
            depth: MAX_DEPTH,
        };
        let node = analysis.node(tree)?;
        let item = Poly::fixed(VALUE);
        Some(Self {
            result: node.size.with_item(item)?,
            // All data is bound first.
            work: before
                .plus(Poly::DATA)
                .plus(node.work.with_item(item)?)
                .plus(node.size.with_item(item)?),
        })
    }

    /// The largest that the result can be, with data of this size.
    pub fn result(self, data: usize) -> u64 {
        self.result.at(data as u64)
    }

    /// Whether the expression is small enough for this process, with data of this size.
    pub fn is_small(self, data: usize) -> bool {
        self.result(data) <= MAX_RESULT_HERE && self.work.at(data as u64) <= MAX_WORK_HERE
    }

    /// Whether it is evaluated quickly with whatever data executions have.
    pub fn is_light(self) -> bool {
        let [fixed, linear, square] = self.work.0;
        square == 0 && linear <= MAX_LIGHT_FACTOR && fixed <= MAX_WORK_HERE / 4
    }
}

/// The size of a value. Given up, as `None`, where the work alone of binding it would be too much.
pub fn size(values: &[&Value]) -> Option<usize> {
    let mut left = usize::try_from(MAX_WORK_HERE).unwrap_or(usize::MAX);
    let most = left;
    for value in values {
        take(value, &mut left)?;
    }
    Some(most - left)
}

fn take(value: &Value, left: &mut usize) -> Option<()> {
    let own = match value {
        Value::String(text) => text.len(),
        _ => 0,
    };
    *left = left.checked_sub(own + COST_OF_VALUE)?;
    match value {
        Value::Array(elements) => elements.iter().try_for_each(|element| take(element, left)),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            *left = left.checked_sub(name.len())?;
            take(member, left)
        }),
        _ => Some(()),
    }
}

/// Nodes inside of one another that are looked at; the parser allows a thousand, which is more than
/// fits the stack here.
const MAX_DEPTH: usize = 128;

#[derive(Clone, Copy)]
struct Analysis<'t> {
    /// What the expression has named itself.
    names: &'t BTreeMap<&'t str, Named>,
    /// The size of the context item.
    item: Poly,
    /// There is a context item: something is evaluated once per element.
    repeated: bool,
    /// How much deeper it may go.
    depth: usize,
}

#[derive(Clone, Copy)]
struct Named {
    size: Poly,
    is_text: bool,
}

impl<'t> Analysis<'t> {
    /// Takes in the assignments of the outermost block. Gives what is evaluated last, and the work
    /// before it.
    fn assignments(
        tree: &'t AstNode,
        names: &mut BTreeMap<&'t str, Named>,
    ) -> Option<(&'t AstNode, Poly)> {
        let AstNode::Block(statements) = outermost(tree) else {
            return Some((tree, Poly::default()));
        };
        let (last, before) = statements.split_last()?;
        let mut work = Poly::default();
        for statement in before {
            let (name, value) = match statement {
                AstNode::Binary {
                    op: BinaryOp::ColonEqual,
                    lhs,
                    rhs,
                } => match &**lhs {
                    AstNode::Variable(name) => (Some(name.as_str()), &**rhs),
                    _ => return None,
                },
                other => (None, other),
            };
            let analysis = Analysis {
                names,
                item: Poly::fixed(VALUE),
                repeated: false,
                depth: MAX_DEPTH,
            };
            let node = analysis.node(value)?;
            work = work.plus(node.work.with_item(Poly::fixed(VALUE))?);
            let size = node.size.with_item(Poly::fixed(VALUE))?;
            if let Some(name) = name {
                let is_text = node.is_text;
                names.insert(name, Named { size, is_text });
            }
        }
        Some((last, work))
    }

    fn node(&self, node: &AstNode) -> Option<Node> {
        let inside = Self {
            depth: self.depth.checked_sub(1)?,
            ..*self
        };
        inside.parts(node)
    }

    fn parts(&self, node: &AstNode) -> Option<Node> {
        match node {
            AstNode::String(text) => Some(Node {
                is_text: true,
                ..Node::leaf(Amount::fixed(VALUE + text.len() as u64))
            }),
            AstNode::Number(_) | AstNode::Boolean(_) | AstNode::Null | AstNode::Undefined => {
                Some(Node::leaf(Amount::fixed(VALUE)))
            }
            AstNode::Variable(name) => Some(Node {
                // Values are shared.
                work: Amount::fixed(VALUE),
                ..self.variable(name)
            }),
            AstNode::Name(_) => Some(Node::leaf(Amount::ITEM.plus(Amount::fixed(VALUE)))),
            AstNode::Path { steps } => self.path(steps),
            AstNode::Binary { op, lhs, rhs } => self.binary(*op, lhs, rhs),
            AstNode::Unary { operand, .. } => self.all([&**operand], |_| Amount::default()),
            AstNode::Function {
                name,
                args,
                is_builtin: true,
            } => self.function(name, &self.nodes(args)?),
            AstNode::Array(items) | AstNode::ArrayGroup(items) => self.all(items, sum),
            // What is assigned further inside might be assigned once per element.
            AstNode::Block(items) => self.all(items, sum),
            AstNode::FunctionApplication(inner) => self.node(inner),
            AstNode::Object(pairs) => {
                let parts = pairs.iter().flat_map(|(key, value)| [key, value]);
                let once = self.all(parts, sum)?;
                // An array as the context item is grouped: once per element, then.
                self.also_per_element(once)
            }
            AstNode::Conditional {
                condition,
                then_branch,
                else_branch,
            } => {
                let parts = [&**condition, &**then_branch];
                self.all(parts.into_iter().chain(else_branch.as_deref()), sum)
            }
            AstNode::Function { .. }
            | AstNode::Placeholder
            | AstNode::Regex { .. }
            | AstNode::ParentVariable(_)
            | AstNode::Call { .. }
            | AstNode::Lambda { .. }
            | AstNode::ObjectTransform { .. }
            | AstNode::Wildcard
            | AstNode::Descendant
            | AstNode::Parent(_)
            | AstNode::Sort { .. }
            | AstNode::Transform { .. } => None,
        }
    }

    fn variable(&self, name: &str) -> Node {
        if name.is_empty() {
            return Node::leaf(Amount::ITEM.plus(Amount::fixed(VALUE)));
        }
        match self.names.get(name) {
            Some(named) => Node {
                is_text: named.is_text,
                ..Node::leaf(Amount::of(named.size))
            },
            // What is not there is nothing, and a function's name is a value without a text.
            None => Node::leaf(Amount::of(Poly::DATA.plus(Poly::fixed(VALUE)))),
        }
    }

    /// A node that evaluates all of these once.
    fn all<'n>(
        &self,
        parts: impl IntoIterator<Item = &'n AstNode>,
        result: impl FnOnce(&[Node]) -> Amount,
    ) -> Option<Node> {
        let parts: Vec<Node> = parts
            .into_iter()
            .map(|part| self.node(part))
            .collect::<Option<_>>()?;
        let size = result(&parts).plus(Amount::fixed(VALUE));
        let mut work = size.plus(sum(&parts));
        for part in &parts {
            work = work.plus(part.work);
        }
        Some(Node {
            size,
            work,
            is_text: false,
        })
    }

    fn binary(&self, op: BinaryOp, lhs: &AstNode, rhs: &AstNode) -> Option<Node> {
        let both = [lhs, rhs];
        match op {
            BinaryOp::Add
            | BinaryOp::Subtract
            | BinaryOp::Multiply
            | BinaryOp::Divide
            | BinaryOp::Modulo
            | BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::LessThan
            | BinaryOp::LessThanOrEqual
            | BinaryOp::GreaterThan
            | BinaryOp::GreaterThanOrEqual
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::In => self.all(both, |_| Amount::default()),
            BinaryOp::Coalesce | BinaryOp::Default => self.all(both, sum),
            BinaryOp::Concatenate => {
                let made = self.all(both, |parts| {
                    parts
                        .iter()
                        .fold(Amount::default(), |all, part| all.plus(part.text()))
                })?;
                Some(Node {
                    is_text: true,
                    ..made
                })
            }
            BinaryOp::ChainPipe => match rhs {
                AstNode::Function {
                    name,
                    args,
                    is_builtin: true,
                } => {
                    let first = self.node(lhs)?;
                    let mut all = vec![first];
                    all.extend(self.nodes(args)?);
                    let mut made = self.function(name, &all)?;
                    // The library makes a copy of the tree on the left. Its evaluation is more
                    // work than that.
                    made.work = made.work.plus(first.work);
                    Some(made)
                }
                _ => None,
            },
            BinaryOp::Range | BinaryOp::ColonEqual | BinaryOp::FocusBind | BinaryOp::IndexBind => {
                None
            }
        }
    }

    fn nodes(&self, nodes: &[AstNode]) -> Option<Vec<Node>> {
        nodes.iter().map(|node| self.node(node)).collect()
    }

    /// A call with these arguments.
    fn function(&self, name: &str, parts: &[Node]) -> Option<Node> {
        let (_, most, growth, is_text) = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
        // A name that the expression has given to something else.
        if parts.len() > *most || self.names.contains_key(name) {
            return None;
        }
        // The context item stands in for an argument that is missing.
        let given = sum(parts).plus(Amount::ITEM).plus(Amount::fixed(VALUE));
        let (size, more) = match growth {
            Growth::Same => (given, Amount::default()),
            Growth::Times(factor) => (given.scaled(*factor), Amount::default()),
            Growth::Fixed(most) => (Amount::fixed(*most), Amount::default()),
            Growth::Text => {
                let texts = parts
                    .iter()
                    .fold(Amount::default(), |all, part| all.plus(part.text()));
                let item = Amount::ITEM.plus(Amount::fixed(VALUE)).scaled(AS_JSON);
                (texts.plus(item), Amount::default())
            }
            Growth::Joined => {
                let between = match parts.get(1) {
                    Some(separator) => separator.size.with_item(self.item)?,
                    None => Poly::default(),
                };
                // An eighth of the one is how many elements there are, times the other.
                let separators = given.times(between.count())?;
                (given.plus(separators), Amount::default())
            }
            Growth::Compared => {
                let elements = given.with_item(self.item)?.count();
                (given, given.times(elements)?)
            }
        };
        let size = size.plus(Amount::fixed(VALUE));
        let mut work = size.plus(given).plus(more);
        for part in parts {
            work = work.plus(part.work);
        }
        Some(Node {
            size,
            work,
            is_text: *is_text,
        })
    }

    fn path(&self, steps: &[PathStep]) -> Option<Node> {
        let mut steps = steps.iter();
        let first = steps.next()?;
        let mut at = match &first.node {
            AstNode::Name(_) | AstNode::Variable(_) => self.node(&first.node)?,
            // The first step, too, is done with each element of an array that is the context item.
            other => self.also_per_element(self.node(other)?)?,
        };
        at.work = at.work.plus(self.stages(first, at.size)?);
        for step in steps {
            let before = at.size.plus(Amount::fixed(VALUE));
            let (size, work) = match &step.node {
                AstNode::Name(_) => (before, before),
                other => {
                    let each = self.inside(before)?.node(other)?;
                    let size = before.sum_of(each.size)?;
                    (size, before.sum_of(each.work)?.plus(size))
                }
            };
            at.size = size.plus(Amount::fixed(VALUE));
            at.work = at.work.plus(before).plus(work);
            at.work = at.work.plus(self.stages(step, at.size)?);
        }
        // Texts may have become an array of texts.
        at.is_text = false;
        Some(at)
    }

    /// The work of a step's predicates on elements that have this size together.
    fn stages(&self, step: &PathStep, elements: Amount) -> Option<Amount> {
        let plain = step.focus.is_none()
            && step.index_var.is_none()
            && step.ancestor_label.is_none()
            && !step.is_tuple
            && !step.inner_tuple;
        if !plain {
            return None;
        }
        let mut work = Amount::default();
        for stage in &step.stages {
            match stage {
                Stage::KeepArray => {}
                Stage::Filter(predicate) => {
                    let elements = elements.plus(Amount::fixed(VALUE));
                    let each = self.inside(elements)?.node(predicate)?;
                    let copied = elements.plus(elements);
                    work = work.plus(elements.sum_of(each.work)?).plus(copied);
                }
                Stage::Index(_) => return None,
            }
        }
        Some(work)
    }

    /// With the elements of something as context items.
    fn inside(&self, elements: Amount) -> Option<Self> {
        Some(Self {
            item: elements.with_item(self.item)?,
            repeated: true,
            ..*self
        })
    }

    /// A node that is evaluated with the context item, or with each of its elements.
    fn also_per_element(&self, once: Node) -> Option<Node> {
        if !self.repeated {
            return Some(once);
        }
        let item = Amount::ITEM.plus(Amount::fixed(VALUE));
        Some(Node {
            size: once.size.plus(item.sum_of(once.size)?),
            work: once.work.plus(item.sum_of(once.work)?),
            is_text: false,
        })
    }
}

/// What a parenthesis around everything has in it.
fn outermost(tree: &AstNode) -> &AstNode {
    match tree {
        AstNode::Path { steps } => match steps.as_slice() {
            [only] if only.stages.is_empty() => outermost(&only.node),
            _ => tree,
        },
        AstNode::Block(items) => match items.as_slice() {
            [only @ (AstNode::Block(_) | AstNode::Path { .. })] => outermost(only),
            _ => tree,
        },
        _ => tree,
    }
}

fn sum(parts: &[Node]) -> Amount {
    parts
        .iter()
        .fold(Amount::default(), |all, part| all.plus(part.size))
}
