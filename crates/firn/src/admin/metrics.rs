//! The numbers in the text format of Prometheus. Those of functions are of a bounded number of them.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::collections::BTreeMap;
use std::fmt::Write;

use chunks::{Stats, TierStats};
use invoker::{Invoker, PhaseMetrics};

use crate::measurements::Totals;

/// One numeric column of a tier's statistics.
type Column = fn(&TierStats) -> Option<u64>;

const TIER_COUNTERS: [(&str, &str, Column); 7] = [
    ("hits", "Reads that found what they asked for.", |t| {
        Some(t.hits)
    }),
    ("misses", "Reads that found nothing.", |t| Some(t.misses)),
    ("read_bytes", "Bytes read, as stored.", |t| {
        Some(t.read_bytes)
    }),
    ("written_bytes", "Bytes written, as stored.", |t| {
        Some(t.written_bytes)
    }),
    ("errors", "Requests that failed.", |t| Some(t.errors)),
    ("corrupt", "Objects that failed verification.", |t| {
        Some(t.corrupt)
    }),
    ("evictions", "Objects that had to go for others.", |t| {
        Some(t.evictions)
    }),
];

mod functions;

pub fn render(invoker: &Invoker, stats: &Stats, totals: &Totals) -> String {
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for environment in invoker.environments() {
        let state = format!("{:?}", environment.state).to_lowercase();
        *states.entry(state).or_default() += 1;
    }
    let mut out = Page::default();
    out.environments(&states);
    out.phases(&invoker.phase_metrics());
    out.tiers(stats);
    out.functions(&totals.snapshot(), &invoker.capacity());
    out.lost(totals.lost());
    out.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Writing to a string cannot fail.
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "{text}");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn environments(&mut self, states: &BTreeMap<String, usize>) {
        let name = "firn_environments";
        self.head(
            name,
            "gauge",
            "Execution environments by what they are doing.",
        );
        for (state, count) in states {
            self.line(format_args!("{name}{{state=\"{state}\"}} {count}"));
        }
    }

    fn phases(&mut self, metrics: &PhaseMetrics) {
        let name = "firn_snapshot_phase_seconds";
        let help = "Time of the phases of making snapshots and restoring from them.";
        self.head(name, "summary", help);
        for status in &metrics.phases {
            let phase = status.phase;
            for (quantile, ms) in [
                ("0.5", status.p50_ms),
                ("0.99", status.p99_ms),
                ("1", status.max_ms),
            ] {
                let seconds = ms / 1000.0;
                self.line(format_args!(
                    "{name}{{phase=\"{phase}\",quantile=\"{quantile}\"}} {seconds}"
                ));
            }
            let sum = status.sum_ms / 1000.0;
            self.line(format_args!("{name}_sum{{phase=\"{phase}\"}} {sum}"));
            let count = status.count;
            self.line(format_args!("{name}_count{{phase=\"{phase}\"}} {count}"));
        }
        let name = "firn_snapshot_events_total";
        self.head(
            name,
            "counter",
            "How often what happened, by reason where there is one.",
        );
        for counter in &metrics.counters {
            let (event, reason) = (counter.name, counter.reason.unwrap_or_default());
            let value = counter.value;
            self.line(format_args!(
                "{name}{{event=\"{event}\",reason=\"{}\"}} {value}",
                escaped(reason)
            ));
        }
    }

    fn tiers(&mut self, stats: &Stats) {
        let tiers = [
            ("cache", &stats.l1),
            ("redis", &stats.l2),
            ("store", &stats.l3),
        ];
        for (column, help, value) in TIER_COUNTERS {
            let name = format!("firn_snapshot_tier_{column}_total");
            self.head(&name, "counter", help);
            self.values(&name, &tiers, value);
        }
        let name = "firn_snapshot_tier_resident_bytes";
        self.head(
            name,
            "gauge",
            "Bytes that the tier holds, where that is known.",
        );
        self.values(name, &tiers, |tier| tier.resident_bytes);
    }

    fn values(&mut self, name: &str, tiers: &[(&str, &TierStats)], value: Column) {
        for (tier, stats) in tiers {
            if let Some(value) = value(stats) {
                self.line(format_args!("{name}{{tier=\"{tier}\"}} {value}"));
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use invoker::{Counter, PhaseStatus};

    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.phases(&PhaseMetrics {
            phases: vec![PhaseStatus {
                phase: "restore",
                count: 2,
                sum_ms: 30.0,
                p50_ms: 10.0,
                p99_ms: 20.0,
                max_ms: 20.5,
            }],
            counters: vec![Counter {
                name: "cold_fallbacks",
                reason: Some("no \"key\""),
                value: 1,
            }],
        });
        let text = page.0;
        for line in [
            "# TYPE firn_snapshot_phase_seconds summary",
            "firn_snapshot_phase_seconds{phase=\"restore\",quantile=\"0.5\"} 0.01",
            "firn_snapshot_phase_seconds_sum{phase=\"restore\"} 0.03",
            "firn_snapshot_phase_seconds_count{phase=\"restore\"} 2",
            "firn_snapshot_events_total{event=\"cold_fallbacks\",reason=\"no \\\"key\\\"\"} 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} not in\n{text}"
            );
        }
    }

    #[test]
    fn a_tier_of_unknown_size_shows_none() {
        let mut page = Page::default();
        let mut stats = Stats::default();
        stats.l1.resident_bytes = Some(7);
        page.tiers(&stats);
        let resident: Vec<&str> = page
            .0
            .lines()
            .filter(|line| line.starts_with("firn_snapshot_tier_resident_bytes{"))
            .collect();
        assert_eq!(
            resident,
            ["firn_snapshot_tier_resident_bytes{tier=\"cache\"} 7"]
        );
    }
}
