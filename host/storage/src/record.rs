//! Typed rows: each with the version of its form, so that what an older host wrote is read, and a revision, so that of two
//! writers one is told.
//!
//! *Invariants*: 1. a row of a newer form is refused, never guessed at; 2. a row is replaced only where it is still the one that
//! was read; 3. keys are parts that no part can reach out of: a tenant's rows begin with the tenant's name and a zero byte.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Batch, Error, Space, Store};

/// Something that is kept.
pub trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// Where.
    const SPACE: Space;
    /// The version of its form. Whoever changes the form raises it, and extends [`Self::migrated`].
    const VERSION: u32 = 1;

    /// A row of an older form, made into one of this form. The default is for those that have had only one.
    fn migrated(_version: u32, row: Value) -> Value {
        row
    }
}

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct Stored<R> {
    /// What it says.
    pub record: R,
    /// Which version it is. The first is a random number, so that none is that of another record which had the same key before, and
    /// each change adds one.
    pub revision: u64,
    /// As it lies there.
    row: Vec<u8>,
}

/// Records of a scan, and where to go on.
#[derive(Debug, Clone)]
pub struct Listed<R> {
    /// The records, in the order of their keys.
    pub records: Vec<Stored<R>>,
    /// The key to go on after, where there are more.
    pub next: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Row<R> {
    version: u32,
    revision: u64,
    record: R,
}

/// A key of `parts`, each ended by a zero byte, which none of them may hold.
pub fn key(parts: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts {
        debug_assert!(!part.contains('\0'), "a part of a key holds no zero byte");
        key.extend(part.bytes().filter(|byte| *byte != 0));
        key.push(0);
    }
    key
}

/// The record with this key.
pub async fn load<R: Record>(store: &dyn Store, key: &[u8]) -> Result<Option<Stored<R>>, Error> {
    store.get(R::SPACE, key).await?.map(parse).transpose()
}

/// Up to `limit` records whose keys begin with `prefix` and come behind `after`.
pub async fn list<R: Record>(
    store: &dyn Store,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Listed<R>, Error> {
    let page = store.scan(R::SPACE, prefix, after, limit).await?;
    let next = if page.more { page.entries.last().map(|(key, _)| key.clone()) } else { None };
    let records = page.entries.into_iter().map(|(_, row)| parse(row)).collect::<Result<_, _>>()?;
    Ok(Listed { records, next })
}

/// All records whose keys begin with `prefix`: at most `most`, more is an error.
pub async fn all<R: Record>(store: &dyn Store, prefix: &[u8], most: usize) -> Result<Vec<Stored<R>>, Error> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let mut listed = list(store, prefix, after.as_deref(), crate::LARGEST_PAGE).await?;
        found.append(&mut listed.records);
        if found.len() > most {
            return Err(Error::TooLarge("a list"));
        }
        after = listed.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

impl Batch {
    /// Writes a record that is not there yet.
    pub fn insert<R: Record>(self, key: &[u8], record: &R) -> Self {
        // Below 2^62, so that it can be counted on from.
        self.written(key, record, None, rand::random::<u64>() >> 2)
    }

    /// Writes `record` in the place of `stored`, unless somebody else wrote there since.
    pub fn update<R: Record>(self, key: &[u8], stored: &Stored<R>, record: &R) -> Self {
        self.written(key, record, Some(stored.row.clone()), stored.revision.saturating_add(1))
    }

    /// Does nothing at all, unless `stored` is still there as it was read.
    pub fn while_as<R: Record>(self, key: &[u8], stored: &Stored<R>) -> Self {
        self.only_if(R::SPACE, key, Some(stored.row.clone()))
    }

    /// Removes `stored`, unless somebody else wrote there since.
    pub fn remove<R: Record>(self, key: &[u8], stored: &Stored<R>) -> Self {
        let mut batch = self.only_if(R::SPACE, key, Some(stored.row.clone()));
        batch.delete(R::SPACE, key);
        batch
    }

    fn written<R: Record>(self, key: &[u8], record: &R, before: Option<Vec<u8>>, revision: u64) -> Self {
        let mut batch = self.only_if(R::SPACE, key, before);
        match serde_json::to_vec(&Row { version: R::VERSION, revision, record }) {
            Ok(row) => batch.put(R::SPACE, key, row),
            Err(error) => batch.refuse(Error::Failed(error.to_string())),
        }
        batch
    }
}

fn parse<R: Record>(row: Vec<u8>) -> Result<Stored<R>, Error> {
    let space = R::SPACE.name();
    let damaged = |error: serde_json::Error| Error::Damaged(format!("a row of {space}: {error}"));
    let Row { version, revision, record: value } = serde_json::from_slice::<Row<Value>>(&row).map_err(damaged)?;
    if version > R::VERSION {
        return Err(Error::Failed(format!("a row of {space} is of form {version}, which a newer host wrote")));
    }
    let value = if version < R::VERSION { R::migrated(version, value) } else { value };
    Ok(Stored { record: serde_json::from_value(value).map_err(damaged)?, revision, row })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct New {
        names: Vec<String>,
    }

    const SPACE: Space = Space::new("things");

    impl Record for Old {
        const SPACE: Space = SPACE;
    }

    impl Record for New {
        const SPACE: Space = SPACE;
        const VERSION: u32 = 2;

        fn migrated(_: u32, mut row: Value) -> Value {
            let name = row["name"].take();
            serde_json::json!({ "names": [name] })
        }
    }

    fn old(name: &str) -> Old {
        Old { name: name.to_owned() }
    }

    #[tokio::test]
    async fn of_two_writers_of_a_record_one_is_told() {
        let store = MemoryStore::default();
        let at = key(&["acme", "one"]);
        store.apply(Batch::new().insert(&at, &old("a"))).await.unwrap();
        assert!(matches!(store.apply(Batch::new().insert(&at, &old("b"))).await, Err(Error::Conflict)));
        let read = load::<Old>(&store, &at).await.unwrap().unwrap();
        let first = read.revision;
        store.apply(Batch::new().while_as(&at, &read).update(&at, &read, &old("c"))).await.unwrap();
        assert!(matches!(store.apply(Batch::new().while_as(&at, &read)).await, Err(Error::Conflict)));
        assert!(matches!(store.apply(Batch::new().update(&at, &read, &old("d"))).await, Err(Error::Conflict)));
        assert!(matches!(store.apply(Batch::new().remove(&at, &read)).await, Err(Error::Conflict)));
        let read = load::<Old>(&store, &at).await.unwrap().unwrap();
        assert_eq!((&read.record, read.revision), (&old("c"), first + 1));
        store.apply(Batch::new().remove(&at, &read)).await.unwrap();
        assert!(load::<Old>(&store, &at).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_made_anew_has_no_version_of_what_was_there_before() {
        let store = MemoryStore::default();
        let at = key(&["acme", "one"]);
        store.apply(Batch::new().insert(&at, &old("a"))).await.unwrap();
        let before = load::<Old>(&store, &at).await.unwrap().unwrap();
        store.apply(Batch::new().remove(&at, &before)).await.unwrap();
        store.apply(Batch::new().insert(&at, &old("a"))).await.unwrap();
        let after = load::<Old>(&store, &at).await.unwrap().unwrap();
        assert_ne!(before.revision, after.revision);
        assert!(matches!(store.apply(Batch::new().update(&at, &before, &old("b"))).await, Err(Error::Conflict)));
    }

    #[tokio::test]
    async fn an_older_row_is_read_and_a_newer_one_refused() {
        let store = MemoryStore::default();
        let at = key(&["acme", "one"]);
        store.apply(Batch::new().insert(&at, &old("a"))).await.unwrap();
        let read = load::<New>(&store, &at).await.unwrap().unwrap();
        assert_eq!(read.record, New { names: vec!["a".to_owned()] });
        store.apply(Batch::new().update(&at, &read, &read.record)).await.unwrap();
        assert!(matches!(load::<Old>(&store, &at).await, Err(Error::Failed(why)) if why.contains("newer host")));
        assert_eq!(load::<New>(&store, &at).await.unwrap().unwrap().revision, read.revision + 1);
    }

    #[tokio::test]
    async fn a_list_is_of_one_tenant_and_bounded() {
        let store = MemoryStore::default();
        let mut batch = Batch::new();
        for number in 0..5 {
            batch = batch.insert(&key(&["acme", &number.to_string()]), &old("x"));
        }
        store.apply(batch.insert(&key(&["acme2", "0"]), &old("y"))).await.unwrap();
        let listed = list::<Old>(&store, &key(&["acme"]), None, 3).await.unwrap();
        assert_eq!(listed.records.len(), 3);
        let rest = list::<Old>(&store, &key(&["acme"]), listed.next.as_deref(), 3).await.unwrap();
        assert_eq!((rest.records.len(), rest.next), (2, None));
        assert_eq!(all::<Old>(&store, &key(&["acme"]), 5).await.unwrap().len(), 5);
        assert!(all::<Old>(&store, &key(&["acme"]), 4).await.is_err());
    }
}
