use std::fmt;

/// Where a value is, as AWS writes it: `targets.1.member.id`.
///
/// Paths live on the stack, each pointing to its parent, and become text only for a message.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Member(&'static str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The input itself.
    pub const ROOT: Self = Self {
        parent: None,
        segment: Segment::Root,
    };

    /// A member of the structure here.
    pub fn member(&'a self, name: &'static str) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Member(name),
        }
    }

    /// An element of the list here.
    pub fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Index(index),
        }
    }

    /// A value of the map here.
    pub fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent.filter(|parent| parent.parent.is_some()) {
            write!(f, "{parent}.")?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Member(name) => f.write_str(name),
            // AWS counts list members from one.
            Segment::Index(index) => write!(f, "{}.member", index + 1),
            Segment::Key(key) => write!(f, "{key}.member"),
        }
    }
}
