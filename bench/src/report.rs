//! What was measured, for people and for programs.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Value>,
}

impl Report {
    /// Adds a figure, with what was aimed for.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str, aim: &str) {
        println!("{name:<52} {value:>10.3} {unit:<6} {aim}");
        self.rows.push(json!({"name": name, "value": value, "unit": unit, "aim": aim}));
    }

    /// Adds a row of samples: its median and its 99th percentile. Returns the median, in ms.
    pub(crate) fn samples(&mut self, name: &str, samples: &mut [Duration]) -> f64 {
        samples.sort_unstable();
        let median = percentile(samples, 50);
        self.figure(&format!("{name}, p50 of {}", samples.len()), median, "ms", "");
        self.figure(&format!("{name}, p99"), percentile(samples, 99), "ms", "");
        median
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let file = Path::new("target/bench.json");
        fs::create_dir_all("target")?;
        fs::write(file, serde_json::to_string_pretty(&self.rows)?)?;
        println!("\nwritten to {}", file.display());
        Ok(())
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
}
