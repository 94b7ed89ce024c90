"""The cases, by name: what is measured, against whom, and what xvault must reach."""

from dataclasses import dataclass, field

from bench import MIB, RTT_MS, TINY_FILE, need
from bucket import BUCKET, BackUp, Cat, Rcat, Restore
from contenders import Borg, Lftp, Pipeline, Restic, Sftp, Wget, bytes_below, check_artifact, local_tar, plain_bytes, read_event, remote_tar
from databases import Mariadb, Postgres
from meter import Row, interleave, measure, run, say

PIPELINE = "tar | zstd | age"
MEMORY_LIMIT = 96 * MIB


@dataclass(frozen=True)
class Verdict:
    """One target: what was asked for, what was measured, and whether it was reached."""

    text: str
    measured: str
    met: bool


@dataclass
class Outcome:
    """What a case found out."""

    title: str
    rows: list = field(default_factory=list)
    verdicts: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    failed: bool = False


def at_most(rows, peer, limit):
    """xvault's median wall time is at most `limit` times that of `peer`."""
    ours, theirs = (next(row for row in rows if row.name == name) for name in ("xvault", peer))
    ratio = ours.median("wall") / theirs.median("wall")
    best = ours.best("wall") / theirs.best("wall")
    return Verdict(f"wall at most {limit:.2f} × {peer}", f"{ratio:.2f} × (of minima {best:.2f} ×)", ratio <= limit)


def check_both(bench, tree, *contenders):
    """One run of each that is not counted: warms up, and proves that the artifact holds the source."""
    for contender in contenders:
        place = bench.place()
        place.mkdir()
        try:
            contender.prepare(place)
            run(contender.command(place), place, contender.env(place))
            check_artifact(contender.artifact(place), bench.keys, tree)
        finally:
            contender.clean(place)
        say(f"  {contender.name}: age, zstd and tar find all {tree.files} files in its artifact")


def read_back_cost(bench, tree, scheme, server=None):
    """One run of each way to prove a snapshot after writing it."""
    rows = []
    for how in ("sample", "full"):
        contender = bench.backup(tree, scheme, read_back=how)
        rows.append(Row(contender.name, (measure(contender, bench.place(), server),)))
    return rows


def remote(bench, tree, scheme, title, limit):
    """A source on the loopback server against `ssh … tar | zstd | age`."""
    ours = bench.backup(tree, scheme)
    pipeline = Pipeline(f"ssh {PIPELINE}", remote_tar(bench.sshd, "near", tree.path), bench.keys)
    check_both(bench, tree, ours, pipeline)
    peers = [ours, pipeline]
    if tree.path.is_dir():
        peers.append(Sftp(bench.sshd.config, "near", tree.path))
    rows = interleave(peers, bench.place(), bench.runs, bench.sshd)
    verdicts = [at_most(rows, pipeline.name, limit)]
    rows += read_back_cost(bench, tree, scheme, bench.sshd)
    return Outcome(title, rows, verdicts)


def remote_file(bench, scheme, limit):
    """One large random file."""
    tree = bench.random_file(bench.sizes.file)
    return remote(bench, tree, scheme, f"{scheme}://, random file of {tree.bytes // MIB} MiB, loopback", limit)


def remote_tree(bench, scheme, limit):
    """Many small files."""
    tree = bench.small_files(bench.sizes.tree_files)
    return remote(bench, tree, scheme, f"{scheme}://, {tree.files} random files of 8 KiB, loopback", limit)


def local(bench, tree, title, limit, restic_limit=None):
    """A local source against `tar | zstd | age`, restic and borg."""
    need("restic", "restic")
    need("borg", "borgbackup")
    ours = bench.backup(tree)
    pipeline = Pipeline(PIPELINE, local_tar(tree.path), bench.keys)
    check_both(bench, tree, ours, pipeline)
    rows = interleave([ours, pipeline, Restic(tree.path), Borg(tree.path)], bench.place(), bench.runs)
    verdicts = [at_most(rows, PIPELINE, limit)]
    if restic_limit:
        verdicts.append(at_most(rows, "restic", restic_limit))
    rows += read_back_cost(bench, tree, "local")
    return Outcome(title, rows, verdicts)


def local_text(bench):
    """Text like source code."""
    tree = bench.text_tree()
    title = f"local, code-like text of {tree.bytes // MIB} MiB in {tree.files} files"
    return local(bench, tree, title, 0.85, 1 / 3)


def local_random(bench):
    """What cannot be compressed."""
    tree = bench.random_file(bench.sizes.file)
    return local(bench, tree, f"local, random file of {tree.bytes // MIB} MiB", 1.0)


def rtt50_file(bench):
    """One file over a long path, against OpenSSH's own client."""
    tree = bench.random_file(bench.sizes.far_file)
    ours = bench.backup(tree, "sftp", far=True)
    sftp = Sftp(bench.sshd.config, "far", tree.path)
    rows = interleave([ours, sftp], bench.place(), bench.runs, bench.sshd)
    title = f"sftp://, random file of {tree.bytes // MIB} MiB, {RTT_MS} ms round trip"
    return Outcome(title, rows, [at_most(rows, "sftp", 1 / 3)])


def rtt50_tree(bench):
    """Small files over a long path; a sequential client is measured on a few of them only."""
    tree = bench.small_files(bench.sizes.far_files)
    rows = interleave([bench.backup(tree, "sftp", far=True)], bench.place(), bench.runs, bench.sshd)
    one, few = (sequential(bench, count) for count in (1, bench.sizes.far_sequential))
    wall = rows[0].median("wall")
    title = f"sftp://, {tree.files} random files of 8 KiB, {RTT_MS} ms round trip"
    note = estimate(one, few, bench.sizes.far_sequential, tree.files)
    return Outcome(title, [*rows, one, few], [Verdict("in under 3 s", f"{wall:.2f} s", wall < 3)], [note])


def rtt50_ftp(bench):
    """Small files over a long path by FTP, against the usual clients; those with one connection are measured on a few only."""
    need("lftp", "lftp")
    need("wget", "wget")
    server, port, connections = bench.ftpd, bench.far_ftp.port, 8
    tree, few = bench.small_files(bench.sizes.far_files), bench.small_files(bench.sizes.far_sequential)
    ours = bench.backup_ftp(tree, connections)
    lftp = Lftp(server, port, tree.path, connections)
    rows = interleave([ours, lftp], bench.place(), bench.runs)
    ones = [ours_of(bench, few), Lftp(server, port, few.path, 1), Wget(server, port, few.path)]
    slow = [Row(f"{one.name}, {few.files} files only", (measure(one, bench.place()),)) for one in ones]
    verdicts = [at_most(rows, lftp.name, 1.0)]
    for row in slow[1:]:
        # Each file costs these the same, whatever their number; ours are counted with the login.
        whole = row.median("wall") * tree.files / few.files
        ratio = whole / rows[0].median("wall")
        verdicts.append(Verdict(f"5 × faster than {row.name}, by its files", f"{ratio:.1f} ×", ratio >= 5))
    title = f"ftp://, {tree.files} random files of 8 KiB, {RTT_MS} ms round trip, {connections} connections"
    return Outcome(title, [*rows, *slow], verdicts)


def ours_of(bench, tree):
    """xvault with one connection, to compare like with like."""
    ours = bench.backup_ftp(tree, 1)
    ours.name = "xvault, 1 connection"
    return ours


def sequential(bench, count):
    """`sftp -r` of a few files, one after the other."""
    tree = bench.small_files(count)
    cost = measure(Sftp(bench.sshd.config, "far", tree.path), bench.place(), bench.sshd)
    return Row(f"sftp -r, {count} only", (cost,))


def estimate(one, few, few_files, all_files):
    """What `sftp -r` would take for all files: login once, then so much for each."""
    login_and_one, several = one.median("wall"), few.median("wall")
    each = (several - login_and_one) / (few_files - 1)
    return (
        f"An estimate, not a measurement: `sftp -r` would take {login_and_one + each * (all_files - 1):.0f} s for all "
        f"{all_files} files ({each * 1000:.0f} ms for each, by the difference between 1 and {few_files})."
    )


def memory(bench):
    """Peak memory: it must not grow with the source."""
    sizes, outcome = bench.sizes, Outcome("peak memory of `xvault backup`, read-back full")
    for scheme in ("local", "sftp", "ssh"):
        sources = {
            f"{sizes.base // MIB} MiB file": lambda: bench.random_file(sizes.base),
            f"{sizes.big // MIB} MiB file": lambda: bench.random_file(sizes.big),
            f"{sizes.many} files": lambda: bench.small_files(sizes.many, TINY_FILE),
        }
        for what, make in sources.items():
            # With the proof switched on: a user's peak is that of the whole command.
            ours = bench.backup(make(), scheme, read_back="full")
            row = Row(f"{scheme}, {what}", (measure(ours, bench.place(), server_of(bench, scheme)),))
            say(f"  {row.name}: {row.worst('peak_bytes') / MIB:.1f} MiB")
            outcome.rows.append(row)
    worst = max(row.worst("peak_bytes") for row in outcome.rows)
    text = f"at most {MEMORY_LIMIT // MIB} MiB everywhere"
    outcome.verdicts.append(Verdict(text, f"{worst / MIB:.1f} MiB", worst <= MEMORY_LIMIT))
    outcome.notes += growth(outcome.rows)
    return outcome


def server_of(bench, scheme):
    """The server whose CPU is counted."""
    return None if scheme == "local" else bench.sshd


def growth(rows):
    """How much more the large sources take than the small one of the same scheme; rows come in threes."""
    for at in range(0, len(rows), 3):
        base, *large = (row.worst("peak_bytes") for row in rows[at : at + 3])
        scheme = rows[at].name.split(",")[0]
        ratios = " and ".join(f"{peak / base:.2f} ×" for peak in large)
        yield f"{scheme}: the larger sources take {ratios} the memory of the smallest."


def cat_bytes(bench):
    """How much of a large artifact is read for one small file."""
    name = "wanted.txt"
    content = b"One small file in a large snapshot.\n" * 20
    big = bench.random_file(bench.sizes.big)
    root = big.path.parent
    (root / name).write_bytes(content)
    place, cat_place = bench.place(), bench.place()
    place.mkdir()
    cat_place.mkdir()
    try:
        # The directory, so that the small file lies beside the large one.
        ours = bench.backup(type(big)(root, 2, big.bytes + len(content)))
        run(ours.command(place), place, ours.env(place))
        artifact_bytes = ours.artifact(place).stat().st_size
        path = str(root / name).lstrip("/")
        argv = [bench.xvault, "cat", "latest", path, "--store", place / "out", "--identity", bench.keys, "--json"]
        cost = run(argv, cat_place, {"HOME": str(cat_place)})
        log = (cat_place / "log").read_text()
        stored = bytes_below(place / "out")
    finally:
        ours.clean(place)
        ours.clean(cat_place)
        (root / name).unlink()
    assert content.decode() in log, "xvault cat printed something else than the file"
    event = read_event(log)
    share = event["artifact_bytes"] / artifact_bytes
    return Outcome(
        f"`xvault cat` of a {len(content)}-byte file out of {bench.sizes.big // MIB} MiB",
        verdicts=[Verdict("at most 1 % of the artifact's bytes", f"{share:.4%}", share <= 0.01)],
        notes=[
            f"{event['artifact_bytes']} of {artifact_bytes} bytes of the artifact and {event['index_bytes']} bytes of "
            f"the index were read, in {cost['wall']:.2f} s; the snapshot has {stored} bytes."
        ],
    )


def bucket_up(bench):
    """A backup into a bucket against `rclone rcat` of the artifact."""
    ours, artifact, _ = in_bucket(bench)
    rows = interleave([ours, Rcat(artifact, bench.seaweed)], bench.place(), bench.runs)
    return Outcome(
        f"into a bucket, random file of {bench.sizes.file // MIB} MiB",
        rows, [at_most(rows, "rclone rcat", 1 / 0.9), memory_in_bucket(rows)],
    )


def bucket_down(bench):
    """A restore from a bucket against `rclone cat` of the artifact."""
    _, _, key = in_bucket(bench)
    restore = Restore(bench.xvault, key.split("/")[0], bench.keys, bench.seaweed)
    rows = interleave([restore, Cat(key, bench.seaweed)], bench.place(), bench.runs)
    return Outcome(
        f"out of a bucket, random file of {bench.sizes.file // MIB} MiB",
        rows, [at_most(rows, "rclone cat", 1 / 0.9), memory_in_bucket(rows)],
    )


def in_bucket(bench):
    """xvault as a contender, an artifact of it that is kept in the bucket, as a file and by its key."""
    tree = bench.random_file(bench.sizes.file)
    ours = BackUp(bench.xvault, tree.path, bench.keys, bench.seaweed)
    place = bench.place()
    place.mkdir()
    run(ours.command(place), place, ours.env(place))
    listed = bench.seaweed.rclone("lsf", "-R", f"s3:{BUCKET}/{place.name}").stdout.split()
    key = f"{place.name}/" + next(name for name in listed if name.endswith("backup.tar.zst.enc"))
    bench.seaweed.rclone("copyto", f"s3:{BUCKET}/{key}", str(place / "artifact"))
    check_artifact(place / "artifact", bench.keys, tree)
    return ours, place / "artifact", key


def dump(bench, make, what):
    """A database against its own tool and an administrator's pipeline. The peak is that of xvault or of the tool, whichever takes more."""
    server = bench.database(make)
    ours, pipeline = server.backup(bench.xvault, bench.keys), server.pipeline(bench.keys)
    sizes = [dumped_bytes(bench, contender) for contender in (ours, pipeline)]
    rows = interleave([ours, pipeline], bench.place(), bench.runs)
    peak = rows[0].worst("peak_bytes")
    # As fast as 0.95 of the pipeline is 1 / 0.95 of its time.
    verdicts = [
        at_most(rows, pipeline.name, 1 / 0.95),
        Verdict(f"peak memory at most {MEMORY_LIMIT // MIB} MiB", f"{peak / MIB:.1f} MiB", peak <= MEMORY_LIMIT),
    ]
    note = f"The dumps in the two artifacts have {sizes[0]} and {sizes[1]} bytes."
    return Outcome(f"{what}, a dump of {sizes[1] // MIB} MiB", rows, verdicts, [note])


def dumped_bytes(bench, contender):
    """One run that is not counted: warms up, and shows that the artifact opens and how much dump is in it."""
    place = bench.place()
    place.mkdir()
    try:
        run(contender.command(place), place, contender.env(place))
        return plain_bytes(contender.artifact(place), bench.keys)
    finally:
        contender.clean(place)


def memory_in_bucket(rows):
    """The limit of the issue, whatever the size."""
    peak = next(row for row in rows if row.name == "xvault").worst("peak_bytes")
    return Verdict("peak memory at most 128 MiB", f"{peak / MIB:.1f} MiB", peak <= 128 * MIB)


#: Every case, in the order of the results.
CASES = {
    "ssh-random": lambda bench: remote_file(bench, "ssh", 1.0),
    "ssh-tree": lambda bench: remote_tree(bench, "ssh", 1.0),
    "sftp-random": lambda bench: remote_file(bench, "sftp", 1.1),
    "sftp-tree": lambda bench: remote_tree(bench, "sftp", 1.3),
    "local-text": local_text,
    "local-random": local_random,
    "rtt50-file": rtt50_file,
    "rtt50-tree": rtt50_tree,
    "rtt50-ftp": rtt50_ftp,
    "memory": memory,
    "cat-bytes": cat_bytes,
    "dump-postgres": lambda bench: dump(bench, Postgres, "PostgreSQL"),
    "dump-mysql": lambda bench: dump(bench, Mariadb, "MariaDB"),
    "bucket-up": bucket_up,
    "bucket-down": bucket_down,
}
