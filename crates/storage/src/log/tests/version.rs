//! What another build wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::format::make_later_version;
use super::damage::{batches, filled};
use super::*;

/// An older build must not take the log of a later one for empty, and write over it.
#[test]
fn a_log_of_a_later_format_is_refused_and_left_as_it_is() {
    let all = |dir: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let names = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
        names.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let refused = |dir: &Path| {
        let before = all(dir);
        let opened = Engine::open(dir, options(), Box::new(|_| {})).map(|_| ());
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(all(dir), before);
    };
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let found = batches(dir.path());
    for batch in [&found[0], &found[found.len() / 2], &found[found.len() - 1]] {
        let copy = image(dir.path());
        let path = copy.path().join(batch.path.file_name().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        make_later_version(&mut bytes[batch.offset..]);
        std::fs::write(&path, &bytes).unwrap();
        refused(copy.path());
    }
    // Not even its identity is known, but a segment begins with a batch of it.
    let copy = image(dir.path());
    let first = copy.path().join(found[0].path.file_name().unwrap());
    let mut bytes = std::fs::read(&first).unwrap();
    make_later_version(&mut bytes);
    for path in all(copy.path()).into_keys().filter(|path| *path != first) {
        std::fs::remove_file(path).unwrap();
    }
    std::fs::write(&first, &bytes).unwrap();
    for name in ["lock", "watermark.0", "watermark.1", "votes.0", "votes.1"] {
        std::fs::write(copy.path().join(name), []).unwrap();
    }
    for slot in ["recovered.0", "recovered.1"] {
        std::fs::write(copy.path().join(slot), []).unwrap();
    }
    refused(copy.path());
}
