//! Who is on the other side, and how we get in.

use std::fs;
use std::time::Duration;

use xvault_connectors::Error;
use xvault_connectors::ssh::{HostKeyPolicy, Session, SshCredential};
use xvault_core::secret::SecretString;
use xvault_core::{Dispose, Disposition};
use xvault_testkit::tools::{command, run};
use xvault_testkit::{SshAgent, Sshd};

use crate::ssh_support::{BOTH, Job, Kept, Kind, known_hosts, password};

fn job(sshd: &Sshd) -> Job {
    Job::new(Kind::Sftp, sshd, &[&sshd.home])
}

async fn connect(job: Job) -> Result<Session, Error> {
    Session::connect(&job.options).await
}

#[tokio::test]
async fn a_password_with_quotes_logs_in_and_a_wrong_one_is_named_permanent() {
    let sshd = Sshd::builder().start();
    let right = password(&sshd.password);
    let session = connect(job(&sshd).with(|o| o.credential = right)).await.unwrap();
    assert!(session.server_version().starts_with("SSH-2.0-OpenSSH"), "{}", session.server_version());
    assert_eq!(session.fingerprint(), sshd.host_key.fingerprint);

    let error = connect(job(&sshd).with(|o| o.credential = password("wr0ng-secret"))).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Auth { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Permanent);
    assert!(text.contains(&format!("{}@127.0.0.1:{}", sshd.user, sshd.port)), "{text}");
    assert!(text.contains("password was refused") && text.contains("publickey, password"), "{text}");
    assert!(!format!("{error:?}").contains("wr0ng-secret"));
}

#[tokio::test]
async fn a_server_without_passwords_says_what_it_offers() {
    let sshd = Sshd::builder().config("PasswordAuthentication no").start();
    let text = connect(job(&sshd).with(|o| o.credential = password("x"))).await.unwrap_err().to_string();
    assert!(text.contains("takes no password") && text.contains("offers publickey"), "{text}");
}

#[tokio::test]
async fn a_server_that_wants_two_proofs_says_so() {
    let sshd = Sshd::builder().config("AuthenticationMethods publickey,password").start();
    let error = connect(job(&sshd)).await.unwrap_err();
    assert!(matches!(error, Error::Auth { .. }), "{error:?}");
    assert!(error.to_string().contains("second proof") && error.to_string().contains("password"), "{error}");
}

#[tokio::test]
async fn a_password_answers_the_prompt_of_a_server_that_only_asks() {
    let sshd = Sshd::builder()
        .config("PasswordAuthentication no")
        .config("KbdInteractiveAuthentication yes")
        .config("UsePAM yes")
        .start();
    let right = password(&sshd.password);
    connect(job(&sshd).with(|o| o.credential = right)).await.unwrap();
    let error = connect(job(&sshd).with(|o| o.credential = password("wrong"))).await.unwrap_err();
    assert!(matches!(error, Error::Auth { .. }), "{error:?}");
}

#[tokio::test]
async fn keys_of_all_kinds_log_in_and_troubles_with_them_are_told_apart() {
    let sshd = Sshd::builder().start();
    let (encrypted, passphrase) = sshd.encrypted_key();
    let secret = |text: &str| SecretString::from(text.to_owned());
    let key = |path: &std::path::Path, passphrase: Option<&str>| SshCredential::PrivateKey {
        pem: secret(&fs::read_to_string(path).unwrap()),
        passphrase: passphrase.map(secret),
    };
    let with = |credential: SshCredential| connect(job(&sshd).with(|o| o.credential = credential));

    with(key(&sshd.key_path, None)).await.unwrap();
    with(key(&encrypted, Some(passphrase))).await.unwrap();
    // RSA with SHA-2: OpenSSH 9 refuses SHA-1.
    with(key(&sshd.rsa_key(), None)).await.unwrap();
    let pem = sshd.home.join("rsa.pem");
    fs::copy(sshd.rsa_key(), &pem).unwrap();
    let _ = run(command("ssh-keygen", ["-q", "-p", "-N", "", "-m", "PEM", "-f"]).arg(&pem));
    assert!(fs::read_to_string(&pem).unwrap().contains("BEGIN RSA PRIVATE KEY"));
    with(key(&pem, None)).await.unwrap();

    let stranger = with(key(&sshd.stranger_key(), None)).await.unwrap_err();
    assert!(matches!(stranger, Error::Auth { .. }), "{stranger:?}");
    for (credential, expected) in [
        (key(&encrypted, None), "no passphrase was given"),
        (key(&encrypted, Some("wrong")), "the passphrase does not open"),
        (key(&sshd.known_hosts, None), "no private key"),
    ] {
        let error = with(credential).await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_agent_logs_in_with_whichever_of_its_keys_fits() {
    let sshd = Sshd::builder().start();
    let agent = SshAgent::start(&sshd.stranger_key());
    let with_agent = || {
        let credential = SshCredential::Agent { socket: agent.socket.clone() };
        connect(job(&sshd).with(|o| o.credential = credential))
    };
    let error = with_agent().await.unwrap_err().to_string();
    assert!(error.contains("none of the agent's 1 keys"), "{error}");
    agent.add(&sshd.rsa_key());
    with_agent().await.unwrap();

    let nowhere = SshCredential::Agent { socket: "/nowhere/agent".into() };
    let error = connect(job(&sshd).with(|o| o.credential = nowhere)).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/agent"), "{error}");
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_fingerprint() {
    let sshd = Sshd::builder().start();
    let empty = sshd.home.join("empty");
    for policy in [HostKeyPolicy::Refuse, known_hosts(&empty, false)] {
        let error = connect(job(&sshd).with(|o| o.host_key = policy)).await.unwrap_err();
        let Error::UnknownHostKey { fingerprint, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*fingerprint, sshd.host_key.fingerprint);
        assert_eq!(error.disposition(), Disposition::Permanent);
    }
    assert!(!empty.exists());
    assert!(!sshd.log().contains("Accepted"), "nothing secret may go to a server that is not proven");
}

#[tokio::test]
async fn a_new_key_is_learnt_once_and_a_changed_one_refused_ever_after() {
    let mut sshd = Sshd::builder().start();
    let file = sshd.home.join("learnt");
    fs::write(&file, "other.example ssh-ed25519 AAAA").unwrap();
    connect(job(&sshd).with(|o| o.host_key = known_hosts(&file, true))).await.unwrap();
    let learnt = fs::read_to_string(&file).unwrap();
    let line = format!("[127.0.0.1]:{} {}", sshd.port, sshd.host_key.public);
    assert_eq!(learnt.lines().collect::<Vec<_>>(), ["other.example ssh-ed25519 AAAA", &line]);
    connect(job(&sshd).with(|o| o.host_key = known_hosts(&file, true))).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), learnt);
    // The real client reads what we wrote.
    let _ = run(command("ssh-keygen", ["-F", &format!("[127.0.0.1]:{}", sshd.port), "-f"]).arg(&file));

    let before = sshd.change_host_key();
    for policy in [known_hosts(&file, true), HostKeyPolicy::Pinned(before.fingerprint.clone())] {
        let error = connect(job(&sshd).with(|o| o.host_key = policy)).await.unwrap_err();
        let Error::ChangedHostKey { expected, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!((expected, found), (&before.fingerprint, &sshd.host_key.fingerprint));
        assert_eq!(error.disposition(), Disposition::Permanent);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), learnt);
}

#[tokio::test]
async fn a_key_accepted_as_new_must_be_the_same_when_connecting_again() {
    for kind in BOTH {
        let mut sshd = Sshd::builder().start();
        let job = Job::new(kind, &sshd, &[&sshd.home]).with(|o| o.host_key = HostKeyPolicy::AcceptNew);
        let mut source = job.source();
        let shown = source.probe().await.unwrap().host_key.unwrap();
        assert_eq!(shown, sshd.host_key.fingerprint);
        sshd.change_host_key();
        let error = source.pull(&mut Kept::default(), &job.control).await.unwrap_err();
        let Error::ChangedHostKey { expected, .. } = error else { panic!("{error:?}") };
        assert_eq!(expected, shown);
    }
}

#[tokio::test]
async fn hashed_and_revoked_lines_are_honoured() {
    let sshd = Sshd::builder().start();
    let hashed = sshd.home.join("hashed");
    fs::copy(&sshd.known_hosts, &hashed).unwrap();
    let _ = run(command("ssh-keygen", ["-q", "-H", "-f"]).arg(&hashed));
    assert!(fs::read_to_string(&hashed).unwrap().starts_with("|1|"));
    connect(job(&sshd).with(|o| o.host_key = known_hosts(&hashed, false))).await.unwrap();

    let text = fs::read_to_string(&hashed).unwrap();
    fs::write(&hashed, format!("{text}@revoked * {}\n", sshd.host_key.public)).unwrap();
    let error = connect(job(&sshd).with(|o| o.host_key = known_hosts(&hashed, true))).await.unwrap_err();
    assert!(error.to_string().contains("@revoked"), "{error}");
}

#[tokio::test]
async fn of_several_host_keys_the_known_one_is_asked_for() {
    let rsa = tempfile::tempdir().unwrap();
    let rsa = rsa.path().join("rsa");
    let _ = run(command("ssh-keygen", ["-q", "-t", "rsa", "-N", "", "-f"]).arg(&rsa));
    let sshd = Sshd::builder().config(&format!("HostKey {}", rsa.display())).start();
    let public = fs::read_to_string(rsa.with_extension("pub")).unwrap();
    let shown = String::from_utf8(run(command("ssh-keygen", ["-l", "-f"]).arg(&rsa))).unwrap();
    let fingerprint = shown.split_whitespace().nth(1).unwrap().to_owned();
    assert_ne!(fingerprint, sshd.host_key.fingerprint);

    let file = sshd.home.join("only-rsa");
    fs::write(&file, format!("[127.0.0.1]:{} {public}", sshd.port)).unwrap();
    for policy in [known_hosts(&file, false), HostKeyPolicy::Pinned(fingerprint.clone())] {
        let session = connect(job(&sshd).with(|o| o.host_key = policy)).await.unwrap();
        assert_eq!(session.fingerprint(), fingerprint);
    }
}

#[tokio::test]
async fn no_server_and_a_silent_one_are_transient_and_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sshd = Sshd::builder().start();
    let silent = job(&sshd).with(|o| {
        o.port = port;
        o.timeouts.connect = Duration::from_millis(300);
    });
    let error = connect(silent).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    drop(listener);
    let error = connect(job(&sshd).with(|o| o.port = port)).await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Transient);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

/// A server goes silent at its greeting, in mid-packet, or with a login under way.
#[tokio::test]
async fn a_connection_that_was_given_up_is_closed() {
    use tokio::io::{AsyncReadExt, copy};
    use tokio::net::{TcpListener, TcpStream};
    let sshd = Sshd::builder().start();
    for said in [30, 600, 1200, 1800] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stalled = job(&sshd).with(|o| {
            o.port = port;
            o.timeouts.connect = Duration::from_millis(500);
        });
        let server = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut real = TcpStream::connect(("127.0.0.1", sshd.port)).await.unwrap();
            let ((mut asks, mut hears), (says, mut takes)) = (client.split(), real.split());
            let mut says = says.take(said);
            let until_silent = async {
                copy(&mut says, &mut hears).await.unwrap();
                std::future::pending::<()>().await;
            };
            // Ends only when the client closes.
            let until_closed = tokio::time::timeout(Duration::from_secs(10), copy(&mut asks, &mut takes));
            tokio::select! {
                closed = until_closed => drop(closed.unwrap_or_else(|_| panic!("open after {said} bytes"))),
                () = until_silent => {}
            }
        };
        let (error, ()) = tokio::join!(connect(stalled), server);
        assert!(matches!(error, Err(Error::Timeout { .. })), "{said}: {error:?}");
    }
}
