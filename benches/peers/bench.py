"""What all cases share: sizes, sources made once, servers started when first needed."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import material
from bucket import SeaweedFs
from contenders import Xvault
from meter import Failed, say
from servers import FarAway, Ftpd, Sshd

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Sizes:
    """How much work each case does."""

    file: int
    tree_files: int
    text: int
    text_files: int
    far_file: int
    far_files: int
    far_sequential: int
    base: int
    big: int
    many: int
    database: int


#: The sizes that the targets speak of.
FULL = Sizes(
    file=GIB, tree_files=10_000, text=GIB, text_files=77_000, far_file=256 * MIB, far_files=2_000,
    far_sequential=100, base=64 * MIB, big=4 * GIB, many=300_000, database=2 * GIB,
)
#: A few seconds a case: proves that everything runs, says nothing about speed.
QUICK = Sizes(
    file=64 * MIB, tree_files=500, text=24 * MIB, text_files=1_800, far_file=16 * MIB, far_files=100,
    far_sequential=10, base=16 * MIB, big=128 * MIB, many=3_000, database=48 * MIB,
)

SMALL_FILE = 8 << 10
TINY_FILE = 512
RTT_MS = 50


class Bench:
    """The work directory and everything in it; a context manager that leaves nothing behind."""

    def __init__(self, work, xvault, delay_proxy, sizes, runs):
        self.work, self.xvault, self.delay_proxy = work, xvault, delay_proxy
        self.sizes, self.runs = sizes, runs
        self._sources = {}
        self._stop = []
        self._places = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self._stop):
            server.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    @cached_property
    def keys(self):
        """An identity file that age and xvault read."""
        file = self.work / "identity.txt"
        subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
        return file

    @cached_property
    def sshd(self):
        """The SSH server."""
        server = Sshd(self.work / "sshd")
        self._stop.append(server)
        return server

    @cached_property
    def far(self):
        """The same server, [`RTT_MS`] away."""
        proxy = FarAway(self.delay_proxy, self.sshd.port, RTT_MS)
        self._stop.append(proxy)
        self.sshd.describe(proxy.port)
        return proxy

    @cached_property
    def ftpd(self):
        """The FTP server."""
        server = Ftpd(self.work / "ftpd")
        self._stop.append(server)
        return server

    @cached_property
    def far_ftp(self):
        """The same server, [`RTT_MS`] away."""
        server = self.ftpd
        proxy = FarAway(self.delay_proxy, server.port, RTT_MS, server.FIRST, server.LAST)
        self._stop.append(proxy)
        return proxy

    @cached_property
    def seaweed(self):
        """The S3 server."""
        server = SeaweedFs(self.work / "seaweed")
        self._stop.append(server)
        return server

    def database(self, make):
        """A database server with a database of the size of the targets; one at a time, as they are large."""
        say(f"  making a database of {self.sizes.database // MIB} MiB")
        server = make(self.place(), self.sizes.database)
        self._stop.append(server)
        return server

    def place(self):
        """A directory name that was not given out before."""
        self._places += 1
        return self.work / f"place-{self._places}"

    def source(self, make, name, *args):
        """The source `name`, made by `make(path, *args)` when it is asked for first."""
        key = (name, *args)
        if key not in self._sources:
            say(f"  making the source {name} {args}")
            path = self.work / "sources" / f"{len(self._sources)}" / name
            path.parent.mkdir(parents=True)
            self._sources[key] = make(path, *args)
        return self._sources[key]

    def random_file(self, size):
        """One incompressible file."""
        return self.source(material.random_file, "random.bin", size)

    def small_files(self, count, size=SMALL_FILE):
        """A tree of small incompressible files."""
        return self.source(material.small_files, "tree", count, size)

    def text_tree(self):
        """A tree of text that compresses as source code does."""
        return self.source(material.text_tree, "text", self.sizes.text, self.sizes.text_files)

    def drop_sources(self):
        """Frees the memory that the sources lie in."""
        for tree in self._sources.values():
            shutil.rmtree(tree.path.parent)
        self._sources.clear()

    def backup_ftp(self, tree, connections):
        """xvault as a contender, over plain FTP from far away."""
        url = f"ftp://{self.ftpd.USER}@127.0.0.2:{self.far_ftp.port}{tree.path}"
        login = ["--plain-ftp", "--password-file", self.ftpd.place / "password", "--connections", str(connections)]
        return Xvault(self.xvault, url, self.keys, login)

    def backup(self, tree, scheme="local", far=False, read_back="off"):
        """xvault as a contender, over `scheme`."""
        name = "xvault" if read_back == "off" else f"xvault, read-back {read_back}"
        if scheme == "local":
            return Xvault(self.xvault, tree.path, self.keys, read_back=read_back, name=name)
        port = self.far.port if far else None
        url = self.sshd.url(scheme, tree.path, port)
        return Xvault(self.xvault, url, self.keys, self.sshd.login(), read_back, name)


def need(program, package):
    """Refuses to go on without a peer."""
    if not shutil.which(program):
        raise Failed(f"{program} is missing: apt-get install {package}")


def is_tmpfs(directory):
    """Whether `directory` lies in memory."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], check=True, capture_output=True, text=True)
    return kind.stdout.strip() == "tmpfs"


def newest(path):
    """`path` as an absolute one, or an error that says how to get it."""
    path = Path(path).resolve()
    if not path.exists():
        raise Failed(f"{path} is missing: build it, or leave the flag out")
    return path
