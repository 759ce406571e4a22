//! Percentiles over all samples; nothing is binned.

use std::time::Duration;

use serde_json::{Value, json};

/// Summarises samples: microseconds, nearest rank.
pub fn summary(mut samples: Vec<Duration>) -> Value {
    if samples.is_empty() {
        return Value::Null;
    }
    samples.sort_unstable();
    let rank = |per_mille: usize| {
        let at = (samples.len() * per_mille).div_ceil(1000).max(1) - 1;
        micros(samples[at])
    };
    let total: Duration = samples.iter().sum();
    json!({
        "count": samples.len(),
        "min_us": micros(samples[0]),
        "mean_us": micros(total) / samples.len() as f64,
        "p50_us": rank(500),
        "p90_us": rank(900),
        "p99_us": rank(990),
        "p999_us": rank(999),
        "max_us": rank(1000),
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let samples = (1..=100).map(Duration::from_micros).collect();
        let told = summary(samples);
        assert_eq!(told["p50_us"], 50.0);
        assert_eq!(told["p99_us"], 99.0);
        assert_eq!(told["max_us"], 100.0);
        assert_eq!(told["mean_us"], 50.5);
    }

    #[test]
    fn one_sample_is_every_percentile() {
        let told = summary(vec![Duration::from_micros(7)]);
        assert_eq!(
            (&told["p50_us"], &told["p99_us"]),
            (&json!(7.0), &json!(7.0))
        );
    }
}
