//! Puts the server together: the only place that knows all the parts.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use autoscaling::Autoscaling;
use chunks::{Chunks, Key};
use clock::Clock;
use cloudwatch::{CloudWatch, emf};
use gateway::keys::{KeyFile, Keys};
use gateway::{Authenticator, Gateway, Pages, Site, SiteRequest, pages};
use invoker::{Credentials, EndpointGuard, Hooks, Invoker, Runtimes, RuntimesConfig};
use lambda::{Lambda, UrlRequest};
use logs::Logs;
use protocol::credentials::{ServerKey, TemporaryCredentials};
use protocol::{Router, RouterHandle};
use sandbox::Sandboxes;
use serde_json::{Value, json};
use states::States;
use store::Store;
use tokio::sync::Mutex;
use tracing::subscriber::{NoSubscriber, with_default};

use crate::admin;
use crate::buckets::Buckets;
use crate::commands::runtimes::public_json;
use crate::config::{Auth, Config};
use crate::development::Door;
use crate::execution_metrics::ExecutionMetrics;
use crate::measurements::Measurements;
use crate::server_key;
use crate::status_events;
use crate::tasks::Tasks;

/// An environment gets its credentials once, so they must outlive it.
const CREDENTIALS_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// All parts of a running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    gateway: Gateway,
    invoker: Arc<Invoker>,
    lambda: Arc<Lambda>,
    sandboxes: Sandboxes,
    measurements: Arc<Measurements>,
    states: Arc<States>,
    buckets: Buckets,
    tasks: Tasks,
    execution_metrics: Arc<ExecutionMetrics>,
    clock: Clock,
    /// Held for its drop.
    _development: Door,
}

impl Server {
    /// Binds the port, opens what the data directory holds and prepares sandboxes. Clients that
    /// connect meanwhile wait.
    pub async fn start(mut config: Config) -> Result<Self> {
        let listener = TcpListener::bind(config.listen).with_context(|| {
            format!(
                "cannot listen on {}: is another server running?",
                config.listen
            )
        })?;
        let address = listener.local_addr().context("cannot tell the port")?;
        if config.lambda.endpoint == lambda::Config::default().endpoint {
            config.lambda.endpoint = format!("http://{address}");
        }
        let data = &config.data;
        create_private(data)?;
        let clock = Clock::system();
        let store = Store::open_with(&data.join("store"), clock.clone(), config.store.clone())
            .context("cannot open the store")?;
        let server_key = server_key::load(data)?;

        let sandboxes = Sandboxes::start(config.sandbox.clone())
            .context("cannot prepare sandboxes (`firn doctor` shows what this machine lacks; `firn serve --allow-missing FEATURE` does without)")?;
        let runtimes = Runtimes::discover(RuntimesConfig::new(
            config.runtimes.dir.clone(),
            data.clone(),
        ));
        let images = images(&config, &clock)?;
        let logs = Logs::open(store.clone(), clock.clone()).context("cannot open the logs")?;
        // Functions call back into the gateway, which is made of the service that runs them.
        let gateway_of_functions = Arc::new(OnceLock::new());
        let cloudwatch = CloudWatch::open(&config.cloudwatch, &store, clock.clone())
            .context("cannot open the metrics")?;
        let measurements = Measurements::start(Arc::clone(&cloudwatch), &clock);
        let hooks = hooks(
            (&logs, &cloudwatch, &measurements),
            &server_key,
            &clock,
            &gateway_of_functions,
        );
        let use_of_snapshots = config.snapstart.use_of.clone();
        config.lambda.snap_start = use_of_snapshots.mode;
        config.lambda.concurrent_executions = config.invoker.account_concurrency;
        config.lambda.upstream = config.upstream.clone();
        config.invoker.snapstart = use_of_snapshots;
        let invoker = Invoker::with_images(
            config.invoker.clone(),
            sandboxes.clone(),
            runtimes.clone(),
            images.clone(),
            clock.clone(),
            hooks,
        );
        let code_dir = data.join("code");
        let lambda = Lambda::open(
            config.lambda.clone(),
            &code_dir,
            &store,
            Arc::clone(&invoker),
            clock.clone(),
        )
        .await
        .context("cannot open the functions")?;

        observe_logs(&logs, &cloudwatch, &clock);
        let to_router = RouterHandle::default();
        let autoscaling = Autoscaling::open(&store, clock.clone(), to_router.clone())
            .context("cannot open the scaling targets")?;
        let buckets = Buckets::open(&config, &store, &clock)?;
        let tasks = Tasks::open(&config, &to_router, address, &server_key, &clock)?;
        let states = States::open(
            &config.states,
            &store,
            clock.clone(),
            states::Hooks {
                router: to_router.clone(),
                tasks: tasks.runner(),
                objects: crate::map_objects::of(&tasks.integrations, buckets.s3()),
            },
        )
        .context("cannot open the state machines")?;
        tasks.watch(states.executions());
        let execution_metrics = ExecutionMetrics::start(Arc::clone(&cloudwatch));
        observe_executions(&states, &logs, &execution_metrics, &config.upstream, &clock);
        let router = Router::builder()
            .service(Arc::clone(&lambda))
            .service(logs)
            .service(cloudwatch)
            .service(Arc::clone(&autoscaling))
            .service(Arc::clone(&states))
            .build();
        let router = Arc::new(router);
        to_router.set(&router);
        autoscaling.start();
        let authenticator = match config.auth {
            Auth::Any => Authenticator::accept_any(server_key),
            Auth::Enforce => {
                let keys = Keys::open(KeyFile::in_dir(data)).context("cannot read the keys")?;
                if keys.is_empty() {
                    tracing::warn!("there are no keys yet: make one with `firn keys create`");
                }
                Authenticator::enforce(keys, server_key)
            }
        };
        let door = Door::open(data, &lambda, &invoker)?;
        let gateway = Gateway::new(
            router,
            authenticator,
            door.page(admin::pages(
                public_pages(&lambda, &invoker, runtimes),
                &lambda,
                &invoker,
                &images,
                &measurements,
            )),
            config.gateway.clone(),
            clock.clone(),
        )
        .with_site(function_urls(&lambda))
        .with_stream_site(buckets.site());
        // Set once; nobody else can have.
        let _ = gateway_of_functions.set(gateway.clone());
        buckets.connect(&lambda).await?;
        states
            .start()
            .await
            .context("cannot take up the executions")?;
        Ok(Self {
            address,
            listener,
            gateway,
            invoker,
            lambda,
            sandboxes,
            measurements,
            states,
            buckets,
            tasks,
            execution_metrics,
            clock,
            _development: door,
        })
    }

    /// The address it listens on, with the real port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then winds down in order: no new requests, then no new
    /// invocations, then no environments.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let executions = Arc::clone(self.states.executions());
        let stop = async move {
            stop.await;
            executions.close_queues();
        };
        self.gateway
            .serve(self.listener, stop)
            .await
            .context("cannot serve the port")?;
        // What is dropped from now on goes on after the next start.
        self.tasks.integrations.shutdown();
        self.buckets.s3().shutdown().await;
        self.invoker.shutdown().await;
        self.lambda.shutdown().await;
        self.sandboxes.shutdown().await;
        // Lines and events that wait.
        self.states.observer().shutdown().await;
        // What the last second measured.
        self.measurements.flush(self.clock.now());
        self.execution_metrics.flush();
        tracing::info!("stopped");
        Ok(())
    }
}

/// Opens the store of snapshots, with the key that they are encrypted with.
fn images(config: &Config, clock: &Clock) -> Result<Chunks> {
    let images = &config.snapstart.images;
    if images.passes_redis_by() {
        tracing::warn!(
            "snapstart.redis_url is not used: snapshots are in a directory, which is read past it \
             unless snapstart.cache_directory_store says that it is far away"
        );
    }
    let key = Key::load_or_create(&images.key_file).context("cannot use the key of snapshots")?;
    Chunks::open(images.store_config(), key, clock.clone())
        .context("cannot open the store of snapshots")
}

/// Others may pass through the data directory, as sandboxes do under users of their own, but not
/// list it.
fn create_private(dir: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .with_context(|| {
            format!(
                "cannot create {}: choose another with --data",
                dir.display()
            )
        })
}

fn hooks(
    (logs, cloudwatch, measurements): (&Arc<Logs>, &Arc<CloudWatch>, &Arc<Measurements>),
    server_key: &ServerKey,
    clock: &Clock,
    gateway: &Arc<OnceLock<Gateway>>,
) -> Hooks {
    let (logs, cloudwatch) = (Arc::clone(logs), Arc::clone(cloudwatch));
    let measurements = Arc::clone(measurements);
    let now = clock.clone();
    let gateway = Arc::clone(gateway);
    let (server_key, clock) = (server_key.clone(), clock.clone());
    Hooks {
        logs: Arc::new(move |batch| {
            let lines = batch.events.iter().map(|(_, line)| line.as_bytes());
            embedded_metrics(&cloudwatch, (&batch.account, &batch.region), lines, &now);
            logs.ingest(
                &batch.account,
                &batch.region,
                &batch.group,
                &batch.stream,
                batch.events,
            );
        }),
        metrics: Arc::new(move |measured| measurements.add(measured)),
        credentials: Arc::new(move |function| credentials(function, &server_key, &clock)),
        endpoint: Arc::new(move |listener, _| match gateway.get().cloned() {
            Some(gateway) => EndpointGuard::from(tokio::spawn(async move {
                gateway.serve_environment(listener).await;
            })),
            // Functions only run once the server is up.
            None => EndpointGuard::none(),
        }),
    }
}

/// Keeps the metrics in log lines.
fn embedded_metrics<'l>(
    cloudwatch: &CloudWatch,
    (account, region): (&dyn Display, &dyn Display),
    lines: impl Iterator<Item = &'l [u8]>,
    clock: &Clock,
) {
    for line in lines.filter(|line| emf::may_have_metrics(line)) {
        let data = emf::find(line, clock.now());
        if !data.is_empty() {
            cloudwatch.ingest(account, region, data);
        }
    }
}

/// What clients put into logs may hold metrics, too.
fn observe_logs(logs: &Logs, cloudwatch: &Arc<CloudWatch>, clock: &Clock) {
    let (cloudwatch, clock) = (Arc::clone(cloudwatch), clock.clone());
    logs.observe(move |caller, line| {
        let scope = (
            &caller.account as &dyn Display,
            &caller.region as &dyn Display,
        );
        embedded_metrics(&cloudwatch, scope, std::iter::once(line), &clock);
    });
}

/// Tells the logs, the metrics and the event bus of executions.
fn observe_executions(
    states: &States,
    logs: &Arc<Logs>,
    metrics: &Arc<ExecutionMetrics>,
    upstream: &upstream::Config,
    clock: &Clock,
) {
    let (logs, metrics) = (Arc::clone(logs), Arc::clone(metrics));
    let hooks = states::observe::Hooks {
        logs: Some(Arc::new(move |batch| {
            logs.ingest(
                &batch.account,
                &batch.region,
                &batch.group,
                &batch.stream,
                batch.lines,
            );
        })),
        metrics: Some(Arc::new(move |measured| metrics.add(measured))),
        events: status_events::hook(upstream, clock),
    };
    states.observer().connect(hooks, clock);
}

/// The credentials of a function's role. One that cannot get them runs without.
fn credentials(function: &invoker::Function, key: &ServerKey, clock: &Clock) -> Credentials {
    let expiration = clock.now() + CREDENTIALS_LIFETIME;
    let issued = function
        .account
        .parse()
        .map_err(anyhow::Error::from)
        .and_then(|account| {
            let session = &function.name;
            Ok(TemporaryCredentials::issue(
                key,
                account,
                &function.role,
                session,
                expiration,
            )?)
        });
    match issued {
        Ok(issued) => Credentials {
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret_access_key,
            session_token: issued.session_token,
            expiration: Some(expiration),
        },
        Err(err) => {
            tracing::error!(
                function = function.arn,
                "no credentials for a function: {err:#}"
            );
            Credentials::default()
        }
    }
}

/// The hosts of function URLs.
fn function_urls(lambda: &Arc<Lambda>) -> Site {
    let lambda = Arc::clone(lambda);
    Site::new(
        lambda::is_url,
        model::lambda::SERVICE.signing_name,
        lambda::MAX_URL_BODY_BYTES,
        move |request| {
            let lambda = Arc::clone(&lambda);
            let SiteRequest {
                parts,
                body,
                peer,
                request_id,
                signer,
            } = request;
            async move {
                let request = UrlRequest {
                    parts,
                    body,
                    peer,
                    request_id,
                    signer,
                };
                lambda.answer_url(request).await
            }
        },
    )
}

fn public_pages(lambda: &Arc<Lambda>, invoker: &Arc<Invoker>, runtimes: Runtimes) -> Pages {
    let (lambda, invoker) = (Arc::clone(lambda), Arc::clone(invoker));
    let listing = Arc::new(RuntimeListing::new(runtimes));
    Pages::default()
        .page("/_firn/health", move |_| {
            let environments = invoker.environments().len();
            async move {
                pages::json(&json!({
                    "status": "ok",
                    "version": env!("CARGO_PKG_VERSION"),
                    "environments": environments,
                }))
            }
        })
        .page("/_firn/runtimes", move |_| {
            let listing = Arc::clone(&listing);
            async move { pages::json(&listing.rows().await) }
        })
        .page(lambda::DOWNLOAD_PATH, move |parts| {
            let token = parts
                .uri
                .path()
                .strip_prefix(lambda::DOWNLOAD_PATH)
                .unwrap_or_default();
            let file = lambda.code_download(token);
            async move {
                match file {
                    Some(path) => pages::file(&path, "application/zip").await,
                    None => pages::plain(http::StatusCode::FORBIDDEN, "this link has expired\n"),
                }
            }
        })
}

/// What the page of runtimes shows. Functions can ask for it as well, so it is looked up at most
/// once a second.
struct RuntimeListing {
    of_functions: Runtimes,
    /// Kept apart, because each mapping warns once, when a function first needs it.
    for_show: Runtimes,
    last: Mutex<Option<(Instant, Vec<Value>)>>,
}

impl RuntimeListing {
    const FRESH: Duration = Duration::from_secs(1);

    fn new(of_functions: Runtimes) -> Self {
        let for_show = Runtimes::discover(of_functions.config().clone());
        Self {
            of_functions,
            for_show,
            last: Mutex::default(),
        }
    }

    async fn rows(&self) -> Vec<Value> {
        // Held across the lookup on purpose: who asks meanwhile waits for its result.
        let mut last = self.last.lock().await;
        if let Some((at, rows)) = &*last
            && at.elapsed() < Self::FRESH
        {
            return rows.clone();
        }
        // `firn runtimes install` asks for this page so that the server sees what is new.
        self.of_functions.refresh();
        let for_show = self.for_show.clone();
        // Runs interpreters to ask for their version, the first time.
        let looked_up = tokio::task::spawn_blocking(move || {
            for_show.refresh();
            let table = with_default(NoSubscriber::new(), || for_show.table());
            table.iter().map(public_json).collect::<Vec<_>>()
        });
        let rows = looked_up.await.unwrap_or_default();
        *last = Some((Instant::now(), rows.clone()));
        rows
    }
}
