//! From a tree to flat operations, with every name, type and unit checked on the way.
//!
//! Choices inside arithmetic are pulled out in front of the comparison, so that arithmetic has no branches and every
//! comparison can be explained by its two sides.

use std::fmt;

use super::expr::{BinaryOperator, Expr, ExprKind};
use super::formula::{
    Compare, Comparison, LogicOp, NumberOp, STACK_NEED_MAX, Source, SourceKind, is_too_deep, stack_need, truth_of,
};
use super::functions::{self, Called, WEEKDAYS};
use super::number::{Amount, Flat, Number};
use super::parse::parse;
use super::story::{self, Seen};
use super::truth::Truth;
use crate::nearest::nearest;
use crate::signal::{Input, Reading, Unit};

/// Comparisons that one criterion may come to.
const COMPARISON_COUNT_MAX: usize = 64;

/// Steps of logic that one criterion may come to.
const LOGIC_LENGTH_MAX: usize = 512;

/// What is wrong with a criterion, at which column, and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct CriterionError {
    /// Of the first wrong character, from 1.
    pub column: u32,
    /// What is wrong and what would be valid.
    pub message: String,
}

impl CriterionError {
    pub(super) fn new(column: u32, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// A criterion that was checked and can be evaluated.
#[derive(Debug, Clone)]
pub struct Criterion {
    text: String,
    pub(super) sources: Vec<Source>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) logic: Vec<LogicOp>,
}

impl Criterion {
    /// Reads, checks and compiles a criterion.
    pub fn parse(text: &str) -> Result<Self, CriterionError> {
        let expr = parse(text)?;
        let mut compiler = Compiler::default();
        let logic = compiler.condition(&expr)?;
        if is_too_deep(&logic) {
            return Err(CriterionError::new(1, "this has too many choices inside each other: split it into rules"));
        }
        let Compiler { sources, comparisons } = compiler;
        Ok(Self { text: expr.to_string(), sources, comparisons, logic })
    }

    /// Everything that it reads, each once; evaluation wants the values in this order.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// What it compares, each once.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The values of its sources in their order: of signals as `read` gives them, of clocks at `wall_ms`. NaN is unknown.
    pub fn values(&self, wall_ms: u64, read: &impl Fn(&Input) -> Option<f64>) -> Vec<f64> {
        let value = |source: &Source| match (source.input(), source.clock()) {
            (Some(input), _) => read(input).unwrap_or(f64::NAN),
            (None, clock) => clock.map_or(f64::NAN, |clock| clock.read(wall_ms)),
        };
        self.sources.iter().map(value).collect()
    }

    /// Every comparison, and what it sees with these values of the sources.
    pub fn seen(&self, values: &[f64]) -> Vec<Seen> {
        let value = |source: u16| values.get(usize::from(source)).copied().unwrap_or(f64::NAN);
        self.comparisons.iter().map(|comparison| story::seen(comparison, comparison.sides(&value))).collect()
    }

    /// Whether it holds, with the values of its sources in their order; NaN is unknown.
    pub fn evaluate(&self, values: &[f64]) -> Truth {
        let value = |source: u16| values.get(usize::from(source)).copied().unwrap_or(f64::NAN);
        truth_of(&self.logic, &|index| self.comparisons[usize::from(index)].truth(&value))
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

#[derive(Default)]
struct Compiler {
    sources: Vec<Source>,
    comparisons: Vec<Comparison>,
}

type Compiled<T> = Result<T, CriterionError>;

impl Compiler {
    /// Something that is true or false.
    fn condition(&mut self, expr: &Expr) -> Compiled<Vec<LogicOp>> {
        match &expr.kind {
            ExprKind::Bool(value) => Ok(vec![LogicOp::Constant(*value)]),
            ExprKind::Not(inner) => Ok(joined(&[&self.condition(inner)?], LogicOp::Not)),
            ExprKind::Choice(condition, then, otherwise) => {
                let parts = [self.condition(condition)?, self.condition(then)?, self.condition(otherwise)?];
                Ok(joined(&[&parts[0], &parts[1], &parts[2]], LogicOp::Choose))
            }
            ExprKind::Binary(BinaryOperator::And, left, right) => {
                Ok(joined(&[&self.condition(left)?, &self.condition(right)?], LogicOp::And))
            }
            ExprKind::Binary(BinaryOperator::Or, left, right) => {
                Ok(joined(&[&self.condition(left)?, &self.condition(right)?], LogicOp::Or))
            }
            ExprKind::Binary(BinaryOperator::In, left, right) => self.membership(left, right),
            ExprKind::Binary(operator, left, right) => match compare_of(*operator) {
                Some(compare) => self.relation(expr, compare, left, right),
                None => Err(not_a_condition(expr)),
            },
            ExprKind::Call(name, arguments) => self.flag(expr, name, arguments),
            _ => Err(not_a_condition(expr)),
        }
        .and_then(|logic| {
            let is_short = logic.len() <= LOGIC_LENGTH_MAX;
            if is_short { Ok(logic) } else { Err(CriterionError::new(expr.column, "this comes to too many steps")) }
        })
    }

    /// A call that is true or false.
    fn flag(&mut self, expr: &Expr, name: &str, arguments: &[Expr]) -> Compiled<Vec<LogicOp>> {
        if let ("has", [signal]) = (name, arguments) {
            let input = Input { signal: functions::signal_of(signal)?, reading: Reading::Last };
            let source = self.source(expr.column, SourceKind::Signal(input))?;
            return self.leaf(expr, vec![NumberOp::Read(source)], Compare::Known, Vec::new(), Unit::NONE, true);
        }
        if name == "abs" {
            return Err(not_a_condition(expr));
        }
        let Called { source, is_flag, .. } = functions::call(expr.column, name, arguments)?;
        if !is_flag {
            return Err(not_a_condition(expr));
        }
        let source = self.source(expr.column, source)?;
        let (left, right) = (vec![NumberOp::Read(source)], vec![NumberOp::Constant(0.5)]);
        self.leaf(expr, left, Compare::Greater, right, Unit::NONE, true)
    }

    fn leaf(
        &mut self,
        expr: &Expr,
        left: Vec<NumberOp>,
        compare: Compare,
        right: Vec<NumberOp>,
        unit: Unit,
        is_flag: bool,
    ) -> Compiled<Vec<LogicOp>> {
        let comparison = Comparison { text: expr.to_string(), left, compare, right, unit, is_flag };
        Ok(vec![self.comparison(expr.column, comparison)?])
    }

    fn comparison(&mut self, column: u32, comparison: Comparison) -> Compiled<LogicOp> {
        let known = self.comparisons.iter().position(|known| *known == comparison);
        let index = known.unwrap_or_else(|| {
            self.comparisons.push(comparison);
            self.comparisons.len() - 1
        });
        if index >= COMPARISON_COUNT_MAX {
            let message = format!("this comes to more than {COMPARISON_COUNT_MAX} comparisons: split it into rules");
            return Err(CriterionError::new(column, message));
        }
        Ok(LogicOp::Comparison(index as u16))
    }

    fn source(&mut self, column: u32, kind: SourceKind) -> Compiled<u16> {
        let source = Source(kind);
        let name = source.to_string();
        let index = self.sources.iter().position(|known| known.to_string() == name).unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        u16::try_from(index).map_err(|_| CriterionError::new(column, "this reads too many values"))
    }

    /// `==`, `<` and so on, between two numbers or two conditions.
    fn relation(&mut self, expr: &Expr, compare: Compare, left: &Expr, right: &Expr) -> Compiled<Vec<LogicOp>> {
        if matches!(compare, Compare::Equal | Compare::NotEqual) && (is_condition(left) || is_condition(right)) {
            let (one, two) = (self.condition(left)?, self.condition(right)?);
            let other = joined(&[&two], LogicOp::Not);
            let (same, different) = if compare == Compare::Equal { (&two, &other) } else { (&other, &two) };
            return Ok(joined(&[&one, same, different], LogicOp::Choose));
        }
        if is_condition(left) {
            return Err(CriterionError::new(
                expr.column,
                format!("{left} is true or false and has no order: join conditions with &&"),
            ));
        }
        let (mut one, mut two) = (self.number(left)?, self.number(right)?);
        one.take_words_of(&mut two, left, right)?;
        let unit = one.common_unit(&two, left, right, "compared")?;
        judge_range(expr, compare, &one, &two)?;
        judge_range(expr, compare.turned(), &two, &one)?;
        self.compare(expr, compare, &one.amount, &two.amount, unit)
    }

    /// `x in [a, b]` is `x == a || x == b`.
    fn membership(&mut self, left: &Expr, right: &Expr) -> Compiled<Vec<LogicOp>> {
        let ExprKind::List(items) = &right.kind else {
            let message = "in wants a list on its right, such as weekday() in ['sat', 'sun']";
            return Err(CriterionError::new(right.column, message));
        };
        let mut logic: Vec<LogicOp> = Vec::new();
        for item in items {
            let equal = Expr {
                column: item.column,
                kind: ExprKind::Binary(BinaryOperator::Equal, Box::new(left.clone()), Box::new(item.clone())),
            };
            let next = self.condition(&equal)?;
            logic = if logic.is_empty() { next } else { joined(&[&logic, &next], LogicOp::Or) };
        }
        if logic.is_empty() {
            return Err(CriterionError::new(right.column, "nothing is in an empty list: this is never true"));
        }
        Ok(logic)
    }

    /// Compares two amounts; choices in them come out in front.
    fn compare(
        &mut self,
        expr: &Expr,
        compare: Compare,
        left: &Amount,
        right: &Amount,
        unit: Unit,
    ) -> Compiled<Vec<LogicOp>> {
        match (left, right) {
            (Amount::Choice(condition, then, otherwise), _) => {
                let then = self.compare(expr, compare, then, right, unit)?;
                let otherwise = self.compare(expr, compare, otherwise, right, unit)?;
                Ok(joined(&[condition, &then, &otherwise], LogicOp::Choose))
            }
            (_, Amount::Choice(condition, then, otherwise)) => {
                let then = self.compare(expr, compare, left, then, unit)?;
                let otherwise = self.compare(expr, compare, left, otherwise, unit)?;
                Ok(joined(&[condition, &then, &otherwise], LogicOp::Choose))
            }
            (Amount::Flat(left), Amount::Flat(right)) => self.compare_flat(expr, compare, left, right, unit),
        }
    }

    fn compare_flat(
        &mut self,
        expr: &Expr,
        compare: Compare,
        left: &Flat,
        right: &Flat,
        unit: Unit,
    ) -> Compiled<Vec<LogicOp>> {
        if let (Some(one), Some(two)) = (left.constant(), right.constant()) {
            return match compare.of(one, two) {
                Truth::Unknown => Err(CriterionError::new(expr.column, "this divides by zero")),
                truth => Ok(vec![LogicOp::Constant(truth == Truth::True)]),
            };
        }
        if stack_need(&left.ops).max(stack_need(&right.ops)) > STACK_NEED_MAX {
            return Err(CriterionError::new(expr.column, "this arithmetic is nested too deep"));
        }
        let text = format!("{} {} {}", left.text, told(compare), right.text);
        let (left, right) = (left.ops.clone(), right.ops.clone());
        let comparison = Comparison { text, left, compare, right, unit, is_flag: false };
        Ok(vec![self.comparison(expr.column, comparison)?])
    }

    /// Something that is a number.
    fn number(&mut self, expr: &Expr) -> Compiled<Number> {
        let column = expr.column;
        match &expr.kind {
            ExprKind::Number(text) => Number::literal(column, text),
            ExprKind::Text(word) => Ok(Number::word(word)),
            ExprKind::Name(name) => {
                let called = functions::last_of(column, name)?;
                self.read(expr, called)
            }
            ExprKind::Call(name, arguments) if name == "abs" => match arguments.as_slice() {
                [inner] => Ok(self.number(inner)?.mapped(NumberOp::Absolute, |text| format!("abs({text})"))),
                _ => Err(CriterionError::new(column, "abs is written abs(NUMBER)")),
            },
            ExprKind::Call(name, arguments) if name != "has" => {
                let called = functions::call(column, name, arguments)?;
                if called.is_flag { Err(not_a_number(expr)) } else { self.read(expr, called) }
            }
            ExprKind::Negate(inner) => {
                Ok(self.number(inner)?.mapped(NumberOp::Negate, |text| format!("-{}", Flat::grouped(text))))
            }
            ExprKind::Choice(condition, then, otherwise) => {
                let condition = self.condition(condition)?;
                let (one, two) = (self.number(then)?, self.number(otherwise)?);
                one.or_else(two, condition, then, otherwise)
            }
            ExprKind::Binary(operator, left, right) => match arithmetic_of(*operator) {
                Some(op) => {
                    let (one, two) = (self.number(left)?, self.number(right)?);
                    one.calculated(two, op, *operator, (left, right))
                }
                None => Err(not_a_number(expr)),
            },
            _ => Err(not_a_number(expr)),
        }
    }

    fn read(&mut self, expr: &Expr, called: Called) -> Compiled<Number> {
        let Called { source, range, .. } = called;
        let unit = match &source {
            SourceKind::Clock(_) => Some(Unit::NONE),
            SourceKind::Signal(input) => input
                .signal
                .unit()
                .map(|unit| {
                    let told = || CriterionError::new(expr.column, format!("a total of {unit} means nothing"));
                    input.reading.unit_of(unit).ok_or_else(told)
                })
                .transpose()?,
        };
        let has_words = source.to_weekday();
        let text = Source(source.clone()).to_string();
        let index = self.source(expr.column, source)?;
        let flat = Flat { ops: vec![NumberOp::Read(index)], text };
        Ok(Number { amount: Amount::Flat(flat), unit, range, has_words, word: None })
    }
}

impl SourceKind {
    fn to_weekday(&self) -> bool {
        matches!(self, Self::Clock(super::clock::ClockReading::Weekday(_)))
    }
}

/// The value of a weekday's word.
pub(super) fn weekday_of(column: u32, word: &str) -> Compiled<f64> {
    let known = WEEKDAYS.iter().find(|(name, _)| *name == word);
    known.map(|(_, value)| *value).ok_or_else(|| {
        let names = WEEKDAYS.map(|(name, _)| name);
        let meant = nearest(word, names).map(|name| format!("did you mean '{name}'? ")).unwrap_or_default();
        CriterionError::new(column, format!("'{word}' is no weekday; {meant}valid: {}", names.join(", ")))
    })
}

fn joined(parts: &[&[LogicOp]], op: LogicOp) -> Vec<LogicOp> {
    parts.iter().copied().flatten().copied().chain([op]).collect()
}

/// Whether an expression is plainly a condition.
fn is_condition(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Bool(_) | ExprKind::Not(_) => true,
        ExprKind::Binary(operator, ..) => arithmetic_of(*operator).is_none(),
        ExprKind::Call(name, _) => matches!(name.as_str(), "has" | "cron" | "between"),
        ExprKind::Choice(_, then, _) => is_condition(then),
        _ => false,
    }
}

/// Refuses comparisons with a constant that the other side never or always passes.
fn judge_range(expr: &Expr, compare: Compare, number: &Number, other: &Number) -> Compiled<()> {
    let (Some((low, high)), Some(constant)) = (number.range, other.constant()) else { return Ok(()) };
    let truth = |value: f64| compare.of(value, constant) == Truth::True;
    let is_outside = constant < low || constant > high;
    let decided = match compare {
        Compare::Equal | Compare::NotEqual => is_outside,
        _ => truth(low) == truth(high),
    };
    if !decided {
        return Ok(());
    }
    let (name, when) = (number.text(), if truth(low) { "always" } else { "never" });
    // The bound of a share is twice its whole.
    if high == 2.0 {
        let hint = if constant > 2.0 { format!("write {}%", other.text()) } else { "write a value between".to_owned() };
        return Err(CriterionError::new(
            expr.column,
            format!("{name} is a share from 0 to 1, so this is {when} true: {hint}"),
        ));
    }
    Err(CriterionError::new(expr.column, format!("{name} lies between {low} and {high}, so this is {when} true")))
}

fn compare_of(operator: BinaryOperator) -> Option<Compare> {
    Some(match operator {
        BinaryOperator::Less => Compare::Less,
        BinaryOperator::LessOrEqual => Compare::LessOrEqual,
        BinaryOperator::Greater => Compare::Greater,
        BinaryOperator::GreaterOrEqual => Compare::GreaterOrEqual,
        BinaryOperator::Equal => Compare::Equal,
        BinaryOperator::NotEqual => Compare::NotEqual,
        _ => return None,
    })
}

fn told(compare: Compare) -> &'static str {
    match compare {
        Compare::Less => "<",
        Compare::LessOrEqual => "<=",
        Compare::Greater => ">",
        Compare::GreaterOrEqual => ">=",
        Compare::Equal => "==",
        Compare::NotEqual => "!=",
        Compare::Known => "known",
    }
}

fn arithmetic_of(operator: BinaryOperator) -> Option<NumberOp> {
    Some(match operator {
        BinaryOperator::Add => NumberOp::Add,
        BinaryOperator::Subtract => NumberOp::Subtract,
        BinaryOperator::Multiply => NumberOp::Multiply,
        BinaryOperator::Divide => NumberOp::Divide,
        BinaryOperator::Remainder => NumberOp::Remainder,
        _ => return None,
    })
}

fn not_a_condition(expr: &Expr) -> CriterionError {
    let hint = match &expr.kind {
        ExprKind::Name(name) => match functions::last_of(expr.column, name) {
            Err(wrong) => return wrong,
            Ok(_) => format!("compare it, such as {expr} > 0"),
        },
        ExprKind::List(_) | ExprKind::Text(_) => "write something such as cpu.utilisation > 0.8".to_owned(),
        _ => "compare it with something".to_owned(),
    };
    CriterionError::new(
        expr.column,
        format!("{expr} is neither true nor false, and a condition is needed here: {hint}"),
    )
}

fn not_a_number(expr: &Expr) -> CriterionError {
    CriterionError::new(expr.column, format!("{expr} is no number, and one is needed here"))
}

#[cfg(test)]
mod tests;
