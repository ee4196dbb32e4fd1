//! What is told of a failover, in words.

use weir_config::{FailoverMode, FailoverPolicy, Severity};
use weir_failover::{Decision, Frozen, Hold, Incident, Phase, Standing, State, Why};

/// What is wrong, as an incident tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailoverTrouble {
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) detail: String,
}

/// A decision as a line of an incident's record: a word for programs, and a sentence. Nothing of
/// what only follows from another.
pub(super) fn line(
    decision: &Decision,
    policy: &FailoverPolicy,
    error: impl Fn(usize) -> Option<String>,
) -> Option<(&'static str, String)> {
    let name = |target: &usize| policy.targets.get(*target).map_or("", |target| &*target.name);
    let percent = |part: &u16| f64::from(*part) / 100.0;
    Some(match decision {
        Decision::Leave { target, why, hold } => {
            let reason = error(*target).filter(|_| *why == Why::Down);
            let why = match why {
                Why::Down => "it is down",
                Why::Failing => "most of its answers fail, and the others' do not",
                Why::Degraded => "its answers are clearly worse than the others'",
                Why::Gate => "it answered worse than the others on its way back",
            };
            let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            let hold = weir_config::Span(*hold);
            ("left", format!("{} is left: {why}{reason}; for {hold} at least", name(target)))
        }
        Decision::Ease { target, to } => {
            let what = "its answers are clearly worse than the others'";
            ("eased", format!("{} keeps {} % of its share: {what}", name(target), percent(to)))
        }
        Decision::Return { target, to } => {
            ("returning", format!("{} gets {} % of its share back", name(target), percent(to)))
        }
        Decision::Restored { target } => {
            ("restored", format!("{} has its whole share again", name(target)))
        }
        Decision::AllDown => ("all_down", "no target is well".to_owned()),
        Decision::SomeUp { target } => ("some_up", format!("{} is well again", name(target))),
        Decision::Freeze { by: Frozen::Operator, .. } => {
            ("frozen", "an operator has everything stay as it is".to_owned())
        }
        Decision::Freeze { by: Frozen::Damping, .. } => {
            let why = "too many departures: nothing comes back until somebody has looked";
            ("frozen", why.to_owned())
        }
        Decision::Force { target, .. } => {
            ("forced", format!("an operator has all clients go to {}", name(target)))
        }
        Decision::Release => ("released", "the law decides again".to_owned()),
        Decision::Steer(_) => return None,
    })
}

/// What is wrong now, if something is that nobody has asked for.
pub(super) fn trouble(
    policy: &FailoverPolicy,
    state: &State,
    incident: Option<&Incident>,
) -> Option<FailoverTrouble> {
    let incident = incident?;
    let are = |is: &dyn Fn(&Standing) -> bool| {
        let places = policy.targets.iter().enumerate();
        let such = places.filter(|(place, _)| state.standing(*place).is_some_and(is));
        such.map(|(_, target)| &*target.name).collect::<Vec<_>>().join(", ")
    };
    let out = are(&|standing| matches!(standing, Standing::Out { .. }));
    let easing = are(&|standing| matches!(standing, Standing::Easing { .. }));
    let returning = are(&|standing| matches!(standing, Standing::Returning { .. }));
    let name = &policy.name;
    let (severity, what) = match (state.phase(), state.hold()) {
        (Phase::AllDown, _) => (Severity::Critical, "no target is well".to_owned()),
        (_, Hold::Frozen { by: Frozen::Damping, .. }) => {
            (Severity::Critical, "frozen after too many departures".to_owned())
        }
        (Phase::Steady | Phase::Suspect | Phase::Forced | Phase::Frozen, _) => return None,
        (Phase::FailingOver, _) => (Severity::Warning, format!("{easing} is being left")),
        (Phase::ShiftingBack, _) => (Severity::Warning, format!("{returning} comes back")),
        (Phase::FailedOver, _) => (Severity::Warning, format!("{out} is left")),
    };
    let would = match policy.mode {
        FailoverMode::Auto => "",
        FailoverMode::Advise | FailoverMode::Off => " (advice: nothing is changed)",
    };
    Some(FailoverTrouble {
        severity,
        title: format!("failover {name}: {what}{would}"),
        detail: figures(policy, incident),
    })
}

/// Where the clients are, and how long what took.
fn figures(policy: &FailoverPolicy, incident: &Incident) -> String {
    let figures = incident.figures();
    let millis = |what: &str, took: Option<std::time::Duration>| {
        took.map(|took| format!("{what} {} ms", took.as_millis()))
    };
    let served = policy.hostnames.first().map_or("", |name| &**name);
    let told = [
        Some(format!("it serves {served}")),
        millis("first miss to decision", figures.to_decision),
        millis("decision to route", figures.to_route),
        millis("decision to DNS", figures.to_dns),
        Some(format!("{} changes of shares", figures.transitions)),
        Some(format!("{} requests left behind", figures.leaked_requests)),
        Some(format!("{} sent again", figures.retried_requests)),
    ];
    told.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The last line of an incident that is over.
pub(super) fn closing(policy: &FailoverPolicy, incident: &Incident) -> String {
    let lasted = incident.figures().lasted.map(|lasted| lasted.as_secs()).unwrap_or_default();
    format!(
        "everybody has again what the policy says, after {lasted} s; {}",
        figures(policy, incident)
    )
}
