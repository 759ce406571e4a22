//! Starting and ending the service.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use tokio::runtime::Handle;

use crate::link::Link;
use crate::service::Service;
use crate::spawner::{FUNCTION_GID, FUNCTION_UID, MARKER};
use crate::wire::{self, Abilities, FromSpawner, Refusal, ToSpawner};
use crate::{Check, Config, Confinement, Error, Prepared, doctor, seccomp};

/// Time between the end of a spawner and the start of the next.
const RESTART: Duration = Duration::from_millis(100);

/// All environments of one server. Cheap to clone; everything ends with the last clone or with
/// [`shutdown`](Self::shutdown).
#[derive(Debug, Clone)]
pub struct Sandboxes {
    owner: Arc<Owner>,
}

/// Ends the service when the last handle goes.
#[derive(Debug)]
struct Owner {
    service: Arc<Service>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.service.stop();
    }
}

impl Sandboxes {
    /// Starts the spawner and begins to fill the pool. Must be called inside a tokio runtime, and
    /// waits some milliseconds for the spawner's word on what the host can do.
    pub fn start(config: Config) -> Result<Self, Error> {
        let handle = Handle::try_current().map_err(|err| {
            Error::io(
                "start outside of a tokio runtime",
                std::io::Error::other(err),
            )
        })?;
        raise_open_files();
        let service = Arc::new(Service::new(config));
        let (sender, receiver) = mpsc::channel();
        let watched = Arc::clone(&service);
        // A thread of its own, because the kernel ends the spawner with the thread that started
        // it, not with the process.
        std::thread::Builder::new()
            .name("firn-spawner".into())
            .spawn(move || watch(&watched, &handle, &sender))
            .map_err(|err| Error::io("start a thread", err))?;
        receiver
            .recv()
            .unwrap_or(Err(Error::Ended("the spawner")))?;
        Ok(Self {
            owner: Arc::new(Owner { service }),
        })
    }

    /// A prepared environment, from the pool or, when it is empty, as soon as one is made.
    pub async fn take(&self) -> Result<Prepared, Error> {
        self.owner.service.take().await
    }

    /// What processes are confined to, for compiling tapes. `None` where processes cannot be
    /// brought back from images because each environment has another user.
    pub fn confinement(&self) -> Option<Confinement> {
        let abilities = self.owner.service.abilities();
        abilities.userns.then(|| Confinement {
            uid: FUNCTION_UID,
            gid: FUNCTION_GID,
            drop_groups: !abilities.single_user,
            // The other part is in force when the tape begins.
            filter: if abilities.seccomp {
                seccomp::late()
            } else {
                Vec::new()
            },
        })
    }

    /// What works on this host, in the terms of [`doctor`](crate::doctor).
    pub fn checks(&self) -> Vec<Check> {
        doctor::checks(&self.owner.service.abilities())
    }

    /// Ends every environment and the spawner, and resolves when nothing is left of them.
    pub async fn shutdown(&self) {
        let service = &self.owner.service;
        service.stop();
        // The sender lives in the service, so that this cannot fail.
        let _ = service
            .finished
            .subscribe()
            .wait_for(|finished| *finished)
            .await;
    }
}

/// Keeps a spawner running until the service stops.
fn watch(service: &Arc<Service>, handle: &Handle, first: &mpsc::Sender<Result<(), Error>>) {
    let mut started = false;
    while !service.is_stopping() {
        match start_spawner(service, handle) {
            Ok(mut child) => {
                if !std::mem::replace(&mut started, true) {
                    let _ = first.send(Ok(()));
                }
                let status = child.wait();
                service.detach();
                if !service.is_stopping() {
                    tracing::error!(?status, "the spawner ended; all environments are lost");
                }
            }
            Err(err) if started => tracing::error!(error = %err, "could not restart the spawner"),
            Err(err) => {
                let _ = first.send(Err(err));
                break;
            }
        }
        if !service.is_stopping() {
            std::thread::sleep(RESTART);
        }
    }
    service.finished.send_replace(true);
}

fn start_spawner(service: &Arc<Service>, handle: &Handle) -> Result<Child, Error> {
    let (mut child, control, abilities) = launch(&service.config)?;
    let _guard = handle.enter();
    match Link::new(control) {
        Ok(link) => service.attach(link, abilities),
        Err(err) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::io("watch the spawner", err));
        }
    }
    Ok(child)
}

/// Starts a spawner and waits for its word. It ends when the returned socket is closed.
pub fn launch(config: &Config) -> Result<(Child, OwnedFd, Abilities), Error> {
    let (ours, theirs) = wire::pair().map_err(|err| Error::io("create a socket pair", err))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("firn-spawner")
        .env_clear()
        .env(MARKER, "1")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|err| Error::io("start the spawner", err))?;
    let answer = converse(&ours, config);
    if answer.is_err() {
        drop(ours);
        let _ = child.kill();
        let _ = child.wait();
        return Err(answer.err().unwrap_or(Error::Ended("the spawner")));
    }
    Ok((child, ours, answer?))
}

fn converse(control: &OwnedFd, config: &Config) -> Result<Abilities, Error> {
    let start = ToSpawner::Start(Box::new(config.clone()));
    wire::send(control, &start, &[]).map_err(|err| Error::io("instruct the spawner", err))?;
    let received = wire::receive(control, &mut vec![0; wire::MAX_MESSAGE])
        .map_err(|err| Error::io("hear from the spawner", err))?;
    match received {
        Some((FromSpawner::Started(abilities), _)) => Ok(*abilities),
        Some((
            FromSpawner::Refused(Refusal::Missing {
                feature,
                detail,
                flag,
            }),
            _,
        )) => Err(Error::Missing {
            feature,
            detail,
            flag,
        }),
        Some((FromSpawner::Refused(Refusal::Failed(failure)), _)) => Err(failure.into()),
        Some(_) => Err(Error::Invalid("the spawner answered out of turn".into())),
        None => Err(Error::Ended(
            "the spawner (does `main` call `sandbox::spawner_main()` first?), which",
        )),
    }
}

/// Every environment takes about ten descriptors of the server. The soft limit of 1024 exists for
/// programs that use `select`.
fn raise_open_files() {
    let current = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: current.maximum,
        maximum: current.maximum,
    };
    if let Err(err) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %err, "could not raise the limit of open files");
    }
}
