//! Rows of delimited text, as Step Functions reads them.
//!
//! Its rules are not those of RFC 4180 alone: a backslash escapes outside of quotes, too, and goes
//! away before anything that needs no escape.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/example-csv-parse-dist-map.html>

use serde_json::{Map, Value};

use super::{Item, Unreadable, limit_item};

/// AWS's limit of the header.
const MAX_HEADER_BYTES: usize = 10 << 10;

/// Turns text, given in pieces, into items.
#[derive(Debug)]
pub struct Rows {
    delimiter: u8,
    columns: Option<Columns>,
    state: State,
    escaped: bool,
    /// The last byte was a carriage return, which a line feed may follow.
    returned: bool,
    /// What may be a byte order mark, at the beginning.
    mark: Vec<u8>,
    begun: bool,
    /// The fields of the row, one after the other, and where each of them ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// The row has something beside its end: empty lines are no rows.
    any: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quotation mark inside quotes: the end of them, or half of a doubled mark.
    Closing,
}

/// The names of the columns, and in which order an item has them.
#[derive(Debug)]
struct Columns {
    names: Vec<String>,
    order: Vec<usize>,
}

impl Columns {
    fn new(names: Vec<String>) -> Result<Self, Unreadable> {
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            // Recorded on AWS.
            return Err(Unreadable::new("CSV headers cannot contain duplicates."));
        }
        // Recorded on AWS, and so in its documentation: an item has its members in the order of a
        // hash table of Java's with 16 places, not in that of the columns.
        let mut order: Vec<usize> = (0..names.len()).collect();
        let places = (names.len() * 4).div_ceil(3).next_power_of_two().max(16);
        order.sort_by_key(|column| place_in_table(&names[*column], places));
        Ok(Self { names, order })
    }
}

/// Where Java's `HashMap` keeps a text.
fn place_in_table(text: &str, places: usize) -> usize {
    let hash = text.encode_utf16().fold(0_u32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(u32::from(unit))
    });
    (hash ^ (hash >> 16)) as usize & (places - 1)
}

impl Rows {
    /// `header` is given for text without one.
    pub fn new(delimiter: u8, header: Option<Vec<String>>) -> Result<Self, Unreadable> {
        Ok(Self {
            delimiter,
            columns: header.map(Columns::new).transpose()?,
            state: State::FieldStart,
            escaped: false,
            returned: false,
            mark: Vec::new(),
            begun: false,
            text: Vec::new(),
            ends: Vec::new(),
            any: false,
        })
    }

    pub fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), Unreadable> {
        for byte in bytes {
            self.take(*byte, items)?;
        }
        Ok(())
    }

    /// The text has come to its end.
    pub fn finish(&mut self, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        self.begin(items)?;
        if self.state == State::Quoted {
            return Err(Unreadable::new(
                "The CSV file ends within a quoted field, which has no closing quotation mark.",
            ));
        }
        self.end_row(items)
    }

    fn take(&mut self, byte: u8, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if !self.begun {
            self.mark.push(byte);
            if self.mark == MARK {
                self.mark.clear();
                self.begun = true;
            } else if !MARK.starts_with(&self.mark) {
                self.begin(items)?;
            }
            return Ok(());
        }
        self.read(byte, items)
    }

    /// What looked like a byte order mark is text.
    fn begin(&mut self, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        self.begun = true;
        for byte in std::mem::take(&mut self.mark) {
            self.read(byte, items)?;
        }
        Ok(())
    }

    fn read(&mut self, byte: u8, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        let after_return = std::mem::take(&mut self.returned);
        if self.escaped {
            self.escaped = false;
            return self.keep(byte);
        }
        match (self.state, byte) {
            (_, b'\\') => {
                self.escaped = true;
                self.any = true;
                self.state = match self.state {
                    State::Quoted => State::Quoted,
                    _ => State::Plain,
                };
                Ok(())
            }
            (State::Quoted, b'"') => {
                self.state = State::Closing;
                Ok(())
            }
            (State::Quoted, _) => self.keep(byte),
            (State::Closing, b'"') => {
                self.state = State::Quoted;
                self.keep(byte)
            }
            (State::FieldStart, b'"') => {
                self.state = State::Quoted;
                self.any = true;
                Ok(())
            }
            (_, b'\n') if after_return => Ok(()),
            (_, b'\n' | b'\r') => {
                self.returned = byte == b'\r';
                self.end_row(items)
            }
            (_, byte) if byte == self.delimiter => {
                self.any = true;
                self.end_field();
                Ok(())
            }
            (_, byte) => {
                self.state = State::Plain;
                self.keep(byte)
            }
        }
    }

    fn keep(&mut self, byte: u8) -> Result<(), Unreadable> {
        self.any = true;
        self.text.push(byte);
        if self.columns.is_none() && self.text.len() > MAX_HEADER_BYTES {
            return Err(Unreadable::new("The CSV header is larger than 10 KiB."));
        }
        limit_item(self.text.len())
    }

    fn end_field(&mut self) {
        self.state = State::FieldStart;
        self.ends.push(self.text.len());
    }

    fn end_row(&mut self, items: &mut Vec<Item>) -> Result<(), Unreadable> {
        self.escaped = false;
        if !std::mem::take(&mut self.any) {
            self.state = State::FieldStart;
            return Ok(());
        }
        self.end_field();
        let mut start = 0;
        let mut fields = self.ends.iter().map(|end| {
            let field = String::from_utf8_lossy(&self.text[start..*end]).into_owned();
            start = *end;
            field
        });
        match &self.columns {
            None => {
                let columns = Columns::new(fields.collect())?;
                self.columns = Some(columns);
            }
            Some(columns) => {
                let fields: Vec<String> = fields.by_ref().take(columns.names.len()).collect();
                items.push(Item::plain(row(columns, fields)));
            }
        }
        self.text.clear();
        self.ends.clear();
        Ok(())
    }
}

/// Missing fields are empty, and those without a column are left out.
fn row(columns: &Columns, mut fields: Vec<String>) -> Value {
    let mut object = Map::with_capacity(columns.names.len());
    for column in &columns.order {
        let field = fields.get_mut(*column).map(std::mem::take);
        object.insert(
            columns.names[*column].clone(),
            field.unwrap_or_default().into(),
        );
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &[u8], header: Option<&[&str]>) -> Result<Vec<Value>, String> {
        let header = header.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let mut whole = None;
        // Read at once, and byte by byte: where the pieces end makes no difference.
        for size in [text.len().max(1), 1] {
            let result = pieces(text, size, header.clone());
            assert_eq!(whole.get_or_insert_with(|| result.clone()), &result);
        }
        whole.unwrap()
    }

    fn pieces(text: &[u8], size: usize, header: Option<Vec<String>>) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        let read = || {
            let mut rows = Rows::new(b',', header)?;
            for piece in text.chunks(size) {
                rows.push(piece, &mut items)?;
            }
            rows.finish(&mut items)
        };
        read().map_err(|unreadable| unreadable.cause)?;
        Ok(items.into_iter().map(|item| item.value).collect())
    }

    #[test]
    fn rows_are_read_as_recorded_on_aws() {
        let text =
            "Col1,Col2,Col3\nValue1,Value2,Value3\n,,,\ntrue,1,'HelloWorld'\nNull,None,\n   \n";
        let rows = json!([
            {"Col1": "Value1", "Col2": "Value2", "Col3": "Value3"},
            {"Col1": "", "Col2": "", "Col3": ""},
            {"Col1": "true", "Col2": "1", "Col3": "'HelloWorld'"},
            {"Col1": "Null", "Col2": "None", "Col3": ""},
            {"Col1": "   ", "Col2": "", "Col3": ""},
        ]);
        assert_eq!(json!(read(text.as_bytes(), None).unwrap()), rows);
    }

    #[test]
    fn members_come_in_the_order_that_aws_gives_them() {
        let first = |text: &str| read(text.as_bytes(), None).unwrap()[0].to_string();
        assert_eq!(
            first("H1,\nValue4,Value5,Value6\n"),
            r#"{"":"Value5","H1":"Value4"}"#
        );
        assert_eq!(
            first("userId,movieId,rating,timestamp\n1,307,3.5,1256677221"),
            r#"{"rating":"3.5","movieId":"307","userId":"1","timestamp":"1256677221"}"#
        );
        assert_eq!(
            first("Bucket,Key,Size,LastModifiedDate\nb,k,1,d"),
            r#"{"LastModifiedDate":"d","Bucket":"b","Size":"1","Key":"k"}"#
        );
    }

    #[test]
    fn quotes_and_backslashes_protect_delimiters() {
        let text = "a,b\n\"x,\n\"\"y\"\"\",C:\\\\dir\\,z\\q\r\n\"\",\\\"\r\n";
        let rows = json!([{"a": "x,\n\"y\"", "b": "C:\\dir,zq"}, {"a": "", "b": "\""}]);
        assert_eq!(json!(read(text.as_bytes(), None).unwrap()), rows);
    }

    #[test]
    fn given_header_makes_the_first_line_a_row() {
        let rows = read(b"1,2\n\n3\n", Some(&["a", "b"])).unwrap();
        assert_eq!(
            json!(rows),
            json!([{"a": "1", "b": "2"}, {"a": "3", "b": ""}])
        );
    }

    #[test]
    fn same_column_twice_is_refused_in_the_words_of_aws() {
        let expected = "CSV headers cannot contain duplicates.";
        assert_eq!(read(b"a,a\n1,2\n", None).unwrap_err(), expected);
        assert_eq!(read(b"1", Some(&["a", "a"])).unwrap_err(), expected);
    }

    #[test]
    fn byte_order_mark_is_no_text() {
        let rows = read(b"\xef\xbb\xbfa\n1\n", None).unwrap();
        assert_eq!(json!(rows), json!([{"a": "1"}]));
        let rows = read(b"\xef\xbbx\n1\n", None).unwrap();
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn invalid_utf8_becomes_replacement_characters() {
        let rows = read(b"a\n\xff\xfe\n", None).unwrap();
        assert_eq!(json!(rows), json!([{"a": "\u{fffd}\u{fffd}"}]));
    }

    #[test]
    fn open_quotes_and_huge_fields_are_errors() {
        assert!(
            read(b"a\n\"x\n", None)
                .unwrap_err()
                .contains("quoted field")
        );
        let mut rows = Rows::new(b',', Some(vec!["a".into()])).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let mut items = Vec::new();
        let result = (0..9).try_for_each(|_| rows.push(&piece, &mut items));
        assert!(result.unwrap_err().cause.contains("8 MB"));
        let mut rows = Rows::new(b',', None).unwrap();
        assert!(
            rows.push(&piece, &mut items)
                .unwrap_err()
                .cause
                .contains("10 KiB")
        );
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(read(b"", None).unwrap().is_empty());
        assert!(read(b"\r\n\r\n", Some(&["a"])).unwrap().is_empty());
    }
}
