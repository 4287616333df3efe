//! Follows the README to the letter, and holds the other documents to what they name.
//!
//! *Why*: a newcomer's first ten minutes are spent in the README, and nobody notices when it drifts.
//!
//! *Invariants*: 1. a file that the tutorial shows is, to the byte, the one in this folder that is built and run, but for
//! where the workspace and the SDK lie; 2. a command that it shows prints what it shows, where `…` stands for any text and
//! a line of `…` for any lines; 3. a table is compared with the program or with the code it speaks of; 4. a test or a
//! hostile guest that a document names is there.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it reads documents and lays out folders, outside of the host")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use bulkhead_core::limits::{Limits, Size, Time};
use bulkhead_core::{Grant, Manifest};
use bulkhead_tests::aimed::{program, repository};
use bulkhead_tests::tls::{self, Authority};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Every document, from the root of the repository.
const DOCUMENTS: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "guest-sdk/rust/README.md"];

/// The port that the tutorial's upstream has. The test's has another, so that the two can run side by side.
const PORT: &str = "8471";

/// The port that a server has unless it is told otherwise.
const API_PORT: &str = "7411";

/// Longest wait for a line of a server that starts: it sets aside address space, and makes its folders.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stands for text left out.
const ANY: &str = "…";

/// A fenced block: what stands behind the fence, and the lines up to the next one.
struct Block {
    language: String,
    name: String,
    text: String,
}

#[test]
fn the_tutorials_files_are_those_that_are_built_here() -> anyhow::Result<()> {
    let blocks = blocks("README.md")?;
    let tutorial = repository().join("tests/tutorial");
    let here: BTreeSet<String> = ["hello", "hello/src", "upstream/lists"]
        .into_iter()
        .flat_map(|folder| files_in(&tutorial, folder))
        .filter(|name| !name.ends_with("Cargo.lock"))
        .collect();
    // A file may be shown more than once; the last time is how it ends up.
    let shown: BTreeMap<&str, &Block> =
        blocks.iter().filter(|block| is_tutorials(block)).map(|block| (block.name.as_str(), block)).collect();
    ensure!(shown.keys().copied().eq(here.iter().map(String::as_str)), "shown {:?}, here {here:?}", shown.keys());
    for (name, block) in shown {
        let built = std::fs::read_to_string(tutorial.join(name))?;
        let expected = if name == "hello/Cargo.toml" { at_home(&block.text) } else { block.text.clone() };
        ensure!(built == expected, "tests/tutorial/{name} is not what the README shows");
    }
    Ok(())
}

#[tokio::test]
async fn the_tutorials_commands_print_what_it_shows() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("hello");
    let built = folder.join("target/wasm32-wasip2/release");
    std::fs::create_dir_all(&built)?;
    let component = repository().join("connectors/target/wasm32-wasip2/release/hello.wasm");
    std::fs::copy(&component, built.join("hello.wasm")).context("hello.wasm: run `make guests`")?;
    let port = serve(scratch.path().join("upstream")).await?.to_string();
    let (api, mut server) = (free_port()?, None);
    let mut commands = 0;
    for block in blocks("README.md")? {
        let text = block.text.replace(PORT, &port).replace(API_PORT, &api);
        if is_tutorials(&block) {
            let path = scratch.path().join(&block.name);
            std::fs::create_dir_all(path.parent().context("a file without a folder")?)?;
            std::fs::write(path, text)?;
        } else if block.language == "console" {
            let (command, expected) = text.split_once('\n').context("a console without a command")?;
            let command = command.strip_prefix("$ ").context("a console that begins with no command")?;
            if command == "bulkhead serve" {
                server = Some(begin(shell(command, &folder, &api)?, expected).await?);
                commands += 1;
            } else if command.starts_with("bulkhead ") {
                run(shell(command, &folder, &api)?, command, expected).await?;
                commands += 1;
            }
        }
    }
    ensure!(commands >= 12 && server.is_some(), "only {commands} commands were run");
    Ok(())
}

/// The program's last word on what a newcomer needs.
#[test]
fn from_nothing_to_a_connection_that_runs_it_takes_six_commands() -> anyhow::Result<()> {
    let readme = read("README.md")?;
    let (_, section) = readme.split_once("\n## Six commands\n").context("no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let commands: Vec<&str> = section.lines().filter(|line| line.starts_with("$ ")).collect();
    ensure!(commands.len() == 6 && commands.iter().all(|line| line.starts_with("$ bulkhead ")), "{commands:?}");
    Ok(())
}

#[tokio::test]
async fn the_tables_of_verbs_and_exit_codes_are_the_programs() -> anyhow::Result<()> {
    let readme = read("README.md")?;
    let help = Command::new(program()?).arg("--help").output().await?;
    let help = String::from_utf8(help.stdout)?;
    let section = |from: &str, to: &str| help.split_once(from).and_then(|(_, rest)| rest.split_once(to));
    let (verbs, _) = section("Commands:", "Options:").context("no list of verbs")?;
    // What goes on from the line above stands further in.
    let begins = |line: &&str| line.strip_prefix("  ").is_some_and(|rest| !rest.starts_with(' '));
    let verbs = verbs.lines().filter(begins).filter_map(|line| line.split_whitespace().next());
    for verb in verbs.filter(|verb| *verb != "help") {
        let row = [' ', '`'].map(|end| format!("\n| `{verb}{end}"));
        ensure!(row.iter().any(|row| readme.contains(row)), "the README has no row for `{verb}`");
    }
    let (codes, _) = section("Exit codes:", "Environment:").context("no table of exit codes")?;
    let from_help: Vec<String> = codes
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .map(|(code, meaning)| format!("| {code} | {meaning} |"))
        .collect();
    let numbered = |line: &&str| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    let from_readme: Vec<&str> = readme.lines().filter(numbered).collect();
    ensure!(!from_help.is_empty() && from_help == from_readme, "{from_help:#?}\n{from_readme:#?}");
    Ok(())
}

#[tokio::test]
async fn every_option_of_every_verb_is_in_the_readme() -> anyhow::Result<()> {
    let readme = read("README.md")?;
    let verbs = ["inspect", "check", "discover", "read", "invoke", "secret set", "secret list", "secret remove"];
    let vault = ["vault rotate-tenant-key", "vault rotate-master-key", "vault erase", "vault verify"];
    let server =
        ["serve", "login", "connect", "grant", "doctor", "config check", "whoami", "policy test", "policy put"];
    let kept = ["tenant create", "release install", "connection upgrade", "connection pause", "connection configure"];
    let known =
        ["user create", "user update", "service-account create", "key create", "key rotate", "issuer identity add"];
    let server = server.into_iter().chain(kept).chain(known).chain(["issuer add", "audit tail", "publisher assign"]);
    for verb in verbs.into_iter().chain(vault).chain(server) {
        let help = Command::new(program()?).args(verb.split(' ')).arg("--help").output().await?;
        let help = String::from_utf8(help.stdout)?;
        let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
        let options: BTreeSet<&str> = options.map(|option| option.trim_end_matches([',', '.', ';'])).collect();
        ensure!(options.len() >= 2, "{verb} has only {options:?}");
        for option in options.into_iter().filter(|option| *option != "--help") {
            ensure!(readme.contains(option), "the README does not name {option} of {verb}");
        }
    }
    Ok(())
}

#[test]
fn the_examples_of_the_reference_are_valid() -> anyhow::Result<()> {
    let blocks = blocks("README.md")?;
    let example = |name: &str| {
        let found = blocks.iter().find(|block| block.name == name);
        found.map(|block| block.text.as_str()).with_context(|| format!("no {name}"))
    };
    let manifest = Manifest::parse(example("reference/connector.toml")?)?;
    Grant::parse(example("reference/grant.toml")?, &manifest)?;
    Ok(())
}

/// The table of settings has each one, and no other; and the example is a configuration.
#[tokio::test]
async fn the_table_of_settings_is_the_programs() -> anyhow::Result<()> {
    let listed = Command::new(program()?).args(["config", "variables"]).output().await?;
    let listed = String::from_utf8(listed.stdout)?;
    let known: BTreeSet<&str> =
        listed.split_whitespace().filter(|word| word.contains('.') && !word.ends_with('.')).collect();
    let readme = read("README.md")?;
    let (_, section) = readme.split_once("\n## Configuration\n").context("no such section")?;
    let rows = section.split("\n## ").next().unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
    let shown: BTreeSet<&str> =
        rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    ensure!(shown == known, "shown {shown:?}, known {known:?}");
    let scratch = tempfile::tempdir()?;
    let blocks = blocks("README.md")?;
    let example = blocks.iter().find(|block| block.name == "reference/bulkhead.toml").context("no example")?;
    std::fs::write(scratch.path().join("bulkhead.toml"), &example.text)?;
    tls::lay(scratch.path(), &Authority::new()?, "bulkhead.example.com")?;
    let mut check = Command::new(program()?);
    check.args(["config", "check", "--config", "bulkhead.toml"]).current_dir(scratch.path());
    let checked = check.env("HOME", scratch.path()).output().await?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}

/// The certificate that the README makes is one that a server shows and a client takes.
#[tokio::test]
async fn the_certificate_that_it_makes_is_taken_by_clients() -> anyhow::Result<()> {
    let blocks = blocks("README.md")?;
    let lines = blocks.iter().find(|block| block.name == "reference/certificate").context("no such lines")?;
    // Without what the README adds, it is an authority's, and who tries is told so.
    let authority = lines.text.replace("CA:FALSE", "CA:TRUE");
    for (lines, fails) in [(&authority, true), (&lines.text, false)] {
        let home = tempfile::tempdir()?;
        let made = Command::new("/bin/sh").args(["-ec", lines]).current_dir(home.path()).output().await?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        shown_and_taken(home.path(), fails).await?;
    }
    Ok(())
}

/// Serves with the certificate in `scratch`, and logs in.
async fn shown_and_taken(scratch: &Path, fails: bool) -> anyhow::Result<()> {
    let folder = scratch.join("hello");
    std::fs::create_dir(&folder)?;
    let api = free_port()?;
    let tls = |command: &str| {
        let mut shell = shell(command, &folder, &api)?;
        shell.env("BULKHEAD_SERVER_NAMES", "bulkhead.example.com");
        for (variable, file) in [("CERTIFICATE", "certificate.pem"), ("KEY", "key.pem")] {
            shell.env(format!("BULKHEAD_SERVER_TLS_{variable}"), scratch.join(file));
        }
        anyhow::Ok(shell)
    };
    let says = format!("bulkhead {ANY} serves https://bulkhead.example.com:{api}\n{ANY}\n{ANY}\n{ANY}\n");
    let _server = begin(tls("bulkhead serve")?, &says).await?;
    let says = match fails {
        true => format!("error: {ANY}\n  its certificate is an authority's: {ANY}CA:FALSE{ANY}\n"),
        false => format!("logged in at https://bulkhead.example.com:{api} as {ANY}\n{ANY}\n"),
    };
    run(tls("bulkhead login --setup --server-ca ../certificate.pem")?, "login", &says).await
}

/// What it says of the API is in the API's own description.
#[test]
fn the_paths_of_the_api_that_it_names_are_served() -> anyhow::Result<()> {
    let readme = read("README.md")?;
    let (_, section) = readme.split_once("\n## HTTP API\n").context("no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let served = read("host/src/http/openapi.json")?;
    let words = section.split([' ', '`', '\n']).map(|word| word.trim_start_matches("http://127.0.0.1:7411"));
    let paths: BTreeSet<&str> =
        words.filter(|word| word.starts_with("/v1/") || (word.starts_with('/') && word.ends_with('z'))).collect();
    ensure!(paths.len() == 5, "{paths:?}");
    for path in paths {
        let path = path.replace("/acme", "/{tenant}").replace("/crm", "/{connection}");
        ensure!(served.contains(&format!("\n    \"{path}\": {{")), "{path} is not served");
    }
    Ok(())
}

#[test]
fn the_table_of_limits_is_the_codes() -> anyhow::Result<()> {
    let readme = read("README.md")?;
    let (default, most) = (Limits::DEFAULT, Limits::CEILING);
    for (key, default, most) in [
        ("memory", default.memory, most.memory),
        ("log-bytes", default.log_bytes, most.log_bytes),
        ("output-bytes", default.output_bytes, most.output_bytes),
    ] {
        let (shown, bound) = row(&readme, key)?;
        ensure!(shown.parse::<Size>()? == default && bound.parse::<Size>()? == most, "{key}");
    }
    for (key, default, most) in [("time", default.time, most.time), ("cpu", default.cpu, most.cpu)] {
        let (shown, bound) = row(&readme, key)?;
        ensure!(shown.parse::<Time>()? == default && bound.parse::<Time>()? == most, "{key}");
    }
    let (traffic, bounds) = (default.traffic, most.traffic);
    for (key, default, most) in [
        ("requests", default.requests, most.requests),
        ("requests-per-minute", traffic.requests, bounds.requests),
        ("concurrency", traffic.concurrency, bounds.concurrency),
    ] {
        let (shown, bound) = row(&readme, key)?;
        ensure!(shown.parse() == Ok(default) && bound.parse() == Ok(most), "{key}");
    }
    for (key, default, most) in [
        ("bytes-out-per-minute", traffic.bytes_out, bounds.bytes_out),
        ("bytes-in-per-minute", traffic.bytes_in, bounds.bytes_in),
    ] {
        let (shown, bound) = row(&readme, key)?;
        ensure!(shown.parse::<Size>()? == default && bound.parse::<Size>()? == most, "{key}");
    }
    Ok(())
}

/// A key that a table leaves out, or that is no key any more, misleads whoever writes a manifest.
#[test]
fn the_table_of_limits_names_every_key_and_no_other() -> anyhow::Result<()> {
    let readme = read("README.md")?;
    let (_, section) = readme.split_once("\n## Manifest\n").context("no such section")?;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `limits.")?.split('`').next());
    let shown: BTreeSet<&str> = rows.collect();
    // Whoever writes an unknown key is told which there are.
    let unknown = "[connector]\nname = \"a/b\"\nversion = \"1.0.0\"\n[limits]\nunknown = 1\n";
    let refused = Manifest::parse(unknown).err().context("an unknown key was read")?.to_string();
    let known: BTreeSet<&str> = refused.split('`').skip(1).step_by(2).filter(|key| *key != "unknown").collect();
    ensure!(shown == known, "shown {shown:?}, known {known:?}");
    Ok(())
}

/// A document names a test as `path.rs::name`, and a hostile guest as `tests/hostile/name`.
#[test]
fn every_test_and_guest_that_a_document_names_is_there() -> anyhow::Result<()> {
    let (mut tests, mut missing) = (0, Vec::new());
    for document in DOCUMENTS {
        for name in read(document)?.split('`').skip(1).step_by(2) {
            let there = if let Some((file, test)) = name.split_once(".rs::") {
                tests += 1;
                let code = std::fs::read_to_string(repository().join(format!("{file}.rs"))).unwrap_or_default();
                code.contains(&format!("fn {test}("))
            } else {
                !name.starts_with("tests/hostile/") || repository().join(name).exists()
            };
            if !there {
                missing.push(format!("{document} names {name}"));
            }
        }
    }
    ensure!(tests > 0, "no document names a test in the form that is looked for");
    ensure!(missing.is_empty(), "{missing:#?}");
    Ok(())
}

fn read(document: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(repository().join(document)).with_context(|| document.to_owned())
}

fn blocks(document: &str) -> anyhow::Result<Vec<Block>> {
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for line in read(document)?.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => {
                let (language, name) = info.split_once(' ').unwrap_or((info, ""));
                open = Some(Block { language: language.to_owned(), name: name.to_owned(), text: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(block)) => open = Some(Block { text: format!("{}{line}\n", block.text), ..block }),
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "{document} has a fence that is never closed");
    Ok(blocks)
}

fn is_tutorials(block: &Block) -> bool {
    block.name.starts_with("hello/") || block.name.starts_with("upstream/")
}

/// A newcomer's folder lies beside the clone. Here it lies within it, and belongs to the guests' workspace.
fn at_home(manifest: &str) -> String {
    manifest.replacen("[package]\n", "[package]\nworkspace = \"../../../connectors\"\n", 1).replacen(
        "\"../bulkhead/",
        "\"../../../",
        1,
    )
}

/// The files right in `folder`, named from `root`.
fn files_in(root: &Path, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    files.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy())).collect()
}

/// The command of a newcomer whose home is beside `folder`, and whose server listens on port `api`.
fn shell(command: &str, folder: &Path, api: &str) -> anyhow::Result<Command> {
    let program = program()?;
    let path = program.parent().context("a program without a folder")?;
    let home = folder.parent().context("a folder without a parent")?.join("home");
    std::fs::create_dir_all(&home)?;
    let mut shell = Command::new("/bin/sh");
    // Whatever the program keeps for a user stays here as well.
    shell.args(["-c", &format!("exec {command}")]).current_dir(folder).env_clear().env("PATH", path).env("HOME", home);
    shell.env("BULKHEAD_SERVER_ADDRESS", format!("127.0.0.1:{api}")).kill_on_drop(true).stdin(Stdio::null());
    Ok(shell)
}

/// Runs `shell` and compares stdout, then stderr, with `expected`. It fails where `error:` is expected.
async fn run(mut shell: Command, command: &str, expected: &str) -> anyhow::Result<()> {
    let output = shell.output().await?;
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (wanted, got) = (lines(expected), lines(&printed));
    let fails = wanted.iter().any(|line| line.starts_with("error:"));
    let holds = fit(&wanted, &got) && output.status.success() != fails;
    ensure!(holds, "{command}\nends with {} and prints\n{printed}\ninstead of\n{expected}", output.status);
    Ok(())
}

/// Starts what goes on until it is dropped, and waits until it has said what is `expected` on stderr.
async fn begin(mut shell: Command, expected: &str) -> anyhow::Result<Child> {
    let mut child = shell.stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    for wanted in expected.lines() {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("it says nothing more")??;
        let line = line.with_context(|| format!("it ended before {wanted:?}"))?;
        ensure!(fits(wanted, &line), "{line:?} instead of {wanted:?}");
    }
    // What it says from now on must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(child)
}

/// A port that nobody has now.
fn free_port() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port().to_string())
}

/// Whether `got` is `wanted`, where a line of [`ANY`] stands for any lines, and [`ANY`] within a line for any text.
fn fit(wanted: &[String], got: &[String]) -> bool {
    match (wanted.split_first(), got.split_first()) {
        (None, got) => got.is_none(),
        (Some((line, rest)), _) if line == ANY => (0..=got.len()).any(|skip| fit(rest, got.get(skip..).unwrap_or(&[]))),
        (Some(_), None) => false,
        (Some((line, rest)), Some((first, others))) => fits(line, first) && fit(rest, others),
    }
}

fn fits(wanted: &str, got: &str) -> bool {
    match wanted.split_once(ANY) {
        None => wanted == got,
        Some((before, after)) => got.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|tail| fits(after, tail)))
        }),
    }
}

/// What the table of the manifest says of a limit: its default and its bound.
fn row(readme: &str, key: &str) -> anyhow::Result<(String, String)> {
    let start = format!("| `limits.{key}` |");
    let line = readme.lines().find(|line| line.starts_with(&start)).with_context(|| start.clone())?;
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, _, _, default, meaning, ..] = cells.as_slice() else { bail!("{line}") };
    let bound = meaning.strip_prefix("at most ").and_then(|rest| rest.split(';').next()).context("no bound")?;
    Ok(((*default).to_owned(), bound.to_owned()))
}

/// A server as small as the tutorial's: files of `folder` by their path.
async fn serve(folder: PathBuf) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let file = async |State(folder): State<PathBuf>, uri: Uri| {
        std::fs::read(folder.join(uri.path().trim_start_matches('/'))).map_err(|_| StatusCode::NOT_FOUND)
    };
    let router = Router::new().fallback(file).with_state(folder);
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(port)
}

#[test]
fn text_left_out_fits_anything_and_nothing_else_does() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let check =
        |wanted: &str, got: &str, expected| assert_eq!(fit(&lines(wanted), &lines(got)), expected, "{wanted:?}");
    check("a\nb", "a\nb", true);
    check("a\nb", "a\nb\nc", false);
    check("a\n…\nc", "a\nb\nb\nc", true);
    check("…\nc", "c", true);
    check("read … in …;", "read 2 records in 1 page;", true);
    check("read …;", "wrote 2;", false);
}
