//! Who sent what, who got it, and what was answered: every request has a line of its own.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The number of a request: it is sent, recorded by the upstream, and answered.
pub(super) type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Get,
    Post,
    Message,
}

#[derive(Debug)]
pub(super) struct Book {
    began: Instant,
    lines: Mutex<Vec<Line>>,
    ended: AtomicUsize,
    closed: AtomicBool,
    /// What was done to the server meanwhile, in order.
    events: Mutex<Vec<(Duration, String)>>,
    losses: Mutex<Vec<Loss>>,
}

/// The loss of a machine.
#[derive(Debug)]
struct Loss {
    from: Duration,
    /// From then on nothing more was sent there.
    to: Duration,
    upstreams: Range<u16>,
}

#[derive(Debug)]
struct Line {
    kind: Kind,
    /// What sent it.
    client: &'static str,
    sent: Duration,
    ended: Option<(Duration, Result<(), String>)>,
    /// The upstreams that it arrived at, each as often as it did. Nearly always one.
    arrived: Vec<u16>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Mutex::default(),
            ended: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            events: Mutex::default(),
            losses: Mutex::default(),
        }
    }

    /// How old it is.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The machine of these upstreams was lost at that age, and by now it is left alone.
    pub(super) fn lose(&self, upstreams: Range<u16>, from: Duration) {
        locked(&self.losses).push(Loss { from, to: self.age(), upstreams });
    }

    /// Whether all that were answered are known to have arrived, and where. An upstream in another
    /// process may tell that later than it answers.
    pub(super) fn is_complete(&self) -> bool {
        let answered = |line: &&Line| matches!(line.ended, Some((_, Ok(()))));
        locked(&self.lines).iter().filter(answered).all(|line| !line.arrived.is_empty())
    }

    /// The number of a request that is about to be sent; none when enough were.
    pub(super) fn send(&self, kind: Kind, client: &'static str) -> Option<Id> {
        if self.closed.load(Relaxed) {
            return None;
        }
        let mut lines = locked(&self.lines);
        let id = Id::try_from(lines.len()).ok()?;
        let (sent, arrived) = (self.began.elapsed(), Vec::new());
        lines.push(Line { kind, client, sent, ended: None, arrived });
        Some(id)
    }

    pub(super) fn arrive(&self, id: Id, upstream: u16) {
        if let Some(line) = locked(&self.lines).get_mut(id as usize) {
            line.arrived.push(upstream);
        }
    }

    /// The answer to a request, or why there is none.
    pub(super) fn end(&self, id: Id, outcome: Result<(), String>) {
        if let Some(line) = locked(&self.lines).get_mut(id as usize) {
            line.ended = Some((self.began.elapsed(), outcome));
        }
        self.ended.fetch_add(1, Relaxed);
    }

    /// How many requests have been answered or have failed.
    pub(super) fn ended(&self) -> usize {
        self.ended.load(Relaxed)
    }

    /// No more requests are to be sent.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(super) fn note(&self, event: String) {
        locked(&self.events).push((self.began.elapsed(), event));
    }

    /// Adds up. To be called when everything that was sent has ended.
    pub(super) fn balance(&self) -> Balance {
        let (lines, events) = (locked(&self.lines), locked(&self.events));
        let losses = locked(&self.losses);
        let mut balance = Balance { sent: lines.len(), ..Balance::default() };
        for (id, line) in lines.iter().enumerate() {
            *balance.kinds.entry(line.kind).or_default() += 1;
            let answered = matches!(line.ended, Some((_, Ok(()))));
            balance.accepted += usize::from(!line.arrived.is_empty());
            balance.answered += usize::from(answered);
            balance.twice += usize::from(line.arrived.len() > 1);
            balance.posts_twice += usize::from(line.kind == Kind::Post && line.arrived.len() > 1);
            if answered && line.arrived.len() == 1 {
                continue;
            }
            match losses.iter().any(|loss| line.went_down_with(loss)) {
                true => balance.went_down += 1,
                false => balance.wrong.push(line.tell(id, &events)),
            }
        }
        balance
    }
}

impl Line {
    /// Whether it was under way to a machine that was lost, and what could be done for it was done:
    /// a GET is sent to another one; a POST that may have arrived must fail.
    fn went_down_with(&self, loss: &Loss) -> bool {
        let Some((ended, outcome)) = &self.ended else { return false };
        let met = self.sent <= loss.to && *ended >= loss.from;
        met && match self.kind {
            Kind::Get => outcome.is_ok() && !self.arrived.is_empty(),
            Kind::Post | Kind::Message => {
                let was_there =
                    self.arrived.iter().all(|upstream| loss.upstreams.contains(upstream));
                outcome.is_err() && self.arrived.len() <= 1 && was_there
            }
        }
    }

    fn tell(&self, id: usize, events: &[(Duration, String)]) -> String {
        let (at, what) = match &self.ended {
            None => (self.sent, "never ended"),
            Some((at, Ok(()))) => (*at, "answered"),
            Some((at, Err(why))) => (*at, why.as_str()),
        };
        let Self { kind, client, sent, arrived, .. } = self;
        let mut told = format!("{kind:?} {id} of {client}, sent at {sent:?}, at {at:?}: {what}");
        told += &format!("; arrived at {arrived:?}");
        let near = |event: &&(Duration, String)| {
            event.0 + NEAR >= *sent && event.0 <= at + Duration::from_millis(10)
        };
        for (when, event) in events.iter().filter(near) {
            told += &format!("\n    {when:?} {event}");
        }
        told
    }
}

/// Events so long before a request may have to do with it.
const NEAR: Duration = Duration::from_millis(1500);

/// What came of all requests.
#[derive(Debug, Default)]
pub(super) struct Balance {
    pub(super) sent: usize,
    /// Seen by an upstream.
    pub(super) accepted: usize,
    pub(super) answered: usize,
    /// Seen more than once, by one upstream or several.
    pub(super) twice: usize,
    pub(super) posts_twice: usize,
    pub(super) kinds: BTreeMap<Kind, usize>,
    /// Those that were under way to a machine that was lost, and could not be saved or were by
    /// being sent again.
    pub(super) went_down: usize,
    /// Every other request that was not answered by exactly one upstream, and what happened around it.
    pub(super) wrong: Vec<String>,
}

impl fmt::Display for Balance {
    /// With as many of those that went wrong as the precision says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, accepted, answered, twice, kinds, .. } = self;
        write!(
            f,
            "{sent} sent {kinds:?}, {accepted} accepted, {answered} answered, {twice} twice"
        )?;
        let shown = f.precision().unwrap_or(SHOWN);
        self.wrong.iter().take(shown).try_for_each(|wrong| write!(f, "\n  {wrong}"))
    }
}

const SHOWN: usize = 20;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it has pushed or replaced one whole value, or not.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_machine_excuses_what_was_on_it_and_nothing_else() {
        let book = Book::new();
        let line = |kind, arrivals: &[u16], outcome: Result<(), String>| {
            let id = book.send(kind, "test").expect("it is open");
            arrivals.iter().for_each(|upstream| book.arrive(id, *upstream));
            book.end(id, outcome);
        };
        let failed = || Err("504".to_owned());
        line(Kind::Post, &[10], failed());
        let from = book.age();
        // Those that may be as they are, and those that may not.
        for arrivals in [&[][..], &[10]] {
            line(Kind::Post, arrivals, failed());
        }
        line(Kind::Get, &[10, 2], Ok(()));
        for arrivals in [&[2][..], &[10, 11]] {
            line(Kind::Post, arrivals, failed());
        }
        line(Kind::Get, &[10], failed());
        line(Kind::Post, &[10, 2], Ok(()));
        book.lose(10..20, from);
        line(Kind::Post, &[10], failed());
        let Balance { went_down, wrong, .. } = book.balance();
        assert_eq!((went_down, wrong.len()), (3, 6), "{wrong:#?}");
    }

    #[test]
    fn only_what_one_upstream_answered_once_is_right() {
        let book = Book::new();
        let line = |kind, arrivals: &[u16], outcome: Option<Result<(), String>>| {
            let id = book.send(kind, "test").expect("it is open");
            arrivals.iter().for_each(|upstream| book.arrive(id, *upstream));
            if let Some(outcome) = outcome {
                book.end(id, outcome);
            }
        };
        line(Kind::Get, &[1], Some(Ok(())));
        line(Kind::Get, &[1, 2], Some(Ok(())));
        line(Kind::Post, &[3, 3], Some(Ok(())));
        line(Kind::Message, &[], Some(Err("closed".to_owned())));
        line(Kind::Post, &[], Some(Ok(())));
        line(Kind::Get, &[1], None);
        book.close();
        assert_eq!(book.send(Kind::Get, "test"), None);
        let balance = book.balance();
        let Balance { sent, accepted, answered, twice, posts_twice, wrong, .. } = &balance;
        assert_eq!((*sent, *accepted, *answered), (6, 4, 4));
        assert_eq!((*twice, *posts_twice, wrong.len()), (2, 1, 5));
    }
}
