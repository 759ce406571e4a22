//! What each function does. The limits are AWS's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use serde_json::{Map, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::scope::{Chance, Seeded};

/// An intrinsic function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Array,
    ArrayContains,
    ArrayGetItem,
    ArrayLength,
    ArrayPartition,
    ArrayRange,
    ArrayUnique,
    Base64Decode,
    Base64Encode,
    Format,
    Hash,
    JsonMerge,
    JsonToString,
    MathAdd,
    MathRandom,
    StringSplit,
    StringToJson,
    Uuid,
}

/// Name, function, and how many arguments it takes: from, to.
const ALL: [(&str, Function, usize, usize); 18] = [
    ("States.Array", Function::Array, 0, usize::MAX),
    ("States.ArrayContains", Function::ArrayContains, 2, 2),
    ("States.ArrayGetItem", Function::ArrayGetItem, 2, 2),
    ("States.ArrayLength", Function::ArrayLength, 1, 1),
    ("States.ArrayPartition", Function::ArrayPartition, 2, 2),
    ("States.ArrayRange", Function::ArrayRange, 3, 3),
    ("States.ArrayUnique", Function::ArrayUnique, 1, 1),
    ("States.Base64Decode", Function::Base64Decode, 1, 1),
    ("States.Base64Encode", Function::Base64Encode, 1, 1),
    ("States.Format", Function::Format, 1, usize::MAX),
    ("States.Hash", Function::Hash, 2, 2),
    ("States.JsonMerge", Function::JsonMerge, 3, 3),
    ("States.JsonToString", Function::JsonToString, 1, 1),
    ("States.MathAdd", Function::MathAdd, 2, 2),
    ("States.MathRandom", Function::MathRandom, 2, 3),
    ("States.StringSplit", Function::StringSplit, 2, 2),
    ("States.StringToJson", Function::StringToJson, 1, 1),
    ("States.UUID", Function::Uuid, 0, 0),
];

const MAX_TEXT: usize = 10_000;
const MAX_RANGE: i64 = 1000;

/// Why a function refuses its arguments.
type Refused = String;

impl Function {
    pub fn named(name: &str) -> Option<Self> {
        let found = ALL.iter().find(|(known, ..)| *known == name);
        found.map(|(_, function, ..)| *function)
    }

    pub fn name(self) -> &'static str {
        self.row().0
    }

    pub fn takes(self, arguments: usize) -> bool {
        let (_, _, from, to) = *self.row();
        (from..=to).contains(&arguments)
    }

    fn row(self) -> &'static (&'static str, Self, usize, usize) {
        let found = ALL.iter().find(|(_, function, ..)| *function == self);
        found.unwrap_or(&ALL[0])
    }

    /// The function's value. The number of arguments is one that it [takes](Self::takes).
    pub fn call(self, mut values: Vec<Value>, chance: &mut dyn Chance) -> Result<Value, Refused> {
        // A function that takes fewer finds null in the places it does not look at.
        if self == Self::Array {
            return Ok(Value::Array(values));
        }
        if self == Self::Format {
            return format(&values);
        }
        values.resize(3, Value::Null);
        let [first, second, third] = values.as_slice() else {
            return Err("it does not take so many arguments".into());
        };
        match self {
            Self::ArrayContains => Ok(array(first)?.contains(second).into()),
            Self::ArrayGetItem => item(array(first)?, second),
            Self::ArrayLength => Ok(array(first)?.len().into()),
            Self::ArrayPartition => partition(array(first)?, second),
            Self::ArrayRange => range(rounded(first)?, rounded(second)?, rounded(third)?),
            Self::ArrayUnique => Ok(unique(array(first)?)),
            Self::Base64Decode => decode(short_text(first)?),
            Self::Base64Encode => Ok(STANDARD.encode(short_text(first)?).into()),
            Self::Hash => hash(first, text(second)?),
            Self::JsonMerge => merge(first, second, third),
            Self::JsonToString => Ok(first.to_string().into()),
            Self::MathAdd => add(first, second),
            Self::MathRandom => random(first, second, third, chance),
            Self::StringSplit => Ok(split(text(first)?, text(second)?)),
            Self::StringToJson => parse(text(first)?),
            Self::Uuid => Ok(uuid(chance).into()),
            // Both have returned.
            Self::Array | Self::Format => Ok(Value::Null),
        }
    }
}

fn array(value: &Value) -> Result<&Vec<Value>, Refused> {
    value
        .as_array()
        .ok_or_else(|| format!("{value} is not an array"))
}

fn text(value: &Value) -> Result<&str, Refused> {
    value
        .as_str()
        .ok_or_else(|| format!("{value} is not a string"))
}

fn short_text(value: &Value) -> Result<&str, Refused> {
    let text = text(value)?;
    if text.chars().count() > MAX_TEXT {
        return Err(format!("a string is longer than {MAX_TEXT} characters"));
    }
    Ok(text)
}

/// Numbers that are not whole are rounded to the nearest one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "floats are cut to the range of i64, which every use then checks"
)]
fn rounded(value: &Value) -> Result<i64, Refused> {
    let number = value
        .as_i64()
        .or_else(|| value.as_f64().map(|float| (float + 0.5).floor() as i64));
    number.ok_or_else(|| format!("{value} is not a number"))
}

fn item(array: &[Value], index: &Value) -> Result<Value, Refused> {
    let index = rounded(index)?;
    let found = usize::try_from(index).ok().and_then(|i| array.get(i));
    found
        .cloned()
        .ok_or_else(|| format!("the index {index} is outside of the array"))
}

fn partition(array: &[Value], size: &Value) -> Result<Value, Refused> {
    let size = rounded(size)?;
    match usize::try_from(size) {
        Ok(size) if size > 0 => Ok(array.chunks(size).map(<[Value]>::to_vec).collect()),
        _ => Err(format!("the chunk size {size} is not positive")),
    }
}

fn range(from: i64, to: i64, step: i64) -> Result<Value, Refused> {
    if step == 0 {
        return Err("the step is zero".into());
    }
    let wanted = i128::from(to) - i128::from(from);
    let count = if (wanted < 0) == (step < 0) || wanted == 0 {
        wanted / i128::from(step) + 1
    } else {
        0
    };
    if count > i128::from(MAX_RANGE) {
        return Err(format!(
            "the array would have more than {MAX_RANGE} elements"
        ));
    }
    // There are no more than that, so none is outside of what `from` and `to` enclose.
    let count = i64::try_from(count).unwrap_or(0);
    Ok((0..count)
        .map(|n| Value::from(from.saturating_add(n.saturating_mul(step))))
        .collect())
}

fn unique(array: &[Value]) -> Value {
    let mut seen: Vec<&Value> = Vec::new();
    for value in array {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen.into_iter().cloned().collect()
}

fn decode(text: &str) -> Result<Value, Refused> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| "the string is not valid Base64".to_owned())?;
    let text = String::from_utf8(bytes);
    text.map(Value::from)
        .map_err(|_| "the decoded bytes are not text".to_owned())
}

fn hash(data: &Value, algorithm: &str) -> Result<Value, Refused> {
    let data = match data {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if data.chars().count() > MAX_TEXT {
        return Err(format!("the data is longer than {MAX_TEXT} characters"));
    }
    let hashed = match algorithm {
        "MD5" => hex::encode(Md5::digest(data)),
        "SHA-1" => hex::encode(Sha1::digest(data)),
        "SHA-256" => hex::encode(Sha256::digest(data)),
        "SHA-384" => hex::encode(Sha384::digest(data)),
        "SHA-512" => hex::encode(Sha512::digest(data)),
        other => return Err(format!("'{other}' is not an algorithm")),
    };
    Ok(hashed.into())
}

fn merge(first: &Value, second: &Value, deep: &Value) -> Result<Value, Refused> {
    match deep {
        Value::Bool(false) => {}
        // AWS has no deep merge either.
        Value::Bool(true) => return Err("only the shallow merging mode is supported".into()),
        other => return Err(format!("{other} is not a boolean")),
    }
    let object = |value: &Value| -> Result<Map<String, Value>, Refused> {
        let members = value.as_object().cloned();
        members.ok_or_else(|| format!("{value} is not an object"))
    };
    let mut merged = object(first)?;
    merged.extend(object(second)?);
    Ok(Value::Object(merged))
}

fn add(first: &Value, second: &Value) -> Result<Value, Refused> {
    let sum = rounded(first)?.checked_add(rounded(second)?);
    sum.map(Value::from)
        .ok_or_else(|| "the sum is too large".to_owned())
}

/// A whole number from the first on and below the second.
fn random(
    from: &Value,
    to: &Value,
    seed: &Value,
    chance: &mut dyn Chance,
) -> Result<Value, Refused> {
    let (from, to) = (rounded(from)?, rounded(to)?);
    let span = to
        .checked_sub(from)
        .and_then(|span| u64::try_from(span).ok());
    let Some(span) = span.filter(|span| *span > 0) else {
        return Err(format!("{from} is not less than {to}"));
    };
    let bits = match seed {
        Value::Null => chance.bits(),
        seed => Seeded::new(rounded(seed)?.cast_unsigned()).bits(),
    };
    // The high half of the product is uniform over the span, but for less than one in 2^32.
    let offset = (u128::from(bits) * u128::from(span)) >> 64;
    let offset = i64::try_from(offset).unwrap_or(0);
    Ok(from.saturating_add(offset).into())
}

/// Splits at every character of `separators`. What is empty is left out.
fn split(text: &str, separators: &str) -> Value {
    let parts = text.split(|character| separators.contains(character));
    parts
        .filter(|part| !part.is_empty())
        .map(Value::from)
        .collect()
}

fn parse(text: &str) -> Result<Value, Refused> {
    // Recorded on AWS: blank text is null.
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&whole_zeros(text))
        .map_err(|error| format!("the string is not valid JSON: {error}"))
}

/// Takes the sign from `-0`, which is a whole number to AWS and a float to `serde_json`.
fn whole_zeros(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains("-0") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut is_text = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_text => {
                out.push(character);
                out.extend(characters.next());
                continue;
            }
            '"' => is_text = !is_text,
            '-' if !is_text => {
                let rest = characters.as_str();
                let digits = rest.strip_prefix('0');
                let is_zero = digits.is_some_and(|rest| {
                    !rest.starts_with(|c: char| c.is_ascii_digit() || ".eE".contains(c))
                });
                if is_zero {
                    continue;
                }
            }
            _ => {}
        }
        out.push(character);
    }
    out.into()
}

/// A random UUID, version 4 (RFC 9562).
fn uuid(chance: &mut dyn Chance) -> String {
    let high = chance.bits() & !0xf000 | 0x4000;
    let low = chance.bits() & !(0b11 << 62) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff,
    )
}

/// Puts the arguments in the place of the braces. `\{` and `\}` are braces.
fn format(values: &[Value]) -> Result<Value, Refused> {
    let (template, mut arguments) = match values.split_first() {
        Some((template, arguments)) => (text(template)?, arguments.iter()),
        None => return Err("there is no template".into()),
    };
    let mut out = String::with_capacity(template.len());
    let mut characters = template.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(brace @ ('{' | '}')) => out.push(brace),
                other => out.extend(std::iter::once('\\').chain(other)),
            },
            '{' if characters.as_str().starts_with('}') => {
                characters.next();
                let value = arguments.next();
                show(value.ok_or("there are more {} than arguments")?, &mut out);
            }
            '{' | '}' => return Err("a brace that is not part of {} has no backslash".into()),
            other => out.push(other),
        }
    }
    if arguments.next().is_some() {
        return Err("there are more arguments than {}".into());
    }
    Ok(out.into())
}

/// As AWS's Java writes values into text: `{a=1, b=[2, c]}`.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                show(element, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                out.push_str(name);
                out.push('=');
                show(member, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
