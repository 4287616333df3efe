//! Tasks from a list that a server offers as one JSON file.

use bulkhead_sdk::{Budget, Connector, Error, Mode, Page, Reader, Result, Selection, Source, Spec, Stream, http, json};
use serde::{Deserialize, Serialize};

struct Hello;

bulkhead_sdk::export!(Hello: source);

#[derive(Deserialize)]
struct Config {
    base_url: String,
    list: String,
}

#[derive(Deserialize, Serialize)]
struct Task {
    id: u64,
    title: String,
}

fn fetch(config: &Config) -> Result<Vec<Task>> {
    let file = format!("{}.json", config.list);
    Ok(http::get(&config.base_url).path(["lists", &file]).send()?.error_for_status()?.json()?)
}

impl Connector for Hello {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new("example/hello")
    }

    fn check(config: Config) -> Result<()> {
        fetch(&config).map(drop)
    }
}

impl Source for Hello {
    type Reader = Tasks;

    fn discover(_config: Config) -> Result<Vec<Stream>> {
        let schema = json!({ "type": "object", "required": ["id", "title"] });
        Ok(vec![Stream::new("tasks", schema).primary_key(&["id"]).cursor(&["id"])])
    }

    fn open(config: Config, selections: Vec<Selection>, state: Option<u64>) -> Result<Tasks> {
        let selection = selections.into_iter().next().ok_or_else(|| Error::permanent("no stream was selected"))?;
        let last = if selection.mode == Mode::Incremental { state.unwrap_or(0) } else { 0 };
        Ok(Tasks { config, selection, last })
    }
}

struct Tasks {
    config: Config,
    selection: Selection,
    last: u64,
}

impl Reader for Tasks {
    /// The highest id that was read. The host keeps it, and hands it to the next run's `open`.
    type State = u64;

    fn next(&mut self, _budget: Budget) -> Result<Page<u64>> {
        let (seen, mut entries) = (self.last, Vec::new());
        for task in fetch(&self.config)?.iter().filter(|task| task.id > seen) {
            entries.push(self.selection.upsert(task.id, task)?);
            self.last = self.last.max(task.id);
        }
        Ok(Page::new(entries, self.last))
    }
}
