//! Lists in pages: by key, so that entries that come and go shift nothing.

use persona_core::label_selector::{InvalidLabelSelector, LabelSelector};
use persona_core::wire::api::Page;
use serde::Deserialize;

use crate::error::Refusal;

/// Entries of a page where nothing else is asked for.
const LIMIT_DEFAULT: usize = 100;

/// Entries of a page at most.
const LIMIT_MAX: usize = 1_000;

/// Which page.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// `nextPageToken` of the page before.
    page_token: Option<String>,
    /// Entries at most, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Which page of a list of what has labels.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LabelledPageParams {
    /// `nextPageToken` of the page before.
    page_token: Option<String>,
    /// Entries at most, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only those with these labels, as `tier=gold,zone!=b,team,!old`.
    label_selector: Option<String>,
}

impl LabelledPageParams {
    /// The page, and who is on it.
    pub(super) fn split(self) -> Result<(PageParams, LabelSelector), Refusal> {
        let selector = self.label_selector.map(|text| selector(&text)).transpose()?;
        Ok((PageParams { page_token: self.page_token, limit: self.limit }, selector.unwrap_or_default()))
    }
}

/// Reads a label selector.
pub(super) fn selector(text: &str) -> Result<LabelSelector, Refusal> {
    text.parse().map_err(|error: InvalidLabelSelector| Refusal::invalid(error.to_string()))
}

/// The page of `entries`, which are ascending by key.
pub(super) fn page<T>(params: &PageParams, entries: impl Iterator<Item = (String, T)>) -> Result<Page<T>, Refusal> {
    let limit = params.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::invalid(format!("limit is {limit}; use 1 to {LIMIT_MAX}")));
    }
    let is_after = |(key, _): &(String, T)| params.page_token.as_ref().is_none_or(|token| key > token);
    let mut rest = entries.filter(is_after);
    let taken: Vec<_> = rest.by_ref().take(limit).collect();
    let next_page_token = rest.next().and_then(|_| taken.last().map(|(key, _)| key.clone()));
    Ok(Page { items: taken.into_iter().map(|(_, item)| item).collect(), next_page_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(token: Option<&str>, limit: usize) -> (Vec<u8>, Option<String>) {
        let params = PageParams { page_token: token.map(str::to_owned), limit: Some(limit) };
        let entries = [("a", 1), ("b", 2), ("c", 3)].map(|(key, value)| (key.to_owned(), value));
        let page = page(&params, entries.into_iter()).unwrap();
        (page.items, page.next_page_token)
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(read(None, 2), (vec![1, 2], Some("b".to_owned())));
        assert_eq!(read(Some("b"), 2), (vec![3], None));
        assert_eq!(read(None, 3), (vec![1, 2, 3], None));
        assert_eq!(read(Some("aa"), 1), (vec![2], Some("b".to_owned())));
    }
}
