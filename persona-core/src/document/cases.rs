//! Cases of whole documents: what is read, what is refused where, and that no format loses anything.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The document of the design, with what this release refuses left out.
const FULL: &str = "\
apiVersion: persona/v1
kind: Persona
metadata: { name: eu-low-latency, labels: { tier: gold } }
spec:
  capabilities: [low-latency, privacy]
  network:
    egress: { pools: [eu-frankfurt], family: ipv4, portsPerSubject: 2048 }
    location: { country: DE, region: DE-HE, city: Frankfurt, latitude: 50.11, longitude: 8.68 }
    mtu: 1400
    protocols: [tcp, udp, icmp]
    edges: { group: frankfurt, spread: 2, requires: [scrubbing], path: { latency: 30ms, loss: 1%, jitter: 5ms }, content: { name: cdn.example.com } }
  qos: { class: low-latency, egressRate: 200mbit, ingressRate: 400mbit, burst: 64KiB, dscp: ef }
  resources: { cpu: { limit: 2.0, weight: 200 }, memory: { max: 2GiB, high: 1792MiB }, io: { weight: 500, readBps: 100MiB }, pids: 512 }
  security:
    firewall: [ { action: deny, direction: egress, to: 10.0.0.0/8, protocol: tcp, ports: [25] } ]
    sysctl: { net.ipv4.tcp_syncookies: 1, net.ipv4.tcp_rmem: 4096 87380 6291456 }
    capabilities: [NET_BIND_SERVICE]
    noNewPrivileges: true
    readOnlyRoot: false
    seccomp: true
    apparmor: docker-default
  software: [ { package: nginx, version: '>= 1.22' } ]
  monitoring: [ { when: 'memory.usage > 0.9', for: 1m, clear: 'memory.usage < 0.8', clearFor: 2m, raise: memory-high } ]
  activation: [ { when: 'cpu.utilisation > 0.8 && hour() >= 8', for: 30s, cooldown: 5m, onUnknown: hold } ]
";

fn yaml(text: &str) -> Result<Vec<Document>, Vec<String>> {
    let told = |errors: Vec<DocumentError>| errors.iter().map(ToString::to_string).collect();
    parse_documents(text, Format::Yaml, "p.yaml").map_err(told)
}

fn persona(spec: &str) -> String {
    format!("apiVersion: persona/v1\nkind: Persona\nmetadata: {{ name: p }}\nspec:\n  {spec}\n")
}

fn binding(spec: &str) -> String {
    format!("apiVersion: persona/v1\nkind: Binding\nmetadata: {{ name: b }}\nspec:\n  {spec}\n")
}

fn pool(spec: &str) -> String {
    format!("apiVersion: persona/v1\nkind: EgressPool\nmetadata: {{ name: e }}\nspec:\n  {spec}\n")
}

#[test]
fn the_full_document_is_read_and_says_what_is_only_stored() {
    let document = yaml(FULL).unwrap().remove(0);
    assert_eq!((document.kind(), document.name()), (Kind::Persona, "eu-low-latency"));
    let sections = ["software"];
    let warnings = document.warnings();
    assert_eq!(warnings.len(), sections.len());
    sections.iter().zip(&warnings).for_each(|(section, warning)| assert!(warning.contains(section), "{warning}"));
}

#[test]
fn mistakes_are_named_with_line_path_and_what_would_be_valid() {
    let cases = [
        (
            persona("qos:\n    egresRate: 5mbit"),
            "p.yaml:6:5: spec.qos.egresRate: unknown key egresRate; did you mean egressRate? valid keys: burst, class, dscp,",
        ),
        (
            persona("qos: { egressRate: 5 }"),
            "p.yaml:5:10: spec.qos.egressRate: invalid type: integer `5`, expected a bit rate",
        ),
        (persona("qos: { egressRate: 5mbits }"), "\"5mbits\" is not a bit rate: write a number with bit, kbit"),
        (persona("qos: { egressRate: 1kbit }"), "p.yaml:5:10: spec.qos.egressRate: 1kbit is too low"),
        (persona("qos: { egressRate: 1mbit, burst: 100B }"), "less than one packet of 1400 bytes"),
        (persona("qos: { class: fast }"), "spec.qos.class: unknown value fast; valid values: high-throughput"),
        (persona("qos: { dscp: 64 }"), "64 is not a DSCP: a number from 0 to 63"),
        (persona("qos: { shared: {} }"), "spec.qos.shared: means nothing when empty: write egressRate or ingressRate"),
        (
            persona("qos: { shared: { egressRate: 1kbit } }"),
            "spec.qos.shared.egressRate: 1kbit is too low to queue for",
        ),
        (
            persona("qos: { ingressRate: 2gbit, shared: { ingressRate: 1gbit } }"),
            "spec.qos.ingressRate: 2gbit is more than all wearers have together: write at most 1gbit",
        ),
        (
            persona("qos: { egressRate: 2gbit, shared: { egressRate: 1gbit } }"),
            "spec.qos.egressRate: 2gbit is more than all wearers have together: write at most 1gbit",
        ),
        (
            persona("qos: { egressRate: 2mbit, guaranteedRate: 1mbit }"),
            "spec.qos.guaranteedRate: is a part of a total: write shared.egressRate too",
        ),
        (
            persona("qos: { guaranteedRate: 2gbit, shared: { egressRate: 1gbit } }"),
            "spec.qos.guaranteedRate: 2gbit is more than shared.egressRate: write at most 1gbit",
        ),
        (
            persona("qos: { guaranteedRate: 3mbit, egressRate: 2mbit, shared: { egressRate: 1gbit } }"),
            "spec.qos.guaranteedRate: 3mbit is more than egressRate: write at most 2mbit",
        ),
        (persona("qos: { enforceAt: both }"), "spec.qos.enforceAt: means nothing without a rate: write egressRate"),
        (
            persona("qos: { enforceAt: edge, shared: { egressRate: 1gbit } }"),
            "spec.qos.enforceAt: edges hold each wearer to its own rates, and nodes hold shared totals: write both",
        ),
        (persona("provisioning: { os: debian }"), "section provisioning is not known to this release"),
        (persona("network: { mtu: 1400 }"), "p.yaml:5:3: spec.network: egress is missing"),
        (persona("network: { egress: { pools: [] } }"), "name at least one egress pool"),
        (
            persona("network: { egress: { pools: [a, a] } }"),
            "p.yaml:5:35: spec.network.egress.pools[1]: is there twice",
        ),
        (persona("network: { egress: { pools: [a] }, mtu: 500 }"), "500 is impossible: write 576 to 9000"),
        (persona("network: { egress: { pools: [a], portsPerSubject: 0 } }"), "0 is impossible"),
        (persona("network: { egress: { pools: [a], portsPerSubject: 64513 } }"), "64513 is impossible"),
        (
            persona("network: { egress: { pools: [a], family: prefer-ipv6 }, mtu: 1279 }"),
            "1279 is too little for IPv6, which needs 1280",
        ),
        (
            persona("network: { egress: { pools: [a], family: ipv5 } }"),
            "spec.network.egress.family: unknown value ipv5; did you mean ipv4?",
        ),
        (
            persona("network: { egress: { pools: [a], assign: configure, portsPerSubject: 2048 } }"),
            "a whole address (assign: configure) has every port: leave portsPerSubject out",
        ),
        (
            persona("network: { egress: { pools: [a], family: ipv6, portsPerSubject: 2048 } }"),
            "a prefix (family: ipv6) has every port",
        ),
        (
            persona("network: { egress: { pools: [a], filtering: none } }"),
            "spec.network.egress.filtering: unknown value none; valid values: address-and-port-dependent, endpoint-independent",
        ),
        (
            persona("network: { egress: { pools: [a] }, protocols: [tcp, gre] }"),
            "p.yaml:5:55: spec.network.protocols[1]: gre has no ports, so it fits into no port block: it needs a whole address",
        ),
        (persona("network: { egress: { pools: [a], family: prefer-ipv6 }, protocols: [esp] }"), "esp has no ports"),
        (
            persona("network: { egress: { pools: [a] }, protocols: [tcp, tpc] }"),
            "spec.network.protocols[1]: \"tpc\" is no protocol: write tcp, udp, icmp, gre, esp, sctp",
        ),
        (
            persona("network: { egress: { pools: [a] }, protocols: [tcp, 6] }"),
            "spec.network.protocols[1]: is there twice",
        ),
        (
            persona("network: { egress: { pools: [a] }, protocols: [44] }"),
            "44 is no protocol but reserved or an IPv6 extension header",
        ),
        (
            persona("network: { egress: { pools: [a] }, bypass: [0.0.0.0/0] }"),
            "spec.network.bypass[0]: 0.0.0.0/0 is everything",
        ),
        (
            persona("network: { egress: { pools: [a] }, bypass: [10.0.0.0/8, 10.1.0.0/16] }"),
            "spec.network.bypass[1]: 10.1.0.0/16 overlaps 10.0.0.0/8: keep the larger one",
        ),
        (
            persona("network: { egress: { pools: [a] }, privacy: { normalise: [tcp-options, tcp-options] } }"),
            "spec.network.privacy.normalise[1]: is there twice",
        ),
        (
            persona("network: { egress: { pools: [a] }, privacy: { normalise: [ttl, ip-id, ttl] } }"),
            "spec.network.privacy.normalise[2]: is there twice",
        ),
        (
            persona("network: { egress: { pools: [a] }, privacy: { normalise: [hops] } }"),
            "unknown value hops; valid values: dscp, ip-id, tcp-options, tcp-timestamps, ttl",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { loss: 0%, delay: 0ms } }"),
            "spec.network.impair: nothing is impaired: write delay, loss, duplicate or rate",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { delay: 11s } }"),
            "spec.network.impair.delay: 11s is longer than packets are held: write at most 10s",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { jitter: 5ms } }"),
            "spec.network.impair.jitter: there is no delay that could stray: write delay too",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { delay: 4ms, jitter: 5ms } }"),
            "spec.network.impair.jitter: 5ms is more than the delay, and no packet leaves before it comes: write at most 4ms",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { delay: 5s, jitter: 3s } }"),
            "spec.network.impair.jitter: 3s is more than delays stray: write at most 2s",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { loss: 1%, reorder: 5% } }"),
            "spec.network.impair.reorder: packets are reordered by not delaying them: write delay too",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { rate: 8kbit } }"),
            "spec.network.impair.rate: 8kbit is too low to queue for: write at least 64kbit",
        ),
        (
            persona("network: { egress: { pools: [a] }, impair: { loss: 101% } }"),
            "\"101%\" is not a share: write a number from 0% to 100%",
        ),
        (persona("network: { egress: { pools: [a] }, impair: { duplicat: 1% } }"), "did you mean duplicate?"),
        (
            persona("network: { egress: { pools: [a] }, edges: { path: {} } }"),
            "spec.network.edges.path: no limit is set: write latency, loss or jitter",
        ),
        (
            persona("network: { egress: { pools: [a] }, edges: { path: { latency: 2m } } }"),
            "spec.network.edges.path.latency: no path keeps to 2m: write 1ms to 1m",
        ),
        (
            persona("network: { egress: { pools: [a] }, edges: { requires: [scrub], prefers: [scrub] } }"),
            "spec.network.edges.prefers[0]: scrub is required already",
        ),
        (persona("network: { egress: { pools: [a] }, edges: { require: [scrub] } }"), "did you mean requires?"),
        (
            persona("network: { egress: { pools: [a] }, edges: { content: { prefix: 0.0.0.0/0 } } }"),
            "spec.network.edges.content.prefix: 0.0.0.0/0 is too wide for one way to it: write at least 16 bits",
        ),
        (
            persona("network: { egress: { pools: [a] }, edges: { content: { prefix: 127.0.0.0/16 } } }"),
            "spec.network.edges.content.prefix: 127.0.0.0/16 is no content's",
        ),
        (
            persona(
                "network: { egress: { pools: [a] }, edges: { content: { place: { latitude: 91, longitude: 0 } } } }",
            ),
            "spec.network.edges.content.place.latitude: write -90 to 90 degrees",
        ),
        (
            persona("network: { egress: { pools: [a] }, edges: { content: { name: a_b } } }"),
            "\"a_b\" is no name of a host: write labels",
        ),
        (
            persona("network: { egress: { pools: [a] }, edges: { content: { host: a.example } } }"),
            "unknown value host; valid values: name, place, prefix",
        ),
        (
            persona(
                "network: { egress: { pools: [a] }, edges: { content: { name: a.example, prefix: 198.51.100.0/24 } } }",
            ),
            "spec.network.edges.content",
        ),
        (
            persona("network: { egress: { pools: [a] }, location: { country: Germany } }"),
            "an ISO 3166-1 code such as DE",
        ),
        (
            persona("network: { egress: { pools: [a] }, location: { country: DE, region: FR-75 } }"),
            "spec.network.location.region: \"FR-75\" is no part of DE: write an ISO 3166-2 code such as DE-HE",
        ),
        (
            persona("network: { egress: { pools: [a] }, location: { country: DE, city: 'Halle # Saale' } }"),
            "spec.network.location.city: write a name without '#'",
        ),
        (persona("activation: [ { when: '' } ]"), "spec.activation[0].when: column 1: write a criterion"),
        (
            persona("activation:\n  - { when: 'hour() > 8 && cpu.utilization > 0.8' }"),
            "p.yaml:6:7: spec.activation[0].when: column 15: unknown signal cpu.utilization; did you mean cpu.utilisation?",
        ),
        (
            persona("activation: [ { when: 'true', leave: 'memory.usage < 60' } ]"),
            "spec.activation[0].leave: column 1: memory.usage is a share from 0 to 1",
        ),
        (
            persona("monitoring: [ { when: 'memory.bytes > 5', raise: x } ]"),
            "spec.monitoring[0].when: column 16: 5 is a plain number and cannot be compared with bytes: write 512MiB",
        ),
        (
            persona("software: [ { package: nginx, version: latest } ]"),
            "spec.software[0].version: \"latest\" asks for no version: write one such as 1.22.1-9 behind =",
        ),
        (
            persona("security: { sysctl: { kernel.core_pattern: core } }"),
            "spec.security.sysctl.kernel.core_pattern: kernel.core_pattern names a program that the kernel runs as root",
        ),
        (
            persona("security: { sysctl: { net.ipv4.ip_forward: [1] } }"),
            "expected the value of a kernel parameter: a whole number, or a text",
        ),
        (
            persona("security: { capabilities: [ROOT] }"),
            "spec.security.capabilities[0]: \"ROOT\" is no Linux capability: write one such as NET_BIND_SERVICE",
        ),
        (persona("software: [ { package: Nginx } ]"), "spec.software[0].package: \"Nginx\" is no package"),
        (
            persona("software: [ { package: nginx }, { package: nginx } ]"),
            "spec.software[1].package: nginx is there twice",
        ),
        (
            persona("monitoring: [ { when: 'true', clear: 'memory.usage < 70', raise: x } ]"),
            "spec.monitoring[0].clear: column 1: memory.usage is a share from 0 to 1",
        ),
        (
            persona("monitoring: [ { when: 'true', clearFor: 31d, raise: x } ]"),
            "spec.monitoring[0].clearFor: 31d is longer",
        ),
        (
            persona("monitoring: [ { when: 'true', raise: x }, { when: 'false', raise: x } ]"),
            "spec.monitoring[1].raise: x is there twice: join the criteria with ||, or name them apart",
        ),
        (persona("activation: [ { when: 'true', dwell: 31d } ]"), "spec.activation[0].dwell: 31d is longer than"),
        (
            persona("activation: [ { when: 'true', onUnknown: false } ]"),
            "spec.activation[0].onUnknown: an unknown criterion is never taken for false: write hold",
        ),
        (
            persona("activation: [ { when: 'true', onUnknown: leve } ]"),
            "unknown value leve; did you mean leave? valid values: hold, leave",
        ),
        (persona("resources: { memory: { max: 1GiB, high: 2GiB } }"), "high is above max"),
        (persona("capabilities: [a]"), "a persona needs a section"),
        (binding("selector: { kind: node }"), "a binding needs personas, default or defaults"),
        (
            binding("selector: { kind: pod }\n  default: a"),
            "unknown value pod; did you mean node? valid values: node, workload",
        ),
        (
            binding("selector: { kind: node, names: [workload/a/b] }\n  default: a"),
            "never matches a node: write node/NAME",
        ),
        (
            binding("selector: { kind: node }\n  default: a\n  flapBudget: { count: 0, per: 1s }"),
            "spec.flapBudget.count: 0 is impossible: write 1 to 100",
        ),
        (pool("addresses: [10.0.0.1/8]\n  group: g"), "\"10.0.0.1/8\" is not an address range"),
        (pool("addresses: [198.51.100.0/24, 198.51.100.7]\n  group: g"), "198.51.100.7 overlaps 198.51.100.0/24"),
        (pool("addresses: ['2001:db8::/64']\n  group: g"), "p.yaml:4:1: spec: IPv6 prefixes need nextHop6"),
        (
            pool("addresses: ['2001:db8::/65']\n  group: g\n  nextHop6: fe80::1"),
            "spec.addresses[0]: an IPv6 pool is cut into leases of 64 bits: write a prefix of /48 to /64, not /65",
        ),
        (
            pool("addresses: ['2001:db8::/56']\n  group: g\n  nextHop6: '2001:db8:0:ff::1'"),
            "spec.nextHop6: 2001:db8:0:ff::1 lies in 2001:db8::/56",
        ),
        (pool("addresses: ['ff00::/48']\n  group: g\n  nextHop6: fe80::1"), "ff00::/48 is no unicast address"),
        (pool("addresses: [198.51.100.7]\n  group: g\n  nextHop6: fe80::1"), "means nothing without IPv6 prefixes"),
        (
            pool("addresses: [198.51.100.7]\n  blockSize: 1000\n  group: g"),
            "p.yaml:6:3: spec.blockSize: 1000 is impossible: write a power of two",
        ),
        (pool("addresses: [198.51.100.7]"), "p.yaml:4:1: spec: group is missing"),
        ("kind: Persona\nspec: {}\n".to_owned(), "apiVersion is missing: write apiVersion: persona/v1"),
        (
            "apiVersion: persona/v1\nkind: Pod\n".to_owned(),
            "p.yaml:2:1: kind: \"Pod\" is not known: write one of Persona, Binding, EgressPool",
        ),
        ("a: [\n".to_owned(), "not valid YAML"),
        ("- 5\n".to_owned(), "a document is an object"),
        (String::new(), "no document here"),
    ];
    for (text, expected) in cases {
        let errors = yaml(&text).expect_err(&text);
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}\nexpected {expected}\ngot {errors:#?}");
    }
}

#[test]
fn both_families_and_every_way_of_assigning_are_read() {
    let good = [
        persona("network: { egress: { pools: [a], family: ipv6, assign: configure }, protocols: [tcp, gre, 41] }"),
        persona("network: { egress: { pools: [a], assign: configure }, protocols: [esp, udp] }"),
        persona(
            "network: { egress: { pools: [a], family: prefer-ipv6, filtering: address-and-port-dependent, portsPerSubject: 64 }, mtu: 1280 }",
        ),
        persona("network: { egress: { pools: [a] }, bypass: [10.0.0.0/8, 'fd00::/8', 192.0.2.1] }"),
        persona(
            "network: { egress: { pools: [a] }, impair: { delay: 10s, jitter: 2s, loss: 0.1%, duplicate: 1%, reorder: 100%, rate: 64kbit } }",
        ),
        pool(
            "addresses: [198.51.100.0/24, '2001:db8:1::/48', '2001:db8:2::/64']\n  group: g\n  nextHop6: '2001:db8::1'",
        ),
    ];
    for text in good {
        let document = yaml(&text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}")).remove(0);
        assert_eq!(Document::from_json(document.to_json()).unwrap(), document);
    }
}

#[test]
fn one_run_names_every_mistake() {
    let cases = [
        ("{ qos: { egressRat: 1mbit, dscp: 99 }, sofware: [], network: { mtu: big } }", 5),
        ("{ netwrk: {}, qos: { egresRate: 5mbit, dscp: 77 } }", 3),
        ("{ network: { mtu: 1400 }, qos: { dscp: 64 } }", 2),
        ("{ network: { egress: { pools: [A, B] } }, qos: { dscp: 64 } }", 2),
    ];
    for (spec, count) in cases {
        let text = format!("apiVersion: persona/v1\nkind: Persona\nmetadata: {{ name: BAD }}\nspec: {spec}\n");
        let errors = yaml(&text).unwrap_err();
        assert_eq!(errors.len(), count + 1, "{errors:#?}");
    }
}

#[test]
fn several_documents_and_lists_are_taken_apart_and_keep_their_lines() {
    let good = persona("qos: { dscp: ef }");
    let text = format!(
        "{good}---\n- {{ apiVersion: persona/v1, kind: Persona, metadata: {{ name: q }}, spec: {{ x: 1 }} }}\n"
    );
    let errors = yaml(&text).unwrap_err();
    assert!(errors[0].starts_with("p.yaml:7:"), "{errors:?}");
    assert_eq!(yaml(&format!("{good}---\n{good}")).unwrap().len(), 2);
}

#[test]
fn json_and_toml_have_lines_too() {
    let json = "{\n\t\"apiVersion\": \"persona/v1\", \"kind\": \"Persona\",\n\t\"metadata\": {\"name\": \"p\"},\n\t\"spec\": {\"qos\": {\n\t\t\"dspc\": 1}}}";
    let error = &parse_documents(json, Format::Json, "p.json").unwrap_err()[0];
    assert_eq!((error.line, error.path.as_str()), (5, "spec.qos.dspc"), "{error}");
    let toml = "apiVersion = 'persona/v1'\nkind = 'Persona'\n[metadata]\nname = 'p'\n[spec.qos]\ndspc = 1\n";
    let error = &parse_documents(toml, Format::Toml, "p.toml").unwrap_err()[0];
    assert_eq!((error.line, error.column, error.path.as_str()), (6, 1, "spec.qos.dspc"), "{error}");
    for (text, format) in [("{", Format::Json), ("a = ", Format::Toml)] {
        assert!(parse_documents(text, format, "x").unwrap_err()[0].message.starts_with("not valid"));
    }
}

#[test]
fn hostile_nesting_and_aliases_are_refused_and_not_followed() {
    let deep = "[".repeat(100_000);
    let bomb = (b'b'..=b'j').fold("a: &a [x, x]\n".to_owned(), |text, letter| {
        let (name, before) = (letter as char, (letter - 1) as char);
        format!("{text}{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", "))
    });
    let cases = [
        (deep.clone(), Format::Yaml),
        (deep.clone(), Format::Json),
        (format!("a = {deep}"), Format::Toml),
        (bomb, Format::Yaml),
    ];
    for (text, format) in cases {
        let errors = parse_documents(&text, format, "x").unwrap_err();
        assert!(errors[0].message.starts_with("not valid"), "{}", errors[0]);
    }
}

#[test]
fn the_digest_is_of_the_meaning_and_not_of_the_text() {
    let one = yaml(&persona("qos: { egressRate: 1000kbit, burst: 65536B }")).unwrap().remove(0);
    let other = yaml(&persona("qos: { burst: 64KiB, egressRate: 1mbit }")).unwrap().remove(0);
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.digest().len(), 64);
}

fn rate() -> impl Strategy<Value = Value> {
    (64_000_u64..1 << 45).prop_map(|bps| json!(crate::units::BitRate(bps)))
}

prop_compose! {
    fn network()(pools in proptest::collection::btree_set("[a-z][a-z0-9]{0,8}", 1..4), ports in 1_u32..=64_512,
        mtu in 576_u16..=9_000, latitude in -90_000_000..90_000_000_i32, spread in 1_u16..9) -> Value {
        json!({ "egress": { "pools": pools, "portsPerSubject": ports }, "mtu": mtu, "edges": { "spread": spread },
            "location": { "country": "DE", "latitude": f64::from(latitude) / 1e6, "longitude": f64::from(latitude) / 1e6 } })
    }
}

prop_compose! {
    fn document()(name in "[a-z][a-z0-9-]{0,20}[a-z0-9]", note in "\\PC{0,40}", egress in rate(), dscp in 0_u8..64,
        network in proptest::option::of(network()), weight in 1_u32..10_000, limit in 1..64_000_u32) -> Value {
        let mut spec = json!({ "qos": { "egressRate": egress, "dscp": dscp },
            "resources": { "cpu": { "weight": weight, "limit": f64::from(limit) / 1e3 } } });
        if let Some(network) = network {
            spec["network"] = network;
        }
        json!({ "apiVersion": API_VERSION, "kind": "Persona",
            "metadata": { "name": name, "annotations": { "note": note } }, "spec": spec })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_document_survives_every_format(value in document()) {
        let document = Document::from_json(value).unwrap();
        let canonical = document.to_json();
        let texts = [
            (Format::Yaml, serde_saphyr::to_string(&canonical).unwrap()),
            (Format::Json, serde_json::to_string_pretty(&canonical).unwrap()),
            (Format::Toml, toml::to_string(&canonical).unwrap()),
        ];
        for (format, text) in texts {
            let read = parse_documents(&text, format, "x").unwrap();
            prop_assert_eq!(read, vec![document.clone()], "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            drop(parse_documents(&text, format, "x"));
        }
    }
}
