//! Metric math: parsing and computing.
#![no_main]

use std::collections::BTreeMap;

use cloudwatch::expression::{Expression, Inputs, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(expression) = Expression::parse(text) else {
        return;
    };
    let series = |step: i64| (0..5).map(|at| (at * step, at as f64 - 2.0)).collect();
    let values: BTreeMap<String, Value> = expression
        .ids()
        .iter()
        .zip(1..)
        .map(|(id, step)| ((*id).to_owned(), Value::Series(series(step * 60))))
        .collect();
    let metrics: Vec<(String, String)> = values.keys().map(|id| (id.clone(), id.clone())).collect();
    let _ = expression.evaluate(&Inputs {
        values: &values,
        metrics: &metrics,
        times: &[0, 60, 120, 180, 240],
        period: 60,
    });
});
