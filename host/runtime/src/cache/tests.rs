//! Entries that are not what the host wrote, each wrong in one way.

#![expect(clippy::disallowed_methods, reason = "it changes files behind the host's back")]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bulkhead_core::id::Digest;
use cap_std::ambient_authority;
use cap_tempfile::TempDir;

use super::*;

fn scratch() -> (TempDir, PathBuf) {
    let dir = cap_tempfile::tempdir(ambient_authority()).unwrap();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*dir))).unwrap();
    (dir, path)
}

fn key(byte: u8) -> Key {
    Key::from_bytes(&[byte; 32]).unwrap()
}

fn cache(path: &Path) -> Cache {
    Cache::new(Dir::open_ambient_dir(path, ambient_authority()).unwrap(), key(1))
}

fn name(of: &str) -> Name {
    Name::new(&[7; 32], &Digest::of(&[of.as_bytes()]))
}

fn code(content: &[u8]) -> Artifact {
    Artifact::from_own_process(content.to_vec())
}

fn read(cache: &Cache, of: &str) -> Option<Vec<u8>> {
    cache.read(name(of)).map(|artifact| artifact.content().to_vec())
}

/// An entry that `change` made wrong is not used, is gone afterwards, and can be written anew.
fn refused(change: impl FnOnce(&Path, &Path)) {
    let (_dir, path) = scratch();
    let cache = cache(&path);
    cache.write(name("a"), &code(b"one"));
    cache.write(name("b"), &code(b"two"));
    assert_eq!(read(&cache, "a"), Some(b"one".to_vec()));
    let entry = path.join(name("a").file());
    change(&entry, &path.join(name("b").file()));
    assert_eq!(read(&cache, "a"), None);
    assert!(entry.symlink_metadata().is_err(), "it is still there");
    cache.write(name("a"), &code(b"one"));
    assert_eq!(read(&cache, "a"), Some(b"one".to_vec()));
    assert_eq!(read(&cache, "b"), Some(b"two".to_vec()), "the other is untouched");
}

fn edited(entry: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(entry).unwrap();
    edit(&mut bytes);
    std::fs::write(entry, bytes).unwrap();
}

#[test]
fn what_was_written_is_read_by_another_process_with_the_key() {
    let (_dir, path) = scratch();
    cache(&path).write(name("a"), &code(b"one"));
    assert_eq!(read(&cache(&path), "a"), Some(b"one".to_vec()));
    let metadata = std::fs::metadata(path.join(name("a").file())).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_edited_entry_is_refused() {
    refused(|entry, _| edited(entry, |bytes| bytes[SEAL] ^= 1));
    refused(|entry, _| edited(entry, |bytes| bytes[20] ^= 1));
}

#[test]
fn a_truncated_or_empty_entry_is_refused() {
    refused(|entry, _| edited(entry, |bytes| bytes.truncate(bytes.len() - 1)));
    refused(|entry, _| edited(entry, |bytes| bytes.truncate(20)));
    refused(|entry, _| edited(entry, Vec::clear));
}

#[test]
fn another_entry_in_its_place_is_refused() {
    refused(|entry, other| assert!(std::fs::copy(other, entry).unwrap() > 0));
}

#[test]
fn an_entry_under_another_key_is_refused() {
    refused(|entry, _| {
        let dir = Dir::open_ambient_dir(entry.parent().unwrap(), ambient_authority()).unwrap();
        Cache::new(dir, key(2)).write(name("a"), &code(b"one"));
    });
}

#[test]
fn an_entry_that_others_may_change_is_refused() {
    refused(|entry, _| std::fs::set_permissions(entry, std::fs::Permissions::from_mode(0o620)).unwrap());
}

#[test]
fn a_link_a_folder_and_a_pipe_in_its_place_are_refused() {
    refused(|entry, _| {
        let elsewhere = entry.with_extension("elsewhere");
        std::fs::rename(entry, &elsewhere).unwrap();
        symlink(elsewhere.file_name().unwrap(), entry).unwrap();
    });
    refused(|entry, _| {
        std::fs::remove_file(entry).unwrap();
        std::fs::create_dir(entry).unwrap();
    });
    refused(|entry, _| {
        std::fs::remove_file(entry).unwrap();
        let made = std::process::Command::new("mkfifo").arg("-m600").arg(entry).status().unwrap();
        assert!(made.success());
    });
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let (_dir, path) = scratch();
    let cache = cache(&path).with_largest(3 * (SEAL as u64 + 100));
    let age = |of: &str, minutes: u64| {
        let file = std::fs::File::open(path.join(name(of).file())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60 * minutes)).unwrap();
    };
    for of in ["a", "b", "c"] {
        cache.write(name(of), &code(&[0; 100]));
    }
    age("a", 30);
    age("b", 20);
    age("c", 10);
    assert!(read(&cache, "a").is_some(), "which makes it the latest");
    cache.write(name("d"), &code(&[0; 100]));
    assert_eq!(["a", "b", "c", "d"].map(|of| read(&cache, of).is_some()), [true, false, true, true]);
    cache.write(name("e"), &code(&[0; 1000]));
    assert!(read(&cache, "e").is_none(), "larger than all of it may be");
}

#[test]
fn what_was_never_finished_is_removed_when_it_is_old_and_what_is_not_ours_stays() {
    let (_dir, path) = scratch();
    let unfinished = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let (old, new, strange) = (path.join(unfinished), path.join(unfinished.replace('6', "7")), path.join("notes"));
    for file in [&old, &new, &strange] {
        std::fs::write(file, "x").unwrap();
    }
    for file in [&old, &strange] {
        std::fs::File::open(file).unwrap().set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
    }
    drop(cache(&path));
    assert_eq!([old, new, strange].map(|file| file.exists()), [false, true, true]);
}
