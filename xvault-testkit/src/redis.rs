//! A private Redis on a free loopback port.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::server::{Guarded, free_port, log, wait_ready};
use crate::tools::{command, run, tool};

/// Its password: long enough to be found when it leaks.
const PASSWORD: &str = "redis-password-of-the-tests";

/// A running server without persistence; stopped, and its files removed, on drop and when the test's process ends.
#[derive(Debug)]
pub struct Redis {
    /// The port on 127.0.0.1.
    pub port: u16,
    dir: PathBuf,
    server: Option<Guarded>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// When Redis is missing or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-redis").tempdir().unwrap().keep();
        let mut redis = Self { port: 0, dir, server: None };
        for _ in 0..10 {
            redis.port = free_port();
            if redis.launch() {
                return redis;
            }
        }
        panic!("redis-server did not start: {}", log(&redis.dir));
    }

    fn launch(&mut self) -> bool {
        let config = self.dir.join("redis.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsave \"\"\nappendonly no\nrequirepass {PASSWORD}\ndaemonize no\n",
            self.port,
            self.dir.display()
        );
        fs::write(&config, text).unwrap();
        let argv = [tool("redis-server").display().to_string(), config.display().to_string()];
        let server = Guarded::start(&self.dir, "TERM", &argv);
        let up = wait_ready(&server, || self.answers());
        if up {
            self.server = Some(server);
        } else {
            server.stop();
        }
        up
    }

    fn answers(&self) -> bool {
        let mut ping = self.client();
        ping.arg("ping");
        ping.output().is_ok_and(|output| output.stdout.starts_with(b"PONG"))
    }

    fn client(&self) -> std::process::Command {
        let port = self.port.to_string();
        let mut client = command("redis-cli", ["-h", "127.0.0.1", "-p", &port, "--no-auth-warning"]);
        client.env("REDISCLI_AUTH", PASSWORD).stderr(Stdio::null());
        client
    }

    /// The URL, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    /// Runs a command with the real `redis-cli`, and gives what it prints.
    ///
    /// # Panics
    /// When the server can't be reached.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&run(self.client().args(args))).trim().to_owned()
    }

    /// Every key and value as text, to search for secrets.
    #[must_use]
    pub fn dump(&self) -> String {
        let keys = self.cli(&["--scan"]);
        let values = keys.lines().map(|key| format!("{key}\n{}\n", self.value(key)));
        values.collect()
    }

    fn value(&self, key: &str) -> String {
        match self.cli(&["TYPE", key]).as_str() {
            "string" => self.cli(&["GET", key]),
            "list" => self.cli(&["LRANGE", key, "0", "-1"]),
            "set" => self.cli(&["SMEMBERS", key]),
            "zset" => self.cli(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
            "hash" => self.cli(&["HGETALL", key]),
            "stream" => self.cli(&["XRANGE", key, "-", "+"]),
            other => panic!("a key of type {other}"),
        }
    }

    /// Stops answering for `span`, then goes on: a stalled machine. Blocks so long.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stall(&self, span: Duration) {
        let server = self.server.as_ref().expect("redis runs");
        server.signal("STOP");
        std::thread::sleep(span);
        server.signal("CONT");
    }

    /// Loses everything, and goes on.
    pub fn flush_all(&self) {
        let _ = self.cli(&["FLUSHALL"]);
    }

    /// Ends at once, with everything it held.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.signal("KILL");
            server.stop();
        }
    }

    /// Starts anew, empty, on the same port.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart_empty(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server did not start again: {}", log(&self.dir));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.server.take().is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_holds_forgets_and_comes_back_empty() {
        let mut redis = Redis::start();
        assert_eq!(redis.cli(&["SET", "a", "hello"]), "OK");
        let _ = redis.cli(&["ZADD", "z", "1", "member"]);
        let dump = redis.dump();
        assert!(dump.contains("hello") && dump.contains("member"), "{dump}");
        redis.flush_all();
        assert_eq!(redis.dump(), "");
        let _ = redis.cli(&["SET", "a", "hello"]);
        redis.restart_empty();
        assert_eq!(redis.dump(), "");
        let dir = redis.dir.clone();
        drop(redis);
        assert!(!dir.exists());
    }

    #[test]
    fn a_stalled_one_answers_late() {
        let redis = Redis::start();
        std::thread::scope(|scope| {
            scope.spawn(|| redis.stall(Duration::from_millis(600)));
            std::thread::sleep(Duration::from_millis(100));
            let asked = Instant::now();
            assert_eq!(redis.cli(&["PING"]), "PONG");
            assert!(asked.elapsed() >= Duration::from_millis(300));
        });
    }
}
