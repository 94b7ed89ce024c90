//! The committed corpus and seeded mutations of it, through every target's body.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xvault_fuzz_harness::mutate::{Rng, mutated};
use xvault_fuzz_harness::{TARGETS, Target, Verdict};

/// Mutations of a target: together a few seconds unoptimised.
fn mutations(target: &str) -> u64 {
    // Each makes and opens two age files several times, and writes to a disk: a hundred times the work of parsing.
    if target == "archive_reader" { 200 } else { 3000 }
}

fn corpus_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

/// The seeds of a target by name. Names begin with `ok-` or `bad-`: what the code under test must say.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = corpus_dir().join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let seed = |file: std::fs::DirEntry| {
        (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
    };
    let named = |(name, _): &(String, _)| name.starts_with("ok-") || name.starts_with("bad-");
    files.map(|file| seed(file.unwrap())).filter(named).collect()
}

fn replay(target: &str, body: Target) {
    let corpus = corpus(target);
    for (name, seed) in &corpus {
        let wanted = if name.starts_with("ok-") { Verdict::Accepted } else { Verdict::Refused };
        assert_eq!(body(seed), wanted, "{target}/{name}");
    }
    let kinds = corpus.keys().map(|name| name.starts_with("ok-"));
    assert!(kinds.clone().any(|ok| ok) && kinds.clone().any(|ok| !ok), "{target} lacks seeds of a kind");
}

/// Runs mutations of the corpus; how many of them were accepted.
fn mutate(target: &str, body: Target) -> u64 {
    let seeds: Vec<Vec<u8>> = corpus(target).into_values().collect();
    let run = |number| {
        let mut rng = Rng::new(number);
        let seed = &seeds[rng.below(seeds.len())];
        let other = &seeds[rng.below(seeds.len())];
        let data = mutated(&mut rng, seed, other);
        std::panic::catch_unwind(|| body(&data))
            .unwrap_or_else(|_| panic!("{target}: mutation {number} failed"))
    };
    (0..mutations(target)).map(run).filter(|verdict| *verdict == Verdict::Accepted).count() as u64
}

#[test]
fn every_seed_is_judged_as_its_name_says() {
    for (target, body) in TARGETS {
        replay(target, *body);
    }
}

#[test]
fn mutations_of_the_corpus_break_nothing() {
    for (target, body) in TARGETS {
        let accepted = mutate(target, *body);
        // Otherwise the mutations end at the front door, or change nothing.
        let all = mutations(target);
        assert!((all / 100..all).contains(&accepted), "{target} accepted {accepted} of {all}");
    }
}

#[test]
fn every_target_is_fuzzed_and_has_a_corpus() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let listed = |dir: &Path, suffix: &str| {
        let files =
            std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            files.filter_map(|name| name.strip_suffix(suffix).map(str::to_owned)).collect();
        names.sort();
        names
    };
    assert_eq!(listed(&corpus_dir(), ""), names);
    assert_eq!(listed(&corpus_dir().join("../fuzz_targets"), ".rs"), names);
}
