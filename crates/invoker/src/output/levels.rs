//! Levels of application logs, and which of them a function wants to keep.
//! <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>

use std::borrow::Cow;

use serde::Deserialize;

use crate::{Function, LogFormat};

/// How detailed an application's log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// Keeps lines from a level on. Applies only to functions that log JSON.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LevelFilter {
    threshold: Option<LogLevel>,
}

#[derive(Deserialize)]
struct Leveled<'a> {
    // The name under which the managed runtimes write it; libraries write it capitalised, too.
    #[serde(borrow, default, alias = "Level", alias = "LEVEL")]
    level: Option<Cow<'a, str>>,
}

impl LogLevel {
    /// As configurations, runtimes and common libraries spell it.
    pub fn parse(text: &str) -> Option<Self> {
        let level = match text.to_ascii_uppercase().as_str() {
            "TRACE" => Self::Trace,
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "WARN" | "WARNING" => Self::Warn,
            "ERROR" => Self::Error,
            "FATAL" | "CRITICAL" => Self::Fatal,
            _ => return None,
        };
        Some(level)
    }

    /// That of a log frame, whose type carries it above the two bits for the format.
    pub(super) const fn of_frame(kind: u32) -> Option<Self> {
        match (kind & 0xff) >> 2 {
            1 => Some(Self::Trace),
            2 => Some(Self::Debug),
            3 => Some(Self::Info),
            4 => Some(Self::Warn),
            5 => Some(Self::Error),
            6 => Some(Self::Fatal),
            _ => None,
        }
    }
}

impl LevelFilter {
    pub fn of(function: &Function) -> Self {
        let threshold = match function.log_format {
            LogFormat::Text => None,
            LogFormat::Json => function
                .application_log_level
                .as_deref()
                .and_then(LogLevel::parse)
                .or(Some(LogLevel::Info)),
        };
        Self { threshold }
    }

    /// A line without a level, or with one that is none, counts as INFO.
    pub fn keeps(&self, known: Option<LogLevel>, text: &str) -> bool {
        let Some(threshold) = self.threshold else {
            return true;
        };
        // Nothing is looked at that is kept whatever it says.
        if threshold == LogLevel::Trace {
            return true;
        }
        let level = known.or_else(|| level_of(text)).unwrap_or(LogLevel::Info);
        level >= threshold
    }
}

fn level_of(text: &str) -> Option<LogLevel> {
    let text = text.trim();
    if !text.starts_with('{') {
        return None;
    }
    let leveled: Leveled<'_> = serde_json::from_str(text).ok()?;
    LogLevel::parse(&leveled.level?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn filter(format: LogFormat, level: Option<&str>) -> LevelFilter {
        LevelFilter::of(&Function {
            log_format: format,
            application_log_level: level.map(str::to_owned),
            ..testing::function()
        })
    }

    #[test]
    fn lines_below_the_level_are_dropped() {
        let warn = filter(LogFormat::Json, Some("WARN"));
        assert!(warn.keeps(None, "{\"level\": \"ERROR\", \"message\": \"x\"}\n"));
        assert!(warn.keeps(None, "{\"level\": \"warning\"}"));
        assert!(!warn.keeps(None, "{\"level\": \"INFO\"}\n"));
        assert!(!warn.keeps(None, "{\"message\": \"no level is INFO\"}\n"));
        assert!(!warn.keeps(None, "{\"level\": \"loud\"}\n"));
        assert!(!warn.keeps(None, "{\"level\": 7}\n"));
        assert!(!warn.keeps(None, "plain text is INFO\n"));
        assert!(warn.keeps(Some(LogLevel::Error), "text of a frame\n"));
        assert!(!warn.keeps(Some(LogLevel::Info), "text of a frame\n"));
    }

    #[test]
    fn default_is_info_and_text_logs_are_never_filtered() {
        let default = filter(LogFormat::Json, None);
        assert!(default.keeps(None, "plain\n"));
        assert!(!default.keeps(None, "{\"level\":\"DEBUG\"}"));
        assert!(filter(LogFormat::Json, Some("TRACE")).keeps(None, "{\"level\":\"TRACE\"}"));
        let text = filter(LogFormat::Text, Some("ERROR"));
        assert!(text.keeps(None, "{\"level\":\"DEBUG\"}"));
    }

    #[test]
    fn frames_carry_their_level() {
        for (kind, level) in [
            (0xa55a_0003, None),
            (0xa55a_0002, None),
            (0xa55a_000b, Some(LogLevel::Debug)),
            (0xa55a_000e, Some(LogLevel::Info)),
            (0xa55a_0013, Some(LogLevel::Warn)),
            (0xa55a_0017, Some(LogLevel::Error)),
            (0xa55a_0016, Some(LogLevel::Error)),
            (0xa55a_001a, Some(LogLevel::Fatal)),
            (0xa55a_00ff, None),
        ] {
            assert_eq!(LogLevel::of_frame(kind), level, "{kind:x}");
        }
    }
}
