use super::*;
use crate::lambda::{Architecture, VpcConfig};
use crate::{application_autoscaling, cloudwatch, lambda, logs, stepfunctions};

static NAME: Constraint = Constraint {
    size: Size::Length {
        min: Some(1),
        max: Some(3),
    },
    pattern: Some(&LETTERS),
    ..Constraint::NONE
};
static LETTERS: Pattern = Pattern::new("[a-z]+", "[a-z]+");

fn violations(check: impl FnOnce(&mut Validator)) -> String {
    let mut validator = Validator::default();
    check(&mut validator);
    validator
        .finish()
        .map_or_else(|error| error.to_string(), |()| String::new())
}

#[test]
fn every_pattern_compiles() {
    let patterns = [
        application_autoscaling::PATTERNS,
        cloudwatch::PATTERNS,
        lambda::PATTERNS,
        logs::PATTERNS,
        stepfunctions::PATTERNS,
    ]
    .concat();
    assert!(patterns.len() > 30);
    for pattern in patterns {
        assert!(pattern.is_valid(), "{pattern:?}");
    }
}

#[test]
fn a_pattern_matches_the_whole_text() {
    for (text, matches) in [("abc", true), ("", false), ("a1", false), ("a\n", false)] {
        assert_eq!(LETTERS.matches(text), matches, "{text:?}");
    }
}

#[test]
fn a_value_may_break_several_constraints() {
    let message = violations(|v| v.value(&Path::ROOT, "name", Some(&"ABCD".to_owned()), &NAME));
    assert_eq!(
        message,
        "2 validation errors detected: \
         Value 'ABCD' at 'name' failed to satisfy constraint: Member must have length less than or \
         equal to 3; \
         Value 'ABCD' at 'name' failed to satisfy constraint: Member must satisfy regular \
         expression pattern: [a-z]+"
    );
}

#[test]
fn length_counts_utf_16_units() {
    let constraint = Constraint {
        size: Size::Length {
            min: None,
            max: Some(2),
        },
        ..Constraint::NONE
    };
    let mut found = Vec::new();
    check_text("é😀", &constraint, &mut found);
    assert_eq!(found, ["Member must have length less than or equal to 2"]);
}

#[test]
fn keys_and_values_of_maps_are_reported_for_the_map() {
    let map = BTreeMap::from([("KEY".to_owned(), "1".to_owned())]);
    let message = violations(|v| {
        v.keys(&Path::ROOT, "tags", Some(&map), &NAME);
        v.values(&Path::ROOT, "tags", Some(&map), &NAME);
    });
    let all = "[Member must have length less than or equal to 3, Member must have length greater \
               than or equal to 1, Member must satisfy regular expression pattern: [a-z]+]";
    assert_eq!(
        message,
        format!(
            "2 validation errors detected: \
             Value '{{KEY=1}}' at 'tags' failed to satisfy constraint: Map keys must satisfy \
             constraint: {all}; \
             Value '{{KEY=1}}' at 'tags' failed to satisfy constraint: Map value must satisfy \
             constraint: {all}"
        )
    );
}

#[test]
fn sensitive_values_do_not_show() {
    let constraint = Constraint {
        sensitive: true,
        ..NAME_CONST
    };
    let message = violations(|v| {
        v.value(
            &Path::ROOT,
            "secret",
            Some(&"hush!".to_owned()),
            &constraint,
        )
    });
    assert!(
        message.contains("Value at 'secret'") && !message.contains("hush"),
        "{message}"
    );
}

const NAME_CONST: Constraint = Constraint {
    size: Size::Length {
        min: Some(1),
        max: Some(3),
    },
    ..Constraint::NONE
};

#[test]
fn violations_are_bounded() {
    let message = violations(|v| {
        for _ in 0..10_000 {
            v.value(&Path::ROOT, "name", Some(&String::new()), &NAME_CONST);
        }
    });
    assert!(message.starts_with("100 validation errors detected"));
}

#[test]
fn structures_show_in_the_notation_of_java() {
    let config = VpcConfig {
        subnet_ids: Some(vec!["a".into(), "b".into()]),
        ..Default::default()
    };
    let mut shown = String::new();
    vec![config].show(&mut shown);
    assert_eq!(
        shown,
        "[VpcConfig(subnetIds=[a, b], securityGroupIds=null, ipv6AllowedForDualStack=null)]"
    );
    shown.clear();
    vec![Architecture::Arm64].show(&mut shown);
    assert_eq!(shown, "[arm64]");
}
