//! `weir explain`: why a host name gets what it gets.

use clap::Args;
use weir_control::api::wire::{Explanation, Step};

use super::{
    client::Connection,
    outcome::{Outcome, say},
};

/// Explain why a host name gets what it gets.
///
/// Follows the name as a request would: its route, the app, the deployment and each instance with
/// its health, or the shard and its members. The last line is what a request would get now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir explain shop.weir.localhost
  weir explain www.example.com/shop")]
pub(crate) struct Explain {
    /// The host name, without scheme and port; a path may follow
    hostname: String,
    #[command(flatten)]
    connection: Connection,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let explanation = self.connection.open()?.explain(&self.hostname).await?;
        for line in tree(&explanation) {
            say(line)?;
        }
        Ok(Outcome::Done)
    }
}

fn tree(explanation: &Explanation) -> Vec<String> {
    let depths: Vec<_> = explanation.steps.iter().map(depth).collect();
    let mut lines = vec![explanation.hostname.clone()];
    for (i, step) in explanation.steps.iter().enumerate() {
        let has_sibling = |level: usize| {
            let after = depths[i + 1..].iter().take_while(|depth| **depth >= level);
            after.into_iter().any(|depth| *depth == level)
        };
        let mut line = String::new();
        for level in 0..depths[i] {
            line.push_str(if has_sibling(level) { "│  " } else { "   " });
        }
        line.push_str(if has_sibling(depths[i]) { "├─ " } else { "└─ " });
        lines.push(format!("{line}{}: {}", step.subject, step.finding));
    }
    lines.push(format!("a request gets: {}", explanation.answer));
    lines
}

fn depth(step: &Step) -> usize {
    match step.subject.as_str() {
        "route" => 0,
        "app" => 1,
        "deployment" | "shard" | "upstream" | "incident" => 2,
        "instance" | "member" => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_a_tree() {
        let step = |(subject, finding): (&str, &str)| Step {
            subject: subject.to_owned(),
            finding: finding.to_owned(),
        };
        let steps = [
            ("route", "app shop"),
            ("app", "ready"),
            ("deployment", "number 2"),
            ("instance", "shop-2-0"),
            ("health", "passes"),
            ("instance", "shop-2-1"),
            ("health", "fails"),
        ];
        let explanation = Explanation {
            hostname: "shop.weir.localhost".to_owned(),
            answer: "answered by shop-2-0".to_owned(),
            steps: steps.map(step).into(),
        };
        let expected = [
            "shop.weir.localhost",
            "└─ route: app shop",
            "   └─ app: ready",
            "      └─ deployment: number 2",
            "         ├─ instance: shop-2-0",
            "         │  └─ health: passes",
            "         └─ instance: shop-2-1",
            "            └─ health: fails",
            "a request gets: answered by shop-2-0",
        ];
        assert_eq!(tree(&explanation), expected);
    }
}
