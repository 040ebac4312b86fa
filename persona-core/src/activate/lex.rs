//! From text to tokens, each with its column.

use super::compile::CriterionError;
use super::expr::BinaryOperator;

/// A token and the column of its first character, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) column: u32,
    pub(super) kind: TokenKind,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// A number with whatever unit stands directly behind it, `%` too.
    Number(String),
    /// Without its quotes.
    Text(String),
    /// A dotted name, or a word such as `true`.
    Name(String),
    Operator(BinaryOperator),
    /// `!`, `(`, `)`, `[`, `]`, `,`, `?` or `:`.
    Sign(char),
    End,
}

impl TokenKind {
    /// For messages.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Number(text) | Self::Name(text) => format!("`{text}`"),
            Self::Text(text) => format!("'{text}'"),
            Self::Operator(operator) => format!("`{}`", operator.as_str()),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Characters that stand alone.
const SIGNS: &str = "!()[],?:";

/// Cuts a text into tokens; the last one is the end.
pub(super) fn tokens_of(text: &str) -> Result<Vec<Token>, CriterionError> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        if chars[at].is_whitespace() {
            at += 1;
            continue;
        }
        let (kind, length) = token_at(&chars, at)?;
        tokens.push(Token { column: column(at), kind });
        at += length;
    }
    tokens.push(Token { column: column(chars.len()), kind: TokenKind::End });
    Ok(tokens)
}

fn column(at: usize) -> u32 {
    at as u32 + 1
}

fn token_at(chars: &[char], at: usize) -> Result<(TokenKind, usize), CriterionError> {
    let rest = &chars[at..];
    let first = rest[0];
    if first.is_ascii_digit() {
        let length = number_length(rest);
        return Ok((TokenKind::Number(rest[..length].iter().collect()), length));
    }
    if is_letter(first) {
        let length = rest.iter().take_while(|char| is_letter(**char) || char.is_ascii_digit() || **char == '.').count();
        let word: String = rest[..length].iter().collect();
        let kind = if word == "in" { TokenKind::Operator(BinaryOperator::In) } else { TokenKind::Name(word) };
        return Ok((kind, length));
    }
    if first == '\'' || first == '"' {
        return text_at(rest, at, first);
    }
    let spelt = |operator: &&BinaryOperator| starts_with(rest, operator.as_str());
    if let Some(operator) = BinaryOperator::ALL.iter().filter(|operator| **operator != BinaryOperator::In).find(spelt) {
        return Ok((TokenKind::Operator(*operator), operator.as_str().len()));
    }
    if SIGNS.contains(first) {
        return Ok((TokenKind::Sign(first), 1));
    }
    Err(CriterionError::new(
        column(at),
        format!("`{}` means nothing here; {}", first.escape_debug(), advice_for(first)),
    ))
}

fn is_letter(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_'
}

fn starts_with(rest: &[char], text: &str) -> bool {
    text.chars().enumerate().all(|(index, char)| rest.get(index) == Some(&char))
}

/// Digits, a point, and a unit of letters or a `%` that touches the number.
fn number_length(rest: &[char]) -> usize {
    let digits = rest.iter().take_while(|char| char.is_ascii_digit() || **char == '.').count();
    if rest.get(digits) == Some(&'%') {
        return digits + 1;
    }
    digits + rest[digits..].iter().take_while(|char| char.is_ascii_alphanumeric() || **char == '_').count()
}

fn text_at(rest: &[char], at: usize, quote: char) -> Result<(TokenKind, usize), CriterionError> {
    let length = rest[1..].iter().position(|char| *char == quote);
    let Some(length) = length else {
        return Err(CriterionError::new(column(at), format!("the text has no end: write a second {quote}")));
    };
    let text: String = rest[1..=length].iter().collect();
    let is_plain = |char: char| char.is_ascii_graphic() && char != '\'' && char != '"' && char != '\\' || char == ' ';
    if let Some(index) = text.chars().position(|char| !is_plain(char)) {
        let message = "a text has printable ASCII characters, and no quotes or backslashes inside".to_owned();
        return Err(CriterionError::new(column(at + 1 + index), message));
    }
    Ok((TokenKind::Text(text), length + 2))
}

fn advice_for(char: char) -> &'static str {
    match char {
        '=' => "to compare write ==",
        '&' => "for both write &&",
        '|' => "for either write ||",
        '{' | '}' | ';' => "a criterion is one expression, such as cpu.utilisation > 0.8",
        '.' => "a number begins with a digit: 0.5",
        _ => "operators are || && < <= > >= == != in + - * / % ! ?:",
    }
}
