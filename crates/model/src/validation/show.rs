//! Values as AWS shows them in messages: in the notation of Java's `toString`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::{Blob, Timestamp};

/// A value that can be shown in a message.
pub trait Show {
    /// Appends the value.
    fn show(&self, out: &mut String);
}

impl Show for String {
    fn show(&self, out: &mut String) {
        out.push_str(self);
    }
}

macro_rules! show_by_display {
    ($($type:ty),*) => {
        $(impl Show for $type {
            fn show(&self, out: &mut String) {
                // Writing to a String cannot fail.
                let _ = write!(out, "{self}");
            }
        })*
    };
}

show_by_display!(i32, i64, bool, Timestamp);

impl Show for f64 {
    fn show(&self, out: &mut String) {
        // `{:?}` keeps the `.0` of a whole number, as Java does.
        let _ = write!(out, "{self:?}");
    }
}

impl Show for Blob {
    fn show(&self, out: &mut String) {
        let length = self.len();
        let _ = write!(
            out,
            "java.nio.HeapByteBuffer[pos=0 lim={length} cap={length}]"
        );
    }
}

impl<T: Show> Show for Box<T> {
    fn show(&self, out: &mut String) {
        (**self).show(out);
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, out: &mut String) {
        match self {
            Some(value) => value.show(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self, out: &mut String) {
        out.push('[');
        for (index, value) in self.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            value.show(out);
        }
        out.push(']');
    }
}

impl<T: Show> Show for BTreeMap<String, T> {
    fn show(&self, out: &mut String) {
        out.push('{');
        for (index, (key, value)) in self.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            out.push_str(key);
            out.push('=');
            value.show(out);
        }
        out.push('}');
    }
}

/// Shows a structure: `Name(member=value, other=null)`.
pub struct Structure<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Structure<'a> {
    /// Starts with the structure's name.
    pub fn new(out: &'a mut String, name: &str) -> Self {
        out.push_str(name);
        out.push('(');
        Self { out, empty: true }
    }

    /// Appends a member.
    pub fn member<T: Show>(mut self, name: &str, value: &T) -> Self {
        if !std::mem::take(&mut self.empty) {
            self.out.push_str(", ");
        }
        self.out.push_str(name);
        self.out.push('=');
        value.show(self.out);
        self
    }

    /// Appends a member whose value must not show.
    pub fn hidden(self, name: &str) -> Self {
        self.member(name, &"***Sensitive Data Redacted***".to_owned())
    }

    /// Closes the structure.
    pub fn end(self) {
        self.out.push(')');
    }
}
