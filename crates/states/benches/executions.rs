//! Executions per second without a network: standard and express, and many that sleep.
//!
//! `cargo bench -p states`; `SLEEPING=1000000` for that many sleeping executions.
#![expect(clippy::print_stdout, reason = "the results are the point")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clock::Clock;
use model::stepfunctions::operation::{CreateStateMachine, StartExecution, StartSyncExecution};
use model::stepfunctions::{CreateStateMachineInput, StartExecutionInput, StartSyncExecutionInput};
use model::{AccountId, Region};
use protocol::{Caller, Principal, Router, RouterHandle};
use states::{Config, Hooks, States};
use store::Store;

const SPAN: Duration = Duration::from_secs(3);
const THREE_STATES: &str = r#"{"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"},
    "B": {"Type": "Pass", "Next": "C"}, "C": {"Type": "Succeed"}}}"#;
const SLEEP: &str = r#"{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 86400,
    "Next": "S"}, "S": {"Type": "Succeed"}}}"#;

struct Server {
    states: Arc<States>,
    router: Arc<Router>,
    caller: Caller,
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let server = Server::open(dir.path()).await?;
        let standard = server.create("standard", "STANDARD", THREE_STATES).await?;
        let express = server.create("express", "EXPRESS", THREE_STATES).await?;
        for clients in [1, 16, 256] {
            let start = || StartExecutionInput {
                state_machine_arn: standard.clone(),
                input: Some(r#"{"n": 1}"#.to_owned()),
                ..StartExecutionInput::default()
            };
            let rate = server.rate(clients, |server| async move {
                server
                    .router
                    .call::<StartExecution>(&server.caller, start())
                    .await?;
                Ok(())
            });
            println!("standard, {clients:>3} clients  {:>8.0} /s", rate.await?);
        }
        for clients in [1, 16] {
            let start = || StartSyncExecutionInput {
                state_machine_arn: express.clone(),
                input: Some(r#"{"n": 1}"#.to_owned()),
                ..StartSyncExecutionInput::default()
            };
            let rate = server.rate(clients, |server| async move {
                server
                    .router
                    .call::<StartSyncExecution>(&server.caller, start())
                    .await?;
                Ok(())
            });
            println!("express, {clients:>3} clients   {:>8.0} /s", rate.await?);
        }
        anyhow::Ok(())
    })?;
    drop(runtime);
    let Ok(count) = std::env::var("SLEEPING") else {
        return Ok(());
    };
    let count: u64 = count.parse()?;
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let begun = Instant::now();
    runtime.block_on(async {
        let server = Server::open(dir.path()).await?;
        let sleep = server.create("sleep", "STANDARD", SLEEP).await?;
        let started = Arc::new(AtomicU64::new(0));
        let starts = (0..256).map(|_| {
            let (started, server, sleep) = (Arc::clone(&started), &server, &sleep);
            async move {
                while started.fetch_add(1, Ordering::Relaxed) < count {
                    let input = StartExecutionInput {
                        state_machine_arn: sleep.clone(),
                        ..StartExecutionInput::default()
                    };
                    server
                        .router
                        .call::<StartExecution>(&server.caller, input)
                        .await?;
                }
                anyhow::Ok(())
            }
        });
        futures_util::future::try_join_all(starts).await?;
        println!(
            "{count} sleeping         {:>8.0} /s, resident {} MB",
            per_second(count, begun),
            resident_kb() / 1024
        );
        anyhow::Ok(())
    })?;
    drop(runtime);
    let begun = Instant::now();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let server = Server::open(dir.path()).await?;
        println!(
            "opened again in     {:>8.2} s, resident {} MB",
            begun.elapsed().as_secs_f64(),
            resident_kb() / 1024
        );
        drop(server.states);
        anyhow::Ok(())
    })
}

impl Server {
    async fn open(dir: &std::path::Path) -> Result<Self> {
        let clock = Clock::system();
        let store = Store::open(dir, clock.clone())?;
        let router = RouterHandle::default();
        let hooks = Hooks {
            router: router.clone(),
            tasks: Arc::new(|_| Box::pin(async {})),
            objects: states::map_runs::Objects::none(),
        };
        let states = States::open(&Config::default(), &store, clock, hooks)?;
        let built = Arc::new(Router::builder().service(Arc::clone(&states)).build());
        router.set(&built);
        states.start().await?;
        let account: AccountId = "123456789012".parse()?;
        let region: Region = "eu-west-1".parse()?;
        let caller = Caller {
            principal: Principal::root(account, &region),
            account,
            region,
            access_key: None,
            request_id: "bench".to_owned(),
        };
        Ok(Self {
            states,
            router: built,
            caller,
        })
    }

    async fn create(&self, name: &str, kind: &str, definition: &str) -> Result<String> {
        let input = CreateStateMachineInput {
            name: name.to_owned(),
            definition: definition.to_owned(),
            role_arn: "arn:aws:iam::123456789012:role/r".to_owned(),
            type_: Some(kind.into()),
            ..CreateStateMachineInput::default()
        };
        let created = self
            .router
            .call::<CreateStateMachine>(&self.caller, input)
            .await;
        Ok(created
            .context("cannot create a machine")?
            .state_machine_arn)
    }

    async fn rate<'s, F>(&'s self, clients: usize, call: impl Fn(&'s Self) -> F) -> Result<f64>
    where
        F: Future<Output = Result<()>>,
    {
        let begun = Instant::now();
        let calls = (0..clients).map(|_| {
            let call = &call;
            async move {
                let mut count = 0_u64;
                while begun.elapsed() < SPAN {
                    call(self).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            }
        });
        let counts = futures_util::future::try_join_all(calls).await?;
        Ok(per_second(counts.iter().sum(), begun))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn per_second(count: u64, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let digits = line.and_then(|line| line.split_whitespace().nth(1));
    digits.and_then(|kb| kb.parse().ok()).unwrap_or_default()
}
