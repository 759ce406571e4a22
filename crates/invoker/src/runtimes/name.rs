//! Lambda's `Runtime` values. <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html>

use std::fmt;

use super::RuntimeError;

/// The language a runtime runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    Python,
    Node,
    Provided,
    Java,
    Ruby,
    Dotnet,
    Go,
}

/// A `Runtime` value that AWS has or had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Runtime {
    name: String,
    family: Family,
    version: u32,
}

const PYTHON_MINORS: std::ops::RangeInclusive<u32> = 8..=14;
const NODE_MAJORS: [u32; 5] = [16, 18, 20, 22, 24];
const JAVA: [(&str, u32); 5] = [
    ("java8.al2", 8),
    ("java11", 11),
    ("java17", 17),
    ("java21", 21),
    ("java25", 25),
];
const PROVIDED: [&str; 3] = ["provided", "provided.al2", "provided.al2023"];

impl Runtime {
    /// A value that AWS never had is [`RuntimeError::Unknown`]; one that firn does not run parses, and is refused
    /// when it is resolved.
    pub fn parse(name: &str) -> Result<Self, RuntimeError> {
        let found = PROVIDED.contains(&name).then_some((Family::Provided, 0));
        let (family, version) = found
            .or_else(|| python(name))
            .or_else(|| node(name))
            .or_else(|| java(name))
            .or_else(|| foreign(name))
            .ok_or_else(|| RuntimeError::Unknown(name.to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            family,
            version,
        })
    }

    /// The runtimes that can be resolved, oldest first.
    pub fn supported() -> impl Iterator<Item = Self> {
        let python =
            PYTHON_MINORS.map(|minor| Self::of(format!("python3.{minor}"), Family::Python, minor));
        let node = NODE_MAJORS
            .into_iter()
            .map(|major| Self::of(format!("nodejs{major}.x"), Family::Node, major));
        let provided = PROVIDED
            .into_iter()
            .map(|name| Self::of(name.to_owned(), Family::Provided, 0));
        let java = JAVA
            .into_iter()
            .map(|(name, major)| Self::of(name.to_owned(), Family::Java, major));
        python.chain(node).chain(java).chain(provided)
    }

    fn of(name: String, family: Family, version: u32) -> Self {
        Self {
            name,
            family,
            version,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// What tells the runtimes of a family apart: Python's minor, Node's and Java's major version; 0 elsewhere.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How the interpreter is called by people: `Python 3.12`, `Node.js 22`.
    pub fn interpreter_name(&self) -> String {
        match self.family {
            Family::Python => format!("Python 3.{}", self.version),
            family => format!("{family} {}", self.version),
        }
    }
}

fn python(name: &str) -> Option<(Family, u32)> {
    let minor = name.strip_prefix("python3.")?.parse().ok()?;
    PYTHON_MINORS
        .contains(&minor)
        .then_some((Family::Python, minor))
}

fn node(name: &str) -> Option<(Family, u32)> {
    let major = name
        .strip_prefix("nodejs")?
        .strip_suffix(".x")?
        .parse()
        .ok()?;
    NODE_MAJORS
        .contains(&major)
        .then_some((Family::Node, major))
}

fn java(name: &str) -> Option<(Family, u32)> {
    let (_, major) = JAVA.into_iter().find(|(own, _)| *own == name)?;
    Some((Family::Java, major))
}

/// Runtimes of AWS that firn has no client for, retired ones included.
fn foreign(name: &str) -> Option<(Family, u32)> {
    let family = match name {
        "java8" => Family::Java,
        "ruby2.5" | "ruby2.7" | "ruby3.2" | "ruby3.3" | "ruby3.4" => Family::Ruby,
        "dotnetcore1.0" | "dotnetcore2.0" | "dotnetcore2.1" | "dotnetcore3.1" | "dotnet6"
        | "dotnet8" | "dotnet10" => Family::Dotnet,
        "go1.x" => Family::Go,
        "python2.7" | "python3.6" | "python3.7" => Family::Python,
        "nodejs" | "nodejs4.3" | "nodejs4.3-edge" | "nodejs6.10" | "nodejs8.10" | "nodejs10.x"
        | "nodejs12.x" | "nodejs14.x" => Family::Node,
        _ => return None,
    };
    Some((family, 0))
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::Provided => "custom runtime",
            Self::Java => "Java",
            Self::Ruby => "Ruby",
            Self::Dotnet => ".NET",
            Self::Go => "Go (go1.x)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_runtime_parses_to_itself() {
        for runtime in Runtime::supported() {
            assert_eq!(Runtime::parse(runtime.as_str()).unwrap(), runtime);
        }
        assert_eq!(Runtime::supported().count(), 20);
    }

    #[test]
    fn values_aws_never_had_are_unknown() {
        for name in [
            "",
            "python",
            "python3.99",
            "python3.",
            "nodejs21.x",
            "nodejs22",
            "provided.al2023023",
            "NODEJS22.x",
        ] {
            assert!(
                matches!(Runtime::parse(name), Err(RuntimeError::Unknown(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn runtimes_of_other_languages_are_known() {
        assert_eq!(Runtime::parse("ruby3.4").unwrap().family(), Family::Ruby);
        assert_eq!(Runtime::parse("dotnet8").unwrap().family(), Family::Dotnet);
        assert_eq!(Runtime::parse("go1.x").unwrap().family(), Family::Go);
    }
}
