//! Work that may take seconds, on a thread that others wait for.

use tokio::runtime::{Handle, RuntimeFlavor};

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
