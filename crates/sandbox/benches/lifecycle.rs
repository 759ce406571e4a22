//! Times of each step in the life of an environment. Run with `cargo bench -p sandbox`.

#![expect(clippy::print_stdout, reason = "what it measures goes to the terminal")]

use std::time::{Duration, Instant};

use sandbox::{Command, Config, Relaxations, Sandboxes, Spec};

fn main() -> anyhow::Result<()> {
    sandbox::spawner_main();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let rootless = !rustix::process::geteuid().is_root();
    let allow = Relaxations {
        no_cgroup: rootless,
        no_freezer: rootless,
        ..Default::default()
    };
    let started = Instant::now();
    let sandboxes = Sandboxes::start(Config {
        pool_size: 0,
        allow,
        ..Config::default()
    })?;
    println!("start of the service {:>10.1?}", started.elapsed());

    let steps = [
        "create", "enter", "spawn", "true", "freeze", "frozen", "thaw", "destroy",
    ];
    let mut times: Vec<Vec<Duration>> = steps.iter().map(|_| Vec::new()).collect();
    for _ in 0..200 {
        let mut last = Instant::now();
        let mut step = |number: usize| {
            times[number].push(last.elapsed());
            last = Instant::now();
        };
        let prepared = sandboxes.take().await?;
        step(0);
        let sandbox = prepared.enter(Spec::default()).await?;
        step(1);
        let sleeper = sandbox.spawn(Command::new("/bin/sleep").arg("60")).await?;
        step(2);
        let exit = sandbox.spawn(Command::new("/bin/true")).await?.wait().await;
        anyhow::ensure!(exit == sandbox::Exit::Code(0), "true failed: {exit:?}");
        step(3);
        sandbox.freeze()?;
        step(4);
        while !rootless && !sandbox.is_frozen() {}
        step(5);
        sandbox.thaw()?;
        step(6);
        drop(sleeper);
        sandbox.destroy().await;
        step(7);
    }
    for (name, mut times) in steps.into_iter().zip(times) {
        times.sort_unstable();
        println!(
            "{name:<10} min {:>9.1?}  p50 {:>9.1?}  p90 {:>9.1?}  max {:>9.1?}",
            times[0],
            times[times.len() / 2],
            times[times.len() * 9 / 10],
            times[times.len() - 1],
        );
    }

    let began = Instant::now();
    let burst = (0..100).map(|_| {
        let sandboxes = sandboxes.clone();
        tokio::spawn(async move { sandboxes.take().await })
    });
    let mut held = Vec::new();
    for task in burst.collect::<Vec<_>>() {
        held.push(task.await??);
    }
    println!("100 at once          {:>10.1?}", began.elapsed());
    let began = Instant::now();
    drop(held);
    sandboxes.shutdown().await;
    println!("their end            {:>10.1?}", began.elapsed());
    Ok(())
}
