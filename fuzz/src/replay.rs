//! The committed corpus, replayed by the tests of the crates that the targets are about.

use std::path::Path;

/// Every input of one target's corpus; a panic names the input by its file.
pub fn replay(target: &str, property: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let inputs = std::fs::read_dir(corpus.join(target)).expect("a corpus");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("an entry of the corpus").path();
        let bytes = std::fs::read(&path).expect("an input");
        std::panic::catch_unwind(|| property(&bytes))
            .unwrap_or_else(|_| panic!("{}", path.display()));
        count += 1;
    }
    assert!(count > 0, "{target} has no corpus");
}
