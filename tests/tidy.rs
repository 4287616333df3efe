//! Style as a test: what a reader of this repository may rely on, wherever they open it.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it reads the repository, outside of the host")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bulkhead_tests::aimed::repository;
use toml::Table;

/// Most lines of production code in one file; past that it is to be split along a seam.
const LONGEST: usize = 500;

/// Folders that hold what was made, or what others wrote.
const NOT_OURS: [&str; 4] = ["target", "node_modules", ".git", "deps"];

/// A file of the repository.
struct File {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl File {
    fn is_below(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// A test, or a program for tests.
    fn is_a_test(&self) -> bool {
        self.is_below("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The text up to its tests, which stand last.
    fn production(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    /// Root of a library, a program or a test.
    fn is_crate_root(&self) -> bool {
        let named = |name: &str| self.path.ends_with(&format!("/{name}"));
        named("src/lib.rs")
            || named("src/main.rs")
            || self.path == "tests/tidy.rs"
            || (self.is_below("tests/") && self.path.split('/').count() == 3 && named("main.rs"))
    }
}

/// Every file of ours whose name ends so.
fn files(ending: &str) -> anyhow::Result<Vec<File>> {
    let root = repository().canonicalize()?;
    let mut paths = Vec::new();
    walk(&root, ending, &mut paths)?;
    assert!(!paths.is_empty(), "no file ends with {ending}");
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(File { path: path.strip_prefix(&root)?.to_string_lossy().into_owned(), text })
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                walk(&entry.path(), ending, found)?;
            }
        } else if name.ends_with(ending) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Fails with the list of offenders, when there are any.
fn none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn no_file_of_production_code_is_longer_than_its_limit() -> anyhow::Result<()> {
    let long = files(".rs")?
        .iter()
        .filter(|file| !file.is_a_test())
        .map(|file| (file.production().lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect::<Vec<_>>();
    none("files that are too long", &long);
    Ok(())
}

#[test]
fn every_file_of_the_host_says_first_what_it_is_for() -> anyhow::Result<()> {
    let silent = files(".rs")?
        .into_iter()
        .filter(|file| (file.is_below("host/") || file.is_below("guest-sdk/")) && !file.path.ends_with("/tests.rs"))
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path)
        .collect::<Vec<_>>();
    none("files that do not begin with `//!`", &silent);
    Ok(())
}

#[test]
fn every_crate_forbids_unsafe_code() -> anyhow::Result<()> {
    let roots: Vec<File> = files(".rs")?.into_iter().filter(File::is_crate_root).collect();
    assert!(
        roots.len() >= 10,
        "some crates were not found: {:?}",
        roots.iter().map(|root| &root.path).collect::<Vec<_>>()
    );
    // Generated bindings have `unsafe` in them, so that a crate with some of its own can only deny it, as its workspace does.
    let generates = |file: &File| {
        let sources = file.path.rsplit_once('/').filter(|(folder, _)| folder.ends_with("/src"));
        let text = sources.map(|(folder, _)| all_text(&repository().join(folder)));
        text.is_some_and(|text| {
            text.is_ok_and(|text| text.contains("generate!(") || text.contains("::proxy::export!("))
        })
    };
    let lax = roots
        .iter()
        .filter(|file| !file.text.contains("#![forbid(unsafe_code)]") && !generates(file))
        .filter(|file| !(file.path == LOADER.0 && file.text.contains("#![deny(unsafe_code)]")))
        .filter(|file| !file.is_below("tests/tutorial/")) // as short as a reader's first connector can be
        .map(|file| file.path.clone())
        .collect::<Vec<_>>();
    none("crate roots without `#![forbid(unsafe_code)]`", &lax);
    Ok(())
}

/// The one crate that only denies `unsafe`, and its one file that has some.
const LOADER: (&str, &str) = ("host/runtime/src/lib.rs", "host/runtime/src/artifact.rs");

#[test]
fn the_host_has_one_unsafe_expression_and_says_why_it_is_sound() -> anyhow::Result<()> {
    // Put together, so that this file has none of them.
    let (lint, block, why) = (concat!("(unsafe", "_code"), concat!("unsafe", " {"), concat!("// SAFE", "TY: "));
    let allowing = |file: &&File| {
        let attributes =
            file.text.lines().map(str::trim).filter(|line| line.starts_with("#[") || line.starts_with("#!["));
        attributes.filter(|line| line.contains(lint)).any(|line| !line.contains("forbid") && !line.contains("deny"))
    };
    let host: Vec<File> = files(".rs")?.into_iter().filter(|file| file.is_below("host/")).collect();
    let lax: Vec<&str> = host.iter().filter(allowing).map(|file| file.path.as_str()).collect();
    assert_eq!(lax, [LOADER.1], "files that allow it");
    let code =
        |file: &File| file.text.lines().filter(|line| line.contains(block) && !line.trim().starts_with("//")).count();
    let with: Vec<(&str, usize)> =
        host.iter().map(|file| (file.path.as_str(), code(file))).filter(|(_, count)| *count > 0).collect();
    assert_eq!(with, [(LOADER.1, 1)], "files that have it");
    assert!(host.iter().any(|file| file.path == LOADER.1 && file.text.contains(why)), "it does not say why");
    Ok(())
}

/// All Rust text below a folder.
fn all_text(folder: &Path) -> anyhow::Result<String> {
    let mut paths = Vec::new();
    walk(folder, ".rs", &mut paths)?;
    let mut text = String::new();
    for path in paths {
        text.push_str(&std::fs::read_to_string(path)?);
    }
    Ok(text)
}

#[test]
fn no_test_is_switched_off() -> anyhow::Result<()> {
    let attribute = concat!("#[", "ignore");
    let off = files(".rs")?.into_iter().filter(|file| file.text.contains(attribute)).map(|file| file.path);
    none("files with tests that do not run", &off.collect::<Vec<_>>());
    Ok(())
}

#[test]
fn what_is_left_to_do_names_its_issue() -> anyhow::Result<()> {
    let mark = concat!("TO", "DO");
    let mut nameless = Vec::new();
    for file in files(".rs")?.iter().chain(&files(".wit")?).chain(&files("Makefile")?).chain(&files(".sh")?) {
        for (number, line) in file.text.lines().enumerate() {
            let comment = line.find("//").or_else(|| line.find('#')).and_then(|at| line.get(at..)).unwrap_or_default();
            // In a string it is a word for whoever fills in a manifest.
            if comment.contains(mark) && !comment.contains('"') && !comment.contains(&format!("{mark}(#")) {
                nameless.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none("left to do, without an issue", &nameless);
    Ok(())
}

#[test]
fn the_core_knows_no_runtime_and_no_executor() -> anyhow::Result<()> {
    for (manifest, banned) in [
        ("host/core/Cargo.toml", ["wasmtime", "tokio", "hyper", "async"].as_slice()),
        ("host/storage/Cargo.toml", &["bulkhead-", "wasmtime"]),
        ("host/capabilities/Cargo.toml", &["bulkhead-runtime", "bulkhead-services"]),
        ("host/runtime/Cargo.toml", &["bulkhead-services", "clap"]),
        ("host/services/Cargo.toml", &["clap"]),
    ] {
        let text = std::fs::read_to_string(repository().join(manifest))?;
        let parsed: Table = toml::from_str(&text).with_context(|| manifest.to_owned())?;
        let dependencies = parsed.get("dependencies").and_then(|value| value.as_table()).context("no dependencies")?;
        let found: Vec<_> = dependencies.keys().filter(|name| banned.iter().any(|ban| name.starts_with(ban))).collect();
        assert!(found.is_empty(), "{manifest} depends on {found:?}");
    }
    Ok(())
}

#[test]
fn every_dependency_of_a_workspace_says_why_it_is_there() -> anyhow::Result<()> {
    let mut silent = Vec::new();
    for manifest in ["Cargo.toml", "connectors/Cargo.toml", "tests/Cargo.toml", "tests/fuzz/Cargo.toml"] {
        let text = std::fs::read_to_string(repository().join(manifest))?;
        let mut inside = false;
        let mut above = "";
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line.ends_with("dependencies]");
            }
            let outside = line.contains("version = \"") || line.contains(" = \"");
            // One reason may stand above lines that belong together: as a second sentence after what they are.
            if inside && outside && !line.contains('#') && !line.contains("path = ") && !above.contains(". ") {
                silent.push(format!("{manifest}: {line}"));
            }
            if line.is_empty() || line.starts_with('#') {
                above = line;
            }
        }
    }
    none("dependencies without a reason", &silent);
    Ok(())
}

#[test]
fn every_link_in_a_document_leads_somewhere() -> anyhow::Result<()> {
    let mut dead = Vec::new();
    for file in files(".md").unwrap_or_default() {
        let folder = repository().join(&file.path);
        let folder = folder.parent().context("a file without a folder")?;
        for target in links(&file.text) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !elsewhere && !folder.join(path).exists() {
                dead.push(format!("{}: {target}", file.path));
            }
        }
    }
    none("links that lead nowhere", &dead);
    Ok(())
}

/// The targets of inline links and images.
fn links(markdown: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        let prose: String = line.split('`').step_by(2).collect();
        if !code {
            let parts = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(parts.map(|target| target.split_whitespace().next().unwrap_or_default().to_owned()));
        }
    }
    found
}

#[test]
fn links_are_found_where_they_are_links() {
    assert_eq!(links("[a](b.md#c) ![d](e.png \"f\")\n```\n[x](y)\n```\n`[x](y)` [g](h)"), ["b.md#c", "e.png", "h"]);
}

#[test]
fn make_help_lists_every_target() -> anyhow::Result<()> {
    let makefile = std::fs::read_to_string(repository().join("Makefile"))?;
    let mut targets = BTreeSet::new();
    let mut helped = BTreeSet::new();
    for line in makefile.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let is_target = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if is_target && !rest.starts_with('=') {
            targets.insert(name.to_owned());
            if rest.contains("## ") {
                helped.insert(name.to_owned());
            }
        }
    }
    assert!(targets.contains("help") && targets.contains("check"), "{targets:?}");
    let hidden: Vec<String> = targets.difference(&helped).cloned().collect();
    none("targets that `make help` does not list", &hidden);
    let phony: Vec<&str> =
        makefile.lines().filter_map(|line| line.strip_prefix(".PHONY:")).flat_map(str::split_whitespace).collect();
    let real: Vec<String> = targets.iter().filter(|target| !phony.contains(&target.as_str())).cloned().collect();
    none("targets that a file of that name would switch off", &real);
    Ok(())
}

#[test]
fn every_hostile_guest_is_built_aimed_and_named_in_the_threat_table() -> anyhow::Result<()> {
    let members = std::fs::read_to_string(repository().join("connectors/Cargo.toml"))?;
    let security = std::fs::read_to_string(repository().join("SECURITY.md")).unwrap_or_default();
    let tests = all_text(&repository().join("tests/e2e"))?;
    let (mut complaints, mut guests) = (String::new(), 0);
    for entry in std::fs::read_dir(repository().join("tests/hostile"))? {
        let entry = entry?;
        // Beside the guests lies the program that runs their attacks.
        if !entry.path().join("connector.toml").is_file() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        guests += 1;
        let folder = format!("tests/hostile/{name}");
        let constant = format!("HOSTILE_{}", name.to_uppercase().replace('-', "_"));
        for (holds, what) in [
            (members.contains(&format!("\"../{folder}\"")), "is not built by connectors/Cargo.toml"),
            (tests.contains(&constant), "attacks in no test of tests/e2e"),
            (security.contains(&folder), "is not named in SECURITY.md"),
        ] {
            if !holds {
                writeln!(complaints, "  {folder} {what}")?;
            }
        }
    }
    assert!(guests >= 4, "some hostile guests were not found");
    assert!(complaints.is_empty(), "hostile guests that prove nothing:\n{complaints}");
    Ok(())
}
