//! What is checked is what is connected to.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::net::TcpListener;
use xvault_core::egress::{Egress, parse_network};
use xvault_core::{Dispose, Disposition};

use super::*;

/// Gives one answer after the other, and counts.
#[derive(Debug, Default)]
struct Answers {
    left: Mutex<Vec<Vec<IpAddr>>>,
}

impl Answers {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let read = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { left: Mutex::new(answers.iter().rev().map(read).collect()) })
    }

    fn left(&self) -> usize {
        self.left.lock().unwrap().len()
    }
}

#[async_trait]
impl Resolve for Answers {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.left.lock().unwrap().pop().ok_or_else(|| io::Error::other("asked too often"))
    }
}

fn public() -> Network {
    Network::new(EgressPolicy::public())
}

/// Only one network, and this machine by IPv4.
fn listed(network: &str) -> Network {
    let allow = vec![parse_network(network).unwrap()];
    Network::new(EgressPolicy { others: Egress::Listed, allow, deny: vec![] })
}

async fn denied(network: &Network, host: &str) -> Denied {
    match network.connect(host, 9).await {
        Err(Unreachable::Denied(denied)) => denied,
        other => panic!("{host}: {other:?}"),
    }
}

#[tokio::test]
async fn every_spelling_of_this_machine_is_refused_by_its_address() {
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "localhost",
        "LOCALHOST",
        "bucket.localhost",
        "bucket.localhost.",
        "0",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
        "10.1",
        "192.168.257",
        "0xa9fea9fe",
        "169.254.169.254",
    ] {
        let denied = denied(&public(), host).await;
        assert_eq!(denied.host, host);
        assert!(!xvault_core::egress::is_public(denied.address), "{denied}");
        let error = Unreachable::from(denied).into_error("x");
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(error.to_string().contains("`EgressPolicy::allow`"), "{error}");
    }
}

#[tokio::test]
async fn one_look_up_is_all_there_is() {
    let answers = Answers::of(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let network = listed("127.0.0.2").resolving_by(answers.clone());
    // Both answer: the second answer is never asked for, and so never connected to.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = network.connect("rebinding.example", port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "127.0.0.2");
    assert_eq!(answers.left(), 1);
    let second = denied(&network, "rebinding.example").await;
    assert_eq!(second.address.to_string(), "127.0.0.1");
}

#[tokio::test]
async fn one_bad_address_among_good_ones_is_enough() {
    for answer in [&["8.8.8.8", "10.0.0.1"][..], &["10.0.0.1", "8.8.8.8"], &["::ffff:10.0.0.1"]] {
        let network = public().resolving_by(Answers::of(&[answer]));
        assert_eq!(denied(&network, "mixed.example").await.address.to_string(), "10.0.0.1");
    }
}

#[tokio::test]
async fn programs_of_others_get_an_address_that_answers() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let network =
        Network::default().resolving_by(Answers::of(&[&["127.0.0.9", "127.0.0.1"], &["127.0.0.9"], &[]]));
    assert_eq!(network.address("two.example", port).await.unwrap().to_string(), "127.0.0.1");
    assert_eq!(network.address("one.example", port).await.unwrap().to_string(), "127.0.0.9");
    assert!(matches!(network.address("none.example", port).await, Err(Unreachable::Unknown(_))));
}

#[tokio::test]
async fn without_a_policy_everything_is_reached() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(!Network::default().is_limited() && public().is_limited());
    Network::default().connect("localhost", address.port()).await.unwrap();
    Network::default().connect_to(address).await.unwrap();
    assert!(matches!(public().connect_to(address).await, Err(Unreachable::Denied(_))));
}

/// All source files of this crate, without their tests.
fn sources(dir: &std::path::Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        if path.is_dir() {
            return sources(&path);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        vec![(path.display().to_string(), text)]
    };
    entries.flat_map(read).collect()
}

#[test]
fn nothing_else_of_this_crate_looks_up_or_connects() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let own = [src.join("network.rs"), src.join("network")].map(|path| path.display().to_string());
    let words = [
        "TcpStream::connect",
        "lookup_host",
        "TcpSocket",
        "UdpSocket",
        "to_socket_addrs",
        "ToSocketAddrs",
        "connect_timeout(",
    ];
    let mut found = Vec::new();
    for (path, text) in sources(&src) {
        if own.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        for word in words.iter().filter(|word| text.contains(*word)) {
            // The HTTP client has a resolver of ours, and a time limit of that name.
            if !(path.ends_with("store/s3/http.rs") && *word == "connect_timeout(") {
                found.push(format!("{path}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A listener whose queue is full, so that it says nothing to whoever comes; and those in the queue.
async fn black_hole(address: &str, port: u16) -> (TcpListener, Vec<TcpStream>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), port)).unwrap();
    let (listener, mut queue) = (socket.listen(0).unwrap(), Vec::new());
    let come = || tokio::time::timeout(Duration::from_millis(100), TcpStream::connect((address, port)));
    while let Ok(came) = come().await {
        queue.push(came.unwrap());
    }
    (listener, queue)
}

#[tokio::test]
async fn an_address_that_says_nothing_keeps_nobody_from_the_one_that_answers() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _hole = black_hole("127.0.0.3", port).await;
    let dual = &["127.0.0.3", "127.0.0.4", "127.0.0.1"][..];
    let network = Network::default().resolving_by(Answers::of(&[dual, dual]));
    let both = async {
        let stream = network.connect("dual.example", port).await.unwrap();
        (stream.peer_addr().unwrap().ip(), network.address("dual.example", port).await.unwrap())
    };
    let reached = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert_eq!(reached, (listener.local_addr().unwrap().ip(), listener.local_addr().unwrap().ip()));
}

#[tokio::test]
async fn after_an_address_that_refuses_the_other_family_is_next() {
    let of_the_first = TcpListener::bind("127.0.0.4:0").await.unwrap();
    let port = of_the_first.local_addr().unwrap().port();
    let _of_the_other = TcpListener::bind(("127.0.0.5", port)).await.unwrap();
    let answer = &["127.0.0.3", "127.0.0.4", "::ffff:127.0.0.5"][..];
    let network = Network::default().resolving_by(Answers::of(&[answer]));
    let stream = network.connect("dual.example", port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "::ffff:127.0.0.5");
}

#[tokio::test]
async fn where_all_addresses_refuse_nobody_is_reached() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    let network = Network::default().resolving_by(Answers::of(&[&["127.0.0.1", "127.0.0.2"]]));
    let refused = network.connect("dual.example", port).await.unwrap_err();
    assert!(
        matches!(&refused, Unreachable::Silent(error) if error.kind() == io::ErrorKind::ConnectionRefused),
        "{refused:?}"
    );
}

#[test]
fn families_take_turns_and_nobody_is_left_out() {
    let read = |text: &str| text.split_whitespace().map(|one| one.parse().unwrap()).collect::<Vec<IpAddr>>();
    for (given, turns) in [
        ("", ""),
        ("1.1.1.1", "1.1.1.1"),
        ("::2 ::3 ::4 1.1.1.1", "::2 1.1.1.1 ::3 ::4"),
        ("1.1.1.1 ::2 ::3 ::4 1.1.1.5", "1.1.1.1 ::2 1.1.1.5 ::3 ::4"),
    ] {
        assert_eq!(alternating(&read(given)), read(turns));
    }
}
