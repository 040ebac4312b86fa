//! The reader of traces, which people get from elsewhere.

#[path = "../../persona-ctl/src/trace.rs"]
mod reader;

use std::path::Path;

use persona_core::units::Span;

/// Reads bytes as a trace of either shape: rows have times that can be, columns are equally long, mistakes name their line.
pub fn read(bytes: &[u8]) {
    let path = Path::new("input");
    match reader::rows_in(bytes, path) {
        Ok(rows) => {
            assert!(!rows.is_empty() && rows.iter().all(|row| row.time_ms <= 1_000_000_000_000_000));
            for step in [Span(0), Span(1_000), Span(u64::MAX)] {
                let series = reader::in_steps(&rows, step).unwrap_or_default();
                let values = series.iter().flat_map(|series| &series.values).flatten();
                assert!(values.into_iter().all(|value| !value.is_nan()));
            }
        }
        Err(error) => assert!(error.to_string().contains("input")),
    }
    if let Ok(series) = reader::columns_in(bytes, path) {
        assert!(series.windows(2).all(|two| two[0].values.len() == two[1].values.len()));
    }
}
