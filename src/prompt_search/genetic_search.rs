//! A search for words that needs no gradient: of a population of word lists the better half stays,
//! and its mixtures take the others' places (Ring-A-Bell, Tsai et al. 2024, 2310.10012; the
//! operators are the published code's).

use serde::{Deserialize, Serialize};

use crate::torch::{IndexOp, Kind, Rng, Tensor};

/// How a population changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneticSettings {
    /// Word lists in it.
    pub population: i64,
    /// How often it is renewed.
    pub generations: u64,
    /// How often a new list is mixed of two, rather than one of them.
    pub crossover: f64,
    /// How often one of its words is another by chance.
    pub mutation: f64,
}

impl Default for GeneticSettings {
    fn default() -> Self {
        Self { population: 200, generations: 3000, crossover: 0.5, mutation: 0.25 }
    }
}

impl GeneticSettings {
    /// Says what is wrong with them.
    ///
    /// # Errors
    /// The first complaint.
    pub fn check(&self) -> Result<(), String> {
        let share = |number: f64| (0.0..=1.0).contains(&number);
        if self.population < 2 || self.generations == 0 {
            return Err(format!(
                "population is {} and generations {}; at least 2 and 1",
                self.population, self.generations
            ));
        }
        if !share(self.crossover) || !share(self.mutation) {
            return Err(format!(
                "crossover is {} and mutation {}; both are shares, 0 to 1",
                self.crossover, self.mutation
            ));
        }
        Ok(())
    }
}

/// Lists of words, as indices among those that may be chosen, and how far each is from what is
/// wanted.
#[derive(Debug)]
pub struct GeneticSearch {
    settings: GeneticSettings,
    /// How many words there are to choose from.
    words: i64,
    /// The best first, `[population, k]`.
    lists: Tensor,
    /// `[population]`, rising.
    distances: Tensor,
}

impl GeneticSearch {
    /// Begins with words by chance. `distances` says how far lists `[m, k]` are, `[m]`.
    ///
    /// # Errors
    /// What `distances` says.
    pub fn new<E>(
        settings: GeneticSettings,
        words: i64,
        k: i64,
        rng: &mut Rng,
        distances: impl Fn(&Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let lists = rng.below(words, &[settings.population, k]);
        let found = distances(&lists)?;
        Ok(Self { settings, words, distances: found, lists }.sorted())
    }

    /// Goes on from an earlier session's [`Self::state`].
    pub fn restored(
        settings: GeneticSettings,
        words: i64,
        lists: Tensor,
        distances: Tensor,
    ) -> Self {
        Self { settings, words, lists, distances }
    }

    /// Renews the worse half.
    ///
    /// # Errors
    /// What `distances` says.
    pub fn renew<E>(
        self,
        rng: &mut Rng,
        distances: impl Fn(&Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let Self { settings, words, lists, distances: known } = self;
        let (n, k) = (settings.population, lists.size()[1]);
        let (kept, new) = (n - n / 2, n / 2);
        let parents = lists.i(..kept);
        let parent = |rng: &mut Rng| parents.index_select(0, &rng.below(kept, &[new]));
        let (first, second) = (parent(rng), parent(rng));
        // A mixture has the first's words up to a place and the second's from there on.
        let place = rng.below((k - 1).max(1), &[new, 1]) + 1;
        let columns = Tensor::arange(k, (Kind::Int64, first.device())).unsqueeze(0);
        let mixes = rng.uniform(&[new, 1]).lt(settings.crossover);
        let from_second = columns.ge_tensor(&place).logical_and(&mixes);
        let mixed = second.where_self(&from_second, &first);
        let mutates = rng.uniform(&[new, 1]).lt(settings.mutation);
        let at = columns.eq_tensor(&rng.below(k, &[new, 1])).logical_and(&mutates);
        let other = rng.below(words, &[new, 1]).expand([new, k], false);
        let children = other.where_self(&at, &mixed);
        let found = distances(&children)?;
        let lists = Tensor::cat(&[parents, children], 0);
        let distances = Tensor::cat(&[known.i(..kept), found], 0);
        Ok(Self { settings, words, lists, distances }.sorted())
    }

    fn sorted(self) -> Self {
        let (distances, order) = self.distances.sort_stable(true, 0, false);
        Self { lists: self.lists.index_select(0, &order), distances, ..self }
    }

    /// The best list, `[k]`.
    pub fn best(&self) -> Tensor {
        self.lists.i(0)
    }

    /// How far it is.
    pub fn distance(&self) -> f64 {
        self.distances.double_value(&[0])
    }

    /// All that the next generation depends on; the tensors share its memory.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        vec![
            ("lists".to_owned(), self.lists.shallow_clone()),
            ("distances".to_owned(), self.distances.shallow_clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_list_that_is_wanted() {
        let wanted = Tensor::from_slice(&[3_i64, 17, 9, 30]);
        let distances = |lists: &Tensor| {
            let apart = (lists - &wanted).abs().to_kind(Kind::Float);
            Ok::<_, ()>(apart.sum_dim_intlist(1, false, Kind::Float))
        };
        let settings = GeneticSettings { population: 40, ..GeneticSettings::default() };
        let mut rng = Rng::new(5);
        let mut search = GeneticSearch::new(settings, 32, 4, &mut rng, distances).unwrap();
        let mut last = search.distance();
        assert!(last > 0.0);
        for generation in 0..200 {
            search = search.renew(&mut Rng::for_step(5, "genetic", generation), distances).unwrap();
            assert!(search.distance() <= last, "the best stays");
            last = search.distance();
        }
        assert!(search.best().equal(&wanted), "{last}");
    }
}
