//! Since when each condition of each app is as it is.

use std::sync::Arc;

use weir_config::AppName;

use crate::{
    api::wire::Condition,
    time::{rfc3339, unix_millis},
};

/// Counted from when this process first saw it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transitions(imbl::OrdMap<AppName, Arc<[Since]>>);

#[derive(Clone, Debug)]
struct Since {
    kind: String,
    status: String,
    /// Milliseconds since the Unix epoch.
    at: i64,
}

impl Transitions {
    /// Takes in how an app is; returns whether that is another than before.
    pub(super) fn take(&mut self, app: &AppName, conditions: &[Condition]) -> bool {
        let is_same = |former: &Arc<[Since]>| {
            let former = former.iter().map(|since| (&since.kind, &since.status));
            former.eq(conditions.iter().map(|c| (&c.kind, &c.status)))
        };
        if self.0.get(app).is_some_and(is_same) {
            return false;
        }
        let since = conditions.iter().map(|condition| self.since(app, condition)).collect();
        self.0.insert(app.clone(), since);
        true
    }

    pub(super) fn forget(&mut self, app: &AppName) -> bool {
        self.0.remove(app).is_some()
    }

    /// Says since when; what nobody has taken in yet is so since now.
    pub(crate) fn date(&self, app: &AppName, conditions: &mut [Condition]) {
        for condition in conditions {
            condition.last_transition_at = rfc3339(self.since(app, condition).at);
        }
    }

    fn since(&self, app: &AppName, condition: &Condition) -> Since {
        let Condition { kind, status, .. } = condition;
        let mut known = self.0.get(app).into_iter().flat_map(|known| known.iter());
        let known = known.find(|since| (&since.kind, &since.status) == (kind, status));
        known.cloned().unwrap_or_else(|| Since {
            kind: kind.clone(),
            status: status.clone(),
            at: unix_millis(),
        })
    }
}
