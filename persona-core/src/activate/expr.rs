//! The syntax tree of a criterion, and its text.
//!
//! `Display` prints the shortest text that reads back to the same tree.

use std::fmt;

/// A part of a criterion and the column at which it begins, from 1.
#[derive(Debug, Clone)]
pub struct Expr {
    pub(super) column: u32,
    pub(super) kind: ExprKind,
}

/// Two trees are equal if they say the same, wherever they stand.
impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ExprKind {
    /// A number as it was written, with its unit.
    Number(String),
    Text(String),
    Bool(bool),
    /// A dotted name.
    Name(String),
    List(Vec<Expr>),
    Call(String, Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(BinaryOperator, Box<Expr>, Box<Expr>),
    /// `condition ? then : otherwise`.
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Operators between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinaryOperator {
    Or,
    And,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// How tightly a choice binds, and where binary operators begin.
const CHOICE_STRENGTH: u8 = 1;
/// How tightly `!` and unary `-` bind.
const UNARY_STRENGTH: u8 = 7;

impl BinaryOperator {
    pub(super) const ALL: [BinaryOperator; 14] = [
        Self::Or,
        Self::And,
        Self::LessOrEqual,
        Self::GreaterOrEqual,
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::Greater,
        Self::In,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// How tightly it binds; all are left-associative.
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Or => 2,
            Self::And => 3,
            Self::Add | Self::Subtract => 5,
            Self::Multiply | Self::Divide | Self::Remainder => 6,
            _ => 4,
        }
    }
}

impl Expr {
    fn strength(&self) -> u8 {
        match &self.kind {
            ExprKind::Choice(..) => CHOICE_STRENGTH,
            ExprKind::Binary(operator, ..) => operator.strength(),
            ExprKind::Not(_) | ExprKind::Negate(_) => UNARY_STRENGTH,
            _ => UNARY_STRENGTH + 1,
        }
    }

    /// Prints it, in parentheses where it binds less tightly than its place asks.
    fn print(&self, formatter: &mut fmt::Formatter<'_>, at_least: u8) -> fmt::Result {
        if self.strength() >= at_least {
            return write!(formatter, "{self}");
        }
        write!(formatter, "({self})")
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(text) | ExprKind::Name(text) => formatter.write_str(text),
            ExprKind::Text(text) => write!(formatter, "'{text}'"),
            ExprKind::Bool(value) => write!(formatter, "{value}"),
            ExprKind::List(items) => print_list(formatter, "[", items, "]"),
            ExprKind::Call(name, arguments) => {
                formatter.write_str(name)?;
                print_list(formatter, "(", arguments, ")")
            }
            ExprKind::Not(inner) => {
                formatter.write_str("!")?;
                inner.print(formatter, UNARY_STRENGTH)
            }
            ExprKind::Negate(inner) => {
                formatter.write_str("-")?;
                inner.print(formatter, UNARY_STRENGTH)
            }
            ExprKind::Binary(operator, left, right) => {
                left.print(formatter, operator.strength())?;
                write!(formatter, " {} ", operator.as_str())?;
                right.print(formatter, operator.strength() + 1)
            }
            ExprKind::Choice(condition, then, otherwise) => {
                condition.print(formatter, CHOICE_STRENGTH + 1)?;
                formatter.write_str(" ? ")?;
                then.print(formatter, CHOICE_STRENGTH)?;
                formatter.write_str(" : ")?;
                otherwise.print(formatter, CHOICE_STRENGTH)
            }
        }
    }
}

fn print_list(formatter: &mut fmt::Formatter<'_>, open: &str, items: &[Expr], close: &str) -> fmt::Result {
    formatter.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        formatter.write_str(if index == 0 { "" } else { ", " })?;
        write!(formatter, "{item}")?;
    }
    formatter.write_str(close)
}
