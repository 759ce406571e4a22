//! From text to a tree.

use super::{ExpressionError, Function, Node, Operator};

/// Deeper expressions are refused, which bounds the stack.
const MAX_DEPTH: u32 = 64;

/// Functions that AWS has besides those that are served.
const OTHERS: &[&str] = &[
    "ANOMALY_DETECTION_BAND",
    "DATAPOINT_COUNT",
    "DAY",
    "DB_PERF_INSIGHTS",
    "DIFF_TIME",
    "EPOCH",
    "FIRST",
    "HOUR",
    "INSIGHT_RULE_METRIC",
    "LAMBDA",
    "LAST",
    "LOG",
    "LOG10",
    "MINUTE",
    "MONTH",
    "REMOVE_EMPTY",
    "SEARCH",
    "SERVICE_QUOTA",
    "SLICE",
    "SORT",
    "YEAR",
    "TIMESTAMP",
    "SELECT",
];

pub(super) fn parse(text: &str) -> Result<Node, ExpressionError> {
    let trimmed = text.trim_start();
    let select = trimmed
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("select"));
    if select && trimmed[6..].starts_with(char::is_whitespace) {
        return Err(ExpressionError::NotSupported(
            "Metrics Insights queries".to_owned(),
        ));
    }
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let node = parser.binary(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.unexpected());
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

/// Operators by how tightly they bind, loosest first. Longer ones come before their beginnings.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("OR", Operator::Or), ("||", Operator::Or)],
    &[("AND", Operator::And), ("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide)],
    &[("^", Operator::Power)],
];

impl<'a> Parser<'a> {
    fn binary(&mut self, level: usize) -> Result<Node, ExpressionError> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            let right = self.binary(level + 1)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        self.skip_space();
        for (text, operator) in operators {
            if !self.rest().starts_with(text) {
                continue;
            }
            let after = self.rest()[text.len()..].chars().next();
            let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic());
            if is_word && after.is_some_and(is_name) {
                continue;
            }
            self.at += text.len();
            return Some(*operator);
        }
        None
    }

    fn unary(&mut self) -> Result<Node, ExpressionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(invalid("The expression is nested too deeply"));
        }
        let node = if self.take('-') {
            Node::Negative(Box::new(self.unary()?))
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, ExpressionError> {
        self.skip_space();
        match self.rest().chars().next() {
            Some('(') => {
                self.at += 1;
                let node = self.binary(0)?;
                self.expect(')')?;
                Ok(node)
            }
            Some('[') => {
                self.at += 1;
                self.list(']').map(Node::Array)
            }
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some('0'..='9' | '.') => self.number(),
            Some('a'..='z' | 'A'..='Z') => self.named(),
            _ => Err(self.unexpected()),
        }
    }

    fn named(&mut self) -> Result<Node, ExpressionError> {
        let rest = self.rest();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        self.at += end;
        if self.take('(') {
            let arguments = self.list(')')?;
            return match Function::named(name) {
                Some(function) => Ok(Node::Call(function, arguments)),
                None if OTHERS.contains(&name) => Err(ExpressionError::NotSupported(format!(
                    "the function {name}"
                ))),
                None => Err(invalid(format!("Unknown function {name}"))),
            };
        }
        // Ids begin with a lower-case letter; `REPEAT` and `LINEAR` are FILL's.
        if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            Ok(Node::Id(name.to_owned()))
        } else {
            Ok(Node::Text(name.to_owned()))
        }
    }

    fn list(&mut self, end: char) -> Result<Vec<Node>, ExpressionError> {
        let mut nodes = Vec::new();
        if self.take(end) {
            return Ok(nodes);
        }
        loop {
            nodes.push(self.binary(0)?);
            if self.take(end) {
                return Ok(nodes);
            }
            self.expect(',')?;
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Node, ExpressionError> {
        let content = &self.rest()[1..];
        let end = content
            .find(quote)
            .ok_or_else(|| invalid("A string is not closed"))?;
        let text = content[..end].to_owned();
        self.at += end + 2;
        Ok(Node::Text(text))
    }

    fn number(&mut self) -> Result<Node, ExpressionError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let value: f64 = rest[..end].parse().map_err(|_| self.unexpected())?;
        self.at += end;
        Ok(Node::Number(value))
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), ExpressionError> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn unexpected(&self) -> ExpressionError {
        match self.rest().chars().next() {
            Some(found) => invalid(format!("Unexpected character {found} at {}", self.at + 1)),
            None => invalid("Unexpected end of the expression"),
        }
    }
}

fn invalid(text: impl Into<String>) -> ExpressionError {
    ExpressionError::Invalid(text.into())
}

const fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ABS" => Self::Abs,
            "AVG" => Self::Avg,
            "CEIL" => Self::Ceil,
            "DIFF" => Self::Diff,
            "FILL" => Self::Fill,
            "FLOOR" => Self::Floor,
            "IF" => Self::If,
            "MAX" => Self::Max,
            "METRIC_COUNT" => Self::MetricCount,
            "METRICS" => Self::Metrics,
            "MIN" => Self::Min,
            "PERIOD" => Self::Period,
            "RATE" => Self::Rate,
            "RUNNING_SUM" => Self::RunningSum,
            "STDDEV" => Self::Stddev,
            "SUM" => Self::Sum,
            "TIME_SERIES" => Self::TimeSeries,
            _ => return None,
        })
    }
}
