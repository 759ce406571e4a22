//! When scheduled actions run: `at(...)`, `rate(...)` and `cron(...)`.
//!
//! See <https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html>.

use std::time::Duration;

use clock::Timestamp;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Longer texts are refused, as the interface does.
const MAX_BYTES: usize = 1_600;

/// A schedule and its time zone, as they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    text: String,
    timezone: Option<String>,
}

/// The text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("Schedule expression is invalid: {0}")]
    Invalid(&'static str),
    #[error("The timezone is invalid")]
    Timezone,
}

enum Kind {
    At(Timestamp),
    Rate(Duration),
    Cron(Box<Cron>, TimeZone),
}

impl Schedule {
    /// Reads a schedule; `timezone` is a name of the IANA database.
    pub fn new(text: &str, timezone: Option<&str>) -> Result<Self, ScheduleError> {
        let schedule = Self {
            text: text.to_owned(),
            timezone: timezone.map(str::to_owned),
        };
        schedule.kind()?;
        Ok(schedule)
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it was given.
    pub fn timezone(&self) -> Option<&str> {
        self.timezone.as_deref()
    }

    /// The first time after `after`, and not before `start`. Rates count from `start`.
    pub fn next_after(&self, after: Timestamp, start: Timestamp) -> Option<Timestamp> {
        match self.kind().ok()? {
            Kind::At(moment) => (moment > after && moment >= start).then_some(moment),
            Kind::Rate(rate) => {
                if after < start {
                    return Some(start);
                }
                let rate = u64::try_from(rate.as_micros()).ok()?;
                let since = u64::try_from(after.duration_since(start).as_micros()).ok()?;
                let passed = (since / rate + 1).checked_mul(rate)?;
                Some(start + Duration::from_micros(passed))
            }
            Kind::Cron(cron, timezone) => {
                let from = if start > after {
                    // A start that is itself an occurrence counts.
                    start - Duration::from_micros(1)
                } else {
                    after
                };
                let zoned = from.to_jiff().to_zoned(timezone);
                let next = cron.find_next_occurrence(&zoned, false).ok()?;
                Some(Timestamp::from_micros(next.timestamp().as_microsecond()))
            }
        }
    }

    fn kind(&self) -> Result<Kind, ScheduleError> {
        if self.text.len() > MAX_BYTES {
            return Err(ScheduleError::Invalid("it is too long"));
        }
        let timezone = match &self.timezone {
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Timezone)?,
            None => TimeZone::UTC,
        };
        let (name, rest) = self.text.split_once('(').ok_or(ScheduleError::Invalid(
            "it must be at(...), rate(...) or cron(...)",
        ))?;
        let inner = rest
            .strip_suffix(')')
            .ok_or(ScheduleError::Invalid("a parenthesis is missing"))?;
        match name {
            "at" => at(inner, &timezone).map(Kind::At),
            "rate" => rate(inner).map(Kind::Rate),
            "cron" => Ok(Kind::Cron(Box::new(cron(inner)?), timezone)),
            _ => Err(ScheduleError::Invalid(
                "it must be at(...), rate(...) or cron(...)",
            )),
        }
    }
}

/// `yyyy-mm-ddThh:mm:ss` in the time zone. An hour that the clocks skip is the one after it.
fn at(text: &str, timezone: &TimeZone) -> Result<Timestamp, ScheduleError> {
    let invalid = || ScheduleError::Invalid("at(...) takes yyyy-mm-ddThh:mm:ss");
    let shape = "0000-00-00T00:00:00";
    let fits = text.len() == shape.len()
        && text
            .bytes()
            .zip(shape.bytes())
            .all(|(found, wanted)| match wanted {
                b'0' => found.is_ascii_digit(),
                _ => found == wanted,
            });
    if !fits {
        return Err(invalid());
    }
    let civil: DateTime = text.parse().map_err(|_| invalid())?;
    let moment = timezone.to_timestamp(civil).map_err(|_| invalid())?;
    Ok(Timestamp::from_micros(moment.as_microsecond()))
}

fn rate(text: &str) -> Result<Duration, ScheduleError> {
    let invalid = || ScheduleError::Invalid("rate(...) takes a positive number and a unit");
    let (value, unit) = text.trim().split_once(' ').ok_or_else(invalid)?;
    let value: u64 = value.parse().map_err(|_| invalid())?;
    let seconds = match (unit.trim(), value) {
        (_, 0) => return Err(invalid()),
        ("minute", 1) | ("minutes", 2..) => 60,
        ("hour", 1) | ("hours", 2..) => 3_600,
        ("day", 1) | ("days", 2..) => 86_400,
        _ => return Err(invalid()),
    };
    // A rate of a hundred years is nobody's intention, and bounds what follows.
    let total = value
        .checked_mul(seconds)
        .filter(|total| *total < 100 * 366 * 86_400);
    total.map(Duration::from_secs).ok_or_else(invalid)
}

/// Minutes, hours, day of month, month, day of week (1 is Sunday), year; one of the days is `?`.
fn cron(text: &str) -> Result<Cron, ScheduleError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [_, _, day, _, weekday, _] = fields[..] else {
        return Err(ScheduleError::Invalid("cron(...) takes six fields"));
    };
    if (day == "?") == (weekday == "?") {
        return Err(ScheduleError::Invalid(
            "either the day of the month or the day of the week must be ?",
        ));
    }
    CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Required)
        .dom_and_dow(true)
        .alternative_weekdays(true)
        .sloppy_ranges(true)
        .build()
        .parse(&format!("0 {text}"))
        .map_err(|_| ScheduleError::Invalid("a field of cron(...) is invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(text: &str, timezone: Option<&str>, after: &str) -> Option<String> {
        let schedule = Schedule::new(text, timezone).unwrap();
        let next = schedule.next_after(moment(after), moment("2020-01-01T00:00:00Z"))?;
        Some(next.to_string())
    }

    #[test]
    fn cron_is_awss() {
        for (text, after, expected) in [
            (
                "cron(15 10 * * ? *)",
                "2026-03-01T10:15:00Z",
                "2026-03-02T10:15:00.000Z",
            ),
            // A Sunday; the first weekday is Monday.
            (
                "cron(0 8 ? * MON-FRI *)",
                "2026-03-01T00:00:00Z",
                "2026-03-02T08:00:00.000Z",
            ),
            (
                "cron(0 8 ? * 2-6 *)",
                "2026-03-01T00:00:00Z",
                "2026-03-02T08:00:00.000Z",
            ),
            (
                "cron(0 8 ? * 1 *)",
                "2026-03-02T00:00:00Z",
                "2026-03-08T08:00:00.000Z",
            ),
            (
                "cron(0/15 * * * ? *)",
                "2026-03-01T10:16:00Z",
                "2026-03-01T10:30:00.000Z",
            ),
            (
                "cron(0 0 L * ? *)",
                "2026-02-01T00:00:00Z",
                "2026-02-28T00:00:00.000Z",
            ),
            (
                "cron(0 9 ? * 2#1 *)",
                "2026-03-03T00:00:00Z",
                "2026-04-06T09:00:00.000Z",
            ),
            (
                "cron(0 0 1 1 ? 2030)",
                "2026-03-03T00:00:00Z",
                "2030-01-01T00:00:00.000Z",
            ),
        ] {
            assert_eq!(next(text, None, after).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            next("cron(0 0 1 1 ? 2020)", None, "2026-03-03T00:00:00Z"),
            None
        );
    }

    #[test]
    fn time_zones_are_heeded() {
        let berlin = Some("Europe/Berlin");
        let daily = "cron(0 8 * * ? *)";
        assert_eq!(
            next(daily, berlin, "2026-01-10T00:00:00Z").unwrap(),
            "2026-01-10T07:00:00.000Z"
        );
        assert_eq!(
            next(daily, berlin, "2026-07-10T00:00:00Z").unwrap(),
            "2026-07-10T06:00:00.000Z"
        );
        let once = "at(2026-07-01T12:00:00)";
        assert_eq!(
            next(once, berlin, "2026-01-10T00:00:00Z").unwrap(),
            "2026-07-01T10:00:00.000Z"
        );
        assert_eq!(
            next(once, None, "2026-01-10T00:00:00Z").unwrap(),
            "2026-07-01T12:00:00.000Z"
        );
        assert_eq!(next(once, None, "2026-07-01T12:00:00Z"), None);
        assert_eq!(
            Schedule::new(once, Some("Europe/Atlantis")),
            Err(ScheduleError::Timezone)
        );
    }

    #[test]
    fn rates_count_from_the_start() {
        let every = Schedule::new("rate(2 hours)", None).unwrap();
        let start = moment("2026-01-01T00:30:00Z");
        let next = |after: &str| every.next_after(moment(after), start).unwrap().to_string();
        assert_eq!(next("2025-12-31T00:00:00Z"), "2026-01-01T00:30:00.000Z");
        assert_eq!(next("2026-01-01T00:30:00Z"), "2026-01-01T02:30:00.000Z");
        assert_eq!(next("2026-01-05T05:29:59Z"), "2026-01-05T06:30:00.000Z");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "cron",
            "cron()",
            "at(2026-07-01)",
            "at(2026-07-01T12:00:00Z)",
            "at(2026-13-01T12:00:00)",
            "rate(5)",
            "rate(0 minutes)",
            "rate(1 minutes)",
            "rate(2 minute)",
            "rate(-1 hours)",
            "rate(5 weeks)",
            "rate(99999999999999 days)",
            "every(5 minutes)",
            "cron(0 8 * * * *)",
            "cron(0 8 ? * ? *)",
            "cron(0 8 * * ?)",
            "cron(61 8 * * ? *)",
            "cron(0 8 * * ? *",
            "cron(0 0 8 * * ? *)",
        ] {
            assert!(Schedule::new(text, None).is_err(), "{text}");
        }
    }
}
