//! `xvault up`: hub and worker in one process, on one data directory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use xvault::core::WorkerId;
use xvault::core::protocol::QueueName;
use xvault::core::secret::ExposeSecret;
use xvault::core::service::{Environment, init_logs};
use xvault_hub::queue::LocalQueue;
use xvault_hub::{Clock, Db, FirstLogin, Hub, HubParts, Keys, config};
use xvault_worker::{Feed, LocalFeed, Worker, WorkerConfig};

use crate::args::UpArgs;
use crate::output::Output;
use crate::{Outcome, keys};

/// Connections to SQLite: it writes one at a time anyway.
const CONNECTIONS: u32 = 8;
/// The hub's database.
const DATABASE: &str = "hub.db";
/// The file of the first login.
const FIRST_LOGIN: &str = "first-login.json";
/// How long the hub may take to end its requests once the worker is done.
const HUB_GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(args: &UpArgs, output: &Output, stop: &CancellationToken) -> anyhow::Result<Outcome> {
    let environment = Environment::of_process();
    config::check_names(&environment)?;
    xvault_worker::args::check_names(&environment)?;
    init_logs(args.logs.format, &args.logs.filter)?;
    xvault_hub::raise_open_files();
    let _lock = lock(&args.data_dir)?;
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;

    let queue = LocalQueue::default();
    let hub = hub(args, &environment, queue.clone()).await?;
    // Before anybody can log in: a start that fails here is no first start.
    let worker = worker(args, &environment, &hub, &queue, address).await?;
    let login = operator(args, &environment, &hub).await?;
    announce(output, address, args, login.as_ref())?;

    // The worker hands back what it can't finish, so it ends before the hub does.
    let hub_stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (hub, downloads, hub_stop) = (hub.clone(), worker.download_router(), hub_stop.clone());
        async move { xvault_hub::serve_beside(&hub, downloads, listener, hub_stop).await }
    });
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = worker.run(stop.clone()) => ended?,
        ended = &mut serving => ended?.context("serve the API")?,
    }
    hub_stop.cancel();
    drop(tokio::time::timeout(HUB_GRACE, serving).await);
    Ok(Outcome::Done)
}

/// Makes the data directory, and keeps a second `up` out of it for as long as the file is open.
fn lock(dir: &Path) -> anyhow::Result<std::fs::File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("create {}", dir.display()))?;
    let path = dir.join("lock");
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = opened.with_context(|| format!("open {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("{} is in use by another `xvault up`", dir.display()))?;
    Ok(file)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (--listen gives another address)"))
}

/// A hub on SQLite, with keys that are made at the first start.
async fn hub(args: &UpArgs, environment: &Environment, queue: LocalQueue) -> anyhow::Result<Hub> {
    let kek = match environment.secret("HUB_ENCRYPTION_KEK")? {
        Some(kek) => kek,
        None => kept(&args.data_dir.join("kek.txt"))?,
    };
    let jwt = match environment.secret("HUB_JWT_SECRET")? {
        Some(secret) => secret,
        None => kept(&args.data_dir.join("jwt-secret.txt"))?,
    };
    let settings = args.behaviour.settings(&jwt)?;
    let parts = HubParts {
        db: database(&args.data_dir).await?,
        clock: Clock::system(),
        keys: Keys::parse(&kek)?,
        queue: Arc::new(queue),
        settings,
    };
    Ok(Hub::new(parts).await?)
}

/// The database in `dir`, which is its owner's only: the directory may be everybody's.
async fn database(dir: &Path) -> anyhow::Result<Db> {
    let file = dir.join(DATABASE);
    let name = file.to_str().with_context(|| format!("{} is not UTF-8 text", file.display()))?;
    for beside in ["", "-wal", "-shm"] {
        make_private(Path::new(&format!("{name}{beside}")))?;
    }
    let db = Db::connect(&format!("sqlite:{name}"), CONNECTIONS).await?;
    db.migrate().await?;
    Ok(db)
}

/// Makes a file its owner's only, if it is there.
fn make_private(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("make {} readable by its owner only", path.display()))
        }
        _ => Ok(()),
    }
}

/// The secret in `path`, an age identity, which is made when it is missing: 256 random bits serve as any secret.
fn kept(path: &Path) -> anyhow::Result<xvault::core::secret::SecretString> {
    if !path.exists() {
        keys::create(path)?;
    }
    keys::read_secret(path)
}

async fn worker(
    args: &UpArgs,
    environment: &Environment,
    hub: &Hub,
    queue: &LocalQueue,
    address: SocketAddr,
) -> anyhow::Result<Worker> {
    let id = WorkerId::local();
    let token = hub.issue_worker_token(&id).await?;
    let mut config = WorkerConfig::new(id.clone(), token, hub_url(address), args.data_dir.join("backups"));
    // Its downloads are served beside the hub.
    config.download_url = Some(hub_url(address));
    let config = args.worker.apply(config, environment)?;
    let taken = || "the queue's receivers are taken";
    let receiver = |name| queue.receiver(&name).with_context(taken);
    let shared = receiver(QueueName::Shared)?;
    let (own, quick) = (receiver(QueueName::Worker(id.clone()))?, receiver(QueueName::Quick(id))?);
    Ok(Worker::new(config, Feed::Local(LocalFeed::new(shared, own, quick)))?)
}

/// How the worker reaches a hub that listens on `address`, which may mean every address.
fn hub_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Somebody who can log in: with the first login, or a new one where it is asked for. It is in its file before it is good.
async fn operator(args: &UpArgs, environment: &Environment, hub: &Hub) -> anyhow::Result<Option<FirstLogin>> {
    let email = args.behaviour.operator_email.as_deref();
    let keep = |login: &FirstLogin| keep_login(&args.data_dir, login).map_err(Into::into);
    if args.reset_login {
        return Ok(Some(hub.reset_operator(email, keep).await?));
    }
    let password = config::operator_password(environment)?;
    Ok(hub.ensure_first_operator_kept(email, password, keep).await?)
}

/// Keeps a login beside the keys, as the body that the API's login takes. One from before, of a database that is gone or of a
/// password that is lost, is good for nothing.
fn keep_login(data_dir: &Path, login: &FirstLogin) -> anyhow::Result<()> {
    let body = json!({"email": login.email, "password": login.password.expose_secret()});
    keys::replace_private(&data_dir.join(FIRST_LOGIN), body.to_string().as_bytes())
}

fn announce(
    output: &Output,
    address: SocketAddr,
    args: &UpArgs,
    first: Option<&FirstLogin>,
) -> anyhow::Result<()> {
    let (url, data_dir) = (hub_url(address), &args.data_dir);
    let value = json!({
        "url": url,
        "data_dir": data_dir,
        "first_login": first.map(|login| json!({"email": login.email, "password": login.password.expose_secret()})),
    });
    output.result(&value, || {
        let mut text = format!("xvault is up: {url} (the API is described at {url}/docs)");
        if let Some(login) = first {
            text.push_str(&format!(
                "\n{which} login, kept in {dir}/{FIRST_LOGIN} until you remove it:\n  e-mail:   {}\n  password: {}\n\
                 keep a copy of {dir}/kek.txt somewhere else: without it no backup can be read",
                login.email,
                login.password.expose_secret(),
                which = if args.reset_login { "new" } else { "first" },
                dir = data_dir.display(),
            ));
        }
        text
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_reaches_a_hub_that_listens_everywhere() {
        for (listen, url) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("10.0.0.1:8080", "http://10.0.0.1:8080"),
        ] {
            assert_eq!(hub_url(listen.parse().unwrap()), url);
        }
    }

    #[test]
    fn a_data_directory_serves_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let error = format!("{:#}", lock(dir.path()).unwrap_err());
        assert!(error.contains("in use by another"), "{error}");
        drop(first);
        lock(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn the_database_is_private_in_a_directory_that_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode_of = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let open_to_all = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open_to_all(dir.path(), 0o755);
        let files = || -> Vec<_> {
            let files = std::fs::read_dir(dir.path()).unwrap();
            files.map(|file| file.unwrap().path()).collect()
        };
        let before = database(dir.path()).await.unwrap();
        assert!(files().len() >= 3, "{:?}", files());
        // What a start before this one, or somebody, has left readable. SQLite's files stay as long as it is open.
        files().iter().for_each(|file| open_to_all(file, 0o644));
        let again = database(dir.path()).await.unwrap();
        for file in files() {
            assert_eq!(mode_of(&file), 0o600, "{}", file.display());
        }
        again.check_schema().await.unwrap();
        before.close().await;
    }

    #[test]
    fn a_kept_secret_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek.txt");
        let first = kept(&path).unwrap();
        assert_eq!(kept(&path).unwrap().expose_secret(), first.expose_secret());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        Keys::parse(&first).unwrap();
    }
}
