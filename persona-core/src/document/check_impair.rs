//! What no type can say about a network that is made worse on purpose, and what is worth knowing about a valid one.

use super::check::Problems;
use super::network::Impair;
use crate::units::{Share, Span};

/// Longest delay on purpose.
const DELAY_MAX: Span = Span(10_000);

/// Most that a delay strays: netem holds it in 31 bits of nanoseconds.
const JITTER_MAX: Span = Span(2_000);

/// What somebody who reads only the persona's name would not expect.
pub(super) fn impair_hints(impair: &Impair) -> Vec<String> {
    let span = |span: Option<Span>| span.unwrap_or_default();
    let loss = impair.loss.filter(|loss| loss.millionths() > 0).map(|loss| {
        format!("spec.network.impair.loss: {loss} of the packets are lost on purpose, in each direction, and counted as impaired")
    });
    let delay = (span(impair.delay).0 > 0).then(|| {
        let delay = span(impair.delay);
        format!(
            "spec.network.impair.delay is {delay} in each direction: a round trip takes {} longer",
            Span(delay.0 * 2)
        )
    });
    let netem = impair.needs_netem().then(|| {
        "spec.network.impair: delay and duplicate need netem in the nodes' kernels; a node without it keeps its last state and says so"
            .to_owned()
    });
    let jitter = (span(impair.jitter).0 > 0).then(|| {
        "spec.network.impair.jitter: packets overtake each other where the delay strays by more than their distance"
            .to_owned()
    });
    loss.into_iter().chain(delay).chain(jitter).chain(netem).collect()
}

impl Problems {
    pub(super) fn impair(&mut self, impair: &Impair) {
        let span = |span: Option<Span>| span.unwrap_or_default();
        let is_there = |share: Option<Share>| share.is_some_and(|share| share.millionths() > 0);
        let (delay, jitter) = (span(impair.delay), span(impair.jitter));
        let is_nothing = delay.0 == 0 && !is_there(impair.loss) && !is_there(impair.duplicate);
        self.refuse_if(
            is_nothing && jitter.0 == 0 && !is_there(impair.reorder) && impair.rate.is_none(),
            "spec.network.impair",
            "nothing is impaired: write delay, loss, duplicate or rate, such as loss: 0.1%, or leave impair out",
        );
        self.refuse_if(
            delay > DELAY_MAX,
            "spec.network.impair.delay",
            format!("{delay} is longer than packets are held: write at most {DELAY_MAX}"),
        );
        self.jitter(delay, jitter);
        self.refuse_if(
            is_there(impair.reorder) && delay.0 == 0,
            "spec.network.impair.reorder",
            "packets are reordered by not delaying them: write delay too, such as 40ms",
        );
        self.rate("spec.network.impair.rate", impair.rate);
    }

    fn jitter(&mut self, delay: Span, jitter: Span) {
        let path = "spec.network.impair.jitter";
        let is_alone = jitter.0 > 0 && delay.0 == 0;
        self.refuse_if(is_alone, path, "there is no delay that could stray: write delay too, such as 40ms");
        self.refuse_if(
            !is_alone && jitter > delay,
            path,
            format!("{jitter} is more than the delay, and no packet leaves before it comes: write at most {delay}"),
        );
        self.refuse_if(
            jitter > JITTER_MAX,
            path,
            format!("{jitter} is more than delays stray: write at most {JITTER_MAX}"),
        );
    }
}
