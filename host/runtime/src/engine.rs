//! The engine that all compartments share, and the clock that makes guests yield.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Config, Engine};

/// How long a guest computes before it yields to others. Short beside a person's patience, long beside a task switch.
pub(crate) const SLICE: Duration = Duration::from_millis(5);
/// A guest's stack, in bytes: wasmtime's own default, written down because deep recursion is cut off here.
const STACK: usize = 512 * 1024;

/// The engine could not start: the machine lacks memory, threads or a supported processor.
#[derive(Debug, thiserror::Error)]
#[error("the engine could not start: {0}")]
pub struct Unavailable(String);

/// The shared engine. Nothing in it belongs to any one tenant.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    _ticker: Arc<Ticker>,
}

impl Runtime {
    /// An engine, and a thread that ticks its epoch.
    pub fn new() -> Result<Self, Unavailable> {
        Self::start().map_err(|error| Unavailable(format!("{error:#}")))
    }

    fn start() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true).max_wasm_stack(STACK);
        // A trap's text goes to authors; addresses of the host's memory are nobody's business.
        config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
        let engine = Engine::new(&config)?;
        let ticker = Ticker::start(&engine)?;
        Ok(Self { engine, _ticker: Arc::new(ticker) })
    }
}

/// Ticks until dropped.
struct Ticker(Option<(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Ticker {
    fn start(engine: &Engine) -> std::io::Result<Self> {
        let engine = engine.weak();
        let (stop, stopped) = std::sync::mpsc::channel();
        // A thread and not a task: a task would wait behind the very guests it has to interrupt.
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(SLICE) {
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self(Some((stop, thread))))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}
