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

fn keep(cache: &Cache, of: &str, content: &[u8]) {
    let artifact = Artifact::from_own_process(content.to_vec());
    cache.write(name(of), &"acme".parse().unwrap(), &artifact, HashSet::new);
}

/// Keeps so many bytes for this tenant, while these are in use.
fn keep_for(cache: &Cache, tenant: &str, of: &str, length: usize, in_use: &[&str]) {
    let artifact = Artifact::from_own_process(vec![0; length]);
    cache.write(name(of), &tenant.parse().unwrap(), &artifact, || in_use.iter().copied().map(name).collect());
}

/// A cache for eight entries of a hundred bytes.
fn for_eight(path: &Path) -> Cache {
    cache(path).with_largest(8 * (SEAL as u64 + 100))
}

/// Makes it so that an entry was used so many minutes ago.
fn age(path: &Path, of: &str, minutes: u64) {
    let file = std::fs::File::open(path.join(name(of).file())).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60 * minutes)).unwrap();
}

fn read(cache: &Cache, of: &str) -> Option<Vec<u8>> {
    cache.read(name(of)).map(|artifact| artifact.content().to_vec())
}

/// An entry that `change` made wrong is not used, is gone afterwards, and can be written anew.
fn refused(change: impl FnOnce(&Path, &Path)) {
    let (_dir, path) = scratch();
    let cache = cache(&path);
    keep(&cache, "a", b"one");
    keep(&cache, "b", b"two");
    assert_eq!(read(&cache, "a"), Some(b"one".to_vec()));
    let entry = path.join(name("a").file());
    change(&entry, &path.join(name("b").file()));
    assert_eq!(read(&cache, "a"), None);
    assert!(entry.symlink_metadata().is_err(), "it is still there");
    keep(&cache, "a", b"one");
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
    keep(&cache(&path), "a", b"one");
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
        keep(&Cache::new(dir, key(2)), "a", b"one");
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
    let cache = for_eight(&path);
    let all = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for (at, of) in all.iter().enumerate() {
        keep_for(&cache, "acme", of, 100, &[]);
        age(&path, of, 100 - at as u64);
    }
    assert!(read(&cache, "a").is_some(), "which makes it the latest");
    keep_for(&cache, "acme", "new", 100, &[]);
    assert_eq!(all.map(|of| path.join(name(of).file()).exists()), [true, false, true, true, true, true, true, true]);
    assert!(read(&cache, "new").is_some());
}

#[test]
fn what_is_in_use_does_not_go_although_nobody_reads_it() {
    let (_dir, path) = scratch();
    let cache = for_eight(&path);
    for (at, of) in ["a", "b", "c", "d", "e", "f", "g", "h"].iter().enumerate() {
        keep_for(&cache, "acme", of, 100, &[]);
        age(&path, of, 100 - at as u64);
    }
    keep_for(&cache, "acme", "new", 100, &["a", "b"]);
    // That is written down: it holds for the next process as well.
    let again = for_eight(&path);
    keep_for(&again, "acme", "newer", 100, &[]);
    assert_eq!(["a", "b", "c", "d", "e"].map(|of| read(&again, of).is_some()), [true, true, false, false, true]);
}

#[test]
fn one_tenants_flood_leaves_what_others_have() {
    let (_dir, path) = scratch();
    let cache = for_eight(&path);
    for of in ["a", "b"] {
        keep_for(&cache, "calm", of, 100, &[]);
        age(&path, of, 9999);
    }
    for number in 0..30 {
        keep_for(&cache, "flood", &format!("f{number}"), 100, &[]);
    }
    assert_eq!(["a", "b", "f29"].map(|of| read(&cache, of).is_some()), [true; 3]);
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 8);
}

#[test]
fn one_entry_has_at_the_most_its_part_of_all() {
    let (_dir, path) = scratch();
    let cache = cache(&path).with_largest(800);
    keep_for(&cache, "acme", "fits", 100, &[]);
    keep_for(&cache, "acme", "too large", 101, &[]);
    assert_eq!(["fits", "too large"].map(|of| read(&cache, of).is_some()), [true, false]);
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
