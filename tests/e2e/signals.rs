//! What a server does when it is told to end, twice, or to read its certificate again; and how a person logs in at it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_tests::tls::{self, Authority};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::served::Served;
use crate::totp;

/// Longest time that "at once" may take: a drain takes half a minute.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Time after a question in which the program has set up the terminal for its answer.
const SETTLED: Duration = Duration::from_millis(300);
const PASSWORD: &str = "a sturdy lantern over the quay";

fn address(served: &Served) -> anyhow::Result<SocketAddr> {
    Ok(served.url.split_once("://").context("no scheme")?.1.parse()?)
}

#[tokio::test]
async fn whoever_asks_twice_gets_the_server_back_at_once() -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let served = Served::start().await?;
        // A request whose body never comes is one that was begun.
        let mut stream = TcpStream::connect(address(&served)?).await?;
        let head = "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
        stream.write_all(head.replace("localhost", &address(&served)?.to_string()).as_bytes()).await?;
        // It was read, so that this is behind it.
        served.done(&["openapi"]).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        served.signal(signal)?;
        served.hears("once more to stop at once", 0).await?;
        let second = Instant::now();
        served.signal(signal)?;
        served.hears("stopped at once", 0).await?;
        let (_, code) = served.ended().await?;
        ensure!(code == Some(130), "{code:?}");
        ensure!(second.elapsed() < AT_ONCE, "{:?}", second.elapsed());
    }
    Ok(())
}

/// A connection that trusts either authority.
async fn connected(served: &Served, authorities: &[&Authority]) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.certificate())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address(served)?).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?)
}

async fn answers(stream: &mut TlsStream<TcpStream>, port: u16) -> anyhow::Result<()> {
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n").as_bytes()).await?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned();
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

fn shown(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|first| first.clone().into_owned())
}

#[tokio::test]
async fn a_certificate_is_read_again_and_a_broken_one_changes_nothing() -> anyhow::Result<()> {
    let (home, real, before, after) = (TempDir::new()?, TempDir::new()?, Authority::new()?, Authority::new()?);
    // Certificates that are renewed are links to those of today, in another folder.
    tls::lay(real.path(), &before, "localhost")?;
    let link = |name: &str| {
        let link = home.path().join(name);
        std::os::unix::fs::symlink(real.path().join(name), &link).map(|()| link.display().to_string())
    };
    let (certificate, key) = (link("certificate.pem")?, link("key.pem")?);
    let variables = [
        ("BULKHEAD_SERVER_ADDRESS", "127.0.0.1:0"),
        ("BULKHEAD_SERVER_TLS_CERTIFICATE", certificate.as_str()),
        ("BULKHEAD_SERVER_TLS_KEY", key.as_str()),
    ];
    let served = Served::with(home, &variables, "there is no administrator yet").await?;
    let (port, both) = (address(&served)?.port(), [&before, &after]);
    let mut old = connected(&served, &both).await?;
    answers(&mut old, port).await?;
    tls::lay(real.path(), &after, "localhost")?;
    served.signal(Signal::HUP)?;
    let heard = served.hears("the certificate was read again", 0).await?;
    let mut new = connected(&served, &[&after]).await?;
    answers(&mut new, port).await?;
    ensure!(shown(&new) != shown(&old), "the old certificate is shown");
    answers(&mut old, port).await?;
    std::fs::write(real.path().join("certificate.pem"), "no certificate")?;
    served.signal(Signal::HUP)?;
    let heard = served.hears("the certificate cannot be used: the one before goes on", heard).await?;
    ensure!(shown(&connected(&served, &both).await?) == shown(&new), "another certificate is shown");
    // A new certificate with the key of before is none either.
    tls::lay(real.path(), &after, "localhost")?;
    std::fs::write(real.path().join("key.pem"), before_key(&before)?)?;
    served.signal(Signal::HUP)?;
    served.hears("the certificate cannot be used", heard).await?;
    ensure!(shown(&connected(&served, &both).await?) == shown(&new), "another certificate is shown");
    answers(&mut old, port).await?;
    Ok(())
}

/// The text of a key that belongs to no other certificate.
fn before_key(authority: &Authority) -> anyhow::Result<String> {
    let folder = TempDir::new()?;
    let (_, key) = tls::lay(folder.path(), authority, "localhost")?;
    Ok(std::fs::read_to_string(key)?)
}

/// Somebody at a terminal.
struct Terminal {
    child: tokio::process::Child,
    input: tokio::process::ChildStdin,
    output: tokio::process::ChildStdout,
    seen: String,
}

impl Terminal {
    /// Runs the program at a terminal of its own, which `script` of util-linux makes.
    fn run(served: &Served, arguments: &[&str]) -> anyhow::Result<Self> {
        let program = bulkhead_tests::aimed::program()?.display().to_string();
        let mut command = Command::new("script");
        let line = [&[program.as_str()], arguments].concat().join(" ");
        command.args(["-q", "-e", "-f", "-c", &line, "/dev/null"]);
        command
            .current_dir(served.home.path())
            .env_clear()
            .env("HOME", served.home.path())
            .env("PATH", "/usr/bin:/bin");
        command.env("TERM", "dumb").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn()?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).context("no pipes")?;
        Ok(Self { child, input, output, seen: String::new() })
    }

    /// What was shown up to the question `question`, and types `answer`.
    async fn asked(&mut self, question: &str, answer: &str) -> anyhow::Result<String> {
        let before = self.until(question).await?;
        self.answer(answer).await?;
        Ok(before)
    }

    async fn answer(&mut self, answer: &str) -> anyhow::Result<()> {
        // What is typed before the terminal was told not to show it is thrown away by it.
        tokio::time::sleep(SETTLED).await;
        Ok(self.input.write_all(format!("{answer}\n").as_bytes()).await?)
    }

    async fn until(&mut self, part: &str) -> anyhow::Result<String> {
        let mut bytes = [0; 1024];
        loop {
            if let Some((before, after)) = self.seen.split_once(part) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.seen = after;
                return Ok(before);
            }
            let read = tokio::time::timeout(AT_ONCE, self.output.read(&mut bytes)).await;
            let read = read.with_context(|| format!("no {part:?} in {:?}", self.seen))??;
            ensure!(read > 0, "it ended: no {part:?} in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()));
        }
    }

    /// Its exit code, and the last that it showed.
    async fn ended(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let mut rest = Vec::new();
        tokio::time::timeout(AT_ONCE, self.output.read_to_end(&mut rest)).await.context("it does not end")??;
        let code = self.child.wait().await?.code();
        Ok((code, self.seen + &String::from_utf8_lossy(&rest)))
    }
}

/// What is asked when somebody logs in.
const QUESTIONS: [&str; 2] = ["password: ", "(nothing at your first log-in): "];

#[tokio::test]
async fn a_person_logs_in_at_a_terminal_with_a_second_factor() -> anyhow::Result<()> {
    let served = Served::start().await?;
    served.set_up().await?;
    let first = served.done(&["user", "create", "ada", "--role", "tenant-admin"]).await?;
    let url = served.url.clone();
    let log_in = ["login", "--server", &url, "--user", "ada", "--tenant", "acme", "--yes"];
    // Where there is no terminal, nobody types a password.
    served.run(&log_in).await?.refused(2, &["at a terminal", "--key @FILE"]);
    // A password that will not do is refused before a second factor is set up for it.
    let mut terminal = Terminal::run(&served, &log_in)?;
    terminal.asked(QUESTIONS[0], first.trim()).await?;
    terminal.asked(QUESTIONS[1], "").await?;
    terminal.asked("a new password, of 12 characters or more: ", "short").await?;
    let (code, rest) = terminal.ended().await?;
    ensure!(code == Some(6) && rest.contains("at least 12 characters"), "{code:?} {rest}");
    ensure!(!rest.contains("shown this once"), "a second factor was set up: {rest}");
    let mut terminal = Terminal::run(&served, &log_in)?;
    terminal.asked(QUESTIONS[0], first.trim()).await?;
    terminal.asked(QUESTIONS[1], "").await?;
    terminal.asked("a new password, of 12 characters or more: ", PASSWORD).await?;
    terminal.asked("once more: ", PASSWORD).await?;
    let shown = terminal.until("code that your application shows: ").await?;
    let secret = shown.lines().skip_while(|line| !line.contains("shown this once")).nth(1).context("no secret")?;
    terminal.answer(&totp::code(secret.trim())?).await?;
    let (code, rest) = terminal.ended().await?;
    ensure!(code == Some(0) && rest.contains("as acme/user/ada"), "{code:?} {rest}");
    ensure!(!shown.contains(PASSWORD) && !rest.contains(PASSWORD), "a password was shown");
    let recovery: Vec<&str> = rest.lines().skip_while(|line| !line.contains("in a safe place")).skip(1).collect();
    let recovery = recovery.first().context("no recovery code")?.trim().to_owned();
    ensure!(served.json(&["whoami"]).await?["principal"] == "acme/user/ada");
    served.done(&["connection", "list"]).await?;
    served.done(&["logout"]).await?;
    served.run(&["whoami"]).await?.refused(14, &["not logged in"]);
    // A wrong password is told from nothing else, and a code to fall back on is good once.
    for (password, given, right) in [("not the password", &recovery, false), (PASSWORD, &recovery, true)] {
        let mut terminal = Terminal::run(&served, &log_in)?;
        terminal.asked(QUESTIONS[0], password).await?;
        terminal.asked(QUESTIONS[1], given).await?;
        let (code, rest) = terminal.ended().await?;
        ensure!(code == Some(if right { 0 } else { 14 }), "{code:?} {rest}");
    }
    ensure!(served.json(&["whoami"]).await?["principal"] == "acme/user/ada");
    Ok(())
}
