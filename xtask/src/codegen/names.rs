//! Rust names for AWS names.

/// The module of a service: its name where a hyphen cannot stand.
pub fn module(service: &str) -> String {
    service.replace('-', "_")
}

/// `KMSKeyArn` becomes `kms_key_arn`; a keyword gets a trailing underscore.
pub fn field(name: &str) -> String {
    let snake = words(name).join("_").to_lowercase();
    if is_keyword(&snake) {
        format!("{snake}_")
    } else {
        snake
    }
}

/// `KMSKeyArn` becomes `KMS_KEY_ARN`.
pub fn constant(name: &str) -> String {
    words(name).join("_").to_uppercase()
}

/// A type's name: the shape's, with an upper-case first letter.
pub fn type_name(shape: &str) -> String {
    capitalize(shape)
}

/// `ResourceNotFoundException` becomes `RESOURCE_NOT_FOUND`.
pub fn error_constant(shape: &str) -> String {
    constant(shape.strip_suffix("Exception").unwrap_or(shape))
}

/// The name of a member in AWS's messages: with a lower-case first letter.
pub fn path(member: &str) -> String {
    let mut characters = member.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

/// `nodejs18.x` becomes `Nodejs18X`, `LATEST_PUBLISHED` becomes `LatestPublished`.
pub fn variant(value: &str) -> String {
    let name: String = value
        .split(|character: char| !character.is_ascii_alphanumeric())
        .map(|word| {
            let shouted = !word.chars().any(|character| character.is_ascii_lowercase());
            capitalize(&if shouted {
                word.to_lowercase()
            } else {
                word.to_owned()
            })
        })
        .collect();
    match name.chars().next() {
        None => "Empty".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("V{name}"),
        Some(_) if name == "Unknown" => "UnknownValue".to_owned(),
        Some(_) => name,
    }
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// Splits at each change from lower case or digit to upper case, and before the last letter of a
/// run of upper-case letters that a lower-case one follows.
fn words(name: &str) -> Vec<String> {
    let characters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (index, &character) in characters.iter().enumerate() {
        if !character.is_ascii_alphanumeric() {
            words.push(String::new());
            continue;
        }
        let after = |step: usize| characters.get(index + step);
        let before = index
            .checked_sub(1)
            .and_then(|before| characters.get(before));
        let starts_word = character.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase()
                        && after(1).is_some_and(char::is_ascii_lowercase))
            });
        if starts_word {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(character);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_keyword(name: &str) -> bool {
    [
        "as", "async", "await", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
        "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
        "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self",
        "static", "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "use",
        "virtual", "where", "while", "yield",
    ]
    .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_snake_case() {
        for (name, expected) in [
            ("KMSKeyArn", "kms_key_arn"),
            ("S3ObjectVersion", "s3_object_version"),
            ("CodeSha256", "code_sha256"),
            ("SourceKMSKeyArn", "source_kms_key_arn"),
            ("Ipv6AllowedForDualStack", "ipv6_allowed_for_dual_stack"),
            ("logGroupName", "log_group_name"),
            ("Type", "type_"),
        ] {
            assert_eq!(field(name), expected);
        }
    }

    #[test]
    fn variants_are_camel_case() {
        for (value, expected) in [
            ("nodejs18.x", "Nodejs18X"),
            ("x86_64", "X8664"),
            ("LATEST_PUBLISHED", "LatestPublished"),
            ("RequestResponse", "RequestResponse"),
            ("$LATEST.PUBLISHED", "LatestPublished"),
            ("1", "V1"),
        ] {
            assert_eq!(variant(value), expected);
        }
    }

    #[test]
    fn error_constants_drop_the_suffix() {
        assert_eq!(
            error_constant("ResourceNotFoundException"),
            "RESOURCE_NOT_FOUND"
        );
        assert_eq!(
            error_constant("EC2AccessDeniedException"),
            "EC2_ACCESS_DENIED"
        );
    }
}
