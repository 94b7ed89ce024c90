"""A bucket of a private SeaweedFS: xvault against rclone, which only moves the same bytes."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

from contenders import Contender, keys_recipient
from meter import Failed
from servers import end, free_port

BUCKET = "bench"
ACCESS_KEY, SECRET_KEY = "AKBENCH", "secret-of-a-bench"
PARTS = ("master", "volume", "filer", "s3", "admin")


def tool(name):
    """A program that `scripts/setup test` installs."""
    tools = Path(os.environ.get("XVAULT_TOOLS") or Path.home() / ".cache/xvault/tools")
    program = tools / "venv/bin" / name
    if not program.exists():
        raise Failed(f"{program} is missing: scripts/setup test")
    return program


class SeaweedFs:
    """The S3 server, on loopback, its data in `place`."""

    def __init__(self, place):
        self.place = place
        (place / "data").mkdir(parents=True)
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [{"name": "bench", "credentials": credentials, "actions": actions}]
        (place / "s3.json").write_text(json.dumps({"identities": identities}))
        argv = [tool("weed"), "mini", f"-dir={place}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        self.ports = []
        for part in PARTS:
            port, grpc = free_port(), free_port()
            self.ports += [port, grpc]
            argv += [f"-{part}.port={port}", f"-{part}.port.grpc={grpc}"]
            if part == "s3":
                self.endpoint = f"http://127.0.0.1:{port}"
        argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"]
        argv += ["-master.telemetry=false", "-master.volumeSizeLimitMB=1024", f"-s3.config={place}/s3.json"]
        log = (place / "log").open("w")
        self.process = subprocess.Popen(argv, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._make_bucket()

    def _make_bucket(self):
        deadline = time.monotonic() + 20
        while self.rclone("mkdir", f"s3:{BUCKET}").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("weed does not start: " + (self.place / "log").read_text()[-2000:])
            time.sleep(0.2)

    def env(self):
        """What xvault and rclone read from their environment."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENDPOINT": self.endpoint,
            "RCLONE_CONFIG_S3_REGION": "us-east-1",
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": ACCESS_KEY,
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def rclone(self, *args):
        """Runs rclone beside the measurement."""
        argv = [tool("rclone"), "--retries", "1", *args]
        return subprocess.run(argv, env=os.environ | self.env(), capture_output=True, text=True)

    def stop(self):
        """Ends the server, and removes what it leaves outside of its place."""
        end(self.process)
        for port in self.ports:
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink()


class InBucket(Contender):
    """Common ground; each run has a key prefix of its own, which is purged after it."""

    def __init__(self, name, server):
        super().__init__(name)
        self.server = server

    def env(self, place):
        return super().env(place) | self.server.env()

    def output_bytes(self, place):
        return json.loads(self.server.rclone("size", "--json", f"s3:{BUCKET}/{place.name}").stdout)["bytes"]

    def clean(self, place):
        self.server.rclone("purge", f"s3:{BUCKET}/{place.name}")
        super().clean(place)


class BackUp(InBucket):
    """`xvault backup SOURCE --store s3://…`."""

    def __init__(self, program, source, keys, server, read_back="off"):
        super().__init__("xvault", server)
        self.program, self.source, self.keys, self.read_back = program, source, keys, read_back

    def command(self, place):
        store = f"s3://{BUCKET}/{place.name}"
        flags = ["--store", store, "--recipient", keys_recipient(self.keys), "--read-back", self.read_back]
        return [self.program, "backup", self.source, *flags, "--quiet"]


class Rcat(InBucket):
    """`rclone rcat` of the artifact that xvault wrote: the same bytes, already encrypted."""

    def __init__(self, artifact, server):
        super().__init__("rclone rcat", server)
        self.artifact = artifact

    def command(self, place):
        target = f"s3:{BUCKET}/{place.name}/artifact"
        return ["bash", "-c", f"{tool('rclone')} rcat {shlex.quote(target)} < {shlex.quote(str(self.artifact))}"]


class Fetch(InBucket):
    """Both ways back: what is fetched lies in the bucket before, and in `place` after."""

    def output_bytes(self, place):
        return sum(file.stat().st_size for file in (place / "out").rglob("*") if file.is_file())

    def clean(self, place):
        Contender.clean(self, place)


class Restore(Fetch):
    """`xvault restore` into a directory."""

    def __init__(self, program, prefix, keys, server):
        super().__init__("xvault", server)
        self.program, self.prefix, self.keys = program, prefix, keys

    def command(self, place):
        flags = ["--store", f"s3://{BUCKET}/{self.prefix}", "--identity", self.keys, "--to", place / "out"]
        return [self.program, "restore", "latest", *flags, "--quiet"]


class Cat(Fetch):
    """`rclone cat` of the artifact into a file."""

    def __init__(self, key, server):
        super().__init__("rclone cat", server)
        self.key = key

    def prepare(self, place):
        (place / "out").mkdir()

    def command(self, place):
        source = shlex.quote(f"s3:{BUCKET}/{self.key}")
        return ["bash", "-c", f"{tool('rclone')} cat {source} > {shlex.quote(str(place / 'out/artifact'))}"]
