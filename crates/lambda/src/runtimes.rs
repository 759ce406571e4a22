//! Which `Runtime` values AWS accepts, and how it refuses the others.
//!
//! Whether this host has an interpreter for a runtime is another matter: that shows at the first
//! invocation, and `firn runtimes` tells beforehand.

use crate::error::InvalidParameter;

/// In the order in which AWS lists them in its refusal.
pub const SUPPORTED: [&str; 25] = [
    "nodejs20.x",
    "python3.14",
    "provided.al2023",
    "python3.12",
    "python3.13",
    "nodejs24.x",
    "nodejs22.x",
    "java25",
    "python3.10",
    "python3.11",
    "java21",
    "ruby3.3",
    "ruby3.4",
    "ruby3.2",
    "python3.8",
    "python3.9",
    "java17",
    "nodejs16.x",
    "dotnet10",
    "dotnet8",
    "java11",
    "dotnet6",
    "nodejs18.x",
    "provided.al2",
    "java8.al2",
];

/// Known once, refused since.
const DEPRECATED: [&str; 20] = [
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "java8",
    "nodejs",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "provided",
    "python2.7",
    "python3.6",
    "python3.7",
    "ruby2.5",
    "ruby2.7",
];

/// <https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html>
const SNAP_START: [&str; 9] = [
    "java11",
    "java17",
    "java21",
    "java25",
    "python3.12",
    "python3.13",
    "python3.14",
    "dotnet8",
    "dotnet10",
];

/// Accepts a runtime that AWS accepts, and deprecated ones too if `allow_deprecated`.
pub fn check(runtime: &str, allow_deprecated: bool) -> Result<(), InvalidParameter> {
    if SUPPORTED.contains(&runtime) {
        return Ok(());
    }
    if DEPRECATED.contains(&runtime) {
        return if allow_deprecated {
            Ok(())
        } else {
            Err(InvalidParameter::DeprecatedRuntime {
                runtime: runtime.to_owned(),
            })
        };
    }
    Err(InvalidParameter::UnknownRuntime {
        runtime: runtime.to_owned(),
        supported: SUPPORTED.join(", "),
    })
}

pub fn supports_snap_start(runtime: &str) -> bool {
    SNAP_START.contains(&runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deprecated_runtimes_are_refused_unless_allowed() {
        assert!(check("go1.x", false).is_err());
        assert!(check("go1.x", true).is_ok());
        assert!(check("PYTHON3.9", true).is_err());
        assert!(check("python3.9", false).is_ok());
    }
}
