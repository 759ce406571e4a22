//! What is wrong with an expression before it is evaluated.
//!
//! AWS evaluates expressions without a context item: whatever does not begin with `$states` or a
//! variable is refused when the machine is created. The words are AWS's; those of the parser are
//! jsonata-java's, without their code.

use jsonata_core::ast::{AstNode, BinaryOp, Stage};
use jsonata_core::parser::ParserError;

pub const INVALID: &str = "INVALID_JSONATA_EXPRESSION";
pub const UNSUPPORTED: &str = "UNSUPPORTED_JSONATA_EXPRESSION";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub code: &'static str,
    pub message: String,
}

/// Which parts `$states` has at a place, beside `input` and `context`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub result: bool,
    pub error_output: bool,
}

pub fn syntax(source: &str, error: &ParserError) -> Mistake {
    let message = match error {
        // The parser has one error for both.
        ParserError::UnclosedString if !has_open_text(source) => {
            "No terminating / in regular expression".to_owned()
        }
        ParserError::Expected { expected, found } if expected != "parameter name" => {
            let expected = symbol(expected);
            if found == "Eof" {
                format!("Expected {expected} before end of expression")
            } else {
                format!("Expected {expected}, got {}", symbol(found))
            }
        }
        ParserError::UnexpectedToken(token)
            if token != "Eof" && token.starts_with(char::is_alphabetic) =>
        {
            format!(
                "The symbol {} cannot be used as a unary operator",
                symbol(token)
            )
        }
        other => without_code(&other.to_string()),
    };
    Mistake {
        code: INVALID,
        message,
    }
}

/// An expression that the parser has given up on.
pub fn unreadable() -> Mistake {
    Mistake {
        code: INVALID,
        message: "Syntax error".to_owned(),
    }
}

/// Whether a text between quotes has no end.
fn has_open_text(source: &str) -> bool {
    let mut open = None;
    let mut characters = source.chars();
    while let Some(character) = characters.next() {
        match (open, character) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(quote), end) if quote == end => open = None,
            (None, '"' | '\'') => open = Some(character),
            _ => {}
        }
    }
    open.is_some()
}

/// `S0201: Syntax error` is told without its code.
fn without_code(message: &str) -> String {
    let is_code = |code: &str| {
        code.len() == 5
            && code.starts_with(|c: char| c.is_ascii_uppercase())
            && code[1..].bytes().all(|b| b.is_ascii_digit())
    };
    match message.split_once(": ") {
        Some((code, rest)) if is_code(code) => rest.to_owned(),
        _ => message.to_owned(),
    }
}

/// The sign behind the name that the parser has for it, in quotes.
fn symbol(name: &str) -> String {
    let sign = match name {
        "Plus" => "+",
        "Minus" => "-",
        "Star" => "*",
        "StarStar" => "**",
        "Slash" => "/",
        "Percent" => "%",
        "Equal" => "=",
        "NotEqual" => "!=",
        "LessThan" => "<",
        "LessThanOrEqual" => "<=",
        "GreaterThan" => ">",
        "GreaterThanOrEqual" => ">=",
        "And" => "and",
        "Or" => "or",
        "In" => "in",
        "Ampersand" => "&",
        "Dot" => ".",
        "DotDot" => "..",
        "Question" => "?",
        "QuestionQuestion" => "??",
        "QuestionColon" => "?:",
        "Colon" => ":",
        "ColonEqual" => ":=",
        "TildeArrow" => "~>",
        "LeftParen" => "(",
        "RightParen" => ")",
        "LeftBracket" => "[",
        "RightBracket" => "]",
        "LeftBrace" => "{",
        "RightBrace" => "}",
        "Comma" => ",",
        "Semicolon" => ";",
        "Caret" => "^",
        "Pipe" => "|",
        "Hash" => "#",
        "At" => "@",
        "True" => "true",
        "False" => "false",
        "Null" => "null",
        // `Identifier("x")`, `Number(2.0)` and their like.
        other => return value(other),
    };
    format!("\"{sign}\"")
}

fn value(debug: &str) -> String {
    let inner = debug
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    match inner {
        Some(inner) if inner.starts_with('"') => inner.to_owned(),
        Some(number) => number.strip_suffix(".0").unwrap_or(number).to_owned(),
        None => format!("\"{debug}\""),
    }
}

/// What a tree refers to and must not, each thing once.
pub fn references(tree: &AstNode, offered: Offered) -> Vec<Mistake> {
    let mut walk = Walk {
        offered,
        found: Vec::new(),
    };
    walk.node(tree, true);
    walk.found
}

struct Walk {
    offered: Offered,
    found: Vec<Mistake>,
}

impl Walk {
    fn add(&mut self, message: String) {
        let mistake = Mistake {
            code: UNSUPPORTED,
            message,
        };
        if !self.found.contains(&mistake) {
            self.found.push(mistake);
        }
    }

    fn top(&mut self, name: &str) {
        self.add(format!(
            "Reference to '{name}' at the top level is not supported."
        ));
    }

    fn all<'n>(&mut self, nodes: impl IntoIterator<Item = &'n AstNode>, top: bool) {
        for node in nodes {
            self.node(node, top);
        }
    }

    /// `top` is true where the context item, which is not there, would be looked at.
    fn node(&mut self, node: &AstNode, top: bool) {
        match node {
            AstNode::Name(name) if top => self.top(name),
            AstNode::Wildcard if top => self.top("*"),
            AstNode::Descendant if top => self.top("**"),
            AstNode::Variable(name) if name.is_empty() && top => self.top("$"),
            AstNode::ParentVariable(_) => self.add("Reference to '$$' is not supported.".into()),
            AstNode::Path { steps } => {
                self.member_of_states(steps.first().map(|step| &step.node), steps.get(1));
                for (index, step) in steps.iter().enumerate() {
                    self.node(&step.node, top && index == 0);
                    for stage in &step.stages {
                        if let Stage::Filter(filter) = stage {
                            self.node(filter, false);
                        }
                    }
                }
            }
            AstNode::Binary { op, lhs, rhs } => {
                self.node(lhs, top);
                // What a binding names is no reference.
                if !matches!(op, BinaryOp::FocusBind | BinaryOp::IndexBind) {
                    self.node(rhs, top);
                }
            }
            AstNode::Unary { operand, .. } => self.node(operand, top),
            AstNode::Function { args, .. } => self.all(args, top),
            AstNode::Call { procedure, args } => {
                self.node(procedure, top);
                self.all(args, top);
            }
            // A function sees the context that it was made in.
            AstNode::Lambda { body, .. } => self.node(body, top),
            AstNode::Array(items) | AstNode::Block(items) | AstNode::ArrayGroup(items) => {
                self.all(items, top);
            }
            AstNode::Object(pairs) => self.pairs(pairs, top),
            AstNode::ObjectTransform { input, pattern } => {
                self.node(input, top);
                self.pairs(pattern, false);
            }
            AstNode::Conditional {
                condition,
                then_branch,
                else_branch,
            } => {
                self.node(condition, top);
                self.node(then_branch, top);
                self.all(else_branch.as_deref(), top);
            }
            AstNode::FunctionApplication(inner) => self.node(inner, top),
            AstNode::Sort { input, terms } => {
                self.node(input, top);
                self.all(terms.iter().map(|(term, _)| term), false);
            }
            AstNode::Transform {
                location,
                update,
                delete,
            } => {
                self.node(location, false);
                self.node(update, false);
                self.all(delete.as_deref(), false);
            }
            AstNode::String(_)
            | AstNode::Name(_)
            | AstNode::Number(_)
            | AstNode::Boolean(_)
            | AstNode::Null
            | AstNode::Undefined
            | AstNode::Placeholder
            | AstNode::Regex { .. }
            | AstNode::Variable(_)
            | AstNode::Wildcard
            | AstNode::Descendant
            | AstNode::Parent(_) => {}
        }
    }

    fn pairs(&mut self, pairs: &[(AstNode, AstNode)], top: bool) {
        for (key, value) in pairs {
            self.node(key, top);
            self.node(value, top);
        }
    }

    fn member_of_states(
        &mut self,
        first: Option<&AstNode>,
        second: Option<&jsonata_core::ast::PathStep>,
    ) {
        let (Some(AstNode::Variable(variable)), Some(step)) = (first, second) else {
            return;
        };
        let (true, AstNode::Name(member)) = (variable == "states", &step.node) else {
            return;
        };
        let is_there = match member.as_str() {
            "result" => self.offered.result,
            "errorOutput" => self.offered.error_output,
            _ => true,
        };
        if !is_there {
            self.add(format!("Field '$states.{member}' does not exist."));
        }
    }
}
