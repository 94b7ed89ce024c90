//! Commands on the other side.

use std::fs;
use std::time::Duration;

use xvault_connectors::Error;
use xvault_connectors::ssh::{ExecEvent, Exit, Session};
use xvault_testkit::Sshd;
use xvault_testkit::trees::random_file;

use crate::ssh_support::{Job, Kind};

async fn session(sshd: &Sshd) -> Session {
    Session::connect(&Job::new(Kind::Ssh, sshd, &[&sshd.home]).options).await.unwrap()
}

#[tokio::test]
async fn a_command_gets_exactly_its_arguments() {
    let sshd = Sshd::builder().start();
    let session = session(&sshd).await;
    let every_byte: Vec<u8> = (1..=255).collect();
    let argv: [&[u8]; 7] =
        [b"printf", b"%s\\0", b"it's $HOME `id` ;&|<>#!*?~", b"", b"\n\t -rf", b"caf\xe9\xff", &every_byte];
    let (exit, stdout, stderr) = session.exec(&argv).await.unwrap().output(4096).await.unwrap();
    let expected: Vec<u8> = argv[2..].iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect();
    assert_eq!((exit, stderr), (Exit::Status(0), vec![]));
    assert_eq!(stdout, expected);
}

#[tokio::test]
async fn status_signal_and_both_streams_are_told_apart() {
    let sshd = Sshd::builder().start();
    let session = session(&sshd).await;
    let run = |script: &'static str| async {
        session.exec(&["sh", "-c", script]).await.unwrap().output(100).await.unwrap()
    };
    let (exit, stdout, stderr) = run("echo out; echo err >&2; exit 7").await;
    assert_eq!((exit, &stdout[..], &stderr[..]), (Exit::Status(7), &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(run("kill -TERM $$").await.0, Exit::Signal("TERM".into()));
    // Standard input is closed, so nothing waits for it.
    assert_eq!(run("cat").await.0, Exit::Status(0));
}

#[tokio::test]
async fn output_is_capped_and_streams_are_not() {
    let sshd = Sshd::builder().start();
    let file = sshd.home.join("big");
    random_file(&file, 20 << 20, 1);
    let session = session(&sshd).await;
    let argv = [b"cat", file.as_os_str().as_encoded_bytes()];
    let error = session.exec(&argv).await.unwrap().output(1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    let mut exec = session.exec(&argv).await.unwrap();
    let mut content = Vec::new();
    while let Some(event) = exec.next().await.unwrap() {
        let ExecEvent::Stdout(data) = event else { panic!("{event:?}") };
        content.extend_from_slice(&data);
    }
    assert_eq!(exec.exit(), Some(&Exit::Status(0)));
    assert!(content == fs::read(&file).unwrap(), "content differs");
}

#[tokio::test]
async fn a_silent_command_is_given_up_and_a_dropped_one_told() {
    let sshd = Sshd::builder().start();
    let mut options = Job::new(Kind::Ssh, &sshd, &[&sshd.home]).options;
    options.timeouts.idle = Duration::from_millis(300);
    let session = Session::connect(&options).await.unwrap();
    let mut exec = session.exec(&["sleep", "60"]).await.unwrap();
    let error = exec.next().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(error.to_string().contains(&options.server()), "{error}");

    options.timeouts.idle = Duration::from_secs(20);
    let session = Session::connect(&options).await.unwrap();
    let mut exec = session.exec(&["sleep", "60"]).await.unwrap();
    assert!(sshd.drop_sessions() > 0);
    let error = exec.next().await.unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
}
