//! What was measured, for people and for programs.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::peers::Peer;

#[derive(Debug)]
pub(crate) struct Report {
    /// As it was at the start, before there was load.
    machine: Value,
    peers: BTreeMap<String, Value>,
    tables: Vec<Value>,
    figures: Vec<Value>,
}

impl Report {
    pub(crate) fn new() -> Self {
        let (peers, tables, figures) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { machine: machine(), peers, tables, figures }
    }

    /// Adds a figure, with what was aimed for.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str, aim: &str) {
        println!("{name:<52} {value:>10.3} {unit:<6} {aim}");
        self.figures.push(json!({"name": name, "value": value, "unit": unit, "aim": aim}));
    }

    /// Adds the median and the 99th percentile of samples, with what was aimed for. Returns both,
    /// in ms.
    pub(crate) fn quantiles(
        &mut self,
        name: &str,
        samples: &mut [Duration],
        aims: [&str; 2],
    ) -> [f64; 2] {
        samples.sort_unstable();
        let [median, high] = [0.5, 0.99].map(|q| quantile(samples, q).as_secs_f64() * 1000.0);
        self.figure(&format!("{name}, p50 of {}", samples.len()), median, "ms", aims[0]);
        self.figure(&format!("{name}, p99"), high, "ms", aims[1]);
        [median, high]
    }

    /// Notes which release was measured, and how it was told the names.
    pub(crate) fn peer(&mut self, peer: &Peer) {
        println!("{:<10} {:<18} names: {}", peer.name, peer.version, peer.names);
        let told = json!({"version": peer.version, "names": peer.names});
        self.peers.insert(peer.name.to_owned(), told);
    }

    pub(crate) fn table(&mut self, table: &Table) {
        table.print();
        self.tables.push(table.json());
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let file = Path::new("target/bench.json");
        fs::create_dir_all("target")?;
        let all = json!({
            "machine": self.machine,
            "peers": self.peers,
            "tables": self.tables,
            "figures": self.figures,
        });
        fs::write(file, serde_json::to_string_pretty(&all)?)?;
        println!("\nwritten to {}", file.display());
        Ok(())
    }
}

/// Samples of the same work by several programs.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    unit: String,
    best: Best,
    columns: Vec<String>,
    rows: Vec<(String, BTreeMap<String, Cell>)>,
}

/// Which figure of a row is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Best {
    Lowest,
    Highest,
}

#[derive(Debug, Default)]
struct Cell {
    /// In the order in which they were measured.
    samples: Vec<f64>,
    /// Why there is no figure. One failed run spoils the others: what it measured is not known.
    failed: Option<String>,
}

impl Table {
    pub(crate) fn new(name: &str, unit: &str, best: Best) -> Self {
        let (columns, rows) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), unit: unit.to_owned(), best, columns, rows }
    }

    /// Adds a sample to a cell. Rows and columns come in the order in which they are first named.
    pub(crate) fn add(&mut self, row: &str, column: &str, sample: anyhow::Result<f64>) {
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        let index = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        let cell = self.rows[index].1.entry(column.to_owned()).or_default();
        match sample {
            Ok(sample) => {
                cell.samples.push(sample);
            }
            Err(error) => cell.failed = Some(format!("{error:#}")),
        }
    }

    pub(crate) fn median(&self, row: &str, column: &str) -> Option<f64> {
        let (_, cells) = self.rows.iter().find(|(name, _)| name == row)?;
        cells.get(column)?.median()
    }

    /// Medians with the best of each row marked, and below them from where to where they went.
    fn print(&self) {
        print!("\n{:<46}", format!("{}, {}", self.name, self.unit));
        self.columns.iter().for_each(|column| print!("{column:>13}"));
        println!();
        for (name, cells) in &self.rows {
            let medians = cells.values().filter_map(Cell::median);
            let best = match self.best {
                Best::Lowest => medians.min_by(f64::total_cmp),
                Best::Highest => medians.max_by(f64::total_cmp),
            };
            let shown = |show: &dyn Fn(&Cell) -> String| {
                self.columns.iter().for_each(|column| {
                    print!("{:>13}", cells.get(column).map_or_else(|| "-".to_owned(), show));
                });
                println!();
            };
            print!("{name:<46}");
            shown(&|cell| match cell.median() {
                Some(median) if Some(median) == best => format!("*{}", digits(median)),
                Some(median) => digits(median),
                None => "failed".to_owned(),
            });
            if cells.values().all(|cell| cell.samples.len() < 2) {
                continue;
            }
            print!("{:<46}", "");
            shown(&|cell| match cell.spread() {
                Some([least, _, most]) => format!("{}-{}", digits(least), digits(most)),
                None => String::new(),
            });
        }
        println!("* the best. Medians; below them the least and the most.\n");
    }

    fn json(&self) -> Value {
        let cell = |cell: &Cell| json!({"median": cell.median(), "samples": cell.samples, "failed": cell.failed});
        let row = |(name, cells): &(String, BTreeMap<String, Cell>)| {
            let cells: BTreeMap<_, _> =
                cells.iter().map(|(column, value)| (column, cell(value))).collect();
            json!({"name": name.trim(), "cells": cells})
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        json!({"name": self.name, "unit": self.unit, "rows": rows})
    }
}

impl Cell {
    /// The least, the median and the most.
    fn spread(&self) -> Option<[f64; 3]> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        self.failed.is_none().then(|| [least, quantile(&sorted, 0.5), most])
    }

    fn median(&self) -> Option<f64> {
        self.spread().map(|[_, median, _]| median)
    }
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Figures mean little without it.
fn machine() -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "cpu": model.map(|(_, model)| model),
        "cores": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "kernel": kernel.trim(),
        // Above the number of cores, somebody else was at work as well.
        "load_average": load.trim(),
    })
}

/// Of samples in order; nothing, if there are none.
pub(crate) fn quantile<T: Copy + Default>(sorted: &[T], quantile: f64) -> T {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * quantile).round() as usize).copied().unwrap_or_default()
}
