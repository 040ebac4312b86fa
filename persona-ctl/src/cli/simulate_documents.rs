//! What would happen if documents were applied, as text for people.

use persona_core::wire::planning::{EdgeForecast, PoolForecast, WhatIf, Worn};

use super::print::table_of;

/// Subjects that a table shows; JSON has up to a thousand.
const ROW_COUNT_MAX: usize = 20;

pub(super) fn tell(it: &WhatIf) -> String {
    let mut text = vec![format!(
        "{} subjects would wear or lease something else; {} of them would have no way out",
        it.changed, it.refused
    )];
    let worn =
        |worn: &Option<Worn>| worn.as_ref().map_or("-".to_owned(), |it| format!("{}@{}", it.persona, it.version));
    let rows = it.changes.iter().take(ROW_COUNT_MAX);
    let rows = rows.map(|it| [it.subject.to_string(), worn(&it.before), worn(&it.after), it.reason.clone()]);
    let mut table = table_of(&["SUBJECT", "NOW", "THEN", "WHY"], rows, "nobody would wear anything else");
    if it.changed as usize > ROW_COUNT_MAX {
        table.push_str(&format!("\n… and {} more, which --output json tells", it.changed as usize - ROW_COUNT_MAX));
    }
    text.push(table);
    text.push(table_of(&["POOL", "BLOCKS", "IPV6 /64"], it.pools.iter().map(pool_row), "no pools"));
    text.push(table_of(
        &["EDGE", "SUBJECTS", "FILL"],
        it.edges.iter().map(edge_row),
        "no edges that can be planned with",
    ));
    text.join("\n\n")
}

fn pool_row(it: &PoolForecast) -> [String; 3] {
    let taken =
        |before: u32, after: u32, total: u32| format!("{} of {total}", change(&before.to_string(), &after.to_string()));
    [
        it.pool.to_string(),
        taken(it.blocks_before, it.blocks_after, it.blocks_total),
        taken(it.prefixes_before, it.prefixes_after, it.prefixes_total),
    ]
}

fn edge_row(it: &EdgeForecast) -> [String; 3] {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    [
        it.edge.to_string(),
        change(&it.subjects_before.to_string(), &it.subjects_after.to_string()),
        change(&percent(it.before), &percent(it.after)),
    ]
}

fn change(before: &str, after: &str) -> String {
    if before == after { after.to_owned() } else { format!("{before} -> {after}") }
}
