//! How one vantage sees one target.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_config::{Moment, Numbers};

/// A target is asked this often, or a tenth more often, so that vantages spread.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// A probe that is not answered by then has failed.
pub const TIMEOUT: Duration = Duration::from_millis(800);
/// While there is doubt, a target is asked this often, each time over a new connection.
pub const CONFIRM: Duration = Duration::from_millis(100);
/// Whoever has not answered for so long will not be back in a moment.
const DOUBT: Duration = Duration::from_secs(10);
/// No answer comes sooner than this too late.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);
/// So many probes at least have to fail before a target is bad,
const FALL: u16 = 3;
/// for so long at least,
const SPAN: Duration = Duration::from_millis(400);
/// or for so long where more than [`NOISY`] of all probes fail without any consequence.
const NOISY_SPAN: Duration = Duration::from_millis(800);
const NOISY: f32 = 0.02;
/// Where clients' requests fail as well, two probes that fail confirm it after so long,
const CLIENTS_SPAN: Duration = Duration::from_millis(250);
/// and three that are late after so long,
const CLIENTS_LATE_SPAN: Duration = Duration::from_millis(600);
/// because that counts as much as so many probes.
const CLIENTS: u16 = 2;
/// So many answers in a row prove a target good,
const RISE: u8 = 5;
/// of probes that were sent at least so long after each other. [`INTERVAL`] may be a tenth shorter.
const APART: Duration = Duration::from_millis(900);

/// What became of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A good answer, after so long.
    Answered { sent: Moment, took: Duration },
    /// No answer within [`Sight::patience`]; it may still come.
    Late { sent: Moment },
    /// A bad answer or none at all. `late` if that was told already.
    Failed { sent: Moment, late: bool },
    /// Not a probe's: since then, most of what clients ask for is not answered at all.
    Clients { since: Moment },
}

/// What a vantage says of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Neither: it has just begun to look, or the target was bad and has not proved itself yet.
    #[default]
    Unproven,
    Good,
    /// Something is not as it should be; it is asking again.
    Doubtful,
    Bad,
}

/// How one vantage sees one target.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    proof: Proof,
    run: Option<Run>,
    /// When the last probe was sent that was answered.
    answered: Moment,
    /// Since when clients get no answers, if no probe was answered since.
    clients: Option<Moment>,
    /// Smoothed, in milliseconds.
    round_trip: f32,
    noise: Noise,
}

#[derive(Clone, Copy, Debug)]
enum Proof {
    /// Answers in a row, and when the last one that counts was asked for.
    Unproven {
        answers: u8,
        last: Moment,
    },
    Good,
    Bad,
}

/// Probes that were all sent after the last one that was answered, and missed.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// When the first of them was sent.
    began: Moment,
    /// Late or failed.
    missed: u16,
    failed: u16,
    /// Whether clients miss their answers, too.
    clients: bool,
}

/// What part of the probes fails while nothing is wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Noise {
    probes: u32,
    failures: u32,
}

impl Sight {
    /// Takes in what became of a probe.
    pub fn take(&mut self, sample: Sample, now: Moment) -> Verdict {
        match sample {
            Sample::Answered { sent, took } => self.answered(sent, took),
            Sample::Late { sent } if sent > self.answered => {
                let run = self.missed(sent);
                run.missed = run.missed.saturating_add(1);
                if run.clients {
                    self.judge(now);
                }
            }
            Sample::Failed { sent, late } if sent > self.answered => {
                let run = self.missed(sent);
                run.missed = run.missed.saturating_add(u16::from(!late));
                run.failed = run.failed.saturating_add(1);
                if let Proof::Unproven { answers, .. } = &mut self.proof {
                    *answers = 0;
                }
                self.judge(now);
            }
            Sample::Clients { since } if since > self.answered => match &mut self.run {
                Some(run) => run.join_clients(since),
                None => self.clients = Some(self.clients.unwrap_or(since)),
            },
            // A later probe was answered.
            Sample::Late { .. } | Sample::Clients { .. } => {}
            Sample::Failed { .. } => self.noise.add(1, 1),
        }
        self.verdict()
    }

    pub fn verdict(&self) -> Verdict {
        match (&self.proof, &self.run) {
            (Proof::Bad, _) => Verdict::Bad,
            (_, Some(run)) if run.missed >= 2 => Verdict::Doubtful,
            (Proof::Good, _) => Verdict::Good,
            (Proof::Unproven { .. }, _) => Verdict::Unproven,
        }
    }

    /// What an answer usually takes; `None` before there was one.
    pub fn round_trip(&self) -> Option<Duration> {
        (self.round_trip > 0.0).then(|| Duration::from_secs_f32(self.round_trip / 1000.0))
    }

    /// After how long a probe is late: four times what it usually takes.
    pub fn patience(&self) -> Duration {
        let usual = Duration::from_secs_f32(self.round_trip * 4.0 / 1000.0);
        usual.clamp(LEAST_PATIENCE, TIMEOUT)
    }

    /// Whether to ask every [`CONFIRM`], and not only every [`INTERVAL`]: also for a while after it
    /// is bad, so that nobody says so any longer than it is.
    pub fn is_in_doubt(&self, now: Moment) -> bool {
        self.run.as_ref().is_some_and(|run| now.since(run.began) < DOUBT)
    }

    /// Takes in that, since the last sample, so many probes were answered as usual, and that each of
    /// these failed, but not the one that confirmed it. The same as taking all of them, but quick.
    pub fn take_quiet(&mut self, answered: u32, failed: u32, last_sent: Moment) {
        if answered > 0 {
            self.run = None;
            self.answered = self.answered.max(last_sent);
            self.proof = Proof::Good;
        }
        self.noise.add(answered + failed, failed);
    }

    /// The run that a probe belongs to which was missed.
    fn missed(&mut self, sent: Moment) -> &mut Run {
        let run = self.run.get_or_insert_with(|| Run::new(sent));
        if let Some(since) = self.clients.take() {
            run.join_clients(since);
        }
        run
    }

    fn judge(&mut self, now: Moment) {
        if self.run.as_ref().is_some_and(|run| run.is_proof(self.noise.span(), now)) {
            self.proof = Proof::Bad;
        }
    }

    fn answered(&mut self, sent: Moment, took: Duration) {
        const WEIGHT: f32 = 0.1;
        let took = took.as_secs_f32() * 1000.0;
        match self.round_trip == 0.0 {
            true => self.round_trip = took,
            false => self.round_trip += WEIGHT * (took - self.round_trip),
        }
        self.noise.add(1, 0);
        if sent <= self.answered {
            return;
        }
        self.answered = sent;
        self.clients = self.clients.filter(|since| *since > sent);
        // Those of the run that were sent later are told again, if they fail.
        let run = self.run.take_if(|run| sent >= run.began);
        let was_bad = matches!(self.proof, Proof::Bad);
        if let (Some(run), false) = (run, was_bad) {
            self.noise.add(u32::from(run.failed), u32::from(run.failed));
        }
        match &mut self.proof {
            Proof::Good => {}
            Proof::Bad => self.proof = Proof::Unproven { answers: 1, last: sent },
            Proof::Unproven { answers, last } if *answers == 0 || sent.since(*last) >= APART => {
                (*answers, *last) = (*answers + 1, sent);
                if *answers >= RISE {
                    self.proof = Proof::Good;
                }
            }
            Proof::Unproven { .. } => {}
        }
    }
}

impl Default for Proof {
    fn default() -> Self {
        Self::Unproven { answers: 0, last: Moment(0) }
    }
}

impl Run {
    fn new(began: Moment) -> Self {
        Self { began, missed: 0, failed: 0, clients: false }
    }

    /// Clients have missed their answers since then, too.
    fn join_clients(&mut self, since: Moment) {
        if !std::mem::replace(&mut self.clients, true) {
            self.began = self.began.min(since);
            self.missed = self.missed.saturating_add(CLIENTS);
            self.failed = self.failed.saturating_add(CLIENTS);
        }
    }

    /// Whether so many have failed for so long that the target is bad.
    fn is_proof(&self, span: Duration, now: Moment) -> bool {
        let lasted = now.since(self.began);
        if !self.clients {
            return self.failed >= FALL && lasted >= span;
        }
        let are_late = self.missed >= CLIENTS + FALL && lasted >= CLIENTS_LATE_SPAN;
        are_late || (self.failed >= CLIENTS + 2 && lasted >= CLIENTS_SPAN)
    }
}

impl Noise {
    /// About an hour of probes is remembered.
    const MEMORY: u32 = 4096;
    /// From how many on they say something.
    const ENOUGH: u32 = 64;

    fn add(&mut self, probes: u32, failures: u32) {
        self.probes += probes;
        self.failures += failures;
        while self.probes >= Self::MEMORY {
            self.probes /= 2;
            self.failures /= 2;
        }
    }

    fn span(&self) -> Duration {
        let part = self.failures as f32 / self.probes.max(1) as f32;
        if self.probes >= Self::ENOUGH && part > NOISY { NOISY_SPAN } else { SPAN }
    }
}

/// When to ask again after a regular probe: after [`INTERVAL`] at the latest, so that what is said
/// of the time to detection is true.
pub fn pause(numbers: &mut Numbers) -> Duration {
    INTERVAL.mul_f64(1.0 - 0.1 * numbers.fraction())
}

/// Whether a vantage that sees these of its references is itself what is wrong.
pub fn is_cut_off(references: impl IntoIterator<Item = Verdict>) -> bool {
    let (mut all, mut good) = (0, 0);
    for verdict in references {
        all += 1;
        good += usize::from(verdict == Verdict::Good);
    }
    good * 2 < all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a target that is asked every 100 ms from the first failure on is said to be, after each
    /// sample: `+` answered, `-` refused, `l` late, `t` timed out, `c` clients miss their answers,
    /// and then the time it was sent at.
    fn check(samples: &[(char, u64, u64)], verdicts: &[Verdict]) {
        let mut sight = proven();
        let said: Vec<_> = samples
            .iter()
            .map(|(what, sent, now)| {
                let (sent, now) = (Moment(*sent), Moment(*now));
                let sample = match what {
                    '+' => Sample::Answered { sent, took: now.since(sent) },
                    '-' => Sample::Failed { sent, late: false },
                    'l' => Sample::Late { sent },
                    'c' => Sample::Clients { since: sent },
                    _ => Sample::Failed { sent, late: true },
                };
                sight.take(sample, now)
            })
            .collect();
        assert_eq!(said, verdicts, "{samples:?}");
    }

    /// One that is good at 10,000.
    fn proven() -> Sight {
        let mut sight = Sight::default();
        for second in 0..RISE {
            assert_eq!(sight.verdict(), Verdict::Unproven, "after {second} answers");
            let sent = Moment(5000 + 1000 * u64::from(second));
            sight.take(Sample::Answered { sent, took: Duration::from_millis(20) }, sent);
        }
        assert_eq!(sight.verdict(), Verdict::Good);
        sight
    }

    use Verdict::{Bad, Doubtful, Good, Unproven};

    #[test]
    fn what_refuses_for_400_ms_is_bad() {
        let refused = |at: u64| ('-', at, at + 1);
        check(
            &[10_000, 10_001, 10_100, 10_200, 10_300, 10_400].map(refused),
            &[Good, Doubtful, Doubtful, Doubtful, Doubtful, Bad],
        );
    }

    #[test]
    fn what_answers_nothing_is_bad_within_a_second_of_the_first_probe() {
        check(
            &[
                ('l', 10_000, 10_100),
                ('l', 10_100, 10_200),
                ('l', 10_200, 10_300),
                ('t', 10_000, 10_800),
                ('t', 10_100, 10_900),
                ('t', 10_200, 11_000),
            ],
            &[Good, Doubtful, Doubtful, Doubtful, Doubtful, Bad],
        );
    }

    #[test]
    fn an_answer_to_a_later_probe_outweighs_what_was_lost_before_it() {
        check(
            &[
                ('l', 10_000, 10_100),
                ('l', 10_100, 10_200),
                ('+', 10_200, 10_220),
                ('t', 10_000, 10_800),
                ('t', 10_100, 10_900),
            ],
            &[Good, Doubtful, Good, Good, Good],
        );
    }

    #[test]
    fn five_answers_a_second_apart_prove_it_again() {
        let refused = |at: u64| ('-', at, at + 1);
        let mut samples = [10_000, 10_001, 10_400].map(refused).to_vec();
        let answers = [11_000, 11_100, 12_000, 13_000, 14_000, 15_000];
        samples.extend(answers.map(|at| ('+', at, at + 20)));
        let said = [Good, Doubtful, Bad, Unproven, Unproven, Unproven, Unproven, Unproven, Good];
        check(&samples, &said);
    }

    #[test]
    fn what_clients_miss_is_confirmed_by_probes_and_decides_nothing_alone() {
        let refused = |at: u64| ('-', at, at + 1);
        check(&[('c', 10_000, 10_200), refused(10_200), refused(10_300)], &[Good, Doubtful, Bad]);
        let late = |at: u64| ('l', at, at + 100);
        check(
            &[('c', 10_000, 10_250), late(10_250), late(10_350), late(10_450), late(10_550)],
            &[Good, Doubtful, Doubtful, Doubtful, Bad],
        );
        // An answer to a probe outweighs what clients had missed before.
        check(
            &[('c', 10_000, 10_900), ('+', 11_900, 11_920), refused(12_000), refused(12_100)],
            &[Good, Good, Good, Doubtful],
        );
        check(&[('+', 10_100, 10_120), ('c', 10_000, 10_200), refused(10_300)], &[Good; 3]);
    }

    #[test]
    fn many_samples_at_once_are_the_same_as_one_after_the_other() {
        let (mut slow, mut quick) = (proven(), proven());
        for n in 0..200 {
            let sent = Moment(10_000 + 1000 * n);
            if n % 20 == 0 {
                slow.take(Sample::Failed { sent, late: false }, sent);
            }
            let sent = sent + Duration::from_millis(1);
            slow.take(Sample::Answered { sent, took: Duration::from_millis(20) }, sent);
        }
        quick.take_quiet(200, 10, Moment(10_000 + 199_001));
        let seen = |sight: &Sight| {
            (sight.verdict(), sight.answered, sight.noise.failures, sight.noise.span())
        };
        assert_eq!(seen(&slow), seen(&quick));
        assert_eq!(slow.noise.span(), NOISY_SPAN);
    }

    #[test]
    fn a_vantage_whose_references_are_mostly_not_well_is_cut_off() {
        for (references, cut_off) in [
            (&[][..], false),
            (&[Good], false),
            (&[Doubtful], true),
            (&[Good, Bad], false),
            (&[Good, Bad, Doubtful], true),
        ] {
            assert_eq!(is_cut_off(references.iter().copied()), cut_off, "{references:?}");
        }
    }
}
