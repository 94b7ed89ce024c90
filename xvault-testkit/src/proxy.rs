//! A TCP proxy on loopback that delays, cuts and stalls.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Chunks in flight in one direction: with 64 KiB chunks up to 256 MiB, more than any window.
const IN_FLIGHT: usize = 4096;

/// Stands before a server on 127.0.0.1. All of its faults can be set while connections run.
///
/// Counts for cuts and stalls are of bytes from server to client, anew for each connection.
#[derive(Debug)]
pub struct FaultProxy {
    /// The port to connect to: on 127.0.0.1, unless it was started elsewhere.
    pub port: u16,
    address: Ipv4Addr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    plan: Mutex<Plan>,
    changed: Condvar,
    stopped: AtomicBool,
    to_server: AtomicU64,
    to_client: AtomicU64,
    connections: AtomicU64,
    answers_lost: AtomicU64,
    requests: AtomicU64,
    answered: AtomicU64,
    live: Mutex<Vec<TcpStream>>,
}

#[derive(Debug, Default)]
struct Plan {
    delay: Duration,
    cut: Option<Cut>,
    stall_after: Option<u64>,
    trickle: Option<Trickle>,
    lose_answer_to: Option<Vec<u8>>,
    instead: Vec<Instead>,
    refuse: bool,
}

/// What the proxy answers itself.
#[derive(Debug)]
struct Instead {
    text: Vec<u8>,
    times: u32,
    reply: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    after: u64,
    once: bool,
}

/// From `after` bytes on, one at a time.
#[derive(Debug, Clone, Copy)]
struct Trickle {
    after: u64,
    pause: Duration,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan());
        self.changed.notify_all();
    }
}

/// Ports that a server names to its clients may be those of another test's server for a moment, behind this address, too.
fn bound(address: Ipv4Addr, port: u16) -> TcpListener {
    for _ in 0..300 {
        match TcpListener::bind((address, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                std::thread::sleep(Duration::from_millis(100));
            }
            listener => return listener.unwrap(),
        }
    }
    panic!("{address}:{port} is taken");
}

impl FaultProxy {
    /// Starts before `target`, without faults.
    #[must_use]
    pub fn start(target: u16) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, 0, target)
    }

    /// Starts before `target` on another loopback address than 127.0.0.1, on this port (0: a free one): for protocols that name
    /// ports to each other.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start_at(address: Ipv4Addr, port: u16, target: u16) -> Self {
        let listener = bound(address, port);
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target,
            plan: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            answers_lost: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            live: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { port, address, shared }
    }

    /// Delivers every byte so much later, in each direction; bandwidth stays what it is. A round trip takes twice this.
    pub fn set_delay(&self, one_way: Duration) {
        self.shared.change(|plan| plan.delay = one_way);
    }

    /// Cuts the first connection that has delivered exactly `bytes`, then no other.
    pub fn cut_once_after(&self, bytes: u64) {
        self.shared.change(|plan| plan.cut = Some(Cut { after: bytes, once: true }));
    }

    /// Cuts every connection that has delivered exactly `bytes`.
    pub fn cut_each_after(&self, bytes: u64) {
        self.shared.change(|plan| plan.cut = Some(Cut { after: bytes, once: false }));
    }

    /// Delivers no more than `bytes`, and keeps the connection open.
    pub fn stall_after(&self, bytes: u64) {
        self.shared.change(|plan| plan.stall_after = Some(bytes));
    }

    /// Delivers what comes after `bytes` one byte at a time, each `pause` after the other: something moves, and nothing comes.
    pub fn trickle_after(&self, bytes: u64, pause: Duration) {
        self.shared.change(|plan| plan.trickle = Some(Trickle { after: bytes, pause }));
    }

    /// Cuts the connection of the next request that has `text` in it, once, when the server answers: it has done what
    /// it was asked for, and the client does not hear of it.
    pub fn lose_answer_to(&self, text: &str) {
        self.shared.change(|plan| plan.lose_answer_to = Some(text.as_bytes().to_vec()));
    }

    /// Answers the next `times` HTTP requests that have `text` in them by itself, with `status` ("503 Slow Down") and `body`,
    /// and closes their connections: the server never hears of them. Of several such answers the one told first comes first.
    pub fn answer_instead(&self, text: &str, times: u32, status: &str, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let instead = Instead {
            text: text.as_bytes().to_vec(),
            times,
            reply: [head.as_bytes(), body.as_bytes()].concat(),
        };
        self.shared.change(|plan| plan.instead.push(instead));
    }

    /// Takes back all faults but the delay; stalled connections go on.
    pub fn heal(&self) {
        self.shared.change(|plan| *plan = Plan { delay: plan.delay, ..Plan::default() });
    }

    /// Closes new connections at once.
    pub fn refuse(&self) {
        self.shared.change(|plan| plan.refuse = true);
    }

    /// Cuts all connections now.
    pub fn cut_now(&self) {
        for stream in self.shared.live.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Bytes delivered to the server so far, over all connections.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::Relaxed)
    }

    /// Bytes delivered to the client so far, over all connections.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::Relaxed)
    }

    /// Answers that [`FaultProxy::lose_answer_to`] has lost so far.
    #[must_use]
    pub fn answers_lost(&self) -> u64 {
        self.shared.answers_lost.load(Ordering::Relaxed)
    }

    /// HTTP requests seen so far, over all connections.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Requests that [`FaultProxy::answer_instead`] has answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        self.cut_now();
        // Wakes the accepting thread, which then sees that it shall stop.
        let _ = TcpStream::connect((self.address, self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        if shared.plan().refuse {
            continue;
        }
        let server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, shared.target)));
        let Ok(server) = server else { continue };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connect(&client, &server, shared);
    }
}

/// Starts the two directions, with a reading and a delivering thread each.
fn connect(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) {
    let doomed = Arc::new(AtomicBool::new(false));
    for (from, to, to_client) in [(client, server, false), (server, client, true)] {
        to.set_nodelay(true).unwrap();
        shared.live.lock().unwrap().push(from.try_clone().unwrap());
        let (sender, receiver) = sync_channel(IN_FLIGHT);
        let reader = from.try_clone().unwrap();
        std::thread::spawn(move || read(reader, &sender));
        let lane = Lane {
            from: from.try_clone().unwrap(),
            to: to.try_clone().unwrap(),
            shared: Arc::clone(shared),
            to_client,
            delivered: 0,
            doomed: Arc::clone(&doomed),
        };
        std::thread::spawn(move || lane.run(&receiver));
    }
}

fn read(mut from: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if sender.send((Instant::now(), buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

/// One direction of one connection.
struct Lane {
    from: TcpStream,
    to: TcpStream,
    shared: Arc<Shared>,
    to_client: bool,
    delivered: u64,
    /// Of both directions: the next answer is lost.
    doomed: Arc<AtomicBool>,
}

impl Lane {
    fn run(mut self, receiver: &Receiver<(Instant, Vec<u8>)>) {
        while let Ok((read_at, chunk)) = receiver.recv() {
            let due = read_at + self.shared.plan().delay;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if let Some(reply) = self.instead(&chunk) {
                let _ = self.from.write_all(&reply);
                let _ = self.from.shutdown(Shutdown::Write);
                // Not before: the end of the server's direction is passed on, and would come before the answer.
                let _ = self.to.shutdown(Shutdown::Both);
                // A connection closed with something unread would take the answer with it.
                while receiver.recv().is_ok() {}
                return;
            }
            if self.is_lost(&chunk) || !self.deliver(&chunk) {
                let _ = self.from.shutdown(Shutdown::Both);
                let _ = self.to.shutdown(Shutdown::Both);
                return;
            }
        }
        // The end of one direction is passed on; the other may still have something to say.
        let _ = self.to.shutdown(Shutdown::Write);
    }

    /// What to answer in the server's place.
    fn instead(&self, chunk: &[u8]) -> Option<Vec<u8>> {
        if self.to_client {
            return None;
        }
        // A request begins where a chunk does.
        let head = &chunk[..chunk.len().min(4096)];
        let found = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
        self.shared.requests.fetch_add(found(b" HTTP/1.1\r\n").into(), Ordering::Relaxed);
        let mut plan = self.shared.plan();
        let instead = plan.instead.iter_mut().find(|instead| instead.times > 0 && found(&instead.text))?;
        instead.times -= 1;
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        Some(instead.reply.clone())
    }

    /// Whether this is the answer to be lost. Takes note when it is the request.
    fn is_lost(&self, chunk: &[u8]) -> bool {
        if self.to_client {
            let lost = self.doomed.load(Ordering::SeqCst);
            self.shared.answers_lost.fetch_add(lost.into(), Ordering::Relaxed);
            return lost;
        }
        let mut plan = self.shared.plan();
        let named = |text: &Vec<u8>| chunk.windows(text.len().max(1)).any(|window| window.starts_with(text));
        if plan.lose_answer_to.take_if(|text| named(text)).is_some() {
            self.doomed.store(true, Ordering::SeqCst);
        }
        false
    }

    /// False once the connection is over.
    fn deliver(&mut self, mut chunk: &[u8]) -> bool {
        while !chunk.is_empty() {
            let Some(room) = self.room() else { return false };
            let (now, later) = chunk.split_at(room.min(chunk.len()));
            if self.to.write_all(now).is_err() {
                return false;
            }
            self.count(now.len());
            chunk = later;
            self.pause();
        }
        self.room().is_some()
    }

    /// Where it trickles, until the next byte.
    fn pause(&self) {
        let pause =
            self.trickle().filter(|trickle| trickle.after <= self.delivered).map(|trickle| trickle.pause);
        std::thread::sleep(pause.unwrap_or_default());
    }

    fn trickle(&self) -> Option<Trickle> {
        self.shared.plan().trickle.filter(|_| self.to_client)
    }

    fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap();
        self.delivered += bytes;
        let total = if self.to_client { &self.shared.to_client } else { &self.shared.to_server };
        total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many bytes may pass before the next fault; waits out a stall; `None` for a cut.
    fn room(&self) -> Option<usize> {
        let mut plan = self.shared.plan();
        loop {
            if !self.to_client {
                return Some(usize::MAX);
            }
            if let Some(cut) = plan.cut.filter(|cut| cut.after <= self.delivered) {
                plan.cut = (!cut.once).then_some(cut);
                return None;
            }
            let limits = [plan.cut.map(|cut| cut.after), plan.stall_after];
            let limits = limits.into_iter().flatten().map(|at| at.saturating_sub(self.delivered));
            let trickle = plan.trickle.map(|trickle| trickle.after.saturating_sub(self.delivered).max(1));
            let room = limits.chain(trickle).min();
            match room {
                Some(0) if self.shared.stopped.load(Ordering::Relaxed) => return None,
                Some(0) => plan = self.shared.changed.wait(plan).unwrap(),
                Some(room) => return Some(usize::try_from(room).unwrap_or(usize::MAX)),
                None => return Some(usize::MAX),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// A server that sends each connection `reply` once it has got one byte, and then closes.
    fn server(reply: Vec<u8>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let reply = reply.clone();
                std::thread::spawn(move || {
                    stream.read_exact(&mut [0]).unwrap();
                    let _ = stream.write_all(&reply);
                });
            }
        });
        port
    }

    fn ask(proxy: &FaultProxy) -> TcpStream {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).unwrap();
        stream.write_all(b"?").unwrap();
        stream
    }

    fn answer(proxy: &FaultProxy) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = ask(proxy).read_to_end(&mut bytes);
        bytes
    }

    #[test]
    fn bytes_pass_unchanged_and_are_counted() {
        let reply = crate::trees::Xorshift::new(3).bytes(3_000_000);
        let proxy = FaultProxy::start(server(reply.clone()));
        assert!(answer(&proxy) == reply);
        assert_eq!(
            (proxy.bytes_to_client(), proxy.bytes_to_server(), proxy.connections()),
            (3_000_000, 1, 1)
        );
    }

    #[test]
    fn what_trickles_comes_byte_by_byte_until_it_is_healed() {
        let proxy = FaultProxy::start(server(vec![7; 3000]));
        proxy.trickle_after(1000, Duration::from_millis(50));
        let (mut stream, mut first, begun) = (ask(&proxy), vec![0; 1004], Instant::now());
        stream.read_exact(&mut first).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
        assert!(proxy.bytes_to_client() < 1100, "{}", proxy.bytes_to_client());
        proxy.heal();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest == vec![7; 1996]);
    }

    #[test]
    fn latency_is_paid_once_however_much_is_sent() {
        let proxy = FaultProxy::start(server(vec![7; 20_000_000]));
        proxy.set_delay(Duration::from_millis(100));
        let start = Instant::now();
        assert_eq!(answer(&proxy).len(), 20_000_000);
        let took = start.elapsed();
        // A pipe that waited for each of its 300 chunks would take half a minute.
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_cut_falls_at_the_byte_and_once() {
        let proxy = FaultProxy::start(server(vec![7; 500_000]));
        proxy.cut_once_after(123_456);
        assert_eq!(answer(&proxy).len(), 123_456);
        assert_eq!(answer(&proxy).len(), 500_000);
        proxy.cut_each_after(10);
        assert_eq!([answer(&proxy).len(), answer(&proxy).len()], [10, 10]);
        proxy.heal();
        assert_eq!(answer(&proxy).len(), 500_000);
        proxy.refuse();
        assert_eq!(answer(&proxy).len(), 0);
    }

    #[test]
    fn an_answer_is_lost_once_and_the_request_was_not() {
        let proxy = FaultProxy::start(server(vec![7; 500_000]));
        proxy.lose_answer_to("!");
        assert_eq!(answer(&proxy).len(), 500_000);
        proxy.lose_answer_to("?");
        assert_eq!((answer(&proxy).len(), proxy.bytes_to_server(), proxy.answers_lost()), (0, 2, 1));
        assert_eq!(answer(&proxy).len(), 500_000);
        assert_eq!((proxy.bytes_to_server(), proxy.answers_lost()), (3, 1));
    }

    #[test]
    fn an_answer_comes_instead_as_often_as_told_and_the_server_hears_nothing() {
        let proxy = FaultProxy::start(server(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
        proxy.answer_instead("/two", 1, "503 Slow Down", "later");
        let get = |path: &str| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        assert!(get("/one").starts_with("HTTP/1.1 200"));
        assert!(
            get("/two").starts_with("HTTP/1.1 503 Slow Down\r\n") && get("/two").starts_with("HTTP/1.1 200")
        );
        assert_eq!((proxy.requests(), proxy.answered()), (3, 1));
    }

    #[test]
    fn a_stall_keeps_the_connection_and_heals() {
        let proxy = FaultProxy::start(server(vec![7; 500_000]));
        proxy.stall_after(1000);
        let mut stream = ask(&proxy);
        stream.read_exact(&mut [0; 1000]).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(None).unwrap();
        proxy.heal();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), 499_000);
        proxy.stall_after(0);
        let mut stream = ask(&proxy);
        while proxy.bytes_to_server() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        proxy.cut_now();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}
