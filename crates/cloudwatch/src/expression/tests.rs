use super::*;

fn series(values: &[(i64, f64)]) -> Series {
    values.iter().copied().collect()
}

fn value(text: &str) -> Result<Value, ExpressionError> {
    let values = BTreeMap::from([
        (
            "m1".to_owned(),
            Value::Series(series(&[(0, 1.0), (60, 2.0), (180, 4.0)])),
        ),
        (
            "m2".to_owned(),
            Value::Series(series(&[(0, 10.0), (60, 0.0), (120, 30.0)])),
        ),
    ]);
    let metrics = [("m1", "one"), ("m2", "two")].map(|(id, label)| (id.into(), label.into()));
    Expression::parse(text)?.evaluate(&Inputs {
        values: &values,
        metrics: &metrics,
        times: &[0, 60, 120, 180],
        period: 60,
    })
}

#[test]
fn arithmetic_binds_as_usual() {
    for (text, expected) in [
        ("1+2*3", 7.0),
        ("(1+2)*3", 9.0),
        ("10-2-3", 5.0),
        ("2*3^2", 18.0),
        ("-2 + 5", 3.0),
        ("8 / 2 / 2", 2.0),
        ("1 < 2 AND 3 >= 3", 1.0),
        ("1 == 2 || 0", 0.0),
        ("SUM(m1)", 7.0),
        ("AVG(m2) * 3", 40.0),
        ("MAX(m1) - MIN(m1)", 3.0),
        ("METRIC_COUNT(METRICS())", 2.0),
        ("PERIOD(m1)", 60.0),
        ("STDDEV(m2)", (1400.0_f64 / 9.0).sqrt()),
    ] {
        let Ok(Value::Scalar(found)) = value(text) else {
            panic!("{text}: {:?}", value(text));
        };
        assert!((found - expected).abs() < 1e-9, "{text} is {found}");
    }
}

#[test]
fn series_are_joined_where_both_have_values() {
    for (text, expected) in [
        ("m1 + m2", &[(0, 11.0), (60, 2.0)][..]),
        ("m1 / m2", &[(0, 0.1)]),
        ("m1 * 2", &[(0, 2.0), (60, 4.0), (180, 8.0)]),
        (
            "SUM(METRICS())",
            &[(0, 11.0), (60, 2.0), (120, 30.0), (180, 4.0)],
        ),
        (
            "SUM([m1,m2])",
            &[(0, 11.0), (60, 2.0), (120, 30.0), (180, 4.0)],
        ),
        ("AVG(METRICS(\"m2\"))", &[(0, 10.0), (60, 0.0), (120, 30.0)]),
        ("RATE(m1)", &[(60, 1.0 / 60.0), (180, 2.0 / 120.0)]),
        ("DIFF(m1)", &[(60, 1.0), (180, 2.0)]),
        ("RUNNING_SUM(m1)", &[(0, 1.0), (60, 3.0), (180, 7.0)]),
        (
            "FILL(m1, 0)",
            &[(0, 1.0), (60, 2.0), (120, 0.0), (180, 4.0)],
        ),
        (
            "FILL(m1, REPEAT)",
            &[(0, 1.0), (60, 2.0), (120, 2.0), (180, 4.0)],
        ),
        (
            "FILL(m1, LINEAR)",
            &[(0, 1.0), (60, 2.0), (120, 3.0), (180, 4.0)],
        ),
        (
            "FILL(m1, m2)",
            &[(0, 1.0), (60, 2.0), (120, 30.0), (180, 4.0)],
        ),
        ("IF(m1 > 1, m1, 0)", &[(0, 0.0), (60, 2.0), (180, 4.0)]),
        ("IF(m2, m2)", &[(0, 10.0), (120, 30.0)]),
        ("ABS(-m1)", &[(0, 1.0), (60, 2.0), (180, 4.0)]),
        (
            "TIME_SERIES(3)",
            &[(0, 3.0), (60, 3.0), (120, 3.0), (180, 3.0)],
        ),
    ] {
        assert_eq!(value(text), Ok(Value::Series(series(expected))), "{text}");
    }
}

#[test]
fn what_is_wrong_and_what_is_missing_are_told_apart() {
    for text in [
        "", "1 +", "m3", "(m1", "FOO(m1)", "SUM()", "SUM(1)", "REPEAT", "m1 m2", "[1]", "1..2",
        "'x",
    ] {
        assert!(
            matches!(value(text), Err(ExpressionError::Invalid(_))),
            "{text}: {:?}",
            value(text)
        );
    }
    for text in [
        "SEARCH('{AWS/Lambda,FunctionName} Errors', 'Sum')",
        "SELECT MAX(Duration) FROM \"AWS/Lambda\"",
        "ANOMALY_DETECTION_BAND(m1)",
    ] {
        assert!(
            matches!(value(text), Err(ExpressionError::NotSupported(_))),
            "{text}"
        );
    }
    assert!(value(&"(".repeat(100_000)).is_err());
    assert!(value(&"-".repeat(100_000)).is_err());
}

#[test]
fn ids_are_known_before_anything_is_computed() {
    let expression = Expression::parse("FILL(a, REPEAT) / SUM([b, c2])").unwrap();
    assert_eq!(expression.ids(), ["a", "b", "c2"]);
    assert!(!expression.uses_all_metrics());
    assert!(
        Expression::parse("SUM(METRICS())")
            .unwrap()
            .uses_all_metrics()
    );
}
