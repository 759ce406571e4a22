//! Schedules: what is read has a next time, or none, but never panics. Lines: the schedule, the
//! second after which, the time zone.
#![no_main]

use autoscaling::schedule::Schedule;
use clock::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let text = lines.next().unwrap_or_default();
    let second: u32 = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let timezone = lines.next().filter(|line| !line.is_empty());
    let Ok(schedule) = Schedule::new(text, timezone) else {
        return;
    };
    let after = Timestamp::from_secs(i64::from(second));
    if let Some(next) = schedule.next_after(after, Timestamp::default()) {
        assert!(next > after);
    }
});
