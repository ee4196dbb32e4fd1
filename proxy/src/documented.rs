//! Reads `docs/observability.md`, so that tests can compare what it says with what is so.

/// The rows of the first table below a heading, each cell without its quotes.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../docs/observability.md");
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---"));
    rows.skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(cell).collect())
        .collect()
}

fn cell(text: &str) -> String {
    text.trim().trim_matches('`').to_owned()
}
