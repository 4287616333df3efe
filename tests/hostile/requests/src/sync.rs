//! A sync that sends its requests at the moment that its stream names.

use std::marker::PhantomData;
use std::time::Duration;

use bulkhead_sdk::{Budget, Entry, Error, Page, Reader, Result, Value, json};

use crate::{Attempt, Exit, Fill, told};

/// When the requests are sent, which is also the name of the stream.
pub(crate) const MOMENTS: [&str; 3] = ["open", "next", "retry"];

/// A sync under way.
pub struct Sync<F> {
    attempts: Vec<Attempt>,
    stream: String,
    /// What came of the requests, once they were sent.
    told: Option<Vec<Value>>,
    /// Whether an earlier instance got as far as a page.
    resumed: bool,
    pages: u32,
    filled: PhantomData<F>,
}

impl<F: Fill> Sync<F> {
    pub(crate) fn open(attempts: Vec<Attempt>, stream: String, state: Option<&Value>) -> Self {
        if let Some(kept) = state.and_then(|state| state.get("kept")) {
            F::remember(kept);
        }
        let told = (stream == "open").then(|| told::<F>(&attempts));
        Self { attempts, stream, told, resumed: state.is_some(), pages: 0, filled: PhantomData }
    }
}

impl<F: Fill> Reader for Sync<F> {
    type State = Value;

    fn next(&mut self, _budget: Budget) -> Result<Page<Value>> {
        self.pages += 1;
        let state = json!({ "begun": true, "kept": F::keep() });
        if self.stream == "retry" && !self.resumed {
            return match self.pages {
                1 => Ok(Page::new(vec![Entry::upsert(&self.stream, "begun", &json!({}))?], state).more(true)),
                _ => Err(Error::transient("once more").retry_after(Duration::from_millis(1))),
            };
        }
        let told = self.told.take().unwrap_or_else(|| told::<F>(&self.attempts));
        let entries = told.iter().zip(&self.attempts).enumerate().map(|(at, (answer, attempt))| {
            let key = attempt.exit().and_then(Exit::key);
            Entry::upsert(&self.stream, key.map_or_else(|| at.to_string(), str::to_owned), answer)
        });
        let entries = entries.collect::<Result<_>>()?;
        let kept = self.attempts.iter().find_map(|attempt| attempt.exit()?.state());
        Ok(Page::new(entries, kept.map_or(state, |kept| json!({ "begun": true, "text": kept }))))
    }
}
