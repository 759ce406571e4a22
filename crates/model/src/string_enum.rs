//! Enumerations as AWS has them: named strings, to which new ones are added without notice.

/// Defines an enum of named strings with an `Unknown` variant for all others.
///
/// An unknown value decodes without error, because outputs of a newer interface must stay readable;
/// in inputs the constraint checks refuse it with AWS's message.
macro_rules! string_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
            /// A value that the interface does not list.
            Unknown(Box<str>),
        }

        impl $name {
            /// All listed values, in the interface's order.
            pub const VALUES: &'static [&'static str] = &[$($text),*];

            /// The value as the wire carries it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    _ => Self::Unknown(text.into()),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Unknown(Box::default())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(
                reader: &mut $crate::json::Reader<'_>,
            ) -> Result<Self, $crate::DecodeError> {
                Ok(reader.text()?.as_ref().into())
            }
        }

        impl $crate::json::ToJson for $name {
            fn to_json(&self, writer: &mut $crate::json::Writer) {
                writer.string(self.as_str());
            }
        }

        impl $crate::validation::Constrained for $name {
            fn check(&self, constraint: &$crate::validation::Constraint, found: &mut Vec<String>) {
                $crate::validation::check_text(self.as_str(), constraint, found);
            }
        }

        impl $crate::validation::Show for $name {
            fn show(&self, out: &mut String) {
                out.push_str(self.as_str());
            }
        }

        impl $crate::rest::Text for $name {
            fn from_text(text: &str) -> Result<Self, $crate::DecodeError> {
                Ok(text.into())
            }

            fn to_text(&self) -> std::borrow::Cow<'_, str> {
                self.as_str().into()
            }
        }
    };
}

pub(crate) use string_enum;
