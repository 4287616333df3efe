//! The leak guard: how fast it looks for eight secrets, beside a plain copy; what it adds to a long answer over loopback; and
//! what it adds to a short one.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bulkhead_capabilities::credentials::{Guard, Masking};
use bytes::Bytes;
use secrecy::SecretString;

use super::gate::{ask, through, upstream};
use crate::harness::{Effort, Report, compare};

/// How many bytes are looked into.
const MUCH: usize = 100_000_000;
/// How they come: what a TLS record holds.
const PIECE: usize = 16 * 1024;
/// The answer over loopback.
const ANSWER: usize = 64 << 20;
/// A small API's answer.
const LITTLE: usize = 2048;
/// Answers that are timed together.
const TIMES: usize = 200;

pub(crate) async fn guard(report: &mut Report, effort: &Effort) -> anyhow::Result<()> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let secrets: Vec<SecretString> = (0..8).map(|_| dice.token(40).into()).collect();
    let guard = Arc::new(Guard::new(&secrets)?);
    let few = Effort { rounds: effort.rounds.div_ceil(5), calls: 1, ..*effort };
    let json = dice.json(MUCH);
    for (case, beside, bytes) in [
        ("guard-throughput, JSON", "guard, JSON", &json),
        ("guard-throughput, random", "guard, random", &dice.bytes(MUCH)),
        ("guard-throughput, JSON in JSON", "guard, JSON in JSON", &escaped(json.get(..MUCH * 3 / 4).context("bytes")?)),
    ] {
        let (looked, copied) = (async || look(&guard, bytes), async || copy(bytes));
        let compared = compare(&few, looked, copied).await?;
        report.figure(case, bytes.len() as f64 / compared.a.as_secs_f64() / 1e9, "GB/s");
        report.compared(beside, &compared, "a plain copy");
    }
    let answer = json.get(..LITTLE).context("bytes")?;
    let calls = Effort { rounds: effort.rounds, calls: TIMES, ..*effort };
    let small = compare(&calls, async || look(&guard, answer), async || copy(answer)).await?;
    report.figure("guard-small", small.a.as_secs_f64() * 1e6, "µs");

    let upstream = upstream(Bytes::from(json).slice(..ANSWER))?;
    let watched = through("127.0.0.1", upstream.port(), Guard::new(&secrets)?)?;
    let untouched = through("127.0.0.1", upstream.port(), Guard::new([])?)?;
    let uri = format!("http://127.0.0.1:{}/v1/items", upstream.port());
    let compared =
        compare(&few, async || ask(&watched, &uri, ANSWER).await, async || ask(&untouched, &uri, ANSWER).await).await?;
    report.compared("guard-stream", &compared, "without secrets");
    Ok(())
}

fn look(guard: &Arc<Guard>, bytes: &[u8]) -> anyhow::Result<()> {
    let (mut masking, mut passed) = (Masking::new(Arc::clone(guard)), 0);
    for piece in bytes.chunks(PIECE) {
        passed += black_box(masking.push(piece).bytes).len();
    }
    passed += black_box(masking.finish().bytes).len();
    ensure!(passed == bytes.len());
    Ok(())
}

fn copy(bytes: &[u8]) -> anyhow::Result<()> {
    for piece in bytes.chunks(PIECE) {
        black_box(piece.to_vec());
    }
    Ok(())
}

/// The same text as a string in JSON, so that each quote and line break is an escape, and each escape two.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string().into_bytes()
}

/// The same numbers in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap_or_default() % most
    }

    fn token(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/";
        (0..length).filter_map(|_| LETTERS.get(self.below(LETTERS.len()))).map(|byte| char::from(*byte)).collect()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.roll().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// Records as an API answers them: URLs with percent-encoded queries, and texts with quotes and line breaks.
    fn json(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&str; 12] = [
            "issue",
            "the",
            "a",
            "deployment",
            "user",
            "token",
            "authorization",
            "request",
            "of",
            "comment",
            "path",
            "when",
        ];
        let mut out = Vec::with_capacity(length + 1024);
        while out.len() < length {
            let count = 5 + self.below(50);
            let words: Vec<&str> = (0..count).filter_map(|_| WORDS.get(self.below(WORDS.len())).copied()).collect();
            let (begin, end) = words.split_at(count / 3);
            let record = serde_json::json!({
                "id": self.below(1 << 30),
                "url": format!("https://api.example.com/repos/acme/x/issues/{}?q=a%20b%2Fc&page=2", self.below(10_000)),
                "title": begin.join(" "),
                "body": format!("He said \"{}\".\r\n\r\n{}\n", begin.join(" "), end.join(" ")),
                "node_id": self.token(24),
                "locked": false,
            });
            out.extend_from_slice(record.to_string().as_bytes());
            out.extend_from_slice(b",\n");
        }
        out.truncate(length);
        out
    }
}
