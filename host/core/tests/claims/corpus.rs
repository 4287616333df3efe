//! Replays what fuzzing left, without a fuzzer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::fuzz::CLAIMS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz").join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it reads the corpus, outside of the host")]
fn every_input_of_the_corpus_holds() {
    for (name, claim) in CLAIMS {
        let mut outcomes = BTreeSet::new();
        for file in files(&folder("corpus").join(name)) {
            let bytes = std::fs::read(&file).unwrap();
            // A broken claim's own message does not name the file.
            let outcome = std::panic::catch_unwind(|| claim(&bytes));
            outcomes.insert(outcome.unwrap_or_else(|_| panic!("{}", file.display())));
        }
        assert_eq!(outcomes.len(), 2, "of the inputs for {name}, some are to be accepted and some refused");
    }
}

#[test]
fn every_fuzz_target_has_a_claim_and_a_corpus() {
    let claims: BTreeSet<String> = CLAIMS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |name: &str| -> BTreeSet<String> {
        files(&folder(name)).iter().map(|file| file.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names("targets"), claims);
    assert_eq!(names("corpus"), claims);
}
