use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::super::Jsonata;
use super::*;
use crate::Budget;
use crate::failure::{Evaluation, EvaluationError};
use crate::scope::{Scope, Seeded, Variables};

fn bound(source: &str) -> Option<Bound> {
    let expression = Jsonata::of(&format!("{{% {source} %}}")).unwrap();
    assert!(expression.tree.is_ok(), "{source}");
    expression.bound
}

#[test]
fn ordinary_expressions_are_evaluated_here() {
    for source in [
        "$states.input.order.id",
        "$states.input.lines[0].sku",
        "$states.input.lines[price > 10].sku",
        "$states.input.lines[sku = $states.input.wanted]",
        "$states.input.lines.(price * quantity)",
        "$sum($states.input.lines.(price * quantity))",
        "'Order ' & $states.input.order.id & ' of ' & $states.context.Execution.Name",
        "{'id': $states.input.id, 'all': [$v, 1, true, null]}",
        "$states.input.n > 3 and $v = 'x' ? 'big' : 'small'",
        "$merge([$states.input, {'n': 1}])",
        "$exists($states.input.a) ? $states.input.a : $v",
        "$states.input.a ?: 'none'",
        "$uuid() & $now() & $string($random())",
        "$join($states.input.names, ', ')",
        "($total := $sum($states.input.lines.price); $tax := $total * 0.2; {'total': $total + $tax})",
        "$lowercase($substringBefore($v, '@'))",
        "$count($split($v, ','))",
        "$partition($states.input.lines, 10)",
        "$states.input.lines.price ~> $sum() ~> $string()",
        "-$v",
    ] {
        let bound = bound(source).unwrap_or_else(|| panic!("{source}"));
        assert!(bound.is_small(2_000), "{source}: {bound:?}");
    }
}

#[test]
fn what_may_become_large_is_evaluated_elsewhere() {
    for source in [
        "$replace($pad('', 1000000, 'a'), /a/, $pad('', 100000, 'x'))",
        "($f := function($s, $n){$n = 0 ? $length($s) : $f($s & $s, $n - 1)}; $f('abcdefgh', 28))",
        "$pad('', 2000000000, 'x')",
        "$map($states.input, function($x){$x})",
        "$states.input.lines ~> $map($string)",
        "$states.input.lines ~> $count",
        "[1..1000000]",
        "$range(1, 10, 1)",
        "$states.input.lines^(price)",
        "$states.input.lines{sku: price}",
        "$states.input.**",
        "$states.input.*",
        "$states.input ~> |$|{'a': 1}|",
        "$match($v, /a+/)",
        "$contains($v, /a+/)",
        "$formatNumber(1, '#')",
        "$fromMillis(1, '[Y0001]')",
        "$now('[Y0001]')",
        "$string($v, true)",
        "$states.input.lines@$l.a",
        "$states.input.lines#$i.a",
        "$sort($states.input.lines)",
        "$each($states.input, $string)",
        "$notThere(1)",
        // Once per element: what is assigned might grow each time.
        "$states.input.lines.($x := [$x, $x]; $x)",
        "$states.input.lines[($y := 1; true)]",
        "($string := $pad; $string('', 1000000000))",
        // The cube of the data.
        "$states.input.a.($states.input.b.($states.input.c.(1)))",
    ] {
        assert_eq!(bound(source), None, "{source}");
    }
}

#[test]
fn what_doubles_again_and_again_is_not_small() {
    let mut source = "$a := [$states.input, $states.input]; ".to_owned();
    for name in b'b'..=b'z' {
        let (before, name) = (char::from(name - 1), char::from(name));
        source += &format!("${name} := [${before}, ${before}]; ");
    }
    let bound = bound(&format!("({source} $z)")).unwrap();
    assert!(!bound.is_small(100), "{bound:?}");
    assert!(!bound.is_light());
}

/// On a stack as threads of a runtime have it.
#[test]
fn deep_expressions_do_not_overflow_the_stack() {
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let deep = thread.spawn(|| {
        for (open, close) in [
            ("[", "]"),
            ("(", ")"),
            ("$count(", ")"),
            ("-", ""),
            ("{'a': ", "}"),
        ] {
            for depth in [10, 400, 900, 5_000] {
                let source = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let expression = Jsonata::of(&format!("{{% {source} %}}")).unwrap();
                assert!(
                    depth < 100 || expression.is_heavy() || open == "(",
                    "{open} {depth}"
                );
            }
        }
        let chain = vec!["$v"; 20_000].join(" & ");
        assert!(Jsonata::of(&format!("{{% {chain} %}}")).unwrap().is_heavy());
        let chain = vec!["$v"; 20_000].join(".");
        Jsonata::of(&format!("{{% {chain} %}}")).unwrap();
    });
    deep.unwrap().join().unwrap();
}

#[test]
fn weight_is_that_of_any_data() {
    assert!(bound("$states.input.a & 'x'").unwrap().is_light());
    // The square of the data.
    let compared = bound("$states.input.lines[sku = $states.input.wanted]").unwrap();
    assert!(!compared.is_light());
    assert!(compared.is_small(1_000) && !compared.is_small(100_000));
    assert!(Jsonata::of("{% $pad('', 9) %}").unwrap().is_heavy());
    assert!(!Jsonata::of("{% $v + 1 %}").unwrap().is_heavy());
}

#[test]
fn size_counts_values_and_texts() {
    let value = json!({"a": [1, "xyz"], "bc": null});
    assert_eq!(size(&[&value]), Some(5 * 8 + 3 + 3));
    let large = Value::from("x".repeat(1 << 24));
    assert_eq!(size(&[&value, &large]), None);
}

fn evaluate(source: &str, input: &Value, v: &Value) -> Result<Value, EvaluationError> {
    let variables = Variables::from([("v".into(), v.clone().into())]);
    let mut chance = Seeded::new(1);
    let mut evaluation = Evaluation {
        scope: Scope {
            input,
            context: &Value::Null,
            variables: &variables,
        },
        chance: &mut chance,
        budget: Budget::default(),
        now_ms: 1_700_000_000_123,
        result: None,
        error_output: None,
    };
    Jsonata::of(&format!("{{% {source} %}}"))
        .unwrap()
        .evaluate("Output", &mut evaluation)
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        // What takes six times the place when it is written as JSON, or three in capitals.
        "[a-c\u{1}\"\\\\\u{390}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), inner), 0..4)
                .prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
        ]
    })
}

/// Expressions with a bound, or at least without much that has none.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "'text'",
        "7",
        "1e300",
        "true",
        "null",
        "a",
        "b",
        "b.c",
        "$",
        "$v",
        "$x",
        "$states.input",
        "$states.input.a",
        "$states.input.b[0]",
        "$states.input.b[-1].a",
        "$states.input.a[a > 1]",
        "$v[a = $states.input.b].c[]",
        "$states.input.[a, b]",
        "$uuid()",
        "$now()",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 32, 3, |inner| {
        let unary = prop::sample::select(vec![
            "string",
            "keys",
            "reverse",
            "distinct",
            "count",
            "exists",
            "merge",
            "uppercase",
            "trim",
            "encodeUrlComponent",
            "base64encode",
            "type",
            "boolean",
        ]);
        let binary = prop::sample::select(vec!["append", "join", "split", "lookup"]);
        let operator = prop::sample::select(vec!["&", "&", "=", "in", "and", "??", "?:"]);
        let (a, b, c) = (inner.clone(), inner.clone(), inner.clone());
        prop_oneof![
            (a.clone(), operator, b.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (a.clone(), b.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (a.clone(), b.clone()).prop_map(|(a, b)| format!("{{'k': {a}, $string({b}): {b}}}")),
            (a.clone(), b.clone(), c).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (a.clone(), b.clone()).prop_map(|(a, b)| format!("{a}.({b})")),
            (a.clone(), b.clone()).prop_map(|(a, b)| format!("{a}.[{b}]")),
            (a.clone(), b.clone()).prop_map(|(a, b)| format!("{a}.{{'p': {b}, 'q': a}}")),
            (a.clone(), b.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (unary.clone(), a.clone()).prop_map(|(name, a)| format!("${name}({a})")),
            (unary, a.clone()).prop_map(|(name, a)| format!("({a} ~> ${name}())")),
            (binary, a, b).prop_map(|(name, a, b)| format!("${name}({a}, {b})")),
        ]
    })
}

fn with_assignments() -> impl Strategy<Value = String> {
    (expression(), expression(), prop::option::of(expression())).prop_map(|(last, x, more)| {
        match more {
            Some(more) => format!("($x := {x}; $x := [$x, {more}]; {last})"),
            None => last,
        }
    })
}

#[test]
fn result_is_never_larger_than_its_bound() {
    let (checked, nearest) = (Cell::new(0), Cell::new(0.0_f64));
    let config = ProptestConfig {
        cases: 4_000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(
        &(with_assignments(), data(), data()),
        |(source, input, v)| {
            let expression = Jsonata::of(&format!("{{% {source} %}}")).unwrap();
            let Some(bound) = expression.bound else {
                return Ok(());
            };
            let data = size(&[&input, &Value::Null, &v]).unwrap();
            if !bound.is_small(data) {
                return Ok(());
            }
            if let Ok(value) = evaluate(&source, &input, &v) {
                let (made, most) = (size(&[&value]).unwrap() as u64, bound.result(data));
                prop_assert!(made <= most, "{} of {}: {}", made, most, source);
                checked.set(checked.get() + 1);
                #[expect(clippy::cast_precision_loss, reason = "numbers of a test")]
                let share = made as f64 / most as f64;
                nearest.set(nearest.get().max(share));
            }
            Ok(())
        },
    );
    outcome.unwrap();
    // Many were evaluated, and some came near their bound.
    assert!(checked.get() > 1_000, "{checked:?}");
    assert!(nearest.get() > 0.3, "{nearest:?}");
}
