//! The service as a whole.

use std::path::PathBuf;
use std::sync::Arc;

use clock::Clock;
use integrations::Update;
use protocol::{Caller, RouterHandle};
use serde::{Deserialize, Serialize};
use store::Store;

use crate::Error;
use crate::activities::Activities;
use crate::executions::{Executions, TaskRunner};
use crate::machines::Machines;
use crate::map_runs::{MapRuns, Objects};
use crate::mocks::{Mocks, Response};
use crate::observe::Observer;

/// What an operator can change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Mocks in the format of Step Functions Local; executions of `machine-arn#TestCase` use them.
    pub mock_config: Option<PathBuf>,
}

/// What the service needs of others.
#[derive(Clone)]
pub struct Hooks {
    pub router: RouterHandle,
    /// Runs the tasks of executions that no mock answers.
    pub tasks: TaskRunner,
    /// Where distributed maps read items and write results.
    pub objects: Objects,
}

/// Step Functions.
#[derive(Debug)]
pub struct States {
    pub(crate) machines: Arc<Machines>,
    pub(crate) activities: Arc<Activities>,
    pub(crate) executions: Arc<Executions>,
    pub(crate) map_runs: Arc<MapRuns>,
    pub(crate) mocks: Arc<Mocks>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) clock: Clock,
    pub(crate) hooks: Hooks,
}

impl States {
    /// Opens the service on a store.
    pub fn open(
        config: &Config,
        store: &Store,
        clock: Clock,
        hooks: Hooks,
    ) -> Result<Arc<Self>, Error> {
        let mocks = match &config.mock_config {
            Some(path) => Mocks::load(path)?,
            None => Mocks::default(),
        };
        let mocks = Arc::new(mocks);
        let machines = Arc::new(Machines::open(store)?);
        let observer = Arc::new(Observer::default());
        let executions = Executions::open(
            store,
            clock.clone(),
            Arc::clone(&machines),
            Arc::clone(&observer),
        )?;
        executions.run_tasks_with(mocked(&mocks, &hooks.tasks));
        let activities = Arc::new(Activities::open(store)?);
        executions.know_activities_by({
            let activities = Arc::clone(&activities);
            Arc::new(move |arn| activities.get(arn).is_some())
        });
        let map_runs = MapRuns::open(
            store,
            clock.clone(),
            Arc::clone(&executions),
            Arc::clone(&machines),
            hooks.objects.clone(),
        )?;
        executions.forget_with({
            let map_runs = Arc::downgrade(&map_runs);
            Arc::new(move |arn| {
                let map_runs = map_runs.clone();
                Box::pin(async move {
                    match map_runs.upgrade() {
                        Some(map_runs) => map_runs.forget(&arn).await,
                        None => Ok(()),
                    }
                })
            })
        });
        Ok(Arc::new(Self {
            machines,
            activities,
            executions,
            map_runs,
            mocks,
            observer,
            clock,
            hooks,
        }))
    }

    /// Takes up the executions that were under way when the server last ended. To be called once,
    /// when everything that tasks call is there.
    pub async fn start(&self) -> Result<(), Error> {
        self.executions.start_all().await?;
        self.map_runs.start().await?;
        self.executions.restart_express().await?;
        // Their last executions may have ended just before the server did.
        for machine in self.machines.deleting() {
            if !self.executions.running_of(&machine) {
                self.machines.finish_delete(&machine).await?;
            }
        }
        Ok(())
    }

    /// The executions, for those who run some of their own.
    pub fn executions(&self) -> &Arc<Executions> {
        &self.executions
    }

    /// Tells others what happens with executions.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    /// Refuses activities that the caller does not have.
    pub(crate) fn check_activity(&self, caller: &Caller, arn: &str) -> Result<(), Error> {
        crate::operations::activities::check(arn)?;
        match self.activities.find(caller, arn) {
            Some(_) => Ok(()),
            None => Err(crate::operations::activities::missing(arn)),
        }
    }

    pub(crate) fn check_test_case(
        &self,
        arn: &str,
        machine: &str,
        test_case: &str,
    ) -> Result<(), Error> {
        match self.mocks.find(machine, test_case) {
            Some(_) => Ok(()),
            None => Err(crate::machines::missing(arn)),
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// Answers tasks with the mocks of the execution's test case; those without one run.
fn mocked(mocks: &Arc<Mocks>, tasks: &TaskRunner) -> TaskRunner {
    let (mocks, tasks) = (Arc::clone(mocks), Arc::clone(tasks));
    Arc::new(move |attempt| {
        let mocked = attempt.about.test_case.as_deref().and_then(|test_case| {
            let machine = &attempt.about.revision.machine_name;
            let case = mocks.find(machine, test_case)?;
            case.respond(&attempt.state, attempt.retries)
        });
        match mocked {
            None => tasks(attempt),
            Some(response) => Box::pin(async move {
                let report = &attempt.report;
                report(Update::Started);
                report(match response {
                    Response::Return(output) => {
                        if attempt.call.resource.is_asynchronous() {
                            report(Update::Submitted(output.clone()));
                        }
                        Update::Succeeded(output)
                    }
                    Response::Throw(failure) => Update::Failed(failure),
                });
            }),
        }
    })
}
