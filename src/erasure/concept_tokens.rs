//! Which tokens of a prompt are the concept's: those in which it differs from what it is to become.

use super::{Error, Pair};
use crate::generator::Denoiser;
use crate::torch::Tensor;

/// Hidden states of a pair of prompts, position by position: what is read at the concept's places,
/// and what is to be read there instead.
#[derive(Debug)]
pub(super) struct TokenPairs {
    /// Of the prompt to forget, `[n, width]`.
    pub concept: Tensor,
    /// Of the anchor, `[n, width]`.
    pub guide: Tensor,
}

/// Which positions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenPositions {
    /// The last token of the concept.
    Last,
    /// The concept's tokens and everything behind them, the prompt's end and its filling too: each
    /// has read the concept.
    All,
}

impl TokenPairs {
    /// Reads both prompts of a pair.
    ///
    /// # Errors
    /// Two prompts that are the same to the tokenizer.
    pub(super) fn read(
        model: &dyn Denoiser,
        pair: &Pair,
        tokens: TokenPositions,
    ) -> Result<Self, Error> {
        let (forget, anchor) = (model.tokens(&pair.forget), model.tokens(&pair.anchor));
        let Some(places) = places(&forget, &anchor) else {
            return Err(Error::Task(format!(
                "«{}» and «{}» have the same tokens; there is nothing to tell apart",
                pair.forget, pair.anchor
            )));
        };
        let states = model.condition(&[&pair.forget, &pair.anchor])?.states;
        let length = states.size()[1];
        let all = places.aligned(length);
        let chosen = match tokens {
            TokenPositions::Last => vec![places.last()],
            TokenPositions::All => all,
        };
        let rows = |which: usize, positions: Vec<i64>| {
            states
                .get(which as i64)
                .index_select(0, &Tensor::from_slice(&positions).to_device(states.device()))
        };
        let (from, to): (Vec<i64>, Vec<i64>) = chosen.into_iter().unzip();
        Ok(Self { concept: rows(0, from), guide: rows(1, to) })
    }
}

/// Where two prompts differ, in positions of their hidden states: 0 is the start token.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    /// Positions before the difference that both share, the start token among them.
    shared: i64,
    /// Tokens of the prompt to forget that differ.
    forget: i64,
    /// Tokens of the anchor that differ.
    anchor: i64,
}

fn places(forget: &[i64], anchor: &[i64]) -> Option<Places> {
    let front = forget.iter().zip(anchor).take_while(|(a, b)| a == b).count();
    let (a, b) = (&forget[front..], &anchor[front..]);
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (forget, anchor) = (a.len() - back, b.len() - back);
    (forget + anchor > 0).then_some(Places {
        shared: 1 + front as i64,
        forget: forget as i64,
        anchor: anchor as i64,
    })
}

impl Places {
    /// The last place of the concept, and of what stands for it; where one of them is empty, what
    /// stands before it.
    fn last(&self) -> (i64, i64) {
        (self.shared + self.forget - 1, self.shared + self.anchor - 1)
    }

    /// Each position of the prompt to forget from the concept on, of `length`, with the anchor's:
    /// the concept's by their order, at most the last, and behind them the same token.
    fn aligned(&self, length: i64) -> Vec<(i64, i64)> {
        let last = self.shared + self.anchor - 1;
        let inside = (0..self.forget).map(|i| {
            let at = self.shared + i;
            (at, at.min(last))
        });
        let behind = (self.shared + self.forget..length)
            .map(|at| (at, (at - self.forget + self.anchor).min(length - 1)));
        inside.chain(behind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_the_concept() {
        // a [7] b  →  a [8 9] b
        let found = places(&[1, 7, 2], &[1, 8, 9, 2]).unwrap();
        assert_eq!(found, Places { shared: 2, forget: 1, anchor: 2 });
        assert_eq!(found.last(), (2, 3));
        assert_eq!(found.aligned(6), [(2, 2), (3, 4), (4, 5), (5, 5)]);
        // [7 8]  →  nothing: the start token stands for it.
        let bare = places(&[7, 8], &[]).unwrap();
        assert_eq!(bare.last(), (2, 0));
        assert_eq!(bare.aligned(4), [(1, 0), (2, 0), (3, 1)]);
        assert_eq!(places(&[1], &[1]), None);
    }
}
