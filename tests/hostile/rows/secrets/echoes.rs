//! What an upstream that was sent a secret tells of it: masked in every spelling, and not let through in any that cannot be
//! looked into.

use bulkhead_tests::canary::{AWKWARD, ORDINARY};

use super::{PLAIN, at_bank, banked};
use crate::attempt::{Attempt, Request, get};
use crate::echo::{DRIP, FRAMINGS, SPELLINGS};
use crate::row::{Row, Siting, Trial};
use crate::siege::{Siege, Terms};

fn terms(siege: &Siege, value: &str) -> Terms {
    banked(siege).with_secret("key", value, &at_bank("places = [\"header:x-key\"]"), PLAIN)
}

fn echo(siege: &Siege, spelling: &str) -> Request {
    get(siege.bank(&format!("/echo/{spelling}"))).header("x-key", "<secret:key>")
}

pub(crate) fn spelled(siege: &Siege) -> Row {
    let sitings = [AWKWARD, ORDINARY].map(|value| {
        let attempts = SPELLINGS.iter().chain(&FRAMINGS).map(|spelling| echo(siege, spelling).masked());
        Siting::new(siege, terms(siege, value), attempts.collect())
    });
    Row::guest("An upstream that echoes a secret, in every spelling", sitings)
}

/// What is not passed on at all, and what cannot be looked into.
pub(crate) fn beside(siege: &Siege) -> Row {
    let sitings = [AWKWARD, ORDINARY].map(|value| {
        let refused = |spelling: &str, code| {
            let request = echo(siege, spelling);
            let arrival = request.arrival();
            request.failed(code, "HttpResponseContentCoding").arriving(arrival)
        };
        let mut attempts: Vec<Attempt> = ["trailer", "hint", "reason"]
            .iter()
            .map(|place| echo(siege, place).with("full", true.into()).answered(200))
            .collect();
        attempts.push(echo(siege, "plain").header("range", "bytes=0-3").denied("egress-range"));
        attempts.push(echo(siege, "plain").header("if-range", "\"x\"").denied("egress-range"));
        attempts.push(refused("part", "egress-partial"));
        attempts.push(refused("unknown", "egress-encoded"));
        Siting::new(siege, terms(siege, value), attempts)
    });
    Row::guest("An echo in a trailer, a part, or a coding that nobody knows", sitings)
}

/// An upstream that sends the beginning of what it guesses, and then waits: what the guest has been given by then must not
/// tell whether the guess was right.
pub(crate) fn held_back(siege: &Siege) -> Row {
    let guesses = ["no", "z", "zqx_Live", "zqx_Live_8Jk4Wv0pTn62YsRb7Ud", "\\u007aqx%5FLive"];
    let attempts = guesses.iter().map(|guess| drip(siege, LENGTH, guess)).collect();
    Row {
        name: "An upstream that guesses a secret's beginning, and waits",
        trial: Trial::Alike(Siting::new(siege, terms(siege, ORDINARY), attempts), drip(siege, LENGTH + 1, "no")),
    }
}

/// What is sent before the wait, in bytes: more than is ever held back of a secret of this length.
const LENGTH: usize = 2048;
/// How long the guest waits, in milliseconds.
const PATIENCE: u64 = 100;

/// So many bytes, of which the last are the guess.
fn drip(siege: &Siege, length: usize, guess: &str) -> Attempt {
    let guess: String = guess.bytes().map(|byte| format!("{byte:02x}")).collect();
    let request = get(siege.bank(&format!("{DRIP}{length}/{guess}"))).with("patience_ms", PATIENCE.into());
    let arrival = request.arrival();
    request.header("x-key", "<secret:key>").failed("egress-silent", "after ").arriving(arrival)
}

/// The guard does not know this value, so that the echo of it comes out: that has to be seen.
pub(crate) fn unguarded(siege: &Siege) -> Row {
    let mut terms = terms(siege, VALUE_OF_ANOTHER);
    terms.watched.push(ORDINARY.to_owned());
    let attempts = vec![echo(siege, "plain").header("x-key", ORDINARY).masked()];
    Row {
        name: "Self-check: a secret that comes out counts as a breach",
        trial: Trial::Breach(Siting::new(siege, terms, attempts), "a secret came out"),
    }
}

const VALUE_OF_ANOTHER: &str = "another-value-0123456789";
