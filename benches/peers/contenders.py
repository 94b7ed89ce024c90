"""The programs that are compared, each with the same five methods.

`prepare` and `clean` are not timed; `command` is what is timed; `output_bytes` is what it left behind.
"""

import json
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

from meter import Failed


class Contender:
    """Common ground; `place` is an empty directory for one run."""

    def __init__(self, name):
        self.name = name

    def prepare(self, place):
        """What a user does once, before the first backup."""

    def command(self, place):
        """The argv that does the work."""
        raise NotImplementedError

    def env(self, place):
        """Settings that the program takes from its environment."""
        return {"HOME": str(place)}

    def output_bytes(self, place):
        """The size of the backup."""
        return bytes_below(place / "out")

    def clean(self, place):
        """Leaves nothing."""
        shutil.rmtree(place)


class Xvault(Contender):
    """`xvault backup SOURCE`."""

    def __init__(self, program, source, keys, login=(), read_back="off", name="xvault"):
        super().__init__(name)
        self.program, self.source, self.keys, self.login, self.read_back = program, source, keys, login, read_back

    def command(self, place):
        flags = ["--store", place / "out", "--recipient", keys_recipient(self.keys), "--read-back", self.read_back]
        return [self.program, "backup", self.source, *flags, *self.login, "--quiet"]

    def artifact(self, place):
        """The one encrypted tar that a run wrote."""
        found = list((place / "out").rglob("backup.tar.zst.enc"))
        if len(found) != 1:
            raise Failed(f"xvault left {len(found)} artifacts instead of one")
        return found[0]


class Pipeline(Contender):
    """`PRODUCER | zstd -3 -T0 | age -r …`: the backup that an administrator writes by hand."""

    def __init__(self, name, producer, keys):
        super().__init__(name)
        self.producer, self.keys = producer, keys

    def command(self, place):
        out = shlex.quote(str(self.artifact(place)))
        age = f"age -r {keys_recipient(self.keys)}"
        return ["bash", "-c", f"set -o pipefail; {self.producer} | zstd -q -3 -T0 | {age} > {out}"]

    def artifact(self, place):
        """Where the pipeline ends."""
        return place / "out.tar.zst.age"

    def output_bytes(self, place):
        return self.artifact(place).stat().st_size


class Sftp(Contender):
    """OpenSSH's `sftp` fetching a file or a tree: no archive, no compression, no encryption, only the transfer."""

    def __init__(self, config, host, remote):
        super().__init__("sftp -r" if remote.is_dir() else "sftp")
        self.config, self.host, self.remote = config, host, remote

    def prepare(self, place):
        (place / "out").mkdir()
        recursive = "-r " if self.remote.is_dir() else ""
        (place / "batch").write_text(f'get {recursive}"{self.remote}" "{place}/out/"\n')

    def command(self, place):
        return ["sftp", "-q", "-F", self.config, "-b", place / "batch", self.host]


class Lftp(Contender):
    """`lftp mirror` of a tree over plain FTP: only the transfer, over so many connections."""

    def __init__(self, server, port, remote, connections):
        super().__init__(f"lftp mirror, {connections} connection{'s' if connections > 1 else ''}")
        self.server, self.port, self.remote, self.connections = server, port, remote, connections

    def command(self, place):
        settings = "set ftp:ssl-allow no; set cmd:fail-exit yes; set net:max-retries 1"
        login = f"open -u {self.server.USER},{self.server.PASSWORD} -p {self.port} 127.0.0.2"
        mirror = f"mirror --parallel={self.connections} {shlex.quote(str(self.remote))} {shlex.quote(str(place / 'out'))}"
        return ["lftp", "-c", f"{settings}; {login}; {mirror}"]


class Wget(Contender):
    """`wget -r` of a tree over plain FTP, one file after the other."""

    def __init__(self, server, port, remote):
        super().__init__("wget -r")
        self.server, self.port, self.remote = server, port, remote

    def command(self, place):
        login = [f"--ftp-user={self.server.USER}", f"--ftp-password={self.server.PASSWORD}"]
        url = f"ftp://127.0.0.2:{self.port}/%2F{str(self.remote).lstrip('/')}/"
        return ["wget", "-q", "-r", "-l", "inf", "-nH", "-P", place / "out", *login, url]


class Restic(Contender):
    """The first backup into a new repository; `init` is not timed."""

    def __init__(self, source):
        super().__init__("restic")
        self.source = source

    def env(self, place):
        repository = {"RESTIC_REPOSITORY": str(place / "out"), "RESTIC_PASSWORD": "bench"}
        return super().env(place) | repository | {"RESTIC_CACHE_DIR": str(place / "cache")}

    def prepare(self, place):
        quietly(["restic", "init"], self.env(place))

    def command(self, place):
        return ["restic", "backup", "--quiet", self.source]


class Borg(Contender):
    """The first archive in a new repository, zstd level 3; `init` is not timed."""

    def __init__(self, source):
        super().__init__("borg")
        self.source = source

    def env(self, place):
        return super().env(place) | {"BORG_BASE_DIR": str(place / "base"), "BORG_PASSPHRASE": "bench"}

    def prepare(self, place):
        (place / "base").mkdir()
        quietly(["borg", "init", "-e", "repokey-blake2", place / "out"], self.env(place))

    def command(self, place):
        return ["borg", "create", "--compression", "zstd,3", f"{place}/out::first", self.source]


def local_tar(source):
    """`tar` of `source`, for the head of a [`Pipeline`]."""
    return shlex.join(["tar", "-C", str(source.parent), "-cf", "-", source.name])


def remote_tar(server, host, source):
    """The same on the server."""
    return shlex.join(["ssh", "-F", str(server.config), host, local_tar(source)])


def keys_recipient(keys):
    """The recipient of an identity file."""
    return subprocess.run(["age-keygen", "-y", keys], check=True, capture_output=True, text=True).stdout.strip()


def quietly(argv, env):
    """Runs what is not measured; its words are only shown when it fails."""
    environment = {"PATH": os.environ["PATH"], **env}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failed(f"{argv[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


def bytes_below(directory):
    """The lengths of all files below `directory` together."""
    return sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file() and not file.is_symlink())


def check_artifact(artifact, keys, tree):
    """Opens an artifact with age and zstd alone and counts: a fast backup that lost something does not count."""
    age = subprocess.Popen(["age", "-d", "-i", keys, artifact], stdout=subprocess.PIPE)
    zstd = subprocess.Popen(["zstd", "-q", "-d"], stdin=age.stdout, stdout=subprocess.PIPE)
    age.stdout.close()
    files = size = 0
    with tarfile.open(fileobj=zstd.stdout, mode="r|") as tar:
        for member in tar:
            if member.isreg():
                files, size = files + 1, size + member.size
            # Without this, tarfile remembers every member.
            tar.members = []
    # tarfile stops at the closing blocks; the padding after them must not stop the others.
    while zstd.stdout.read(1 << 16):
        pass
    if age.wait() != 0 or zstd.wait() != 0:
        raise Failed(f"age or zstd could not open {artifact}")
    if (files, size) != (tree.files, tree.bytes):
        raise Failed(f"{artifact} holds {files} files of {size} bytes, the source {tree.files} of {tree.bytes}")


def plain_bytes(artifact, keys):
    """How much plain text age and zstd find in an artifact."""
    age = subprocess.Popen(["age", "-d", "-i", keys, artifact], stdout=subprocess.PIPE)
    zstd = subprocess.Popen(["zstd", "-q", "-d"], stdin=age.stdout, stdout=subprocess.PIPE)
    age.stdout.close()
    size = 0
    while piece := zstd.stdout.read(1 << 20):
        size += len(piece)
    if age.wait() != 0 or zstd.wait() != 0:
        raise Failed(f"age or zstd could not open {artifact}")
    return size


def read_event(log):
    """The `read` event that `xvault cat --json` leaves on standard error."""
    for line in log.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            if event.get("event") == "read":
                return event
    raise Failed("xvault cat --json printed no `read` event")
