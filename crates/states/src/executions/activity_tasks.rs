//! Tasks of activities: workers fetch them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asl::machine::{Input, TaskId};
use serde_json::Value;
use tokio::sync::oneshot;

use super::Executions;
use super::live::{Live, What};
use crate::Error;
use crate::lock::lock;

/// How long a worker's request is held while there is no task.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetActivityTask.html>
const POLL: Duration = Duration::from_secs(60);

/// A task that a worker has fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityTask {
    pub token: String,
    pub input: Arc<Value>,
}

/// Tasks that wait for workers, and workers that wait for tasks, by activity. There are never both.
#[derive(Debug, Default)]
pub struct Queues(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    by_activity: HashMap<String, Queue>,
    /// The server is ending: nobody waits any more.
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    tasks: VecDeque<Entry>,
    workers: VecDeque<oneshot::Sender<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    task: TaskId,
}

impl Queues {
    fn put(&self, activity: &str, mut entry: Entry) {
        let mut open = lock(&self.0);
        let queue = open.by_activity.entry(activity.to_owned()).or_default();
        while let Some(worker) = queue.workers.pop_front() {
            match worker.send(entry) {
                Ok(()) => return,
                Err(back) => entry = back,
            }
        }
        queue.tasks.push_back(entry);
    }

    /// The next task, or where it will come.
    fn take(&self, activity: &str) -> Result<Entry, oneshot::Receiver<Entry>> {
        let mut open = lock(&self.0);
        let closed = open.closed;
        let queue = open.by_activity.entry(activity.to_owned()).or_default();
        if let Some(entry) = queue.tasks.pop_front() {
            return Ok(entry);
        }
        queue.workers.retain(|worker| !worker.is_closed());
        let (worker, task) = oneshot::channel();
        if !closed {
            queue.workers.push_back(worker);
        }
        Err(task)
    }

    /// Waits for a task; `None` once the server ends, or at `end`.
    async fn wait(
        &self,
        activity: &str,
        coming: oneshot::Receiver<Entry>,
        end: tokio::time::Instant,
    ) -> Option<Entry> {
        let mut waiting = Waiting {
            queues: self,
            activity,
            coming,
        };
        let entry = tokio::time::timeout_at(end, &mut waiting.coming).await;
        entry.ok()?.ok()
    }

    fn close(&self) {
        let mut open = lock(&self.0);
        open.closed = true;
        for queue in open.by_activity.values_mut() {
            queue.workers.clear();
        }
    }
}

/// A worker's wait. A task that was handed to it and that it has not taken is the next one's.
struct Waiting<'q> {
    queues: &'q Queues,
    activity: &'q str,
    coming: oneshot::Receiver<Entry>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.coming.close();
        if let Ok(entry) = self.coming.try_recv() {
            self.queues.put(self.activity, entry);
        }
    }
}

impl Executions {
    pub(super) fn enqueue(&self, live: &Live, task: TaskId) {
        let activity = live
            .state()
            .tasks
            .get(&task)
            .and_then(|pending| pending.activity().map(str::to_owned));
        if let Some(activity) = activity {
            let number = live.number;
            self.queues.put(&activity, Entry { number, task });
        }
    }

    /// Sends the workers away that wait for tasks, so that a server that ends has not to wait for
    /// them.
    pub fn close_queues(&self) {
        self.queues.close();
    }

    /// Waits for a task of an activity; `None` if none has come for a minute. That a worker has it is
    /// on disk before the worker does.
    pub async fn fetch(
        self: &Arc<Self>,
        activity: &str,
        worker: Option<String>,
    ) -> Result<Option<ActivityTask>, Error> {
        let end = tokio::time::Instant::now() + POLL;
        loop {
            let entry = match self.queues.take(activity) {
                Ok(entry) => entry,
                Err(coming) => match self.queues.wait(activity, coming, end).await {
                    Some(entry) => entry,
                    None => return Ok(None),
                },
            };
            if let Some(task) = self.hand_out(entry, worker.clone()).await? {
                return Ok(Some(task));
            }
        }
    }

    /// Marks a task as a worker's; `None` if nobody waits for it any more.
    async fn hand_out(
        self: &Arc<Self>,
        entry: Entry,
        worker: Option<String>,
    ) -> Result<Option<ActivityTask>, Error> {
        let Some(live) = self.find(entry.number)? else {
            return Ok(None);
        };
        let fetched = {
            let state = live.state();
            let pending = state.tasks.get(&entry.task);
            pending
                .filter(|pending| pending.is_queued())
                .and_then(|pending| {
                    let What::Task(request) = &pending.what else {
                        return None;
                    };
                    Some(ActivityTask {
                        token: request.token.clone()?,
                        input: Arc::clone(&request.input),
                    })
                })
        };
        let Some(fetched) = fetched else {
            return Ok(None);
        };
        let (told, started) = oneshot::channel();
        let input = Input::TaskStarted {
            task: entry.task,
            worker,
        };
        if !self.send(entry.number, input, Some(told))? {
            return Ok(None);
        }
        let mattered = started.await.map_err(|_| Error::Stopping)??;
        Ok(mattered.then_some(fetched))
    }
}
