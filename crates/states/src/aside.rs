//! Work that may take seconds, on a thread that others wait for.

use std::sync::LazyLock;

use asl::Definition;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};

/// One for each process that evaluates expressions.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(evaluators::most()));

/// Waits until a step of this definition may be made: a heavy one has a turn as long as it holds
/// what this gives.
///
/// A step waits for a process with its thread, and the runtime has a few hundred threads for that;
/// with all of them waiting nothing would go on. So those that need a process wait here, where
/// waiting takes no thread and no time that expressions have.
pub async fn turn(definition: &Definition) -> Option<SemaphorePermit<'static>> {
    match definition.is_heavy() {
        // It is never closed.
        true => TURNS.acquire().await.ok(),
        false => None,
    }
}

/// Does something that may take long, as a JSONata expression may. The other tasks of this thread
/// go on elsewhere meanwhile.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_meanwhile() {
        let (told, heard) = mpsc::channel();
        let waiting = tokio::spawn(async move { aside(|| heard.recv().unwrap()) });
        // With one thread, and that one waiting, nobody would ever run this.
        tokio::spawn(async move { told.send(7).unwrap() });
        assert_eq!(waiting.await.unwrap(), 7);
    }
}
