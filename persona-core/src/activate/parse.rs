//! From tokens to a tree, in CEL's precedence: `?:`, `||`, `&&`, relations, `+ -`, `* / %`, `! -`.
//!
//! Length, depth and number of parts are bounded, so no text makes this slow or deep.

use super::compile::CriterionError;
use super::expr::{BinaryOperator, Expr, ExprKind};
use super::lex::{Token, TokenKind, tokens_of};

/// Longest criterion, bytes.
pub const LENGTH_MAX: usize = 2_000;

/// Deepest nesting.
pub const DEPTH_MAX: u32 = 24;

/// Parts that a criterion may have.
pub const NODE_COUNT_MAX: u32 = 200;

/// Reads a criterion's syntax.
pub fn parse(text: &str) -> Result<Expr, CriterionError> {
    if text.len() > LENGTH_MAX {
        let message = format!("a criterion of {} bytes is too long: at most {LENGTH_MAX}", text.len());
        return Err(CriterionError::new(1, message));
    }
    let mut parser = Parser { tokens: tokens_of(text)?, at: 0, node_count: 0, depth: 0 };
    if parser.peek() == &TokenKind::End {
        return Err(CriterionError::new(1, "write a criterion such as cpu.utilisation > 0.8"));
    }
    let expr = parser.choice()?;
    match parser.peek() {
        TokenKind::End => Ok(expr),
        TokenKind::Sign(')' | ']') => parser.fail("this closes nothing that was opened"),
        other => parser.fail(format!("an operator such as && is missing before {}", other.told())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    node_count: u32,
    depth: u32,
}

impl Parser {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.at].kind
    }

    fn column(&self) -> u32 {
        self.tokens[self.at].column
    }

    fn advance(&mut self) -> TokenKind {
        let kind = self.tokens[self.at].kind.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        kind
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, CriterionError> {
        Err(CriterionError::new(self.column(), message))
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let is_there = self.peek() == &TokenKind::Sign(sign);
        if is_there {
            self.advance();
        }
        is_there
    }

    fn expect(&mut self, sign: char) -> Result<(), CriterionError> {
        if self.take_sign(sign) {
            return Ok(());
        }
        self.fail(format!("`{sign}` is missing before {}", self.peek().told()))
    }

    fn node(&mut self, column: u32, kind: ExprKind) -> Result<Expr, CriterionError> {
        self.node_count += 1;
        if self.node_count > NODE_COUNT_MAX {
            let message = format!("a criterion has at most {NODE_COUNT_MAX} parts: split it into several rules");
            return Err(CriterionError::new(column, message));
        }
        Ok(Expr { column, kind })
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, CriterionError>) -> Result<T, CriterionError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(format!("this is nested more than {DEPTH_MAX} deep"));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn choice(&mut self) -> Result<Expr, CriterionError> {
        self.deeper(|parser| {
            let column = parser.column();
            let condition = parser.binary(BinaryOperator::Or.strength())?;
            if !parser.take_sign('?') {
                return Ok(condition);
            }
            let then = parser.choice()?;
            parser.expect(':')?;
            let otherwise = parser.choice()?;
            parser.node(column, ExprKind::Choice(Box::new(condition), Box::new(then), Box::new(otherwise)))
        })
    }

    /// Operators that bind at least so tightly; those of one strength from the left.
    fn binary(&mut self, at_least: u8) -> Result<Expr, CriterionError> {
        let column = self.column();
        let mut left = self.unary()?;
        while let TokenKind::Operator(operator) = *self.peek() {
            if operator.strength() < at_least {
                break;
            }
            self.advance();
            let right = self.deeper(|parser| parser.binary(operator.strength() + 1))?;
            left = self.node(column, ExprKind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, CriterionError> {
        let column = self.column();
        if self.take_sign('!') {
            let inner = self.deeper(Self::unary)?;
            return self.node(column, ExprKind::Not(Box::new(inner)));
        }
        if self.peek() == &TokenKind::Operator(BinaryOperator::Subtract) {
            self.advance();
            let inner = self.deeper(Self::unary)?;
            return self.node(column, ExprKind::Negate(Box::new(inner)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expr, CriterionError> {
        let column = self.column();
        let kind = match self.peek().clone() {
            TokenKind::Number(text) => ExprKind::Number(text),
            TokenKind::Text(text) => ExprKind::Text(text),
            TokenKind::Name(word) if word == "true" || word == "false" => ExprKind::Bool(word == "true"),
            TokenKind::Name(name) => return self.name(column, name),
            TokenKind::Sign('(') => {
                self.advance();
                let inner = self.choice()?;
                self.expect(')')?;
                return Ok(inner);
            }
            TokenKind::Sign('[') => {
                self.advance();
                let items = self.list(']')?;
                return self.node(column, ExprKind::List(items));
            }
            other => return self.fail(format!("a value, a signal or a function is missing before {}", other.told())),
        };
        self.advance();
        self.node(column, kind)
    }

    fn name(&mut self, column: u32, name: String) -> Result<Expr, CriterionError> {
        self.advance();
        if !self.take_sign('(') {
            return self.node(column, ExprKind::Name(name));
        }
        let arguments = self.list(')')?;
        self.node(column, ExprKind::Call(name, arguments))
    }

    /// Parts with commas between them, up to the closing sign.
    fn list(&mut self, close: char) -> Result<Vec<Expr>, CriterionError> {
        let mut items = Vec::new();
        if self.take_sign(close) {
            return Ok(items);
        }
        loop {
            items.push(self.choice()?);
            if self.take_sign(close) {
                return Ok(items);
            }
            if !self.take_sign(',') {
                return self.fail(format!("`,` or `{close}` is missing before {}", self.peek().told()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn precedence_is_that_of_cel_and_the_text_is_the_shortest() {
        let cases = [
            ("a||b&&c", "a || b && c"),
            ("(a||b)&&c", "(a || b) && c"),
            ("!(a)&&!b", "!a && !b"),
            ("1+2*3-4", "1 + 2 * 3 - 4"),
            ("1-(2-3)", "1 - (2 - 3)"),
            ("-x*-(y+1)", "-x * -(y + 1)"),
            ("a?b:c?d:e", "a ? b : c ? d : e"),
            ("(a?b:c)?d:e", "(a ? b : c) ? d : e"),
            ("x in [1,2 , 3]", "x in [1, 2, 3]"),
            ("f( 'a' , 30m )>= 80%", "f('a', 30m) >= 80%"),
            ("\"x\" == 'y'", "'x' == 'y'"),
            ("10 %3 == 10%", "10 % 3 == 10%"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string(), expected);
        }
    }

    #[test]
    fn mistakes_point_at_their_column() {
        let deep = format!("{}1", "(".repeat(100));
        let long = vec!["1"; 150].join("+");
        let cases = [
            ("", 1, "write a criterion"),
            ("a = 1", 3, "to compare write =="),
            ("a & b", 3, "for both write &&"),
            ("cpu.utilisation > ", 19, "is missing before the end"),
            ("a b", 3, "an operator such as && is missing before `b`"),
            ("(a", 3, "`)` is missing before the end"),
            ("a)", 2, "this closes nothing"),
            ("f(a b)", 5, "`,` or `)` is missing before `b`"),
            ("a ? b", 6, "`:` is missing before the end"),
            ("'a", 1, "the text has no end"),
            ("'ä'", 2, "printable ASCII"),
            ("ä > 1", 1, "means nothing here"),
            (&deep, 25, "nested more than 24 deep"),
            (&long, 1, "at most 200 parts"),
        ];
        for (text, column, message) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
        assert!(parse(&"a".repeat(LENGTH_MAX + 1)).is_err());
    }

    fn tree() -> impl Strategy<Value = Expr> {
        let leaf = prop_oneof![
            "[0-9]{1,3}(\\.[0-9])?(ms|s|m|h|KiB|mbit)?".prop_map(ExprKind::Number),
            "[a-z]{1,3}(\\.[a-z]{1,3})?x".prop_map(ExprKind::Name),
            "[a-zA-Z0-9 :/*-]{0,8}".prop_map(ExprKind::Text),
            proptest::bool::ANY.prop_map(ExprKind::Bool),
        ]
        .prop_map(|kind| Expr { column: 0, kind });
        leaf.prop_recursive(4, 40, 3, |inner| {
            let boxed = inner.clone().prop_map(Box::new);
            let list = proptest::collection::vec(inner, 0..3);
            let operator = proptest::sample::select(BinaryOperator::ALL.to_vec());
            prop_oneof![
                list.clone().prop_map(ExprKind::List),
                ("[a-z]{1,3}y", list).prop_map(|(name, arguments)| ExprKind::Call(name, arguments)),
                boxed.clone().prop_map(ExprKind::Not),
                boxed.clone().prop_map(ExprKind::Negate),
                (operator, boxed.clone(), boxed.clone())
                    .prop_map(|(operator, left, right)| ExprKind::Binary(operator, left, right)),
                (boxed.clone(), boxed.clone(), boxed)
                    .prop_map(|(condition, then, otherwise)| ExprKind::Choice(condition, then, otherwise)),
            ]
            .prop_map(|kind| Expr { column: 0, kind })
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(tree in tree()) {
            let text = tree.to_string();
            let read = parse(&text);
            prop_assert_eq!(read.as_ref().ok(), Some(&tree), "{}: {:?}", text, read);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", words in "[a-z0-9 .()\\[\\]<>=!&|?:%'+*/,-]{0,300}") {
            drop(parse(&text));
            drop(parse(&words));
        }
    }
}
