//! The elements of an array, or the members of an object, somewhere in a JSON document.
//!
//! The document is never held as a whole: what is around the items is passed over byte by byte, and
//! each item is parsed as soon as its end is seen.

use super::{Item, Unreadable, limit_item, parse};

/// Turns a document, given in pieces, into items.
#[derive(Debug)]
pub struct Items {
    /// Where the items are: names and numbers, from the outside to the inside.
    pointer: Vec<String>,
    /// How many of them have been followed.
    level: usize,
    state: State,
    /// The value or name that is being read.
    buffer: Vec<u8>,
    shape: Shape,
    /// The name of the member that is being read, of an object of items.
    key: Option<String>,
    /// Elements passed, of an array that is on the way.
    passed: usize,
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must follow; where the pointer leads on, one that it can lead into.
    Container,
    /// The first name or the end of an object.
    FirstName,
    /// A name.
    Name,
    InName {
        escaped: bool,
    },
    Colon,
    /// The first element or the end of an array.
    FirstElement,
    Element,
    /// Inside a value, which is kept or passed over.
    Inside(Inside),
    /// A comma or the end.
    Next,
    /// Behind the items.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inside {
    depth: u32,
    string: bool,
    escaped: bool,
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Array,
    Object,
}

/// Deeper values are refused before they are parsed.
const MAX_DEPTH: u32 = 120;

impl Items {
    /// `pointer` is `ItemsPointer`, a JSON pointer; an empty one means the document itself.
    pub fn new(pointer: &str) -> Result<Self, Unreadable> {
        let pointer = match pointer.strip_prefix('/') {
            None if pointer.is_empty() => Vec::new(),
            None => {
                let cause = format!("The ItemsPointer '{pointer}' is not a JSON pointer.");
                return Err(Unreadable::new(cause));
            }
            Some(rest) => rest
                .split('/')
                .map(|part| part.replace("~1", "/").replace("~0", "~"))
                .collect(),
        };
        Ok(Self {
            pointer,
            level: 0,
            state: State::Container,
            buffer: Vec::new(),
            shape: Shape::Array,
            key: None,
            passed: 0,
            begun: false,
        })
    }

    pub fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), Unreadable> {
        for byte in bytes {
            // A byte order mark is before the first value only, and no JSON begins so.
            if !self.begun && matches!(byte, 0xef | 0xbb | 0xbf) {
                continue;
            }
            self.begun = true;
            self.take(*byte, items)?;
        }
        Ok(())
    }

    pub fn finish(&mut self, _items: &mut Vec<Item>) -> Result<(), Unreadable> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(Unreadable::new(
                "The JSON file ends before its last value does.",
            )),
        }
    }

    fn take(&mut self, byte: u8, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Inside(inside) => return self.inside(inside, byte, items),
            State::InName { escaped } => return self.in_name(byte, escaped),
            _ if space => return Ok(()),
            _ => {}
        }
        match (self.state, byte) {
            (State::Container, b'{') => {
                self.enter(Shape::Object);
                self.state = State::FirstName;
            }
            (State::Container, b'[') => {
                self.enter(Shape::Array);
                self.state = State::FirstElement;
            }
            (State::Container, b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                return Err(if self.level == self.pointer.len() {
                    not_iterable()
                } else {
                    self.nothing_there()
                });
            }
            (State::FirstName, b'}') | (State::FirstElement, b']') => return self.end(),
            (State::FirstName | State::Name, b'"') => {
                self.buffer.clear();
                self.buffer.push(byte);
                self.state = State::InName { escaped: false };
            }
            (State::Colon, b':') => self.state = self.value_state(),
            (State::FirstElement | State::Element, _) => {
                self.state = self.value_state();
                return self.take(byte, items);
            }
            (State::Next, b',') => {
                self.state = match self.shape {
                    Shape::Object => State::Name,
                    Shape::Array => State::Element,
                };
            }
            (State::Next, b'}') if self.shape == Shape::Object => return self.end(),
            (State::Next, b']') if self.shape == Shape::Array => return self.end(),
            // What follows a nested list is not read on.
            (State::Done, _) if self.level > 0 => {}
            _ => return Err(unexpected(byte)),
        }
        Ok(())
    }

    fn enter(&mut self, shape: Shape) {
        self.shape = shape;
        self.passed = 0;
        self.key = None;
    }

    /// What to do with the value that comes now: an item, on the way, or neither.
    fn value_state(&mut self) -> State {
        let keep = self.level == self.pointer.len();
        if !keep {
            let wanted = &self.pointer[self.level];
            let is_it = match self.shape {
                Shape::Object => self.key.as_ref() == Some(wanted),
                Shape::Array => wanted.parse() == Ok(self.passed),
            };
            self.passed += 1;
            if is_it {
                self.level += 1;
                return State::Container;
            }
        }
        self.buffer.clear();
        State::Inside(Inside {
            depth: 0,
            string: false,
            escaped: false,
            keep,
        })
    }

    fn in_name(&mut self, byte: u8, escaped: bool) -> Result<(), Unreadable> {
        limit_item(self.buffer.len())?;
        self.buffer.push(byte);
        self.state = match byte {
            b'"' if !escaped => {
                let name = serde_json::from_slice(&self.buffer).map_err(not_json)?;
                self.key = Some(name);
                State::Colon
            }
            b'\\' => State::InName { escaped: !escaped },
            _ => State::InName { escaped: false },
        };
        Ok(())
    }

    fn inside(
        &mut self,
        mut inside: Inside,
        byte: u8,
        items: &mut Vec<Item>,
    ) -> Result<(), Unreadable> {
        let begun = !self.buffer.is_empty();
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if !begun && space {
            return Ok(());
        }
        let mut ended = false;
        if inside.string {
            ended = byte == b'"' && !inside.escaped && inside.depth == 0;
            if byte == b'"' && !inside.escaped {
                inside.string = false;
            }
            inside.escaped = byte == b'\\' && !inside.escaped;
        } else {
            match byte {
                // The end of a number or a word is what follows it, which is not part of it.
                b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r' if inside.depth == 0 => {
                    if !begun {
                        return Err(unexpected(byte));
                    }
                    self.value(inside.keep, items)?;
                    return self.take(byte, items);
                }
                b'"' => inside.string = true,
                b'{' | b'[' => {
                    inside.depth += 1;
                    if inside.depth > MAX_DEPTH {
                        return Err(Unreadable::new("The JSON file is nested too deeply."));
                    }
                }
                b'}' | b']' => {
                    inside.depth -= 1;
                    ended = inside.depth == 0;
                }
                _ => {}
            }
        }
        if inside.keep {
            limit_item(self.buffer.len())?;
            self.buffer.push(byte);
        } else if !begun {
            // Only that it has begun matters.
            self.buffer.push(byte);
        }
        self.state = State::Inside(inside);
        if ended {
            self.value(inside.keep, items)?;
        }
        Ok(())
    }

    /// A value has ended.
    fn value(&mut self, keep: bool, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        self.state = State::Next;
        if keep {
            let value = parse(&self.buffer).map_err(not_json)?;
            let mut item = Item::plain(value);
            if self.shape == Shape::Object {
                item.key = self.key.take();
            }
            items.push(item);
        }
        self.buffer.clear();
        Ok(())
    }

    /// The end of a container: of the items, or of one that the pointer led into in vain.
    fn end(&mut self) -> Result<(), Unreadable> {
        if self.level < self.pointer.len() {
            return Err(self.nothing_there());
        }
        self.state = State::Done;
        Ok(())
    }

    fn nothing_there(&self) -> Unreadable {
        let shown = self.pointer.join("/");
        Unreadable::new(format!(
            "The ItemsPointer '/{shown}' leads to nothing in the JSON file."
        ))
    }
}

fn not_iterable() -> Unreadable {
    // Recorded on AWS.
    Unreadable::new("Attempting to map over non-iterable node.")
}

fn unexpected(byte: u8) -> Unreadable {
    let shown = char::from(byte).escape_default();
    Unreadable::new(format!("The file is not valid JSON: unexpected '{shown}'."))
}

fn not_json(error: serde_json::Error) -> Unreadable {
    Unreadable::new(format!("The file is not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    type Pairs = Vec<(Option<String>, Value)>;

    fn read(text: &str, pointer: &str) -> Result<Pairs, String> {
        let mut whole = None;
        for size in [text.len().max(1), 1, 3] {
            let result = pieces(text.as_bytes(), size, pointer);
            assert_eq!(whole.get_or_insert_with(|| result.clone()), &result);
        }
        whole.unwrap()
    }

    fn pieces(text: &[u8], size: usize, pointer: &str) -> Result<Pairs, String> {
        let mut items = Vec::new();
        let mut read = || {
            let mut json = Items::new(pointer)?;
            for piece in text.chunks(size) {
                json.push(piece, &mut items)?;
            }
            json.finish(&mut items)
        };
        read().map_err(|unreadable| unreadable.cause)?;
        Ok(items
            .into_iter()
            .map(|item| (item.key, item.value))
            .collect())
    }

    fn values(text: &str, pointer: &str) -> Value {
        let items = read(text, pointer).unwrap().into_iter();
        items.map(|(_, value)| value).collect()
    }

    #[test]
    fn elements_of_an_array_are_items() {
        let all = r#"[1, -2.5e3, "a,\"]\\", {"b":[1,{"c":"}"}]}, [ ], true,null , "\u00e9"]"#;
        let expected: Value = serde_json::from_str(all).unwrap();
        assert_eq!(values(all, ""), expected);
        assert_eq!(values("[]", ""), json!([]));
        assert_eq!(values("\u{feff} [ 1 ]\n", ""), json!([1]));
    }

    #[test]
    fn members_of_an_object_are_items_with_names() {
        let items = read(r#"{"a": 1, "b\n": {"x": 2}}"#, "").unwrap();
        let expected = [
            (Some("a".into()), json!(1)),
            (Some("b\n".into()), json!({"x": 2})),
        ];
        assert_eq!(items, expected);
        assert!(read("{}", "").unwrap().is_empty());
    }

    #[test]
    fn pointer_leads_through_objects_and_arrays() {
        let text = r#"{"skip": {"items": [9]}, "a/b": [0, {"items": [1, 2]}], "rest": [}"#;
        assert_eq!(values(text, "/a~1b/1/items"), json!([1, 2]));
        assert_eq!(values(r#"{"a":{"b":{"k":1}}}"#, "/a/b"), json!([1]));
        let nothing = read(r#"{"a":{"b":1}}"#, "/a/c").unwrap_err();
        assert!(nothing.contains("'/a/c' leads to nothing"), "{nothing}");
        assert!(read(r#"{"a":"text"}"#, "/a/c").is_err());
        assert!(read("[]", "no-slash").is_err());
    }

    #[test]
    fn what_has_no_items_is_refused_in_the_words_of_aws() {
        let expected = "Attempting to map over non-iterable node.";
        for text in ["1", "\"text\"", "true", "null"] {
            assert_eq!(read(text, "").unwrap_err(), expected);
        }
        assert_eq!(read(r#"{"a": 1}"#, "/a").unwrap_err(), expected);
    }

    #[test]
    fn broken_documents_are_errors() {
        let broken = [
            "",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[1 2]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1]]",
            "[\"a]",
            "[{]",
            "[1}",
            "{\"a\":1]",
            "[nul]",
            "[}",
            "][",
        ];
        for text in broken {
            assert!(read(text, "").is_err(), "{text}");
        }
    }

    #[test]
    fn deep_and_huge_values_are_errors() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(pieces(&deep, 4096, "").unwrap_err().contains("deeply"));
        assert!(pieces(&deep, 4096, "/a/b").is_err());
        let mut json = Items::new("").unwrap();
        let mut items = Vec::new();
        json.push(b"[\"", &mut items).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let result = (0..9).try_for_each(|_| json.push(&piece, &mut items));
        assert!(result.unwrap_err().cause.contains("8 MB"));
    }
}
