//! Takes turns, takes medians, and holds figures against goals.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bulkhead_tests::aimed::repository;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How much is measured.
pub(crate) struct Effort {
    /// Turns of each side.
    pub(crate) rounds: usize,
    /// Calls in a turn.
    pub(crate) calls: usize,
    /// Requests over which memory has to stay flat.
    pub(crate) requests: usize,
    /// Different connectors that are prepared.
    pub(crate) connectors: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 60, calls: 300, requests: 100_000, connectors: 1000 };
    pub(crate) const QUICK: Self = Self { rounds: 15, calls: 200, requests: 100_000, connectors: 100 };
}

/// The figures so far.
pub(crate) struct Report {
    goals: Vec<Goal>,
    figures: Vec<Figure>,
    spreads: Vec<String>,
    /// Whether everything is measured that has a goal.
    whole: bool,
}

#[derive(Deserialize)]
struct Goals {
    goal: Vec<Goal>,
}

#[derive(Deserialize)]
struct Goal {
    case: String,
    #[serde(flatten)]
    bound: Bound,
    unit: String,
}

/// `at_most = 2.0` or `at_least = 2.0`.
#[derive(Deserialize, Serialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

/// One figure, as the report has it.
#[derive(Serialize)]
struct Figure {
    case: String,
    value: f64,
    unit: &'static str,
    /// How many times `against`.
    ratio: Option<f64>,
    against: Option<&'static str>,
    goal: Option<Bound>,
    met: Option<bool>,
}

/// What two sides that took turns came to.
pub(crate) struct Compared {
    /// The median of A's medians.
    pub(crate) a: Duration,
    /// The median ratio of A to B in a round.
    pub(crate) ratio: f64,
    /// The first and third quartile of the rounds' ratios.
    pub(crate) spread: (f64, f64),
}

/// Median durations of `calls` calls each.
pub(crate) async fn turn(calls: usize, mut call: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let began = Instant::now();
        call().await?;
        times.push(began.elapsed());
    }
    times.sort();
    times.get(calls / 2).copied().context("no calls")
}

/// A, B, A, B …, after one round that does not count.
pub(crate) async fn compare(
    effort: &Effort,
    mut a: impl AsyncFnMut() -> anyhow::Result<()>,
    mut b: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Compared> {
    let (mut medians, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..=effort.rounds {
        let ours = turn(effort.calls, &mut a).await?;
        let theirs = turn(effort.calls, &mut b).await?;
        if round > 0 {
            medians.push(ours.as_secs_f64());
            ratios.push(ours.as_secs_f64() / theirs.as_secs_f64());
        }
    }
    medians.sort_by(f64::total_cmp);
    ratios.sort_by(f64::total_cmp);
    let at = |list: &[f64], share: usize| list.get(list.len() * share / 4).copied().unwrap_or(f64::NAN);
    Ok(Compared {
        a: Duration::from_secs_f64(at(&medians, 2)),
        ratio: at(&ratios, 2),
        spread: (at(&ratios, 1), at(&ratios, 3)),
    })
}

impl Report {
    /// A report with these goals, in TOML. `whole` when each of them is to be measured.
    pub(crate) fn new(goals: &str, whole: bool) -> anyhow::Result<Self> {
        let Goals { goal } = toml::from_str(goals)?;
        Ok(Self { goals: goal, figures: Vec::new(), spreads: Vec::new(), whole })
    }

    /// A figure of its own. Its goal, if it has one, is for the value.
    pub(crate) fn figure(&mut self, case: &str, value: f64, unit: &'static str) {
        self.push(case, value, unit, None, String::new());
    }

    /// A figure beside another. Its goal, if it has one, is for the ratio.
    pub(crate) fn compared(&mut self, case: &str, compared: &Compared, against: &'static str) {
        let (low, high) = compared.spread;
        let spread = format!("half of all rounds {low:.2} to {high:.2}");
        let micros = compared.a.as_secs_f64() * 1e6;
        self.push(case, micros, "µs", Some((compared.ratio, against)), spread);
    }

    /// How many of something are done in a second, where A and B each take the time for so many. Its goal, if it has one, is
    /// for how many times B's rate that is.
    pub(crate) fn rate(&mut self, case: &str, compared: &Compared, count: usize, against: &'static str) {
        let (low, high) = compared.spread;
        let spread = format!("half of all rounds {:.2} to {:.2}", 1.0 / high, 1.0 / low);
        let rate = count as f64 / compared.a.as_secs_f64();
        self.push(case, rate, "/s", Some((1.0 / compared.ratio, against)), spread);
    }

    /// A figure beside an earlier one of its own kind. Its goal, if it has one, is for the ratio.
    pub(crate) fn grown(&mut self, case: &str, value: f64, unit: &'static str, before: f64, against: &'static str) {
        self.push(case, value, unit, Some((value / before, against)), String::new());
    }

    fn push(
        &mut self,
        case: &str,
        value: f64,
        unit: &'static str,
        beside: Option<(f64, &'static str)>,
        spread: String,
    ) {
        let goal = self.goals.iter().find(|goal| goal.case == case).map(|goal| goal.bound);
        let held = beside.map_or(value, |(ratio, _)| ratio);
        self.figures.push(Figure {
            case: case.to_owned(),
            value,
            unit,
            ratio: beside.map(|(ratio, _)| ratio),
            against: beside.map(|(_, against)| against),
            goal,
            met: goal.map(|goal| goal.holds(held)),
        });
        self.spreads.push(spread);
    }

    /// Writes the files and prints the table; success when every goal was met.
    pub(crate) fn finish(self, machine: &Value) -> anyhow::Result<ExitCode> {
        for goal in &self.goals {
            let measured = self.figures.iter().any(|figure| figure.case == goal.case);
            ensure!(measured || !self.whole, "nothing measures `{}`, which has a goal", goal.case);
        }
        let folder = repository().join("target/reports");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("bench.json"), serde_json::to_string_pretty(&self.figures)? + "\n")?;
        std::fs::write(folder.join("bench-machine.json"), serde_json::to_string_pretty(machine)? + "\n")?;
        let mut table = format!("{machine}\n");
        for (figure, spread) in self.figures.iter().zip(&self.spreads) {
            let beside = match (figure.ratio, figure.against) {
                (Some(ratio), Some(against)) => format!("{ratio:.3} × {against}"),
                _ => String::new(),
            };
            let unit = self.goals.iter().find(|goal| goal.case == figure.case).map_or("", |goal| goal.unit.as_str());
            let verdict = match (figure.goal, figure.met) {
                (Some(goal), Some(true)) => format!("met ({goal} {unit})"),
                (Some(goal), _) => format!("MISSED ({goal} {unit})"),
                _ => String::new(),
            };
            let Figure { case, value, unit, .. } = figure;
            let _ = writeln!(table, "{case:<28} {value:>12.2} {unit:<4}  {beside:<28} {verdict}");
            if !spread.is_empty() {
                let _ = writeln!(table, "{:<28} {spread}", "");
            }
        }
        let judged = self.figures.iter().filter_map(|figure| figure.met);
        let (passed, failed): (Vec<bool>, Vec<bool>) = judged.partition(|met| *met);
        let _ = writeln!(table, "{} passed, {} failed", passed.len(), failed.len());
        std::io::stdout().write_all(table.as_bytes())?;
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
