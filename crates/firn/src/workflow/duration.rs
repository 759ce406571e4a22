//! Durations in few characters.

/// `12 ms`, `1.25 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn short(ms: i64) -> String {
    let ms = ms.max(0);
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{s}.{:02} s", ms % 1000 / 10),
        10_000..60_000 => format!("{s}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => pair(min, "min", s % 60, "s"),
        3_600_000..86_400_000 => pair(h, "h", min % 60, "min"),
        _ => pair(h / 24, "d", h % 24, "h"),
    }
}

fn pair(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// `0.012`, `61.500`: seconds since the start of an execution, all with the same precision.
pub fn offset(ms: i64) -> String {
    let ms = ms.max(0);
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_or_two_units() {
        let all = [
            0,
            999,
            1250,
            12_340,
            60_000,
            200_000,
            7_500_000,
            273_600_000,
        ];
        let expected = [
            "0 ms",
            "999 ms",
            "1.25 s",
            "12.3 s",
            "1 min",
            "3 min 20 s",
            "2 h 5 min",
            "3 d 4 h",
        ];
        assert_eq!(all.map(short), expected);
    }

    #[test]
    fn offsets_are_seconds_with_milliseconds() {
        assert_eq!(offset(61_500), "61.500");
        assert_eq!(offset(7), "0.007");
    }
}
