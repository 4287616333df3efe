//! A sync that takes at the moment that its stream names: `open`, `next`, or `retry`, which breaks off first.

use std::time::Duration;

use bulkhead_sdk::{Budget, Entry, Error, Page, Reader, Result, Value, json};

use crate::Config;

/// A sync under way.
pub(crate) struct Sync {
    config: Config,
    stream: String,
    /// Whether an earlier instance got as far as a page.
    resumed: bool,
    pages: u32,
}

impl Sync {
    pub(crate) fn new(config: Config, stream: String, resumed: bool) -> Self {
        Self { config, stream, resumed, pages: 0 }
    }
}

impl Reader for Sync {
    type State = Value;

    fn next(&mut self, _budget: Budget) -> Result<Page<Value>> {
        self.pages += 1;
        let begun = json!({ "begun": true });
        if self.stream == "retry" && !self.resumed {
            return match self.pages {
                1 => Ok(Page::new(vec![Entry::upsert(&self.stream, "begun", &json!({}))?], begun).more(true)),
                _ => Err(Error::transient("once more").retry_after(Duration::from_millis(1))),
            };
        }
        let taken = self.config.at(&self.stream)?;
        Ok(match taken {
            Some(taken) if self.config.action == "flood-state" => Page::new(Vec::new(), taken),
            Some(taken) => Page::new(vec![Entry::upsert(&self.stream, "taken", &taken)?], begun),
            None => Page::new(Vec::new(), begun),
        })
    }
}
