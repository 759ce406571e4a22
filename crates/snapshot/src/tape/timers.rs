//! POSIX timers and interval timers.

use super::objects::number;
use super::writer::Expect;
use super::{Compiler, TapeError, sys};
use crate::PosixTimer;

/// Without a way to choose ids, timers are made and deleted until the kernel has counted so far.
const COUNTABLE: i32 = 1024;

const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;

impl Compiler<'_> {
    /// After the threads, which timers may name.
    pub(super) fn create_timers(&mut self) -> Result<(), TapeError> {
        let image = self.image;
        self.tape.about("create timers");
        if *sys::TIMER_IDS && !image.timers.is_empty() {
            self.restore_ids(true);
            for timer in &image.timers {
                let id = self.tape.word(number(timer.id))?;
                self.create_timer(timer, id);
            }
            self.restore_ids(false);
        } else if let Some(last) = image.timers.iter().map(|timer| timer.id).max() {
            self.count_up_to(last)?;
        }
        for timer in &image.timers {
            let setting = self.interval(timer.interval_ns, timer.value_ns);
            let args = [number(timer.id), 0, setting, 0];
            self.tape
                .call(libc::SYS_timer_settime, &args, Expect::Is(0));
        }
        for timer in &image.interval_timers {
            const MICROSECOND: u64 = 1000;
            const SECOND: u64 = 1_000_000;
            let (interval, value) = (
                timer.interval_ns.div_ceil(MICROSECOND),
                timer.value_ns.div_ceil(MICROSECOND),
            );
            let setting = [
                interval / SECOND,
                interval % SECOND,
                value / SECOND,
                value % SECOND,
            ];
            let setting = self.tape.words(&setting);
            let args = [number(timer.which), setting, 0];
            self.tape.call(libc::SYS_setitimer, &args, Expect::Is(0));
        }
        Ok(())
    }

    fn restore_ids(&mut self, on: bool) {
        let args = [PR_TIMER_CREATE_RESTORE_IDS, u64::from(on), 0, 0, 0];
        self.tape.call(libc::SYS_prctl, &args, Expect::Is(0));
    }

    fn create_timer(&mut self, timer: &PosixTimer, id: u64) {
        let event = [
            timer.value,
            number(timer.signal) | number(timer.notify) << 32,
            number(timer.tid),
        ];
        let mut event = event.to_vec();
        event.resize(8, 0);
        let event = self.tape.words(&event);
        let args = [number(timer.clock), event, id];
        self.tape.call(libc::SYS_timer_create, &args, Expect::Is(0));
    }

    fn count_up_to(&mut self, last: i32) -> Result<(), TapeError> {
        if last > COUNTABLE {
            return Err(TapeError::TimerId(last));
        }
        let answer = self.tape.word(0)?;
        for id in 0..=last {
            let wanted = self.image.timers.iter().find(|timer| timer.id == id);
            match wanted {
                Some(timer) => self.create_timer(timer, answer),
                None => {
                    let args = [number(libc::CLOCK_MONOTONIC), 0, answer];
                    self.tape.call(libc::SYS_timer_create, &args, Expect::Is(0));
                    self.tape
                        .call(libc::SYS_timer_delete, &[number(id)], Expect::Is(0));
                }
            }
        }
        Ok(())
    }
}
