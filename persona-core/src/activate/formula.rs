//! What a criterion is after compilation: comparisons of arithmetic, joined by three-valued logic, all flat.
//!
//! A missing value is NaN, which arithmetic carries along; a comparison with it is unknown.

use super::clock::ClockReading;
use super::truth::Truth;
use crate::signal::{Input, Unit};

/// Values that arithmetic may have pending; the parser's depth keeps below it.
const STACK_LENGTH: usize = 32;

/// Where a value comes from.
#[derive(Debug, Clone)]
pub struct Source(pub(super) SourceKind);

#[derive(Debug, Clone)]
pub(super) enum SourceKind {
    Signal(Input),
    Clock(ClockReading),
}

impl Source {
    /// The signal's reading; None where time is read.
    pub fn input(&self) -> Option<&Input> {
        match &self.0 {
            SourceKind::Signal(input) => Some(input),
            SourceKind::Clock(_) => None,
        }
    }

    pub(super) fn clock(&self) -> Option<&ClockReading> {
        match &self.0 {
            SourceKind::Signal(_) => None,
            SourceKind::Clock(reading) => Some(reading),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            SourceKind::Signal(input) => write!(formatter, "{input}"),
            SourceKind::Clock(reading) => write!(formatter, "{reading}"),
        }
    }
}

/// One step of arithmetic, in postfix order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum NumberOp {
    Constant(f64),
    /// The source with this index.
    Read(u16),
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Negate,
    Absolute,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    /// Whether the left one is known at all.
    Known,
}

impl Compare {
    pub(super) fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Known => true,
        }
    }

    /// The comparison with its sides exchanged.
    pub(super) fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    pub(super) fn of(self, left: f64, right: f64) -> Truth {
        match (self, left.partial_cmp(&right)) {
            (Self::Known, _) => left.is_finite().into(),
            (_, Some(ordering)) if left.is_finite() && right.is_finite() => self.holds(ordering).into(),
            _ => Truth::Unknown,
        }
    }
}

/// Two sides of arithmetic and how they are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub(super) text: String,
    pub(super) left: Vec<NumberOp>,
    pub(super) compare: Compare,
    pub(super) right: Vec<NumberOp>,
    pub(super) unit: Unit,
    /// Whether the left side is true or false rather than a number.
    pub(super) is_flag: bool,
}

impl Comparison {
    /// As it was written, or as it follows from what was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn sides(&self, values: &impl Fn(u16) -> f64) -> (f64, f64) {
        (amount(&self.left, values), amount(&self.right, values))
    }

    pub(super) fn truth(&self, values: &impl Fn(u16) -> f64) -> Truth {
        let (left, right) = self.sides(values);
        self.compare.of(left, right)
    }

    /// The source and the constant, where it compares just these, with the source on the left.
    pub(super) fn threshold(&self) -> Option<(u16, Compare, f64)> {
        match (self.left.as_slice(), self.right.as_slice()) {
            ([NumberOp::Read(source)], [NumberOp::Constant(value)]) => Some((*source, self.compare, *value)),
            ([NumberOp::Constant(value)], [NumberOp::Read(source)]) => Some((*source, self.compare.turned(), *value)),
            _ => None,
        }
    }

    /// Every source that it reads.
    pub(super) fn sources(&self) -> impl Iterator<Item = u16> + '_ {
        self.left.iter().chain(&self.right).filter_map(|op| match op {
            NumberOp::Read(source) => Some(*source),
            _ => None,
        })
    }

    pub(super) fn with_sources(&self, renamed: &[u16]) -> Self {
        let renamed = |ops: &[NumberOp]| {
            let one = |op: &NumberOp| match op {
                NumberOp::Read(source) => NumberOp::Read(renamed[usize::from(*source)]),
                other => *other,
            };
            ops.iter().map(one).collect()
        };
        Self { left: renamed(&self.left), right: renamed(&self.right), ..self.clone() }
    }
}

/// The value of postfix arithmetic; NaN where something is missing.
pub(super) fn amount(ops: &[NumberOp], values: &impl Fn(u16) -> f64) -> f64 {
    let (mut stack, mut depth) = ([f64::NAN; STACK_LENGTH], 0);
    for op in ops {
        match op {
            NumberOp::Constant(value) => (stack[depth], depth) = (*value, depth + 1),
            NumberOp::Read(source) => (stack[depth], depth) = (values(*source), depth + 1),
            NumberOp::Negate => stack[depth - 1] = -stack[depth - 1],
            NumberOp::Absolute => stack[depth - 1] = stack[depth - 1].abs(),
            binary => {
                let (left, right) = (stack[depth - 2], stack[depth - 1]);
                depth -= 1;
                stack[depth - 1] = match binary {
                    NumberOp::Add => left + right,
                    NumberOp::Subtract => left - right,
                    NumberOp::Multiply => left * right,
                    NumberOp::Divide => left / right,
                    _ => left % right,
                };
            }
        }
    }
    stack[0]
}

/// How many values postfix arithmetic has pending at most.
pub(super) fn stack_need(ops: &[NumberOp]) -> usize {
    let grow = |(depth, most): (usize, usize), op: &NumberOp| match op {
        NumberOp::Constant(_) | NumberOp::Read(_) => (depth + 1, most.max(depth + 1)),
        NumberOp::Negate | NumberOp::Absolute => (depth, most),
        _ => (depth - 1, most),
    };
    ops.iter().fold((0, 0), grow).1
}

pub(super) const STACK_NEED_MAX: usize = STACK_LENGTH;

/// One step of logic, in postfix order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogicOp {
    Constant(bool),
    /// The comparison with this index.
    Comparison(u16),
    Not,
    And,
    Or,
    /// Condition, then, otherwise.
    Choose,
}

/// The truth of postfix logic.
pub(super) fn truth_of(ops: &[LogicOp], comparison: &impl Fn(u16) -> Truth) -> Truth {
    let (mut stack, mut depth) = ([Truth::Unknown; LOGIC_STACK_LENGTH], 0);
    for op in ops {
        match op {
            LogicOp::Constant(value) => (stack[depth], depth) = ((*value).into(), depth + 1),
            LogicOp::Comparison(index) => (stack[depth], depth) = (comparison(*index), depth + 1),
            LogicOp::Not => stack[depth - 1] = !stack[depth - 1],
            LogicOp::And => (stack[depth - 2], depth) = (stack[depth - 2].and(stack[depth - 1]), depth - 1),
            LogicOp::Or => (stack[depth - 2], depth) = (stack[depth - 2].or(stack[depth - 1]), depth - 1),
            LogicOp::Choose => {
                stack[depth - 3] = stack[depth - 3].choose(stack[depth - 2], stack[depth - 1]);
                depth -= 2;
            }
        }
    }
    stack[0]
}

/// Answers that logic may have pending; compilation refuses what needs more.
const LOGIC_STACK_LENGTH: usize = 80;

/// How many answers postfix logic has pending at most, and whether that is too many.
pub(super) fn is_too_deep(ops: &[LogicOp]) -> bool {
    let grow = |(depth, most): (usize, usize), op: &LogicOp| match op {
        LogicOp::Constant(_) | LogicOp::Comparison(_) => (depth + 1, most.max(depth + 1)),
        LogicOp::Not => (depth, most),
        LogicOp::And | LogicOp::Or => (depth - 1, most),
        LogicOp::Choose => (depth - 2, most),
    };
    ops.iter().fold((0, 0), grow).1 > LOGIC_STACK_LENGTH
}
