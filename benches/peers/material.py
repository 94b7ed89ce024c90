"""Seeded source material: random files, trees of small files, and text that compresses as source code does."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20

SYLLABLES = (
    "ac al an ar at back base be block buf byte ca call cap chan char check col com con count cur da de des dir do "
    "en end er ex fault file fin fix flag for form frame free get group hand hash head hold id im in index init io is "
    "item key kind lay len line link list load lock log loop main map mark mem meta mode name net new next node null "
    "of off on op or out pack pad page par part path peer pool port pos pre proc put que range re read rec ref reg res "
    "root row run scan seek send set size slot sock sort span spec state step store sub sum sync tab tag task term text "
    "time tok top tree un unit up use val vec view wait walk word work wrap write"
).split()

KEYWORDS = (
    "let if else return for while match const static struct enum impl self mut ref fn use pub break continue true "
    "false null int void char unsigned size_t in as loop new this class def import from None Some Ok Err"
).split()

PROSE = (
    "the of a to is and in that for it be this with are not as by on when which an or if from has at must can only no "
    "all one any before after returns used value called does same each other than then first given length number "
    "bytes error file"
).split()

#: Lines of code with holes: `w` a word known in this block, `k` a keyword, `n` a number, `p` prose, `s` a string.
TEMPLATES = (
    "let w = w.w(w);", "if w == w {", "}", "}", "", "return w;", "w.w(w, w);", "k w = w + n;", "for w in w.w() {",
    "// p p p p p p p p", "/// p p p w p p p p p.", "w: w,", "w: n,", "k w(w: w, w: w) -> w {", "w[n] = w;",
    "k k w {", "w(\"s s\", w);", "assert_eq!(w.w(), n);", "use w::w::w;", "#define w n", "w->w = w(w, n);",
    "} else if w < n {", "w => w.w(w)?,", "k w = w::w(w).w(|w| w.w());", "* p p p p p w p p", "\"s\": \"s s s\",",
    "w = w(w) | w;", "while (w < w && w[w] != n) {", "case w: return n;", "w, w, w,", "w += w * n;",
)


class Code:
    """Writes blocks of code-like lines whose zstd -3 ratio is about that of real source trees (0.28)."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.vocabulary = [self._word() for _ in range(30_000)]
        # Zipf: a few identifiers are everywhere, most are rare.
        self.weights = []
        total = 0.0
        for rank in range(len(self.vocabulary)):
            total += 1 / (rank + 12)
            self.weights.append(total)

    def _word(self):
        parts = self.random.choices(SYLLABLES, k=self.random.choice((1, 2, 2, 2, 3, 3, 4)))
        style = self.random.randrange(4)
        if style == 0:
            return "".join(part.capitalize() for part in parts)
        return "_".join(parts) if style < 3 else parts[0] + "".join(part.capitalize() for part in parts[1:])

    def _words(self, count):
        return self.random.choices(self.vocabulary, cum_weights=self.weights, k=count)

    def block(self):
        """One function or table of a few hundred bytes to a few kilobytes."""
        rng = self.random
        local = self._words(14)
        lines, depth = [], rng.randrange(2)
        for template in rng.choices(TEMPLATES, k=rng.randrange(8, 60)):
            if template.startswith("}"):
                depth = max(0, depth - 1)
            lines.append("    " * depth + self._fill(template, local) if template else "")
            if template.endswith("{"):
                depth = min(4, depth + 1)
        return "\n".join(lines) + "\n\n"

    def _fill(self, template, local):
        rng = self.random
        out = []
        for at, char in enumerate(template):
            hole = char in "wknps" and _stands_alone(template, at)
            if not hole:
                out.append(char)
            elif char == "w":
                out.append(local[min(int(rng.expovariate(0.25)), 13)] if rng.random() < 0.81 else self._words(1)[0])
            elif char == "k":
                out.append(rng.choice(KEYWORDS))
            elif char == "n":
                out.append(str(rng.choice((0, 1, 2, 4, 8, 16, 64, 255, rng.randrange(100_000)))))
            elif char == "p":
                out.append(rng.choice(PROSE) if rng.random() < 0.72 else rng.choice(SYLLABLES))
            else:
                out.append(rng.choice(SYLLABLES))
        return "".join(out)


def _stands_alone(template, at):
    before = template[at - 1] if at else " "
    after = template[at + 1] if at + 1 < len(template) else " "
    return not before.isalnum() and not after.isalnum() and before != "_" and after != "_"


@dataclass(frozen=True)
class Tree:
    """A directory that was generated: where, how many files in it, how many bytes in them."""

    path: Path
    files: int
    bytes: int


def text_tree(path, size, files, seed=1):
    """`files` files of code-like text, log-normal sizes around `size / files`, in nested directories."""
    rng = random.Random(seed)
    code = Code(seed)
    # The blocks are drawn from a pool far larger than a zstd window, so matches are local as in real code.
    pool, pooled = [], 0
    while pooled < min(size, 48 * MIB):
        pool.append(code.block().encode())
        pooled += len(pool[-1])
    weights = [rng.lognormvariate(0, 1.1) for _ in range(files)]
    scale = size / sum(weights)
    total = 0
    for number, weight in enumerate(weights):
        name = code.vocabulary[number % 997]
        directory = path / f"crate_{number // 780:03}" / f"{code.vocabulary[number // 13 % 997]}_{number // 13}"
        if number % 13 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        total += _text_file(directory / f"{name}_{number}.rs", pool, rng, max(1, round(weight * scale)))
    return Tree(path, files, total)


def _text_file(path, pool, rng, size):
    parts, length = [], 0
    while length < size:
        parts.append(rng.choice(pool))
        length += len(parts[-1])
    path.write_bytes(b"".join(parts)[:size])
    return size


def random_file(path, size, seed=2):
    """One file of `size` incompressible bytes."""
    rng = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        left = size
        while left > 0:
            file.write(rng.randbytes(min(left, MIB)))
            left -= MIB
    return Tree(path, 1, size)


def small_files(path, count, size, seed=3):
    """`count` incompressible files of `size` bytes, 100 to a directory."""
    rng = random.Random(seed)
    for number in range(count):
        directory = path / f"d{number // 100:05}"
        if number % 100 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file_{number:06}").write_bytes(rng.randbytes(size))
    return Tree(path, count, count * size)


def entries_below(path):
    """How many entries a tar of `path` has: itself and everything below."""
    if not path.is_dir():
        return 1
    return 1 + sum(len(directories) + len(files) for _, directories, files in os.walk(path))
