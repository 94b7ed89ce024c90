"""The private database servers, each with one database of a size, and what is measured against them."""

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from contenders import Pipeline, Xvault
from meter import Failed
from servers import end, free_port

MIB = 1 << 20

#: Bytes of a dump that a row is about: text that half repeats itself, as in most shops.
ROW = 416

PASSWORD = "bench-pw"


class Database:
    """A running server with a database `shop`. It takes root to start, as its programs refuse to run as root."""

    def __init__(self, place, owner):
        self.place = place
        place.mkdir(parents=True)
        # Its files are its own, but it has to get there.
        for folder in (place, place.parent):
            folder.chmod(0o755)
        (place / "password").write_text(PASSWORD)
        self.owner = pwd.getpwnam(owner)
        os.chown(place, self.owner.pw_uid, self.owner.pw_gid)

    def start(self, argv, answers):
        """Starts `argv(port)` on a free port and waits until `answers()`."""
        for _ in range(10):
            self.port = free_port()
            log = open(self.place / "log", "ab")
            self.process = subprocess.Popen(argv(self.port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            log.close()
            deadline = time.monotonic() + 30
            while self.process.poll() is None and time.monotonic() < deadline:
                if answers():
                    return
                time.sleep(0.05)
            self.stop()
        raise Failed("the database does not start: " + (self.place / "log").read_text()[-2000:])

    def quietly(self, argv, **more):
        """Runs to the end; gives what was printed."""
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, **more)
        if done.returncode != 0:
            raise Failed(f"{argv[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def as_owner(self, *argv):
        """`argv` as the server's own user."""
        ids = [f"--reuid={self.owner.pw_uid}", f"--regid={self.owner.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, *argv]

    def stop(self):
        """Ends the server."""
        end(self.process)

    def backup(self, program, keys):
        """xvault as a contender."""
        login = ["--password-file", self.place / "password", "--allow-outdated-tools"]
        return Xvault(program, self.url(), keys, login)

    def pipeline(self, keys):
        """What an administrator writes by hand."""
        return DumpPipeline(f"{self.TOOL} | zstd | age", self.dump(), keys, self.login())


class DumpPipeline(Pipeline):
    """The same with a password in the environment, where its tool looks for it."""

    def __init__(self, name, producer, keys, login):
        super().__init__(name, producer, keys)
        self.login = login

    def env(self, place):
        return super().env(place) | self.login


class Postgres(Database):
    """PostgreSQL of Debian, the newest one."""

    TOOL = "pg_dump"

    def __init__(self, place, size):
        super().__init__(place, "postgres")
        versions = sorted(Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name))
        if not versions:
            raise Failed("postgres is missing: apt-get install postgresql")
        self.bin = versions[-1] / "bin"
        data = place / "data"
        initdb = [self.bin / "initdb", "-U", "bench", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        self.quietly(self.as_owner(*initdb, "--pwfile", place / "password", "-D", data))
        settings = ["fsync=off", "full_page_writes=off", "shared_buffers=512MB", "max_wal_size=4GB", "wal_level=minimal",
                    "max_wal_senders=0", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        flags = [flag for setting in settings for flag in ("-c", setting)]
        self.start(lambda port: self.as_owner(self.bin / "postgres", "-D", data, "-c", f"port={port}", *flags), self.answers)
        self.psql("postgres", "CREATE DATABASE shop")
        rows = max(1, size // ROW)
        self.psql("shop", f"""
            CREATE TABLE orders AS SELECT n AS id, md5(n::text) AS token, now() AS at, n % 1000 AS customer,
              repeat(md5((n % 977)::text) || ' of the shop; ', 6) || md5((n * 7)::text) || md5((n * 13)::text) AS note
            FROM generate_series(1, {rows}) n;
            ALTER TABLE orders ADD PRIMARY KEY (id); VACUUM ANALYZE orders;""")

    def answers(self):
        """Whether it serves."""
        try:
            return self.psql("postgres", "SELECT 1") == "1\n"
        except Failed:
            return False

    def psql(self, database, sql):
        """What `sql` gives."""
        argv = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *self.place_of(database), "-f", "-"]
        return self.quietly(argv, input=sql, env={"PATH": os.environ["PATH"], **self.login()})

    def place_of(self, database):
        """The words that lead to a database."""
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-d", database]

    def login(self):
        """The password, for libpq."""
        return {"PGPASSWORD": PASSWORD}

    def dump(self):
        """The custom format without compression: zstd does it better."""
        return " ".join(map(str, [self.bin / "pg_dump", "-Fc", "-Z0", *self.place_of("shop")]))

    def url(self):
        """The source as xvault takes it."""
        return f"postgres://bench@127.0.0.1:{self.port}/shop"


class Mariadb(Database):
    """MariaDB of Debian."""

    TOOL = "mariadb-dump"

    def __init__(self, place, size):
        super().__init__(place, "mysql")
        if not shutil.which("mariadb-install-db"):
            raise Failed("mariadbd is missing: apt-get install mariadb-server")
        data = place / "data"
        self.quietly(["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db",
                      "--auth-root-authentication-method=normal", "--skip-name-resolve"])
        (place / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS bench@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO bench@'%';\n"
        )
        (place / "init.sql").chmod(0o644)
        server = shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin") or "mariadbd"
        flags = ["--no-defaults", "--user=mysql", f"--datadir={data}", "--bind-address=127.0.0.1", "--skip-name-resolve",
                 f"--socket={place}/s", f"--pid-file={place}/pid", f"--init-file={place}/init.sql", f"--tmpdir={data}",
                 "--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M", "--innodb-flush-log-at-trx-commit=0"]
        self.start(lambda port: [server, *flags, f"--port={port}"], self.answers)
        rows = max(1, size // ROW)
        self.sql(f"""
            CREATE DATABASE shop; USE shop;
            CREATE TABLE orders (id BIGINT PRIMARY KEY, token CHAR(32), at TIMESTAMP, customer INT, note TEXT);
            INSERT INTO orders SELECT seq, MD5(seq), NOW(), seq % 1000,
              CONCAT(REPEAT(CONCAT(MD5(seq % 977), ' of the shop; '), 6), MD5(seq * 7), MD5(seq * 13)) FROM seq_1_to_{rows};""")

    def answers(self):
        """Whether it serves."""
        try:
            return self.sql("SELECT 1") == "1\n"
        except Failed:
            return False

    def sql(self, sql):
        """What `sql` gives."""
        argv = ["mariadb", "--no-defaults", *self.place_of(), "--batch", "--skip-column-names"]
        return self.quietly(argv, input=sql, env={"PATH": os.environ["PATH"], **self.login()})

    def place_of(self):
        """The words that lead to the server."""
        return ["--host=127.0.0.1", f"--port={self.port}", "--protocol=tcp", "--user=bench"]

    def login(self):
        """The password, for its clients."""
        return {"MYSQL_PWD": PASSWORD}

    def dump(self):
        """With what xvault asks for, too."""
        options = ["--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob", "--no-tablespaces"]
        return " ".join(["mariadb-dump", "--no-defaults", *self.place_of(), *options, "--max-allowed-packet=1G", "shop"])

    def url(self):
        """The source as xvault takes it."""
        return f"mysql://bench@127.0.0.1:{self.port}/shop"
