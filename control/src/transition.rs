//! What can become of an app's deployments: the whole of their state machine.
//!
//! Pure, so that the store applies to its rows what the tests apply in virtual time. At most one
//! deployment is on its way and at most one is live, whatever is asked in whatever order.

use std::{sync::Arc, time::Duration};

use weir_config::{Cause, Deployment, DeploymentState, Ending, Moment, Template};

/// A change of an app's deployments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Transition {
    /// A new one, which takes the place of one on its way.
    Begin { number: u64, template: Arc<Template>, cause: Cause },
    /// One on its way is further.
    Advance { stage: Stage, to: DeploymentState, step: u16 },
    /// One on its way has got there. The former live one is kept for so long.
    GoLive { stage: Stage, keep: Duration },
    /// One on its way ends in a state that is none of these.
    End { stage: Stage, state: DeploymentState, ending: Ending },
    /// Back to the one that was live before, or to this one.
    RollBack { to: Option<u64>, ending: Ending },
    /// The one on its way is called off.
    Cancel { ending: Ending },
    /// The app is no image any more.
    Retire,
}

/// How far a deployment was when it was decided on: what has moved since is not moved again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) deployment: u64,
    pub(crate) state: DeploymentState,
    pub(crate) step: u16,
}

impl Stage {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let Deployment { number, state, step, .. } = deployment;
        Self { deployment: *number, state: *state, step: *step }
    }
}

/// Why a transition that was asked for cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no deployment is on its way")]
    NothingToCancel,
    #[error("no former deployment was ever live; name one by its number")]
    NothingToGoBackTo,
    #[error("there is no deployment {0} any more")]
    NoSuchDeployment(u64),
    #[error("deployment {0} is live already")]
    IsLive(u64),
}

impl Transition {
    /// Applies it to all deployments of an app, of which none is on its way or live that is not
    /// among these. Returns whether anything has changed: one that comes too late changes nothing.
    ///
    /// # Errors
    /// It was asked for and cannot be; nothing has changed.
    pub(crate) fn apply(
        &self,
        deployments: &mut Vec<Deployment>,
        now: Moment,
    ) -> Result<bool, Refused> {
        use DeploymentState::{Cancelled, Live, Pending, Superseded};
        match self {
            Self::Begin { number, template, cause } => {
                if let Some(at) = under_way(deployments) {
                    let message = format!("deployment {number} took its place");
                    let ending = Ending { message, ..ending("Superseded") };
                    deployments[at].end(Cancelled, ending, now);
                }
                let new = Deployment {
                    number: *number,
                    template: template.clone(),
                    state: Pending,
                    step: 0,
                    since: now,
                    cause: *cause,
                    kept_until: None,
                    ending: None,
                };
                deployments.insert(0, new);
                Ok(true)
            }
            Self::Advance { stage, to, step } => {
                let Some(at) = at_stage(deployments, stage) else { return Ok(false) };
                deployments[at].enter(*to, *step, now);
                Ok(true)
            }
            Self::GoLive { stage, keep } => {
                let Some(at) = at_stage(deployments, stage) else { return Ok(false) };
                let live = live(deployments);
                deployments.iter_mut().for_each(|deployment| deployment.kept_until = None);
                if let Some(former) = live {
                    let state = match deployments[former].ending {
                        Some(_) => DeploymentState::RolledBack,
                        None => Superseded,
                    };
                    deployments[former].enter(state, 0, now);
                    deployments[former].kept_until = (!keep.is_zero()).then(|| now + *keep);
                }
                deployments[at].enter(Live, 0, now);
                Ok(true)
            }
            Self::End { stage, state, ending } => {
                let Some(at) = at_stage(deployments, stage) else { return Ok(false) };
                deployments[at].end(*state, ending.clone(), now);
                // What failed is of no use for another try.
                deployments[at].kept_until = None;
                stay(deployments);
                Ok(true)
            }
            Self::RollBack { to, ending } => roll_back(deployments, *to, ending, now),
            Self::Cancel { ending } => {
                let at = under_way(deployments).ok_or(Refused::NothingToCancel)?;
                deployments[at].end(Cancelled, ending.clone(), now);
                stay(deployments);
                Ok(true)
            }
            Self::Retire => {
                let matter = |d: &&mut Deployment| d.state <= Live || d.kept_until.is_some();
                let mut changed = false;
                for deployment in deployments.iter_mut().filter(matter) {
                    let was_live = deployment.state >= Live;
                    deployment.enter(if was_live { Superseded } else { Cancelled }, 0, now);
                    deployment.kept_until = None;
                    changed = true;
                }
                Ok(changed)
            }
        }
    }
}

/// Back to a former deployment. While another is on its way, that is the live one, unless another
/// was named.
fn roll_back(
    deployments: &mut [Deployment],
    to: Option<u64>,
    ending: &Ending,
    now: Moment,
) -> Result<bool, Refused> {
    let (under_way, live) = (under_way(deployments), live(deployments));
    let number = |at: usize| deployments[at].number;
    let to = match (to, under_way, live) {
        (Some(to), ..) => to,
        (None, Some(_), Some(live)) => number(live),
        (None, ..) => former(deployments).ok_or(Refused::NothingToGoBackTo)?,
    };
    let at = deployments.iter().position(|deployment| deployment.number == to);
    let at = at.ok_or(Refused::NoSuchDeployment(to))?;
    if under_way.is_none() && live == Some(at) {
        return Err(Refused::IsLive(to));
    }
    if under_way == Some(at) {
        return Ok(false);
    }
    if let Some(under_way) = under_way {
        deployments[under_way].end(DeploymentState::RolledBack, ending.clone(), now);
    }
    stay(deployments);
    if live == Some(at) {
        return Ok(true);
    }
    if let Some(live) = live {
        deployments[live].ending = Some(Arc::new(ending.clone()));
    }
    deployments[at].enter(DeploymentState::Pending, 0, now);
    (deployments[at].cause, deployments[at].ending) = (Cause::Rollback, None);
    Ok(true)
}

/// The one that was live last: what is kept, else the newest.
fn former(deployments: &[Deployment]) -> Option<u64> {
    let was_live = deployments.iter().filter(|d| d.state == DeploymentState::Superseded);
    was_live.max_by_key(|d| (d.kept_until.is_some(), d.number)).map(|d| d.number)
}

/// The live one is not rolled back after all.
fn stay(deployments: &mut [Deployment]) {
    if let Some(live) = live(deployments) {
        deployments[live].ending = None;
    }
}

fn under_way(deployments: &[Deployment]) -> Option<usize> {
    deployments.iter().position(|deployment| deployment.state.is_under_way())
}

fn live(deployments: &[Deployment]) -> Option<usize> {
    deployments.iter().position(|deployment| deployment.state == DeploymentState::Live)
}

fn at_stage(deployments: &[Deployment], stage: &Stage) -> Option<usize> {
    deployments.iter().position(|deployment| Stage::of(deployment) == *stage)
}

/// The reason of a rollback that was asked for.
pub(crate) const ASKED_FOR: &str = "AskedFor";

/// An ending with this word for programs.
pub(crate) fn ending(reason: &str) -> Ending {
    Ending { reason: reason.to_owned(), ..Ending::default() }
}

/// What is said of a deployment.
trait Enter {
    fn enter(&mut self, state: DeploymentState, step: u16, now: Moment);
    fn end(&mut self, state: DeploymentState, ending: Ending, now: Moment);
}

impl Enter for Deployment {
    fn enter(&mut self, state: DeploymentState, step: u16, now: Moment) {
        (self.state, self.step, self.since) = (state, step, now);
    }

    fn end(&mut self, state: DeploymentState, ending: Ending, now: Moment) {
        self.enter(state, 0, now);
        self.ending = Some(Arc::new(ending));
    }
}

#[cfg(test)]
mod tests {
    use weir_config::{App, Source};

    use super::*;

    fn template() -> Arc<Template> {
        let text = "{kind: App, name: shop, spec: {image: a}}";
        let value = weir_config::parse_documents(text).unwrap()[0].value.clone();
        let (_, app) = App::read(value, &"test.example".parse().unwrap()).unwrap();
        match app.source {
            Source::Image(template) => template,
            other => panic!("{other:?}"),
        }
    }

    fn count(deployments: &[Deployment], is_such: impl Fn(DeploymentState) -> bool) -> usize {
        deployments.iter().filter(|deployment| is_such(deployment.state)).count()
    }

    #[test]
    fn whatever_is_asked_at_most_one_is_on_its_way_one_live_and_one_kept() {
        let (template, keep) = (template(), Duration::from_secs(60));
        for seed in 0..500u64 {
            let (mut deployments, mut numbers, mut random) = (Vec::new(), 0, seed);
            for step in 0..60 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (what, which) = ((random >> 33) % 7, (random >> 40) % 5);
                let former: Option<&Deployment> = deployments.get(which as usize);
                let stage = former.map_or(
                    Stage { deployment: 0, state: DeploymentState::Pending, step: 0 },
                    Stage::of,
                );
                let stage = match stage.state.is_under_way() {
                    true => stage,
                    false => Stage { deployment: 0, ..stage },
                };
                numbers += 1;
                let transition = match what {
                    0 => {
                        let template = template.clone();
                        Transition::Begin { number: numbers, template, cause: Cause::Apply }
                    }
                    1 => Transition::Advance { stage, to: DeploymentState::Shifting, step: 1 },
                    2 | 3 => Transition::GoLive { stage, keep },
                    4 => {
                        let state = DeploymentState::Failed;
                        Transition::End { stage, state, ending: ending("Test") }
                    }
                    5 => Transition::Cancel { ending: ending("Test") },
                    _ => {
                        let to = former.map(|former| former.number).filter(|n| n % 2 == 0);
                        Transition::RollBack { to, ending: ending("Test") }
                    }
                };
                let before = deployments.clone();
                let applied = transition.apply(&mut deployments, Moment(step));
                let at = format!("seed {seed}, step {step}: {transition:?}\n{deployments:#?}");
                assert_eq!(applied == Ok(true), before != deployments, "{at}");
                assert!(count(&deployments, DeploymentState::is_under_way) <= 1, "{at}");
                assert!(count(&deployments, |state| state == DeploymentState::Live) <= 1, "{at}");
                let kept = deployments.iter().filter(|d| d.kept_until.is_some()).count();
                assert!(kept <= 1, "{at}");
                assert!(deployments.is_sorted_by(|a, b| a.number > b.number), "{at}");
            }
        }
    }
}
