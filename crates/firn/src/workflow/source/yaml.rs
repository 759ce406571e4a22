//! YAML 1.2, of which a definition needs what JSON has too: texts, numbers, lists, and maps with
//! texts as keys. Plain texts mean what the core schema says.
//! <https://yaml.org/spec/1.2.2/#103-core-schema>

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

use super::{Placeholders, Source, SourceError, below};

/// Values inside values. JSON is not read deeper either.
const MAX_DEPTH: usize = 128;
/// Values that aliases may stand for, all together.
const MAX_ALIASED: usize = 50_000;

pub fn read(text: &str, placeholders: &mut Placeholders<'_>) -> Result<Source, SourceError> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        placeholders,
        lines: BTreeMap::new(),
        anchors: BTreeMap::new(),
        aliased: 0,
    };
    let mut value = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::DocumentStart(_), span) if value.is_some() => {
                return Err(wrong(
                    span.start,
                    "a definition is one document, not several",
                ));
            }
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                value = Some(reader.value(event, span, "", 0)?);
            }
            _ => {}
        }
    }
    let lines = reader.lines;
    let value = value.unwrap_or(Value::Null);
    Ok(Source {
        text: value.to_string(),
        value,
        open: Vec::new(),
        lines,
    })
}

struct Reader<'a, 'p, 'q> {
    events: Parser<'a, StrInput<'a>>,
    placeholders: &'q mut Placeholders<'p>,
    lines: BTreeMap<String, usize>,
    anchors: BTreeMap<usize, Value>,
    aliased: usize,
}

impl<'a> Reader<'a, '_, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SourceError> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(wrong(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(
        &mut self,
        event: Event<'a>,
        span: Span,
        pointer: &str,
        depth: usize,
    ) -> Result<Value, SourceError> {
        if depth > MAX_DEPTH {
            return Err(wrong(span.start, "values are nested too deeply"));
        }
        let line = span.start.line();
        self.lines.entry(pointer.to_owned()).or_insert(line);
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, self.scalar(&text, style, tag.as_deref(), span)?)
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(pointer, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(pointer, depth)?),
            Event::Alias(anchor) => (0, self.alias(anchor, span)?),
            _ => return Err(wrong(span.start, "a value was expected")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn sequence(&mut self, pointer: &str, depth: usize) -> Result<Value, SourceError> {
        let mut elements = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(elements));
            }
            let inner = format!("{pointer}/{}", elements.len());
            elements.push(self.value(event, span, &inner, depth + 1)?);
        }
    }

    fn mapping(&mut self, pointer: &str, depth: usize) -> Result<Value, SourceError> {
        let mut members = Map::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Value::Object(members)),
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return Err(wrong(span.start, "a key must be a text")),
            };
            let inner = below(pointer, &name);
            self.lines.insert(inner.clone(), span.start.line());
            let (event, value_span) = self.next()?;
            let value = self.value(event, value_span, &inner, depth + 1)?;
            if members.insert(name, value).is_some() {
                return Err(wrong(span.start, "this key is there twice"));
            }
        }
    }

    /// What an anchor names; anchors inside it count each time.
    fn alias(&mut self, anchor: usize, span: Span) -> Result<Value, SourceError> {
        let Some(value) = self.anchors.get(&anchor) else {
            return Err(wrong(span.start, "an alias must stand behind its anchor"));
        };
        self.aliased += size(value);
        if self.aliased > MAX_ALIASED {
            return Err(wrong(span.start, "aliases stand for too many values"));
        }
        Ok(value.clone())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<Value, SourceError> {
        let text = self.placeholders.fill(text, str::to_owned);
        let kind = match tag {
            Some(tag) if tag.is_yaml_core_schema() => Some(tag.suffix.as_str()),
            // `!Sub` and the like mean something to CloudFormation only.
            Some(tag) => {
                let message = format!("the tag {}{} means nothing here", tag.handle, tag.suffix);
                return Err(wrong(span.start, &message));
            }
            None => None,
        };
        match (kind, style) {
            (Some("str"), _) => Ok(Value::String(text)),
            (None, ScalarStyle::Plain) => Ok(plain(text)),
            (None, _) => Ok(Value::String(text)),
            (Some("null" | "bool" | "int" | "float"), _) => Ok(plain(text)),
            (Some(other), _) => Err(wrong(
                span.start,
                &format!("the tag !!{other} means nothing here"),
            )),
        }
    }
}

/// How many values a value holds.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        _ => 0,
    }
}

fn plain(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    match number(&text) {
        Some(number) => Value::Number(number),
        None => Value::String(text),
    }
}

fn number(text: &str) -> Option<Number> {
    let radix = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix)?;
        let digits = digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric())
            .then_some(digits)?;
        u64::from_str_radix(digits, radix).ok()
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Some(number.into());
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
    {
        return None;
    }
    Number::from_f64(text.parse::<f64>().ok()?)
}

fn wrong(at: Marker, message: &str) -> SourceError {
    SourceError::Syntax {
        line: at.line(),
        column: at.col() + 1,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_texts_mean_what_the_core_schema_says() {
        let all = [
            "5",
            "-1.5e3",
            "0x1F",
            "+7",
            ".5",
            "yes",
            "1.2.3",
            "~",
            "True",
            "2024-01-01",
            ".inf",
            "1e400",
        ];
        let values = all.map(|text| plain(text.to_owned()));
        let expected = json!([
            5,
            -1500.0,
            31,
            7,
            0.5,
            "yes",
            "1.2.3",
            null,
            true,
            "2024-01-01",
            ".inf",
            "1e400"
        ]);
        assert_eq!(Value::Array(values.to_vec()), expected);
    }
}
