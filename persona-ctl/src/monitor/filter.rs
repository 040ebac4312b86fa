//! Filters in the syntax of pcap (`pcap-filter(7)`), compiled by tcpdump and run here.
//!
//! A filter takes a record if it takes the frame, or the packet inside the tunnel: whoever asks for `host 10.1.0.2`
//! means the workload's packets on both sides of the rewriting.

use std::process::Command;

use super::classic::{Instruction, matches};
use super::flow::FlowView;

/// A filter that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// There is no tcpdump.
    #[error("filters are compiled by tcpdump, which cannot be run: install tcpdump, or watch without a filter")]
    NoCompiler(#[source] std::io::Error),
    /// The expression is wrong.
    #[error(
        "{expression:?} is no filter: {reason} (the syntax is that of pcap-filter(7), such as `tcp port 443 and host 10.1.0.2`)"
    )]
    Expression {
        /// What was given.
        expression: String,
        /// What the compiler said.
        reason: String,
    },
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<Instruction>,
}

impl Filter {
    /// Compiles an expression. An empty one takes everything.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        if expression.trim().is_empty() {
            return Ok(Self { program: Vec::new() });
        }
        let output = Command::new("tcpdump")
            .args(["-ddd", "-y", "EN10MB", "-s", "65535", "--", expression])
            .output()
            .map_err(FilterError::NoCompiler)?;
        let refused = |reason: &str| FilterError::Expression {
            expression: expression.to_owned(),
            reason: reason.trim().trim_start_matches("tcpdump: ").to_owned(),
        };
        if !output.status.success() {
            return Err(refused(&String::from_utf8_lossy(&output.stderr)));
        }
        let program = read(&String::from_utf8_lossy(&output.stdout));
        program.map(|program| Self { program }).ok_or_else(|| refused("tcpdump printed no program"))
    }

    /// Whether it takes the frame or the packet inside its tunnel.
    pub fn takes_frame(&self, frame: &[u8], length: u32) -> bool {
        if self.program.is_empty() || matches(&self.program, frame, length) {
            return true;
        }
        inner_frame(frame).is_some_and(|inner| {
            let gone = (frame.len() - inner.len()) as u32;
            matches(&self.program, &inner, length.saturating_sub(gone))
        })
    }

    /// Whether it takes a flow, by its addresses before or after.
    pub fn takes_flow(&self, flow: &FlowView) -> bool {
        if self.program.is_empty() {
            return true;
        }
        let inner = frame_of((flow.inner, flow.inner_port), flow);
        let outer = frame_of((flow.outer, flow.outer_port), flow);
        [inner, outer].iter().any(|frame| matches(&self.program, frame, frame.len() as u32))
    }
}

/// Reads what `tcpdump -ddd` prints: the count, then code, jumps and value per line.
fn read(text: &str) -> Option<Vec<Instruction>> {
    let mut lines = text.lines();
    let count: usize = lines.next()?.trim().parse().ok()?;
    let instruction = |line: &str| {
        let mut fields = line.split_whitespace();
        Some(Instruction {
            code: fields.next()?.parse().ok()?,
            jump_true: fields.next()?.parse().ok()?,
            jump_false: fields.next()?.parse().ok()?,
            value: fields.next()?.parse().ok()?,
        })
    };
    let program: Vec<_> = lines.map(instruction).collect::<Option<_>>()?;
    (program.len() == count).then_some(program)
}

/// The packet inside a Geneve tunnel, behind the Ethernet addresses of the frame.
pub(super) fn inner_frame(frame: &[u8]) -> Option<Vec<u8>> {
    let (udp_at, protocol) = match frame.get(12..14)? {
        [0x08, 0x00] => (14 + usize::from(frame.get(14)? & 15) * 4, *frame.get(23)?),
        [0x86, 0xdd] => (54, *frame.get(20)?),
        _ => return None,
    };
    let port = frame.get(udp_at + 2..udp_at + 4)?;
    let geneve = frame.get(udp_at + 8..udp_at + 16)?;
    if protocol != 17 || port != 6081u16.to_be_bytes() || geneve[0] >> 6 != 0 || geneve[1] & 0x80 != 0 {
        return None;
    }
    let inner_at = udp_at + 16 + usize::from(geneve[0] & 0x3f) * 4;
    Some([&frame[..12], &geneve[2..4], frame.get(inner_at..)?].concat())
}

/// A frame as the flow's first packet from that source would be.
fn frame_of(source: (std::net::IpAddr, u16), flow: &FlowView) -> Vec<u8> {
    use std::net::IpAddr;
    let ports = [source.1.to_be_bytes(), flow.remote_port.to_be_bytes()].concat();
    let ip = match (source.0, flow.remote) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let fixed = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, flow.protocol, 0, 0];
            [&fixed[..], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let fixed = [0x60, 0, 0, 0, 0, 20, flow.protocol, 64];
            [&fixed[..], &from.octets(), &to.octets()].concat()
        }
        // A flow never changes its family.
        _ => return Vec::new(),
    };
    let kind: [u8; 2] = if source.0.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
    [&[0; 12][..], &kind, &ip, &ports, &[0; 16]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::flow::example;
    use super::*;

    /// Without tcpdump nothing can be tested, which `cargo xtask test` makes a failure.
    fn skip() {
        assert!(std::env::var_os("PERSONA_REQUIRE_TOOLS").is_none(), "no tcpdump, and PERSONA_REQUIRE_TOOLS is set");
        eprintln!("SKIP: no tcpdump");
    }

    fn compile(expression: &str) -> Option<Filter> {
        match Filter::compile(expression) {
            Ok(filter) => Some(filter),
            Err(FilterError::NoCompiler(_)) => {
                skip();
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn flows_are_found_by_addresses_before_and_after() {
        for (expression, takes) in [
            ("", true),
            ("host 10.1.0.2", true),
            ("host 192.0.2.100 and port 5184", true),
            ("tcp port 443", true),
            ("udp", false),
            ("host 10.1.0.2 and port 5184", false),
            ("ip6", false),
        ] {
            let Some(filter) = compile(expression) else { return };
            assert_eq!(filter.takes_flow(&example()), takes, "{expression}");
        }
    }

    #[test]
    fn a_tunnel_is_looked_into() {
        let inner = frame_of((example().inner, example().inner_port), &example());
        let tunnel = [
            &[0; 12][..],
            &[8, 0, 0x45, 0, 0, 90, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
            &[0xc0, 0, 0x17, 0xc1, 0, 56, 0, 0, 0, 0, 8, 0, 0, 0, 42, 0],
            &inner[14..],
        ]
        .concat();
        assert_eq!(inner_frame(&tunnel).unwrap(), inner);
        let Some(filter) = compile("host 10.1.0.2") else { return };
        assert!(filter.takes_frame(&tunnel, tunnel.len() as u32));
        assert!(!filter.takes_frame(&tunnel[..40], 40));
    }

    #[test]
    fn a_wrong_expression_is_told_with_the_compilers_words() {
        match Filter::compile("tcp prt 80") {
            Err(FilterError::Expression { expression, reason }) => {
                assert_eq!(expression, "tcp prt 80");
                assert!(!reason.is_empty());
            }
            Err(FilterError::NoCompiler(_)) => skip(),
            Ok(_) => panic!("it is wrong"),
        }
    }
}
