//! Hands out a fixed number of places, in fair order between parties.
//!
//! Why: a queue that is first come, first served belongs to whoever asks most. Here whoever waits is served in rounds: one
//! place for each party that waits, then the next round. A place that was held for long can be charged as several, and its party
//! then sits out as many rounds. Within a party it is first come, first served. (Start-time fair queuing: Goyal, Vin and Cheng,
//! SIGCOMM 1996.)
//! Invariants: 1. a place that is given back goes to the next in turn before anyone who comes later; 2. whoever stops waiting
//! takes nothing along, not even a place that was handed over at that moment; 3. one party never holds more than its most;
//! 4. of the places, some are kept for parties that hold none.
//! Callers: `admission.rs` (instances), `turns.rs` (time on a core) → here.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// Places that several parties share.
#[derive(Debug)]
pub(crate) struct Fair {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// How many of them are only for parties that hold none.
    kept: usize,
    /// The parties that wait, each once, the next one first: by the round that each has come to, and then by who waits longest.
    round: BTreeMap<Key, Arc<Party>>,
    /// The latest round in which someone was served. Whoever begins to wait begins here, and not with rounds long gone.
    now: u64,
    /// How many began to wait.
    began: u64,
}

/// A round, and a number that tells those apart who have come to it.
type Key = (u64, u64);

/// One of those who share.
#[derive(Debug)]
pub(crate) struct Party {
    /// How many places it may hold.
    most: usize,
    standing: Mutex<Standing>,
}

/// Changed under the lock of the [`Fair`] that the party takes part in.
#[derive(Debug, Default)]
struct Standing {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    /// The round that it may be served in next.
    come: u64,
    /// Where it waits.
    waits: Option<Key>,
}

/// A place. Dropping it gives it to the next in turn.
#[derive(Debug)]
pub(crate) struct Place {
    of: Option<(Arc<Fair>, Arc<Party>)>,
    /// What it costs its party besides a round.
    rounds: u64,
}

/// A future of a place. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Waiting(oneshot::Receiver<Place>);

impl Party {
    /// A party of one [`Fair`] that may hold at most `most` of its places.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), standing: Mutex::default() })
    }

    /// Whether it holds its most.
    pub(crate) fn is_full(&self) -> bool {
        self.standing().held >= self.most
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may take one of `free` places, of which `kept` are for those who hold none.
    fn may_take(&self, standing: &Standing, free: usize, kept: usize) -> bool {
        free > 0 && standing.held < self.most && (standing.held == 0 || free > kept)
    }
}

impl Fair {
    /// `places` places, of which `kept` are only for parties that hold none.
    pub(crate) fn new(places: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: places, kept, round: BTreeMap::new(), now: 0, began: 0 }) })
    }

    /// A place for `party` at once, or its turn in the queue.
    pub(crate) fn ask(self: &Arc<Self>, party: &Arc<Party>) -> Result<Place, Waiting> {
        let mut state = self.state();
        let mut standing = party.standing();
        // Whoever may take one now and is not behind others of its own party is behind nobody: the others could not take it.
        if standing.waiting.is_empty() && party.may_take(&standing, state.free, state.kept) {
            state.serve(&mut standing);
            return Ok(self.place(party));
        }
        let (sender, receiver) = oneshot::channel();
        if standing.waiting.is_empty() {
            state.line_up(party, &mut standing);
        }
        // Those who left from the middle are cleared away now and then, so that they do not pile up.
        if standing.waiting.len().is_power_of_two() {
            standing.waiting.retain(|sender| !sender.is_closed());
        }
        standing.waiting.push_back(sender);
        Err(Waiting(receiver))
    }

    /// Has `party` sit out so many rounds, for what it had without a place.
    pub(crate) fn charge(&self, party: &Party, rounds: u64) {
        let mut state = self.state();
        let mut standing = party.standing();
        // Whoever does not wait begins in the round that is served now.
        standing.come = standing.come.max(state.now);
        state.charge(&mut standing, rounds);
    }

    fn place(self: &Arc<Self>, party: &Arc<Party>) -> Place {
        Place { of: Some((Arc::clone(self), Arc::clone(party))), rounds: 0 }
    }

    /// Takes back a place of `party` that cost it `rounds` more, and gives out what may be given out now.
    fn take_back(self: &Arc<Self>, party: &Arc<Party>, rounds: u64) {
        let mut unwanted = Vec::new();
        let mut state = self.state();
        state.free += 1;
        {
            let mut standing = party.standing();
            standing.held = standing.held.saturating_sub(1);
            state.charge(&mut standing, rounds);
        }
        let mut passed = Bound::Unbounded;
        while state.free > 0 {
            let next = state.round.range((passed, Bound::Unbounded)).next().map(|(key, next)| (*key, Arc::clone(next)));
            let Some((key, next)) = next else { break };
            let mut standing = next.standing();
            while standing.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                standing.waiting.pop_front();
            }
            if !standing.waiting.is_empty() && !next.may_take(&standing, state.free, state.kept) {
                passed = Bound::Excluded(key);
                continue;
            }
            state.round.remove(&key);
            standing.waits = None;
            if let Some(sender) = standing.waiting.pop_front() {
                match sender.send(self.place(&next)) {
                    Ok(()) => state.serve(&mut standing),
                    // It went away this very moment. Its place was never counted.
                    Err(place) => unwanted.push(place),
                }
            }
            if !standing.waiting.is_empty() {
                state.line_up(&next, &mut standing);
            }
        }
        drop(state);
        unwanted.into_iter().for_each(Place::forget);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a place that is given out.
    fn serve(&mut self, standing: &mut Standing) {
        standing.held += 1;
        self.free -= 1;
        self.now = self.now.max(standing.come);
        standing.come = self.now.saturating_add(1);
    }

    /// Has a party wait that does not.
    fn line_up(&mut self, party: &Arc<Party>, standing: &mut Standing) {
        self.began += 1;
        standing.come = standing.come.max(self.now);
        let key = (standing.come, self.began);
        standing.waits = Some(key);
        self.round.insert(key, Arc::clone(party));
    }

    /// Has a party sit out so many rounds, of those that others wait in.
    fn charge(&mut self, standing: &mut Standing, rounds: u64) {
        if rounds == 0 {
            return;
        }
        standing.come = standing.come.saturating_add(rounds);
        if let Some((key, party)) = standing.waits.and_then(|key| Some((key, self.round.remove(&key)?))) {
            let later = (key.0.saturating_add(rounds), key.1);
            standing.waits = Some(later);
            self.round.insert(later, party);
        }
    }
}

impl Place {
    /// Has it cost its party so many rounds besides the one that every place costs.
    pub(crate) fn charge(&mut self, rounds: u64) {
        self.rounds = rounds;
    }

    /// Without giving it back.
    fn forget(mut self) {
        self.of = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((fair, party)) = self.of.take() {
            fair.take_back(&party, self.rounds);
        }
    }
}

impl Future for Waiting {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(place)) => Poll::Ready(place),
            // Senders are dropped only when nobody waits for them.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(waiting: &mut Waiting) -> Option<Place> {
        match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_partys_flood_does_not_delay_another_beyond_its_turn() {
        let fair = Fair::new(1, 0);
        let (flood, other) = (Party::new(9), Party::new(9));
        let first = fair.ask(&flood).unwrap();
        let mut floods: Vec<Waiting> = (0..300).map(|_| fair.ask(&flood).unwrap_err()).collect();
        let mut others: Vec<Waiting> = (0..2).map(|_| fair.ask(&other).unwrap_err()).collect();
        drop(first);
        let mut order = Vec::new();
        for _ in 0..6 {
            let next = floods.iter_mut().map(|waiting| (waiting, 'f'));
            let next = next.chain(others.iter_mut().map(|waiting| (waiting, 'o')));
            let got: Vec<char> = next.filter_map(|(waiting, who)| poll(waiting).map(|_| who)).take(1).collect();
            order.extend(got);
            floods.retain(|waiting| !waiting.0.is_terminated());
            others.retain(|waiting| !waiting.0.is_terminated());
        }
        assert_eq!(order.iter().collect::<String>(), "ofofff");
    }

    #[test]
    fn a_party_holds_no_more_than_its_most_and_the_last_places_are_for_newcomers() {
        let fair = Fair::new(4, 1);
        let (greedy, newcomer) = (Party::new(9), Party::new(9));
        let held: Vec<Place> = (0..3).map(|_| fair.ask(&greedy).unwrap()).collect();
        let mut fourth = fair.ask(&greedy).unwrap_err();
        let place = fair.ask(&newcomer).unwrap();
        drop(place);
        assert!(poll(&mut fourth).is_none(), "the last place is not for who holds three");
        drop(held);
        assert!(poll(&mut fourth).is_some());
        let capped = Party::new(1);
        let _one = fair.ask(&capped).unwrap();
        assert!(fair.ask(&capped).is_err());
    }

    /// Who gets the next places, one after the other, of two who wait for many each.
    fn served(fair: &Arc<Fair>, held: Place, parties: [&Arc<Party>; 2], each: usize, of_first: u64) -> String {
        let mut waiting: Vec<(Waiting, usize)> = Vec::new();
        for _ in 0..each {
            waiting.extend((0..2).map(|who| (fair.ask(parties[who]).unwrap_err(), who)));
        }
        drop(held);
        let mut order = String::new();
        while let Some((at, place)) = waiting.iter_mut().enumerate().find_map(|(at, (it, _))| Some((at, poll(it)?))) {
            let (_, who) = waiting.remove(at);
            let mut place = place;
            if who == 0 {
                place.charge(of_first);
            }
            order.push(['a', 'b'][who]);
        }
        order
    }

    #[test]
    fn whoever_held_a_place_for_long_sits_out_as_many_rounds() {
        let fair = Fair::new(1, 0);
        let (long, short) = (Party::new(9), Party::new(9));
        let held = fair.ask(&short).unwrap();
        assert_eq!(served(&fair, held, [&long, &short], 5, 2), "abbabbbaaa");
        let held = fair.ask(&long).unwrap();
        assert_eq!(served(&fair, held, [&long, &short], 2, 0), "baba", "nobody waits for what is long gone");
    }

    #[test]
    fn what_was_had_without_a_place_can_be_charged_as_well() {
        let fair = Fair::new(1, 0);
        let (long, short) = (Party::new(9), Party::new(9));
        let held = fair.ask(&short).unwrap();
        fair.charge(&long, 3);
        assert_eq!(served(&fair, held, [&long, &short], 5, 0), "bbabababaa");
    }

    #[test]
    fn whoever_leaves_takes_nothing_along() {
        let fair = Fair::new(1, 0);
        let party = Party::new(9);
        let held = fair.ask(&party).unwrap();
        let (gone, mut stays) = (fair.ask(&party).unwrap_err(), fair.ask(&party).unwrap_err());
        drop(gone);
        let handed = fair.ask(&party).unwrap_err();
        drop(held);
        let place = poll(&mut stays).unwrap();
        drop(place);
        // It was handed over by now, and is dropped unread.
        drop(handed);
        assert!(fair.ask(&party).is_ok());
    }

    #[test]
    fn those_who_left_do_not_pile_up() {
        let fair = Fair::new(1, 0);
        let party = Party::new(9);
        let _held = fair.ask(&party).unwrap();
        let _first = fair.ask(&party).unwrap_err();
        for _ in 0..10_000 {
            drop(fair.ask(&party).unwrap_err());
        }
        assert!(party.standing().waiting.len() < 10);
    }

    #[test]
    fn no_place_is_lost_or_made_whatever_happens() {
        use rand::rngs::StdRng;
        use rand::{Rng, SeedableRng};
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let fair = Fair::new(5, 1);
            let parties: Vec<Arc<Party>> = (0..4).map(|_| Party::new(3)).collect();
            let (mut held, mut waiting): (Vec<Place>, Vec<Waiting>) = Default::default();
            for _ in 0..2000 {
                match random.random_range(0..4) {
                    0 | 1 => match fair.ask(&parties[random.random_range(0..4)]) {
                        Ok(place) => held.push(place),
                        Err(waits) => waiting.push(waits),
                    },
                    2 if !held.is_empty() => drop(held.swap_remove(random.random_range(0..held.len()))),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(random.random_range(0..waiting.len()))),
                    _ => {}
                }
                waiting.retain_mut(|waits| match poll(waits) {
                    Some(place) => {
                        held.push(place);
                        false
                    }
                    None => true,
                });
                assert_eq!(fair.state().free + held.len(), 5, "seed {seed}");
                let able = |party: &&Arc<Party>| {
                    let standing = party.standing();
                    let asks = standing.waiting.iter().any(|sender| !sender.is_closed());
                    asks && party.may_take(&standing, fair.state().free, 1)
                };
                assert!(parties.iter().find(able).is_none(), "seed {seed}: someone waits for what is free");
            }
        }
    }
}
