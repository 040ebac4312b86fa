//! The rules of one `monitoring` section, compiled once for all subjects that wear it.

use crate::activate::{Criterion, CriterionError, Timing};
use crate::document::MonitoringRule;
use crate::signal::Input;

/// The rules of one section.
#[derive(Debug, Clone, Default)]
pub struct AlertRules {
    pub(super) rules: Vec<AlertRule>,
}

/// One alert.
#[derive(Debug, Clone)]
pub(super) struct AlertRule {
    pub(super) name: String,
    pub(super) when: Criterion,
    /// None: cleared when `when` no longer holds.
    pub(super) clear: Option<Criterion>,
    pub(super) timing: Timing,
}

impl AlertRules {
    /// Compiles a section.
    ///
    /// # Errors
    /// A criterion is wrong: documents that were saved have none such.
    pub fn new(rules: &[MonitoringRule]) -> Result<Self, CriterionError> {
        let compiled = |rule: &MonitoringRule| {
            Ok(AlertRule {
                name: rule.raise.clone(),
                when: Criterion::parse(&rule.when)?,
                clear: rule.clear.as_deref().map(Criterion::parse).transpose()?,
                timing: Timing::from(rule),
            })
        };
        Ok(Self { rules: rules.iter().map(compiled).collect::<Result<_, _>>()? })
    }

    /// Every signal that the rules read; one that several read comes several times.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        let criteria = self.rules.iter().flat_map(|rule| [Some(&rule.when), rule.clear.as_ref()]).flatten();
        criteria.flat_map(|criterion| criterion.sources()).filter_map(|source| source.input())
    }
}

impl AlertRule {
    /// Whether the other one judges just as this one does.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let text = |criterion: &Option<Criterion>| criterion.as_ref().map(ToString::to_string);
        self.name == other.name
            && self.when.to_string() == other.when.to_string()
            && text(&self.clear) == text(&other.clear)
            && self.timing == other.timing
    }
}
