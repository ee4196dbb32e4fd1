//! What happens to an app's instances, told as it is seen.

use std::collections::BTreeMap;

use weir_control::api::wire::InstanceResource;

/// Remembers what has been told, so that each step is told once.
#[derive(Debug)]
pub(super) struct Steps {
    /// Of older deployments only what is done to them is worth telling.
    deployment: u64,
    told: BTreeMap<String, String>,
}

impl Steps {
    pub(super) fn new(deployment: u64) -> Self {
        Self { deployment, told: BTreeMap::new() }
    }

    /// The steps since the last look.
    pub(super) fn look(&mut self, instances: &[InstanceResource]) -> Vec<String> {
        let mut lines = Vec::new();
        for instance in instances {
            let step = instance.doing.as_ref().unwrap_or(&instance.state);
            let before = self.told.insert(instance.name.clone(), step.clone());
            let is_old = instance.deployment < self.deployment;
            let is_quiet = match instance.doing {
                Some(_) => false,
                None => step == "pending" || (is_old && before.is_none()),
            };
            if before.as_ref() != Some(step) && !is_quiet {
                lines.push(format!("{}  {step}", instance.name));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(deployment: u64, state: &str, doing: Option<&str>) -> InstanceResource {
        InstanceResource {
            name: format!("shop-{deployment}-0"),
            app: "shop".to_owned(),
            deployment,
            ordinal: 0,
            host: "local".to_owned(),
            state: state.to_owned(),
            container: None,
            address: None,
            requests_in_flight: 0,
            restarts: 0,
            doing: doing.map(str::to_owned),
            message: None,
        }
    }

    #[test]
    fn each_step_is_told_once() {
        let mut steps = Steps::new(2);
        let looks = [
            (vec![instance(1, "ready", None), instance(2, "pending", None)], vec![]),
            (vec![instance(2, "pending", Some("create"))], vec!["shop-2-0  create"]),
            (vec![instance(2, "pending", Some("create"))], vec![]),
            (vec![instance(2, "ready", None)], vec!["shop-2-0  ready"]),
            (
                vec![instance(1, "ready", Some("stop")), instance(2, "ready", None)],
                vec!["shop-1-0  stop"],
            ),
        ];
        for (instances, expected) in looks {
            assert_eq!(steps.look(&instances), expected);
        }
    }
}
