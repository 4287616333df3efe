//! Calls into a guest: a fresh instance under limits, and what came of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bulkhead_capabilities::Capability;
use bulkhead_capabilities::credentials::{Guard, Secrets};
use bulkhead_capabilities::egress::Client;
use bulkhead_capabilities::journal::{Exit, Record};
use bulkhead_capabilities::log;
use bulkhead_core::Power;
use bulkhead_core::limits::{Limits, Size, Source};
use serde::de::IgnoredAny;
use wasmtime::{Store, UpdateDeadline};

use crate::admission::{Admitted, Entry};
use crate::compartment::{BESIDE, Compartment, MOST_HANDLES};
use crate::engine::{FIRST_TICKS, MEMORY_KEPT, SLICE_TICKS};
use crate::limiter::{Limiter, Refused};
use crate::memory::Held;
use crate::meter::{Metered, Wiping};
use crate::outcome::{self, Failure, Late, Outcome, Usage};
use crate::prepare::Prepared;
use crate::quarantine::Marks;
use crate::roles::Opened;
use crate::roles::types::{Error as GuestError, Page, Selection, StreamDefinition};
use crate::standing::Standing;
use crate::weight::Weight;
use crate::{Refusal, Role, tally};

/// What a host call may hand over besides the output limit: a piece of a body, a log line, a header set.
const HOSTCALL_ALLOWANCE: usize = 1024 * 1024;
/// What a call may hand over whose output limit is the default, in bytes.
const ORDINARY: usize = 9 * 1024 * 1024;
/// How many bytes of records are looked through at once: some tenth of a millisecond.
const LOOKED_THROUGH: usize = 64 * 1024;
/// What a text in a returned value takes beside its bytes, in bytes: itself, where it is looked for secrets, and its part of
/// the entry that it is in.
const EACH_TEXT: usize = 64;
/// Memory whose wiping takes longer than a slice, in bytes.
const MUCH: usize = 16 * 1024 * 1024;
/// Longest wait for a turn to wipe what a call had. Somebody waits for what came of it.
const MOMENT: Duration = Duration::from_millis(100);
/// Longest text of a connector's error, in bytes: one or two sentences, twenty times over.
const LONGEST_MESSAGE: usize = 4 * 1024;

/// An installed connector: a prepared component with its power, its secrets and its configuration.
#[derive(Clone)]
pub struct Connection {
    /// Its way in, among its tenant's.
    pub entry: Arc<Entry>,
    /// Whether it goes on.
    pub standing: Arc<Standing>,
    /// The component.
    pub prepared: Arc<Prepared>,
    /// What it may do.
    pub power: Arc<Power>,
    /// The values of its secrets.
    pub secrets: Arc<Secrets>,
    /// What recognises them.
    pub guard: Arc<Guard>,
    /// How its requests leave.
    pub client: Arc<Client>,
    /// Its configuration, as JSON.
    pub config: Arc<String>,
}

impl Connection {
    /// `meta.spec`.
    pub async fn spec(&self) -> Outcome<String> {
        let prepared = &self.prepared;
        self.once(async |run: &mut Run| {
            run.plain(async |store: &mut Store<Compartment>| {
                let role = prepared.meta(store).await?;
                role.bulkhead_connector_meta().call_spec(store).await
            })
            .await
        })
        .await
    }

    /// `meta.check`.
    pub async fn check(&self) -> Outcome<()> {
        let Self { prepared, config, .. } = self;
        self.once(async |run: &mut Run| {
            run.fallible(async |store: &mut Store<Compartment>| {
                let role = prepared.meta(store).await?;
                role.bulkhead_connector_meta().call_check(store, config).await
            })
            .await
        })
        .await
    }

    /// `source.discover`.
    pub async fn discover(&self) -> Result<Outcome<Vec<StreamDefinition>>, Refusal> {
        self.has(Role::Source)?;
        let Self { prepared, config, .. } = self;
        Ok(self
            .once(async |run: &mut Run| {
                run.fallible(async |store: &mut Store<Compartment>| {
                    let role = prepared.source(store).await?;
                    role.bulkhead_connector_source().call_discover(store, config).await
                })
                .await
            })
            .await)
    }

    /// `actions.describe`.
    pub async fn describe(&self) -> Result<Outcome<String>, Refusal> {
        self.has(Role::Actions)?;
        let prepared = &self.prepared;
        Ok(self
            .once(async |run: &mut Run| {
                run.plain(async |store: &mut Store<Compartment>| {
                    let role = prepared.actions(store).await?;
                    role.bulkhead_connector_actions().call_describe(store).await
                })
                .await
            })
            .await)
    }

    /// `actions.invoke`.
    pub async fn invoke(&self, name: &str, input: &String, idempotency_key: &str) -> Result<Outcome<String>, Refusal> {
        self.has(Role::Actions)?;
        let Self { prepared, config, .. } = self;
        Ok(self
            .once(async |run: &mut Run| {
                run.fallible(async |store: &mut Store<Compartment>| {
                    let role = prepared.actions(store).await?;
                    role.bulkhead_connector_actions().call_invoke(store, name, config, input, idempotency_key).await
                })
                .await
            })
            .await)
    }

    /// `source.open`: a reader that lives in one instance until it is dropped.
    pub async fn open(&self, selections: &[Selection], state: Option<&str>) -> Result<Outcome<Reader>, Refusal> {
        self.has(Role::Source)?;
        let Self { prepared, config, .. } = self;
        let state = state.map(str::to_owned);
        let mut run = match self.begin().await {
            Ok(run) => run,
            Err(failure) => return Ok(Outcome::refused(failure)),
        };
        let opened = run
            .fallible(async |store: &mut Store<Compartment>| {
                let role = prepared.source(store).await?;
                let opened =
                    role.bulkhead_connector_source().call_open(store, config, selections, state.as_ref()).await?;
                Ok(opened.map(|handle| Opened { role, handle }))
            })
            .await;
        let (result, opened) = match opened {
            Ok(opened) => (Ok(()), Some(opened)),
            Err(failure) => (Err(failure), None),
        };
        let outcome = run.end(result);
        Ok(outcome.and(opened.map(|opened| Reader { run, opened, whole: true })))
    }

    fn has(&self, role: Role) -> Result<(), Refusal> {
        if self.prepared.roles().contains(&role) { Ok(()) } else { Err(Refusal::NoRole(role)) }
    }

    /// One call in an instance of its own.
    async fn once<T>(&self, call: impl AsyncFnOnce(&mut Run) -> Result<T, Failure>) -> Outcome<T> {
        let mut run = match self.begin().await {
            Ok(run) => run,
            Err(failure) => return Outcome::refused(failure),
        };
        let result = call(&mut run).await;
        let outcome = run.end(result);
        run.leave().await;
        outcome
    }

    /// An instance's store, when its turn has come, with nothing in it yet.
    async fn begin(&self) -> Result<Run, Failure> {
        let (admitted, generation) = self.enter().await?;
        let began = Instant::now();
        let mut limits = *self.power.limits();
        let tenant = self.entry.tenant();
        // A call that is alone finds room for what it returns.
        let half = Size::kib((tenant.memory().tenant.all() / 2048) as u64);
        if half < limits.output_bytes {
            (limits.output_bytes, limits.set_by.output_bytes) = (half, Source::Ceiling);
        }
        let held = Held::of(Arc::clone(tenant.memory()));
        let beside = if Capability::Egress.is_in(&self.power) { BESIDE } else { 0 };
        let most = limits.output_bytes.as_usize().saturating_add(HOSTCALL_ALLOWANCE);
        // Rather turned away than stopped when it was nearly done. Whoever may return more than most takes the risk.
        let lacking = tenant.memory().lacking(beside.saturating_add(most.min(ORDINARY))).map_or(Ok(()), Err);
        lacking.and_then(|()| held.at_least(beside)).map_err(|whose| self.entry.busy(whose))?;
        let limiter = Limiter::new(limits.memory.as_usize(), beside, Arc::clone(&held));
        let mut store = Store::new(&self.prepared.runtime.engine, Compartment::new(self, generation, limiter));
        store.limiter(|compartment| &mut compartment.limiter);
        store.set_hostcall_fuel(most);
        store.set_max_component_handles(MOST_HANDLES);
        store.set_epoch_deadline(FIRST_TICKS);
        // A guest that used up its slice goes to the back of the executor's queue. It may be computing after it returned, when
        // what it returned is in the host's memory already.
        store.epoch_deadline_callback(move |mut store| {
            let limiter = &mut store.data_mut().limiter;
            limiter.moves_on();
            match limiter.pass(most) {
                Ok(()) => Ok(UpdateDeadline::YieldCustom(SLICE_TICKS, Box::pin(tokio::task::yield_now()))),
                Err(whose) => Err(wasmtime::format_err!("for what it may return, {whose} no memory left")),
            }
        });
        Ok(Run {
            store,
            wiping: Wiping::of(Arc::clone(tenant)),
            _memory: held,
            entry: Arc::clone(&self.entry),
            standing: Arc::clone(&self.standing),
            _admitted: admitted,
            limits,
            most_records: usize::MAX,
            deadline: began + limits.time.duration(),
            cpu: Duration::ZERO,
            calling: Some(began),
        })
    }
}

/// A sync in progress.
pub struct Reader {
    run: Run,
    opened: Opened,
    /// Whether its last call came to an end of its own, so that there can be another.
    whole: bool,
}

impl Reader {
    /// The next page: at most `max_entries` entries and about `max_bytes` bytes. After a call that was dropped, or that the
    /// connector did not return from, there is none: a guest is not entered again where it was left.
    pub async fn next(&mut self, max_entries: u32, max_bytes: u32) -> Outcome<Page> {
        if !std::mem::take(&mut self.whole) {
            // What ended it for good says so again.
            let overran = self.run.store.data().journal.overran().map(Failure::from);
            let unfinished = || Failure::Host("the reader's last call did not come to its end".into());
            return Outcome::refused(overran.unwrap_or_else(unfinished));
        }
        self.run.most_records = max_entries as usize;
        let Calling(run) = &mut self.run.call();
        let Opened { role, handle } = &self.opened;
        let result = run
            .fallible(async |store: &mut Store<Compartment>| {
                role.bulkhead_connector_source().reader().call_next(store, *handle, max_entries, max_bytes).await
            })
            .await;
        self.whole = matches!(result, Ok(_) | Err(Failure::Reported(_)));
        run.end(result)
    }

    /// What the instance did since its last call ended, if it did anything: a request that was left open goes on by itself.
    pub fn rest(&mut self) -> Option<(Usage, Record)> {
        self.run.rest()
    }
}

/// An instance and what it has used.
struct Run {
    store: Store<Compartment>,
    /// In this order, so that its tenant has its memory back only when that was wiped.
    wiping: Wiping,
    _memory: Arc<Held>,
    entry: Arc<Entry>,
    standing: Arc<Standing>,
    limits: Limits,
    /// How many records a call may return.
    most_records: usize,
    /// When the call in progress ends at the latest.
    deadline: Instant,
    cpu: Duration,
    /// When the call in progress began, if there is one.
    calling: Option<Instant>,
    /// Last, so that the pool has its slots back before the next one is let in.
    _admitted: Admitted,
}

/// A call on an instance that lives on. Dropped before its end, it leaves what it used.
struct Calling<'a>(&'a mut Run);

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.calling.is_some() {
            self.abandon();
        } else if let Some((usage, record)) = self.rest() {
            tally::leave(usage, record);
        }
        if self.store.data().limiter.peak() > MEMORY_KEPT {
            self.wiping.begin();
        }
    }
}

impl Run {
    /// Begins another call.
    fn call(&mut self) -> Calling<'_> {
        let began = Instant::now();
        self.cpu = Duration::ZERO;
        self.deadline = began + self.limits.time.duration();
        self.store.data_mut().limiter.moves_on();
        self.calling = Some(began);
        Calling(self)
    }

    /// Leaves what the call in progress used, if there is one.
    fn abandon(&mut self) {
        if self.calling.is_some() {
            let record = self.store.data().journal.take();
            self.standing.judge(Marks::of_abandoned(&record));
            tally::leave(self.used(), record);
        }
    }

    /// What was done since the last call ended, if anything was. It counts like what a call does that is given up.
    fn rest(&mut self) -> Option<(Usage, Record)> {
        let compartment = self.store.data();
        let record = compartment.journal.take();
        if record == Record::default() {
            return None;
        }
        self.standing.judge(Marks::of_abandoned(&record));
        Some((Usage { memory: compartment.limiter.peak(), ..Usage::default() }, record))
    }

    /// Gives back what it had. Where wiping that takes long, it is done in its tenant's turn, if there is one in a moment.
    async fn leave(self) {
        let tenant = Arc::clone(self.entry.tenant());
        let (cores, turns) = tenant.turns();
        let turn = match self.store.data().limiter.peak() > MUCH {
            true => tokio::time::timeout(MOMENT, turns.turn(cores)).await.ok(),
            false => None,
        };
        drop(self);
        drop(turn);
    }

    /// What the call in progress used; then there is none.
    fn used(&mut self) -> Usage {
        self.store.data_mut().limiter.passed();
        let time = self.calling.take().map(|began| began.elapsed()).unwrap_or_default();
        Usage { time, cpu: self.cpu, memory: self.store.data().limiter.peak() }
    }

    /// Runs `call` under the limits on wall clock and CPU, looks through what it returned, and says what a trap means.
    async fn plain<T: Weight>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<Compartment>) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        let journal = self.store.data().journal.clone();
        let ended = {
            let Self { store, limits, most_records, cpu, deadline, entry, .. } = self;
            let work = pin!(async {
                let value = call(store).await?;
                Ok(looked_through(value, limits, *most_records, store.data_mut()).await)
            });
            let metered = Metered::new(work, cpu, limits.cpu.duration(), entry.tenant().turns());
            journal.outlast(before(*deadline, metered)).await?
        };
        match ended {
            None => {
                let (limit, waited) = (self.limits.time_reached(), journal.waited());
                Err(Failure::Time(Late { limit, waited, computed: self.cpu }))
            }
            Some(Err(_)) => Err(Failure::Cpu(self.limits.cpu_reached())),
            Some(Ok(Ok(value))) => value,
            Some(Ok(Err(error))) => {
                let limiter = &self.store.data().limiter;
                let refused = limiter.unheld().map(Refused::Shared).or(limiter.refused());
                Err(match outcome::of_trap(&error, refused, &self.limits) {
                    Failure::Trap(text) => {
                        journal.leaks(Exit::Trap, text.as_bytes());
                        Failure::Trap(journal.guard().masked(&text))
                    }
                    failure => failure,
                })
            }
        }
    }

    /// The same for a call that has an error of its own.
    async fn fallible<T: Weight>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<Compartment>) -> wasmtime::Result<Result<T, GuestError>>,
    ) -> Result<T, Failure> {
        self.plain(call).await?.map_err(|mut error| {
            let guard = self.store.data().journal.guard();
            error.message = log::presentable(guard, &error.message, LONGEST_MESSAGE);
            error.stream_name = error.stream_name.map(|name| log::presentable(guard, &name, LONGEST_MESSAGE));
            Failure::Reported(error)
        })
    }

    /// What came of the call that just ended.
    fn end<T>(&mut self, result: Result<T, Failure>) -> Outcome<T> {
        let usage = self.used();
        let compartment = self.store.data();
        compartment.log.end_lines();
        let (lines, dropped_lines) = compartment.log.take();
        // Whatever else came of it: nothing of a guest that let out a secret is handed on.
        let (record, leaked) = compartment.journal.end();
        let result = match leaked {
            Some(exit) => Err(Failure::Leak(exit)),
            None => result,
        };
        let outcome = Outcome { result, record, lines, dropped_lines, usage };
        // A call that the host had no room for went no way of its own.
        let unheld = self.store.data().limiter.unheld().is_some();
        let marks = if unheld { Marks::of_abandoned(&outcome.record) } else { Marks::of(&outcome) };
        self.standing.judge(marks);
        outcome
    }
}

/// What comes of `work` before the deadline. Most calls never need the timer.
async fn before<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut late) = (pin!(work), pin!(async { tokio::time::sleep_until(deadline.into()).await }));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// `value` as it may be handed on, if it may. Others have their turn in between.
async fn looked_through<T: Weight>(
    mut value: T,
    limits: &Limits,
    most_records: usize,
    compartment: &mut Compartment,
) -> Result<T, Failure> {
    let bytes = value.bytes();
    if bytes > limits.output_bytes.as_usize() {
        return Err(Failure::Output(limits.output_reached()));
    }
    let mut texts = Vec::new();
    value.texts(&mut texts);
    let all = bytes.saturating_add(texts.len().saturating_mul(EACH_TEXT));
    compartment.limiter.pass(all).map_err(Failure::Crowded)?;
    let (records, mut since) = (value.records(), 0);
    if records.len() > most_records {
        let reason = format!("it has {} entries where at most {most_records} were asked for", records.len());
        return Err(Failure::Malformed { role: "page", reason });
    }
    for record in records {
        if let Err(error) = serde_json::from_str::<IgnoredAny>(record) {
            return Err(Failure::Malformed { role: "record", reason: format!("it is not JSON: {error}") });
        }
        since += record.len();
        if since > LOOKED_THROUGH {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    let mut texts = Vec::new();
    value.texts(&mut texts);
    if compartment.journal.guard().mask_texts(texts).await.leak {
        compartment.journal.leak(value.exit());
    }
    Ok(value)
}

impl Outcome<()> {
    /// The same outcome with a value, where there is one.
    fn and<T>(self, value: Option<T>) -> Outcome<T> {
        let result = match (self.result, value) {
            (Ok(()), Some(value)) => Ok(value),
            (Ok(()), None) => Err(Failure::Host("a value is missing".into())),
            (Err(failure), _) => Err(failure),
        };
        Outcome { result, record: self.record, lines: self.lines, dropped_lines: self.dropped_lines, usage: self.usage }
    }
}
