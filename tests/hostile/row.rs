//! A row of the table: an attack, tried through every way, and its judgement.

use anyhow::{Context, bail, ensure};

use crate::attempt::{Attempt, Expected, get, judge};
use crate::greed::{Greed, Shape};
use crate::leak::{self, Known, Leak};
use crate::siege::{Siege, Terms};
use crate::taken::Taking;
use crate::ways::{Tried, Way};
use crate::{dropped, narrowed, pooled, program, search, stored};

/// Most attempts in one invocation: a record keeps 32 different denials, and an instance that is denied for ever is not what
/// is tried here.
const BATCH: usize = 24;

/// An attack.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) trial: Trial,
}

/// How an attack is made.
pub(crate) enum Trial {
    /// By a guest that runs, through every way.
    Guest(Vec<Siting>),
    /// The same by the program as people run it, with these variables in its environment.
    Program(Vec<(&'static str, String)>, Siting),
    /// By a guest that has to be told the same of each attempt, letter for letter, and something else of the last one.
    Alike(Siting, Attempt),
    /// By a guest that knows a secret, through each of these exits.
    Leak(Terms, Known, Vec<Leak>),
    /// By what the guest is connected with: nothing of it may run.
    Load(Vec<Refused>),
    /// By whoever can edit what the connector is run with, or the folders in which a vault keeps its secret.
    Stored,
    /// By whoever reads everything that a run of the program leaves, byte by byte.
    Search,
    /// By a guest that takes without end.
    Greed(Vec<Greed>),
    /// By components that are too much to load.
    Shapes(Vec<Shape>),
    /// By a guest whose call is dropped while it is in the host, a thousand times.
    Dropped { waiting: Taking, brief: Taking },
    /// By guests that leave something in every place of the pool, and others that look for it, a thousand times.
    Pooled,
    /// By a guest whose grant is narrowed while it reads.
    Narrowed,
    /// By a guest that is given what the attack is after, so that the breach has to be reported, with these words.
    Breach(Siting, &'static str),
}

/// Attempts that are made on the same terms.
pub(crate) struct Siting {
    pub(crate) terms: Terms,
    pub(crate) attempts: Vec<Attempt>,
    /// What has to succeed in the same instance afterwards.
    pub(crate) permitted: Attempt,
}

/// Terms that are refused with these words, and others like them that are not.
pub(crate) struct Refused {
    pub(crate) what: String,
    pub(crate) terms: Terms,
    pub(crate) words: &'static str,
    pub(crate) counterpart: Terms,
}

/// How one row went through one way.
pub(crate) struct Cell {
    pub(crate) way: &'static str,
    pub(crate) attempts: usize,
    pub(crate) outcome: anyhow::Result<()>,
}

/// The way of what is refused before anything runs.
pub(crate) const LOAD: &str = "load";

impl Siting {
    pub(crate) fn new(siege: &Siege, terms: Terms, attempts: Vec<Attempt>) -> Self {
        Self { terms, attempts, permitted: get(siege.api("/v1/whoami")).answered(200) }
    }

    /// The attempts in groups that go together. What may fail after it was permitted goes alone, since a record keeps one
    /// failure.
    fn batches(&self) -> Vec<Vec<Attempt>> {
        let alone = |attempt: &Attempt| matches!(attempt.expected, Expected::Failed { .. });
        let mut batches: Vec<Vec<Attempt>> = Vec::new();
        for attempt in &self.attempts {
            match batches.last_mut() {
                Some(batch) if batch.len() < BATCH && !alone(attempt) && !batch.iter().any(alone) => {
                    batch.push(attempt.clone());
                }
                _ => batches.push(vec![attempt.clone()]),
            }
        }
        for batch in &mut batches {
            batch.push(self.permitted.clone());
        }
        batches
    }
}

impl Row {
    pub(crate) fn guest(name: &'static str, sitings: impl Into<Vec<Siting>>) -> Self {
        Self { name, trial: Trial::Guest(sitings.into()) }
    }

    pub(crate) fn greed(name: &'static str, greeds: impl Into<Vec<Greed>>) -> Self {
        Self { name, trial: Trial::Greed(greeds.into()) }
    }

    /// Tries it.
    pub(crate) async fn run(&self, siege: &Siege) -> Vec<Cell> {
        if let Trial::Load(refused) = &self.trial {
            let outcome = refused.iter().try_for_each(|refused| refused.check(siege));
            return vec![Cell { way: LOAD, attempts: refused.len(), outcome }];
        }
        if let Trial::Stored = &self.trial {
            let (attempts, outcome) = stored::tampered(siege).await;
            return vec![Cell { way: LOAD, attempts, outcome }];
        }
        if let Trial::Shapes(shapes) = &self.trial {
            let complaints: Vec<_> = shapes.iter().filter_map(|shape| shape.attempt(siege).err()).collect();
            return vec![Cell { way: LOAD, attempts: shapes.len(), outcome: together(&complaints) }];
        }
        if let Trial::Dropped { waiting, brief } = &self.trial {
            let outcome = dropped::again_and_again(siege, waiting, brief).await;
            return vec![Cell { way: Way::Next.name(), attempts: dropped::TIMES, outcome }];
        }
        if let Trial::Pooled = &self.trial {
            return vec![Cell { way: Way::Call.name(), attempts: pooled::TIMES, outcome: pooled::searched().await }];
        }
        let mut cells = Vec::new();
        for way in Way::ALL {
            let (attempts, outcome) = self.through(way, siege).await;
            cells.push(Cell { way: way.name(), attempts, outcome });
        }
        cells
    }

    async fn through(&self, way: Way, siege: &Siege) -> (usize, anyhow::Result<()>) {
        let (sitings, environment) = match &self.trial {
            Trial::Guest(sitings) => (sitings.as_slice(), None),
            Trial::Program(environment, siting) => (std::slice::from_ref(siting), Some(environment.as_slice())),
            Trial::Breach(siting, words) => {
                return (siting.attempts.len(), breach(way, siege, siting, words).await);
            }
            Trial::Alike(siting, other) => {
                return (siting.attempts.len() + 1, alike(way, siege, siting, other).await);
            }
            Trial::Search => {
                return (search::TRIED, search::searched(way, siege).await);
            }
            Trial::Leak(terms, known, leaks) => return leaked(way, siege, terms, known, leaks).await,
            Trial::Narrowed => return (1, narrowed::attempt(way, siege).await),
            Trial::Greed(greeds) => {
                let (mut made, mut complaints) = (0, Vec::new());
                for greed in greeds.iter().filter(|greed| greed.ways.contains(&way)) {
                    made += 1;
                    complaints.extend(greed.attempt(way, siege).await.err());
                }
                return (made, together(&complaints));
            }
            Trial::Load(_) | Trial::Stored | Trial::Shapes(_) | Trial::Dropped { .. } | Trial::Pooled => {
                (&[][..], None)
            }
        };
        let (mut made, mut complaints) = (0, Vec::new());
        for siting in sitings {
            for batch in siting.batches() {
                made += batch.len();
                let held = async {
                    let (tried, arrived) = attempt(way, siege, &siting.terms, &batch, environment).await?;
                    let secrets = siting.terms.told();
                    judge(&batch, &tried, &arrived, &secrets)?;
                    falsifiable(&batch, &tried, &arrived, &secrets)
                };
                complaints.extend(held.await.err().map(|error| format!("{error:#}")));
            }
        }
        (made, if complaints.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(complaints.join("\n"))) })
    }
}

/// One complaint of many.
fn together(complaints: &[anyhow::Error]) -> anyhow::Result<()> {
    let lines: Vec<_> = complaints.iter().map(|error| format!("{error:#}")).collect();
    if lines.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(lines.join("\n"))) }
}

/// Takes each exit that there is in this way.
async fn leaked(way: Way, siege: &Siege, terms: &Terms, known: &Known, leaks: &[Leak]) -> (usize, anyhow::Result<()>) {
    let (mut made, mut complaints) = (0, Vec::new());
    for leak in leaks.iter().filter(|leak| leak.ways.contains(&way)) {
        made += 1;
        complaints.extend(leak::attempt(way, siege, terms, leak, known).await.err().map(|error| format!("{error:#}")));
    }
    (made, if complaints.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(complaints.join("\n"))) })
}

/// Has the guest make a batch of attempts; what came of them, and what arrived upstream.
async fn attempt(
    way: Way,
    siege: &Siege,
    terms: &Terms,
    batch: &[Attempt],
    environment: Option<&[(&'static str, String)]>,
) -> anyhow::Result<(Tried, Vec<String>)> {
    let mark = siege.mark();
    let tried = match environment {
        None => way.attempt(siege, terms, batch).await?,
        Some(environment) => program::attempt(way, siege, terms, batch, environment).await?,
    };
    Ok((tried, siege.arrived(&mark).await?))
}

/// The same outcome has to be a breach where the request that was permitted had to be denied, or to be seen nowhere.
fn falsifiable(batch: &[Attempt], tried: &Tried, arrived: &[String], secrets: &[&str]) -> anyhow::Result<()> {
    let (permitted, attempts) = batch.split_last().context("a batch without what is permitted")?;
    let judged = |changed: Attempt| judge(&[attempts, &[changed]].concat(), tried, arrived, secrets);
    let forbidden = Attempt { expected: Expected::Denied("egress-not-declared"), ..permitted.clone() };
    ensure!(judged(forbidden).is_err(), "a permitted request was not reported as a breach");
    let unseen = Attempt { arrives: Vec::new(), ..permitted.clone() };
    ensure!(judged(unseen).is_err(), "a request that arrived was not reported as a breach");
    Ok(())
}

/// What the guest is told of one attempt and of another differs in nothing, as it does where they differ in more than content.
async fn alike(way: Way, siege: &Siege, siting: &Siting, other: &Attempt) -> anyhow::Result<()> {
    let mut told = Vec::new();
    for attempted in siting.attempts.iter().chain([other]) {
        let batch = [attempted.clone(), siting.permitted.clone()];
        let (tried, arrived) = attempt(way, siege, &siting.terms, &batch, None).await?;
        judge(&batch, &tried, &arrived, &siting.terms.told())?;
        falsifiable(&batch, &tried, &arrived, &siting.terms.told())?;
        told.push(tried.answers.first().context("no answer")?.to_string());
    }
    let other = told.pop().context("nothing was tried")?;
    let (first, rest) = told.split_first().context("nothing was tried")?;
    ensure!(rest.iter().all(|answer| answer == first), "the guest was told different things: {told:?}");
    ensure!(other != *first, "the guest was told the same of what differs: {other}");
    Ok(())
}

/// The attempts succeed although they are expected not to, and that has to be reported.
async fn breach(way: Way, siege: &Siege, siting: &Siting, words: &str) -> anyhow::Result<()> {
    let mut batch = siting.attempts.clone();
    batch.push(siting.permitted.clone());
    let reported = match attempt(way, siege, &siting.terms, &batch, None).await {
        Ok((tried, arrived)) => judge(&batch, &tried, &arrived, &siting.terms.told()),
        Err(error) => Err(error),
    };
    match reported {
        Ok(()) => bail!("a breach was not reported"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains(words), "a breach was reported without {words:?}: {text}");
            Ok(())
        }
    }
}

impl Refused {
    fn check(&self, siege: &Siege) -> anyhow::Result<()> {
        let what = &self.what;
        match siege.connect(&self.terms, &self.terms.config.clone().into()) {
            Ok(_) => bail!("{what}: it was taken"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains(self.words), "{what}: refused without {:?}: {text}", self.words);
            }
        }
        siege
            .connect(&self.counterpart, &self.counterpart.config.clone().into())
            .with_context(|| format!("{what}: the counterpart"))?;
        Ok(())
    }
}
