//! Polls a future again when it has woken itself, instead of sending it through the scheduler.
//!
//! hyper serves a connection and the service that answers on it in one future, and each wakes the
//! other through the task that both are in: once for each request with a body. The scheduler of
//! tokio then puts the task at the end of a queue and wakes another worker for it. On a machine
//! that is idle otherwise that is a processor that has to be brought back from its sleep, in the
//! middle of an invocation: some 100 µs.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls in a row before others get their turn.
const MOST: usize = 8;

/// Nobody polls it, and nobody has woken it since.
const IDLE: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

/// Resolves as `future` does. See the module.
pub async fn repoll<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let shared = Arc::new(Shared {
        state: AtomicU8::new(IDLE),
        task: Mutex::new(None),
    });
    let waker = Waker::from(Arc::clone(&shared));
    poll_fn(move |task| {
        shared.set_task(task.waker());
        let mut context = Context::from_waker(&waker);
        for _ in 0..MOST {
            shared.state.store(POLLING, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Poll::Ready(output);
            }
            let slept =
                shared
                    .state
                    .compare_exchange(POLLING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
            if slept.is_ok() {
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

struct Shared {
    state: AtomicU8,
    /// Who polls the whole. Set before each poll.
    task: Mutex<Option<Waker>>,
}

impl Shared {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics under the lock.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_task(&self, waker: &Waker) {
        let mut task = self.task();
        match &mut *task {
            Some(task) => task.clone_from(waker),
            None => *task = Some(waker.clone()),
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Woken while it is polled it is polled again, whoever wakes it.
        if self.state.swap(WOKEN, Ordering::SeqCst) == IDLE {
            let task = self.task().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Wakes itself so many times, then waits for somebody else.
    fn restless(times: usize, waker: Arc<Mutex<Option<Waker>>>) -> impl Future<Output = usize> {
        let mut polls = 0;
        poll_fn(move |context| {
            polls += 1;
            if polls <= times {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut waker = waker.lock().unwrap();
            if waker.is_some() {
                return Poll::Ready(polls);
            }
            *waker = Some(context.waker().clone());
            Poll::Pending
        })
    }

    #[test]
    fn task_is_not_woken_for_what_the_future_does_to_itself() {
        let inner = Arc::default();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(repoll(restless(3, Arc::clone(&inner))));
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert_eq!(counter.0.load(Ordering::SeqCst), 0);
        // From outside, once however often.
        let outside = inner.lock().unwrap().clone().unwrap();
        outside.wake_by_ref();
        outside.wake_by_ref();
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert_eq!(future.as_mut().poll(&mut context), Poll::Ready(5));
    }

    #[test]
    fn others_get_their_turn() {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(repoll(restless(MOST * 2, Arc::default())));
        for turn in 1..=2 {
            assert!(future.as_mut().poll(&mut context).is_pending());
            assert_eq!(counter.0.load(Ordering::SeqCst), turn);
        }
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn whoever_polls_last_is_woken() {
        let inner = Arc::default();
        let counters = [Arc::new(Counter::default()), Arc::new(Counter::default())];
        let mut future = pin!(repoll(restless(0, Arc::clone(&inner))));
        for counter in &counters {
            // The first poll leaves its waker; the second has another task.
            let waker = Waker::from(Arc::clone(counter));
            let mut context = Context::from_waker(&waker);
            if counter.0.load(Ordering::SeqCst) == 0 && inner.lock().unwrap().is_none() {
                assert!(future.as_mut().poll(&mut context).is_pending());
            } else {
                // Polled by another task without having been woken.
                let taken = inner.lock().unwrap().take();
                assert!(future.as_mut().poll(&mut context).is_pending());
                taken.unwrap().wake();
            }
        }
        assert_eq!(counters[0].0.load(Ordering::SeqCst), 0);
        assert_eq!(counters[1].0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_wake_is_lost_between_threads() {
        for _ in 0..200 {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let sending = tokio::spawn(async move {
                for n in 0..50 {
                    sender.send(n).await.unwrap();
                }
            });
            let received = tokio::spawn(repoll(async move {
                let mut sum = 0;
                while let Some(n) = receiver.recv().await {
                    sum += n;
                }
                sum
            }));
            assert_eq!(received.await.unwrap(), 1225);
            sending.await.unwrap();
        }
    }
}
