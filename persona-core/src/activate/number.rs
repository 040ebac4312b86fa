//! Numbers while a criterion is compiled: their arithmetic, what they measure, and what they can be.

use super::compile::{CriterionError, weekday_of};
use super::expr::{BinaryOperator, Expr};
use super::formula::{LogicOp, NumberOp, amount};
use crate::signal::Unit;

/// Alternatives that one number may have.
const ALTERNATIVE_COUNT_MAX: usize = 16;

/// Arithmetic without branches, and its text.
#[derive(Debug, Clone)]
pub(super) struct Flat {
    pub(super) ops: Vec<NumberOp>,
    pub(super) text: String,
}

impl Flat {
    /// Its value, if it reads nothing.
    pub(super) fn constant(&self) -> Option<f64> {
        let reads = self.ops.iter().any(|op| matches!(op, NumberOp::Read(_)));
        (!reads).then(|| amount(&self.ops, &|_| f64::NAN))
    }

    /// A text as an operand.
    pub(super) fn grouped(text: &str) -> String {
        if text.contains(' ') && !text.ends_with(')') { format!("({text})") } else { text.to_owned() }
    }
}

/// An amount: arithmetic, or a choice between two amounts.
#[derive(Debug, Clone)]
pub(super) enum Amount {
    Flat(Flat),
    Choice(Vec<LogicOp>, Box<Amount>, Box<Amount>),
}

impl Amount {
    fn count(&self) -> usize {
        match self {
            Self::Flat(_) => 1,
            Self::Choice(_, then, otherwise) => then.count() + otherwise.count(),
        }
    }

    fn map(self, change: &impl Fn(Flat) -> Flat) -> Self {
        match self {
            Self::Flat(flat) => Self::Flat(change(flat)),
            Self::Choice(condition, then, otherwise) => {
                Self::Choice(condition, Box::new(then.map(change)), Box::new(otherwise.map(change)))
            }
        }
    }

    fn combine(self, right: &Amount, change: &impl Fn(Flat, &Flat) -> Flat) -> Self {
        match (self, right) {
            (Self::Choice(condition, then, otherwise), _) => Self::Choice(
                condition,
                Box::new(then.combine(right, change)),
                Box::new(otherwise.combine(right, change)),
            ),
            (left, Self::Choice(condition, then, otherwise)) => Self::Choice(
                condition.clone(),
                Box::new(left.clone().combine(then, change)),
                Box::new(left.combine(otherwise, change)),
            ),
            (Self::Flat(left), Self::Flat(right)) => Self::Flat(change(left, right)),
        }
    }
}

/// A number and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Number {
    pub(super) amount: Amount,
    /// None: nobody declared one, so it goes with any.
    pub(super) unit: Option<Unit>,
    /// The smallest and the largest value that it can have.
    pub(super) range: Option<(f64, f64)>,
    /// Whether its values have words: it is `weekday()`.
    pub(super) has_words: bool,
    /// A word that stands for a value, as long as it is not known which.
    pub(super) word: Option<String>,
}

type Compiled<T> = Result<T, CriterionError>;

impl Number {
    fn plain(flat: Flat, unit: Option<Unit>) -> Self {
        Self { amount: Amount::Flat(flat), unit, range: None, has_words: false, word: None }
    }

    /// A number as it is written.
    pub(super) fn literal(column: u32, text: &str) -> Compiled<Self> {
        let read = Unit::parse(text).filter(|(value, _)| value.is_finite());
        let (value, unit) = read.ok_or_else(|| {
            let valid = "write a number such as 0.8, 80%, 30s, 512MiB or 200mbit";
            CriterionError::new(column, format!("{text} is no number with a known unit: {valid}"))
        })?;
        // Zero is zero in any unit.
        let unit = (value != 0.0).then_some(unit);
        Ok(Self::plain(Flat { ops: vec![NumberOp::Constant(value)], text: text.to_owned() }, unit))
    }

    /// A text, whose value depends on what it is compared with.
    pub(super) fn word(word: &str) -> Self {
        let flat = Flat { ops: vec![NumberOp::Constant(f64::NAN)], text: format!("'{word}'") };
        Self { word: Some(word.to_owned()), ..Self::plain(flat, None) }
    }

    /// Gives the words on either side their values.
    pub(super) fn take_words_of(&mut self, other: &mut Number, left: &Expr, right: &Expr) -> Compiled<()> {
        let has_words = self.has_words || other.has_words;
        for (number, expr) in [(self, left), (other, right)] {
            let Some(word) = number.word.take() else { continue };
            if !has_words {
                return Err(not_comparable(expr));
            }
            let value = weekday_of(expr.column, &word)?;
            number.amount = Amount::Flat(Flat { ops: vec![NumberOp::Constant(value)], text: format!("'{word}'") });
        }
        Ok(())
    }

    /// The unit of two numbers that are compared or added.
    pub(super) fn common_unit(&self, other: &Number, left: &Expr, right: &Expr, what: &str) -> Compiled<Unit> {
        match (self.unit, other.unit) {
            (Some(one), Some(two)) if one == two => Ok(one),
            (Some(one), Some(two)) => {
                let (wrong, given, unit) = if self.constant().is_some() { (left, one, two) } else { (right, two, one) };
                let message = format!("{wrong} is {given} and cannot be {what} with {unit}: write {}", unit.example());
                Err(CriterionError::new(wrong.column, message))
            }
            (one, two) => Ok(one.or(two).unwrap_or_default()),
        }
    }

    /// Its value, if it reads nothing and has one.
    pub(super) fn constant(&self) -> Option<f64> {
        match &self.amount {
            Amount::Flat(flat) => flat.constant(),
            Amount::Choice(..) => None,
        }
    }

    /// Its text, for messages.
    pub(super) fn text(&self) -> &str {
        match &self.amount {
            Amount::Flat(flat) => &flat.text,
            Amount::Choice(..) => "this",
        }
    }

    /// The number after an operation of one operand.
    pub(super) fn mapped(self, op: NumberOp, text: impl Fn(&str) -> String) -> Self {
        let change = |flat: Flat| Flat { text: text(&flat.text), ops: flat.ops.into_iter().chain([op]).collect() };
        Self { amount: self.amount.map(&change), range: None, has_words: false, ..self }
    }

    /// One of two numbers.
    pub(super) fn or_else(self, other: Number, condition: Vec<LogicOp>, left: &Expr, right: &Expr) -> Compiled<Self> {
        refuse_words(&[(&self, left), (&other, right)])?;
        let unit = self.common_unit(&other, left, right, "chosen together")?;
        let is_declared = self.unit.is_some() || other.unit.is_some();
        let amount = Amount::Choice(condition, Box::new(self.amount), Box::new(other.amount));
        Self::bounded(amount, is_declared.then_some(unit), left.column)
    }

    /// The number after an operation of two operands.
    pub(super) fn calculated(
        self,
        other: Number,
        op: NumberOp,
        operator: BinaryOperator,
        (left, right): (&Expr, &Expr),
    ) -> Compiled<Self> {
        refuse_words(&[(&self, left), (&other, right)])?;
        let unit = match op {
            NumberOp::Multiply | NumberOp::Divide => self.scaled_unit(&other, op, left)?,
            _ => {
                let unit = self.common_unit(&other, left, right, "calculated")?;
                (self.unit.is_some() || other.unit.is_some()).then_some(unit)
            }
        };
        let change = |one: Flat, two: &Flat| Flat {
            text: format!("{} {} {}", Flat::grouped(&one.text), operator.as_str(), Flat::grouped(&two.text)),
            ops: one.ops.into_iter().chain(two.ops.iter().copied()).chain([op]).collect(),
        };
        Self::bounded(self.amount.combine(&other.amount, &change), unit, left.column)
    }

    fn scaled_unit(&self, other: &Number, op: NumberOp, left: &Expr) -> Compiled<Option<Unit>> {
        let (Some(one), Some(two)) = (self.unit, other.unit) else { return Ok(None) };
        let unit = if op == NumberOp::Multiply { one.times(two) } else { one.over(two) };
        let meaningless = || CriterionError::new(left.column, format!("{one} and {two} have no such product"));
        unit.map(Some).ok_or_else(meaningless)
    }

    fn bounded(amount: Amount, unit: Option<Unit>, column: u32) -> Compiled<Self> {
        if amount.count() > ALTERNATIVE_COUNT_MAX {
            let message = format!("this number has more than {ALTERNATIVE_COUNT_MAX} alternatives: split the rule");
            return Err(CriterionError::new(column, message));
        }
        Ok(Self { amount, unit, range: None, has_words: false, word: None })
    }
}

fn refuse_words(operands: &[(&Number, &Expr)]) -> Compiled<()> {
    let word = operands.iter().find(|(number, _)| number.word.is_some());
    word.map_or(Ok(()), |(_, expr)| Err(not_comparable(expr)))
}

fn not_comparable(expr: &Expr) -> CriterionError {
    let message = format!("{expr} is a text, and texts are compared with weekday() only, such as weekday() == 'sat'");
    CriterionError::new(expr.column, message)
}
