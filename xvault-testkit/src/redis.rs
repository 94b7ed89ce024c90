//! A private Redis on a free loopback port.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::keeper::Keeper;
use crate::server::{Process, on_free_port, random_password};
use crate::tools::{command, run, tool};

/// Everything that a database holds, key and value in turns. `KEYS` and one script: nothing can change in between.
const DUMP: &str = "
local read = {
    string = {'GET'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'},
    hash = {'HGETALL'}, stream = {'XRANGE', '-', '+'},
}
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind = redis.call('TYPE', key).ok
    local how = read[kind] or error('no way to read a ' .. kind)
    out[#out + 1] = key
    out[#out + 1] = redis.call(how[1], key, unpack(how, 2))
    if kind == 'stream' then out[#out + 1] = redis.call('XINFO', 'STREAM', key, 'FULL', 'COUNT', 0) end
end
return out";

/// How a server shall be: see [`Redis::builder`].
#[derive(Debug, Clone, Default)]
pub struct RedisBuilder {
    append_only: bool,
}

impl RedisBuilder {
    /// Writes every command to disk before it answers, so that [`Redis::restart`] loses nothing.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When Redis is missing or does not come up.
    #[must_use]
    pub fn start(self) -> Redis {
        Redis::launch(self)
    }
}

/// A running server with a password; it is ended, and its directory removed, on drop and when the test process ends.
#[derive(Debug)]
pub struct Redis {
    /// The port on 127.0.0.1; the same after a restart.
    pub port: u16,
    password: String,
    builder: RedisBuilder,
    // Dropped in this order: first the server, then what it stands on.
    state: Arc<Mutex<State>>,
    keeper: Keeper,
}

#[derive(Debug)]
struct State {
    process: Option<Process>,
    stalled_until: Instant,
}

impl Redis {
    /// A server that keeps its data in memory only.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// As `Redis::builder().start()`.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    fn launch(builder: RedisBuilder) -> Self {
        let state = State { process: None, stalled_until: Instant::now() };
        let mut redis = Self {
            port: 0,
            password: random_password(),
            builder,
            state: Arc::new(Mutex::new(state)),
            keeper: Keeper::new("xvt-redis", Signal::KILL),
        };
        fs::create_dir(redis.data()).unwrap();
        let process = on_free_port(|port| {
            redis.port = port;
            redis.process()
        });
        assert!(process.is_some(), "redis-server did not start: {}", redis.log());
        redis.state.lock().unwrap().process = process;
        redis
    }

    fn process(&self) -> Option<Process> {
        // A file, for the list of processes is everybody's to read.
        let config = self.keeper.path().join("redis.conf");
        fs::write(&config, self.config()).unwrap();
        let mut command = self.keeper.server(&tool("redis-server"));
        Process::start(command.arg(config), Signal::KILL, || self.answers())
    }

    fn config(&self) -> String {
        let append_only = if self.builder.append_only { "yes" } else { "no" };
        format!(
            "port {port}\nbind 127.0.0.1\nrequirepass {password}\ndaemonize no\nsave \"\"\n\
             appendonly {append_only}\nappendfsync always\ndir \"{data}\"\n",
            port = self.port,
            password = self.password,
            data = self.data().display(),
        )
    }

    /// Only our own server knows our password.
    fn answers(&self) -> bool {
        self.greeting().is_ok_and(|greeting| &greeting == b"+OK\r\n+PONG\r\n")
    }

    fn greeting(&self) -> std::io::Result<[u8; 12]> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(format!("AUTH {}\r\nPING\r\n", self.password).as_bytes())?;
        let mut greeting = [0; 12];
        stream.read_exact(&mut greeting)?;
        Ok(greeting)
    }

    /// `redis://:PASSWORD@127.0.0.1:PORT/0`; the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", self.password, self.port)
    }

    /// Ends the server at once, as a power cut does; connections are refused until it is started again.
    pub fn kill(&mut self) {
        self.state.lock().unwrap().process = None;
    }

    /// Kills the server if it runs, and starts it on the same port with what was on disk:
    /// everything with [`RedisBuilder::append_only`], nothing without.
    ///
    /// # Panics
    /// When the port is lost to somebody else meanwhile.
    pub fn restart(&mut self) {
        self.kill();
        let process = self.process();
        assert!(process.is_some(), "redis-server did not start again: {}", self.log());
        self.state.lock().unwrap().process = process;
    }

    /// As [`Redis::restart`], with nothing in it.
    ///
    /// # Panics
    /// When the port is lost to somebody else meanwhile.
    pub fn restart_empty(&mut self) {
        self.kill();
        fs::remove_dir_all(self.data()).unwrap();
        fs::create_dir(self.data()).unwrap();
        self.restart();
    }

    /// Stops answering for `span`, then goes on. Blocks so long. See [`Redis::begin_stall`].
    ///
    /// # Panics
    /// When the server does not run.
    pub fn stall(&self, span: Duration) {
        self.begin_stall(span);
        std::thread::sleep(span);
        self.state.lock().unwrap().go_on();
    }

    /// Returns when the server has stopped answering; it goes on by itself after `span`. It is the process that stands
    /// still: connections stay open, new ones are accepted by the kernel, and whatever is sent waits.
    /// Of several stalls at once the longest counts.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn begin_stall(&self, span: Duration) {
        let until = Instant::now() + span;
        let mut state = self.state.lock().unwrap();
        state.stalled_until = state.stalled_until.max(until);
        let process = state.process.as_mut().expect("a running Redis");
        process.signal(Signal::STOP);
        while !stands_still(process.pid()) {
            assert!(process.runs(), "Redis ended: {}", self.log());
            std::thread::yield_now();
        }
        let state = Arc::downgrade(&self.state);
        std::thread::spawn(move || {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            if let Some(state) = state.upgrade() {
                state.lock().unwrap().go_on();
            }
        });
    }

    /// Removes every key of every database.
    pub fn flush_all(&self) {
        let _ = self.cli(&["FLUSHALL"]);
    }

    /// Runs a command through `redis-cli` and returns what it prints, values as they are, a line each, white space at the end cut off.
    ///
    /// # Panics
    /// When the server answers with an error, or not at all.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&run(self.client().args(args))).trim_end().to_owned()
    }

    fn client(&self) -> Command {
        let port = self.port.to_string();
        let mut command = command("redis-cli", ["-h", "127.0.0.1", "-p", &port, "-e", "--raw"]);
        command.env("REDISCLI_AUTH", &self.password);
        command
    }

    /// Every key and value of every database, as stored: to search for what must not be there.
    ///
    /// # Panics
    /// When there is a value of a kind that a Redis module brought.
    #[must_use]
    pub fn dump_everything(&self) -> Vec<u8> {
        let databases = self.cli(&["INFO", "keyspace"]);
        let databases = databases.lines().filter_map(|line| line.strip_prefix("db")?.split(':').next());
        databases.flat_map(|number| run(self.client().args(["-n", number, "EVAL", DUMP, "0"]))).collect()
    }

    /// [`Redis::dump_everything`] as text, which stored bytes may not be.
    #[must_use]
    pub fn dump(&self) -> String {
        String::from_utf8_lossy(&self.dump_everything()).into_owned()
    }

    /// What the server logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    fn data(&self) -> PathBuf {
        self.keeper.path().join("data")
    }
}

impl State {
    fn go_on(&mut self) {
        if Instant::now() >= self.stalled_until
            && let Some(process) = &mut self.process
        {
            process.signal(Signal::CONT);
        }
    }
}

/// A signal is only on its way when `kill` returns.
fn stands_still(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::held;

    fn pid(redis: &Redis) -> u32 {
        redis.state.lock().unwrap().process.as_ref().unwrap().pid()
    }

    #[test]
    fn it_asks_for_the_password_and_keeps_it_off_the_process_list() {
        let redis = Redis::start();
        assert_eq!(redis.url(), format!("redis://:{}@127.0.0.1:{}/0", redis.password, redis.port));
        assert_eq!(redis.cli(&["SET", "greeting", "hello"]), "OK");
        let refused = redis.client().env_remove("REDISCLI_AUTH").args(["GET", "greeting"]).output().unwrap();
        let text = [refused.stdout, refused.stderr].concat();
        assert!(!refused.status.success() && text.starts_with(b"NOAUTH"), "{text:?}");
        let line = fs::read_to_string(format!("/proc/{}/cmdline", pid(&redis))).unwrap();
        assert!(line.contains("redis-server") && !line.contains(&redis.password), "{line}");
    }

    #[test]
    fn killed_it_refuses_and_started_again_it_is_empty_or_not() {
        let mut redis = Redis::builder().append_only().start();
        let url = redis.url();
        assert_eq!(redis.cli(&["SET", "kept", "1"]), "OK");
        redis.kill();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port)).is_err());
        redis.restart();
        assert_eq!(redis.cli(&["GET", "kept"]), "1");
        redis.restart_empty();
        assert_eq!((redis.cli(&["DBSIZE"]), redis.url()), ("0".into(), url));
        let mut in_memory = Redis::start();
        assert_eq!(in_memory.cli(&["SET", "lost", "1"]), "OK");
        in_memory.restart();
        assert_eq!(in_memory.cli(&["EXISTS", "lost"]), "0");
    }

    #[test]
    fn stalled_it_answers_late_and_goes_on_by_itself() {
        let mut redis = Redis::start();
        let begin = Instant::now();
        redis.begin_stall(Duration::from_millis(700));
        // The shorter one of two does not end the longer one.
        redis.begin_stall(Duration::from_millis(1));
        assert_eq!(redis.cli(&["PING"]), "PONG");
        assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
        let begin = Instant::now();
        redis.stall(Duration::from_millis(300));
        assert!(begin.elapsed() >= Duration::from_millis(300) && !stands_still(pid(&redis)));
        redis.begin_stall(Duration::from_secs(600));
        redis.restart();
        assert_eq!(redis.cli(&["PING"]), "PONG");
    }

    #[test]
    fn a_dump_holds_every_kind_in_every_database_and_a_flush_leaves_none() {
        let redis = Redis::start();
        for (number, text) in [
            "SET key-string in-string",
            "RPUSH key-list in-list second-in-list",
            "SADD key-set in-set",
            "ZADD key-zset 1 in-zset",
            "HSET key-hash field-of-hash in-hash",
            "XADD key-stream * field-of-stream in-stream",
            "XGROUP CREATE key-stream group-of-stream 0",
        ]
        .iter()
        .enumerate()
        {
            let number = if number == 0 { "3" } else { "0" };
            let _ = run(redis.client().args(["-n", number]).args(text.split(' ')));
        }
        let _ = redis.cli(&["SETEX", "key with \"quotes\"\nand lines", "600", "ä\n"]);
        let dump = redis.dump();
        for kind in ["string", "list", "set", "zset", "hash", "stream"] {
            assert!(
                dump.contains(&format!("key-{kind}\n")) && dump.contains(&format!("in-{kind}\n")),
                "{dump}"
            );
        }
        for text in ["second-in-list", "field-of-hash", "field-of-stream", "group-of-stream"] {
            assert!(dump.contains(text), "{dump}");
        }
        assert!(dump.contains("key with \"quotes\"\nand lines\nä\n"), "{dump}");
        redis.flush_all();
        assert_eq!(redis.dump_everything(), b"");
    }

    #[test]
    fn nothing_is_left_after_a_drop() {
        let redis = Redis::start();
        redis.begin_stall(Duration::from_secs(600));
        let (port, dir) = (redis.port, redis.keeper.path().to_owned());
        drop(redis);
        assert!(!dir.exists() && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }

    #[test]
    fn one_never_dropped_ends_with_the_process() {
        let redis = std::mem::ManuallyDrop::new(Redis::start());
        assert_eq!(redis.cli(&["PING"]), "PONG");
        held::show(redis.keeper.path(), pid(&redis));
    }

    #[test]
    fn nothing_is_left_of_a_test_process_that_exits_or_is_killed() {
        held::assert_nothing_is_left_of("redis::tests::one_never_dropped_ends_with_the_process");
    }
}
